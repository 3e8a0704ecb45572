# SPDX-License-Identifier: Apache-2.0
"""A running robot in the browser: picture, plots and buttons. Whoever feeds it brings ROS, or not."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genmimic.core.modes import Mode
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.view.meshes import LinkMesh
from genmimic.view.panel import FilmStrip, Plot, add_display, dress
from genmimic.view.pictures import Film
from genmimic.view.scene import Pose, RobotScene
from genmimic.view.server import ViewServer

WINDOW_S = 30.0
"""How far back the plots look."""

PLOT_PERIOD_S = 0.5
SILENT_S = 1.0
"""Without news for so long, the bar says so."""

BUTTONS: tuple[tuple[str, str, str, frozenset[Mode]], ...] = (
    ("arm", "Arm: stand up", "yellow", frozenset({Mode.DISARMED})),
    ("start", "Start the motion", "green", frozenset({Mode.READY, Mode.HOLD})),
    ("pause", "Pause", "blue", frozenset({Mode.MIMIC})),
    ("stop", "Stop: back to standing", "orange", frozenset({Mode.MIMIC, Mode.HOLD, Mode.STANDING})),
    ("reset", "Reset after a stop", "gray", frozenset({Mode.DAMPED, Mode.ESTOP})),
)
"""Service, label, colour, and the modes in which the safety monitor accepts it."""

ESTOP = "estop"


@dataclass(frozen=True)
class Status:
    """What the bar and the plots show; NaN where not known.

    Attributes:
        mode: Of the safety monitor; None while nothing is heard of it.
        reasons: Why it is HOLD, DAMPED or ESTOP.
        motion: What plays; empty when nothing does.
        frame: Control steps since its start.
        frames: Its length.
        tracking_error_m: Mean keypoint error as the policy sees it: root- and heading-aligned.
        period_ms: Longest of the policy's last second; 20 is wanted.
        compute_ms: The 99th percentile of the policy's last second.
        missed: Ticks dropped so far.
        tension_n: Of the gantry's rope.
    """

    mode: Mode | None = None
    reasons: tuple[str, ...] = ()
    motion: str = ""
    frame: int = 0
    frames: int = 0
    tracking_error_m: float = float("nan")
    period_ms: float = float("nan")
    compute_ms: float = float("nan")
    missed: int = 0
    tension_n: float = float("nan")


class LiveView:
    """The page of a running robot.

    Args:
        host: See `ViewServer`.
        port: See `ViewServer`.
        ask: Called with the name of a button, ``estop`` included, on a thread of the server; must not block.
        load: Called with the name of a motion that was chosen; likewise.
        motions: To choose from.
        robot: The robot.
        meshes: What it looks like.
        film: The source video, if there is one; it follows the motion.
        film_start_s: Time in it at which the motion begins.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ask: Callable[[str], Any],
        load: Callable[[str], Any],
        motions: Sequence[str] = (),
        robot: Robot = G1_23DOF,
        meshes: Sequence[LinkMesh] | None = None,
        *,
        film: Film | None = None,
        film_start_s: float = 0.0,
    ) -> None:
        self._ask, self._load = ask, load
        self._lock = threading.Lock()
        self._status, self._heard_s = Status(), float("-inf")
        self._began_s, self._plotted_s = time.monotonic(), 0.0
        self._rows: deque[tuple[float, float, float, float, float]] = deque()
        self._film_start_s = film_start_s
        self._mode_shown: Mode | None = None
        self.server = ViewServer(
            host, port, title="GenMimic live", status=self.bar, actions={ESTOP: lambda: self._press(ESTOP)}
        )  # fmt: skip
        viser = self.server.viser
        dress(viser)
        self.scene = RobotScene(viser, robot, meshes)
        self._build(viser, motions, film)

    def _build(self, viser: Any, motions: Sequence[str], film: Film | None) -> None:
        gui = viser.gui
        self._message = gui.add_markdown("")
        self._buttons = {}
        for name, label, colour, _ in BUTTONS:
            button = gui.add_button(label, color=colour, disabled=True)
            button.on_click(lambda _, name=name: self._press(name))
            self._buttons[name] = button
        if motions:
            self._choice = gui.add_dropdown("Motion", tuple(motions))
            gui.add_button("Load this motion", hint="refused while a motion plays").on_click(
                lambda _: self._load(str(self._choice.value))
            )
        self._strip = None
        if film is not None:
            with gui.add_folder("Source video"):
                self._strip = FilmStrip(viser, film, "")
        with gui.add_folder("Last 30 s"):
            self._error_plot = Plot(viser, "tracking error [cm]", ("error [cm]",), height=130)
            self._time_plot = Plot(viser, "policy loop [ms]", ("longest period", "compute p99"), height=130)
            self._mode_plot = Plot(viser, "mode: 2 ready, 3 mimic, 6 e-stop", ("mode",), height=110, low=0, high=6)
        add_display(viser, self.scene, ("robot", "keypoints", "goal", "errors", "contacts", "rope"))

    # what is pressed ---------------------------------------------------------------------------
    def _press(self, name: str) -> None:
        self._ask(name)

    def say(self, text: str) -> None:
        """Show the answer to a button."""
        self._message.content = text

    @property
    def clients(self) -> int:
        """How many browsers look at the scene."""
        return self.server.clients

    # what is heard -----------------------------------------------------------------------------
    def hear(self, status: Status) -> None:
        """Take the newest status; cheap, whether somebody looks or not."""
        now_s = time.monotonic()
        with self._lock:
            self._status, self._heard_s = status, now_s
            mode = float("nan") if status.mode is None else float(status.mode)
            t = now_s - self._began_s
            if not self._rows or t - self._rows[-1][0] >= 0.1:
                self._rows.append((t, 100.0 * status.tracking_error_m, status.period_ms, status.compute_ms, mode))
                while self._rows[0][0] < t - WINDOW_S:
                    self._rows.popleft()

    def bar(self) -> Mapping[str, Any]:
        """Return what the bar shows."""
        with self._lock:
            status, age_s = self._status, time.monotonic() - self._heard_s
        if age_s > SILENT_S or status.mode is None:
            silent = "nothing is heard of the safety monitor"
            return {"mode": "NO ROBOT", "line": silent, "reason": ""}
        words = []
        if status.motion:
            words.append(status.motion)
            if status.frames > 0:
                words.append(f"{min(max(status.frame, 0), status.frames) / 50:.1f}/{status.frames / 50:.1f} s")
        if np.isfinite(status.tracking_error_m):
            words.append(f"{100 * status.tracking_error_m:.1f} cm off")
        if np.isfinite(status.tension_n):
            words.append(f"rope {status.tension_n:.0f} N")
        return {
            "mode": status.mode.name,
            "line": " · ".join(words) or "standing by",
            "reason": "; ".join(status.reasons),
        }

    def draw(self, pose: Pose | None) -> None:
        """Show a pose and what was heard; to be called 20 to 30 times a second. Nothing is sent while nobody looks."""
        clients = self.clients
        if clients == 0:
            return
        with self._lock:
            status = self._status
        if pose is not None:
            self.scene.update(pose)
        if status.mode is not self._mode_shown:
            self._mode_shown = status.mode
            for name, _, _, modes in BUTTONS:
                self._buttons[name].disabled = status.mode not in modes
        if self._strip is not None and status.frames > 0:
            self._strip.show(self._film_start_s + max(status.frame, 0) / 50.0)
        now_s = time.monotonic()
        if now_s - self._plotted_s >= PLOT_PERIOD_S:
            self._plotted_s = now_s
            self._plot(now_s - self._began_s)

    def _plot(self, now_s: float) -> None:
        with self._lock:
            rows = np.array(self._rows)
        if len(rows) < 2:
            return
        t = rows[:, 0] - now_s
        self._error_plot.set(t, rows[:, 1])
        self._time_plot.set(t, rows[:, 2], rows[:, 3])
        self._mode_plot.set(t, rows[:, 4])

    def close(self) -> None:
        """End the page."""
        self.server.close()
