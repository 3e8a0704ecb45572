# SPDX-License-Identifier: Apache-2.0
"""The page's server: viser's, with a bar of our own above it and a guard in front.

Whoever reaches the page can move the robot. So the server listens on this machine alone unless told otherwise, and
refuses what other web sites ask a browser on this machine to send (viser itself does not look at the origin).
"""

from __future__ import annotations

import contextlib
import functools
import http
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from genmimic.core.errors import ConfigError, MissingDependencyError

LOCAL_HOST, DEFAULT_PORT = "127.0.0.1", 8080

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""What a browser on this machine calls it."""

SCENE_PATH = "/scene"
"""Where viser's own page is, below ours."""

ASKED_HEADER = "X-GenMimic"
"""Requests that do something carry it: a page from elsewhere cannot send it without asking, and is refused."""

_NOT_ELSEWHERE = {"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff"}
"""No other site may show our page inside its own, under a button that says something else."""

_PAGE = Path(__file__).with_name("page.html")
_patching = threading.Lock()


def import_viser() -> Any:
    """Return viser. Raises MissingDependencyError when it is not installed."""
    try:
        import viser
    except ImportError:
        raise MissingDependencyError(
            "the browser view needs viser; install the extra: pip install 'genmimic-ros[viewer]'"
        ) from None
    return viser


class ViewServer:
    """A running server; `close` ends it.

    Args:
        host: Address to listen on; another than this machine's own lets others move the robot.
        port: The next free one from here is taken.
        title: Of the page.
        status: What the bar shows, plain JSON types, ``mode``, ``line`` and ``reason``; without it there is no bar.
        actions: What the bar can ask for, by name: ``estop``. Called on the server's thread; must not block.

    Attributes:
        viser: The ``viser.ViserServer``.

    Raises:
        MissingDependencyError: viser is not installed.
        ConfigError: The address or port cannot be listened on.
    """

    def __init__(
        self,
        host: str = LOCAL_HOST,
        port: int = DEFAULT_PORT,
        *,
        title: str = "GenMimic",
        status: Callable[[], Mapping[str, Any]] | None = None,
        actions: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ConfigError(f"port is {port}, expected 0 to 65535")
        check_address(host)
        viser = import_viser()
        self._host, self._title = host, title
        self._status, self._actions = status, dict(actions or {})
        self._page = _PAGE.read_text(encoding="utf-8").replace("{{title}}", title).encode()
        self._ready = False
        import rich

        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # it reports each plain request as a failure
        rich.get_console().quiet = True  # viser's banner; we print one line of our own
        with _guarded(self._answer):
            self.viser = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        self._ready = True

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.viser.get_port())

    @property
    def url(self) -> str:
        """The page's address for a browser on this machine."""
        host = "localhost" if self._host in ("0.0.0.0", "::", *LOCAL_NAMES) else self._host
        return f"http://{host}:{self.port}"

    @property
    def clients(self) -> int:
        """How many browsers look at the scene."""
        return len(self.viser.get_clients())

    def close(self) -> None:
        """Stop listening."""
        self.viser.stop()

    def _answer(self, request: Any) -> tuple[http.HTTPStatus, str, bytes] | None:
        """Return our answer to a request, or None to leave it to viser."""
        if not self.permitted(request.headers.get("Host", ""), request.headers.get("Origin")):
            return http.HTTPStatus.FORBIDDEN, "text/plain", b"refused: asked for by another site\n"
        if request.headers.get("Upgrade") is not None:
            return None
        path = request.path.partition("?")[0].rstrip("/")
        if path == SCENE_PATH or path.startswith(SCENE_PATH + "/"):
            request.path = request.path[len(SCENE_PATH) :] or "/"
            return None
        if self._status is None:
            return None
        if not self._ready:
            return http.HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"starting\n"
        if path == "":
            return http.HTTPStatus.OK, "text/html; charset=utf-8", self._page
        if path == "/status":
            return _json({**self._status(), "viewers": self.clients})
        action = self._actions.get(path[1:])
        if action is not None:
            if request.headers.get(ASKED_HEADER) is None:
                return http.HTTPStatus.FORBIDDEN, "text/plain", b"refused: not asked for by the page\n"
            action()
            return _json({"asked": path[1:]})
        return None

    def permitted(self, host: str, origin: str | None) -> bool:
        """Whether a request to ``host`` (its header) from a page of ``origin`` (None: from no page) may pass."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            from_here = origin is None or urlsplit(origin).netloc == host
        except ValueError:
            return False
        return from_here and (name in LOCAL_NAMES or (self._host not in LOCAL_NAMES and _is_ours(name, self._host)))


def _is_ours(name: str, host: str) -> bool:
    """Whether a name is this machine's own, or a number; any other may have been made to point here."""
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        own = socket.gethostname().lower()
        return name in (host.lower(), own, f"{own}.local", socket.getfqdn().lower())


def _json(value: Mapping[str, Any]) -> tuple[http.HTTPStatus, str, bytes]:
    return http.HTTPStatus.OK, "application/json", json.dumps(value).encode()


def check_address(host: str) -> None:
    """Raise ConfigError where nothing can listen: viser would try a thousand ports and then wait for ever."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
            probe.bind((found[0][4][0], 0))
    except OSError as error:
        raise ConfigError(f"cannot listen on host {host!r} ({error.strerror or error})") from None


@contextlib.contextmanager
def _guarded(answer: Callable[[Any], tuple[http.HTTPStatus, str, bytes] | None]) -> Iterator[None]:
    """Have the server that is started meanwhile ask ``answer`` first; viser offers no place for that."""
    from websockets.asyncio import server as websockets_server
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    genuine = websockets_server.serve

    @functools.wraps(genuine)
    def serve(*args: Any, **options: Any) -> Any:
        theirs = options.pop("process_request", None)

        def process(connection: Any, request: Any) -> Any:
            found = answer(request)
            if found is None:
                response = theirs(connection, request) if theirs is not None else None
                if response is not None:
                    response.headers.update(_NOT_ELSEWHERE)
                return response
            code, kind, body = found
            headers = Headers(_NOT_ELSEWHERE)
            headers.update({"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"})
            return Response(code.value, code.phrase, headers, body)

        return genuine(*args, process_request=process, **options)

    with _patching:
        websockets_server.serve = serve  # type: ignore[misc, assignment]
        try:
            yield
        finally:
            websockets_server.serve = genuine  # type: ignore[misc]
