# SPDX-License-Identifier: Apache-2.0
"""The motion switcher: asks the robot which built-in controller runs, and releases it; and the twin's side of that.

Requests go to rt/api/motion_switcher/request, answers come on .../response, matched by id and API number, with JSON
texts. Source: Unitree's SDK (API 1.0.0.1; 1001 check mode, 1002 select, 1003 release).
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any

from genmimic.core.errors import LinkError
from genmimic.link import wire
from genmimic.link.bus import Bus

SERVICE = "motion_switcher"
CHECK_MODE, SELECT_MODE, RELEASE_MODE = 1001, 1002, 1003

ANSWER_S = 5.0
"""How long an answer may take. Source: Unitree's SDK."""

UNKNOWN_API = 3203
"""The code with which the robot answers what it does not know."""

_ids = itertools.count(time.time_ns() ^ os.getpid() << 40)


class MotionSwitcherClient:
    """Speaks to the robot's motion switcher.

    Args:
        bus: Where the robot is.
    """

    def __init__(self, bus: Bus) -> None:
        self._requests = bus.writer(f"rt/api/{SERVICE}/request", "Request")
        self._responses = bus.reader(f"rt/api/{SERVICE}/response", "Response", depth=16)

    @property
    def available(self) -> bool:
        """Whether a motion switcher has been found."""
        return self._requests.readers > 0 and self._responses.writers > 0

    def check(self) -> str:
        """Return the name of the built-in controller that runs; empty when none does. Raises LinkError."""
        answer = self._call(CHECK_MODE, {})
        try:
            name = json.loads(answer)["name"]
        except (ValueError, KeyError, TypeError):
            raise LinkError(f"the motion switcher answered {answer[:80]!r}; expected a name") from None
        return str(name)

    def select(self, name: str) -> None:
        """Start a built-in controller. Raises LinkError."""
        self._call(SELECT_MODE, {"name": name})

    def release(self) -> None:
        """Stop the built-in controller: the robot goes limp. Raises LinkError."""
        self._call(RELEASE_MODE, {})

    def release_all(self, timeout_s: float = 20.0, pause_s: float = 1.0) -> list[str]:
        """Release until no built-in controller runs; return the names of those that did. Raises LinkError."""
        until = time.monotonic() + timeout_s
        released: list[str] = []
        while True:
            name = self.check()
            if not name:
                return released
            if time.monotonic() > until:
                raise LinkError(f"the built-in controller {name!r} could not be released within {timeout_s:g} s")
            released.append(name)
            self.release()
            time.sleep(pause_s)

    def _call(self, api_id: int, parameter: dict[str, Any]) -> str:
        until = time.monotonic() + ANSWER_S
        while not self.available:
            if time.monotonic() > until:
                raise LinkError("no motion switcher answers; is the robot on this interface, and booted?")
            time.sleep(0.02)
        number = next(_ids) & 0x7FFFFFFFFFFFFFFF
        self._requests.write(wire.encode_request(number, api_id, json.dumps(parameter)))
        while time.monotonic() < until:
            for sample in self._responses.take():
                answer = wire.decode_response(sample.data)
                if answer is None or (answer.id, answer.api_id) != (number, api_id):
                    continue
                if answer.code != 0:
                    raise LinkError(f"the motion switcher refused request {api_id} (code {answer.code})")
                return answer.text
            time.sleep(0.005)
        raise LinkError(f"the motion switcher did not answer request {api_id} within {ANSWER_S:g} s")


class MotionSwitcherServer:
    """The twin's motion switcher. Call `serve` often.

    Args:
        bus: Of the twin.
        name: Of the built-in controller that runs at first; empty for none.
        changed: Called with the name when it changes.
    """

    def __init__(self, bus: Bus, name: str = "ai", changed: Callable[[str], None] | None = None) -> None:
        self._requests = bus.reader(f"rt/api/{SERVICE}/request", "Request", depth=16)
        self._responses = bus.writer(f"rt/api/{SERVICE}/response", "Response")
        self.name, self._changed = name, changed

    def serve(self) -> None:
        """Answer what has been asked since the last call; what is no request is passed over."""
        for sample in self._requests.take():
            request = wire.decode_request(sample.data)
            if request is not None:
                code, text = self._answer(request.api_id, request.text)
                self._responses.write(wire.encode_response(request.id, request.api_id, code, text))

    def _answer(self, api_id: int, parameter: str) -> tuple[int, str]:
        if api_id == CHECK_MODE:
            return 0, json.dumps({"form": "0", "name": self.name})
        if api_id == RELEASE_MODE:
            self._set("")
            return 0, ""
        if api_id == SELECT_MODE:
            try:
                self._set(str(json.loads(parameter)["name"]))
            except (ValueError, KeyError, TypeError):
                return UNKNOWN_API, ""
            return 0, ""
        return UNKNOWN_API, ""

    def _set(self, name: str) -> None:
        if name != self.name:
            self.name = name
            if self._changed is not None:
                self._changed(name)


def encode(message: Any) -> bytes:
    """Return a message of `genmimic.link.idl` as a sample, padded as Cyclone wants it."""
    data: bytes = message.serialize(use_version_2=False)
    return data.ljust(-(-len(data) // 4) * 4, b"\0")
