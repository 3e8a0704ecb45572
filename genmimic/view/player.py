# SPDX-License-Identifier: Apache-2.0
"""Motions and finished runs in the browser, with a time line, speed and loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.robot import G1_23DOF, Robot
from genmimic.view.clip import Clip
from genmimic.view.meshes import LinkMesh
from genmimic.view.panel import FilmStrip, Plot, add_display, dress
from genmimic.view.pictures import Film, read_film
from genmimic.view.scene import RobotScene
from genmimic.view.server import ViewServer

RATE_HZ = 30.0
"""How often the picture changes while playing."""

CURSOR_HZ = 5.0
"""How often the plot's dot moves."""

PLOT_POINTS = 400

SPEEDS = ("0.1", "0.25", "0.5", "1", "2", "4")


class Player:
    """Plays clips on a server.

    Args:
        server: Where.
        clips: At least one.
        robot: Of the clips.
        meshes: What it looks like.
        video: The film of the first clip, where the clip does not know it.
        video_start_s: Time in that film at which the motion itself begins.
    """

    def __init__(
        self,
        server: ViewServer,
        clips: Sequence[Clip],
        robot: Robot = G1_23DOF,
        meshes: Sequence[LinkMesh] | None = None,
        *,
        video: str | Path | None = None,
        video_start_s: float = 0.0,
    ) -> None:
        self._server, self._clips = server, list(clips)
        self._video, self._video_start_s = video, video_start_s
        self._films: dict[Path, Film] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._changed = True
        self._number, self._clip = 0, self._clips[0]
        self._time_s = 0.0
        self._clients = 0
        self._plot: Plot | None = None
        self._strip: FilmStrip | None = None
        self._sliding = False
        viser = server.viser
        dress(viser)
        self.scene = RobotScene(viser, robot, meshes)
        self._labels = _unique([clip.name for clip in self._clips])
        self._build(viser)
        self.select(0)

    def _build(self, viser: Any) -> None:
        gui = viser.gui
        self._choice = gui.add_dropdown("Clip", self._labels, visible=len(self._clips) > 1)
        self._choice.on_update(lambda event: self._on_choice(event))
        self._facts = gui.add_markdown("")
        self._play = gui.add_button("Pause", color="blue")
        self._play.on_click(lambda _: self._on_play())
        self._slider = gui.add_slider("Time [s]", 0.0, 1.0, 0.02, 0.0)
        self._slider.on_update(self._on_slider)
        self._speed = gui.add_dropdown("Speed", SPEEDS, initial_value="1")
        self._loop = gui.add_checkbox("Loop", True)
        self._playing = True
        self._beside = gui.add_folder("Beside it")
        self._beside.visible = False
        add_display(viser, self.scene, ("robot", "keypoints", "goal", "errors", "contacts"))

    # what people do ----------------------------------------------------------------------------
    def select(self, number: int) -> None:
        """Show another clip, from its beginning."""
        with self._lock:
            self._number = number
            self._show(0.0)

    def replace(self, clips: Sequence[Clip]) -> None:
        """Put newer takes of the same clips, as many, in the place of all; what is shown goes on from where it is."""
        with self._lock:
            self._clips = list(clips)
            self._show(self._time_s)

    def _show(self, time_s: float) -> None:
        self._clip = clip = self._clips[self._number]
        self._time_s, self._changed = min(time_s, clip.duration), True
        self._facts.content = "\n\n".join(clip.facts)
        self._sliding = True
        try:
            self._slider.value = 0.0
            self._slider.max = max(round(clip.duration, 2), 0.02)
            self._slider.value = min(round(self._time_s, 2), self._slider.max)
        finally:
            self._sliding = False
        self._lay_beside(clip)

    def seek(self, time_s: float) -> None:
        """Go to a time."""
        with self._lock:
            self._time_s, self._changed = float(np.clip(time_s, 0.0, self._clip.duration)), True

    @property
    def playing(self) -> bool:
        """Whether time runs."""
        return self._playing

    @property
    def time_s(self) -> float:
        """Where it is."""
        return self._time_s

    @property
    def clip(self) -> Clip:
        """What is shown."""
        return self._clip

    def play(self, playing: bool) -> None:
        """Let time run or stand."""
        with self._lock:
            if playing and self._time_s >= self._clip.duration - 1e-9:
                self._time_s = 0.0
            self._playing, self._changed = playing, True
            self._play.label = "Pause" if playing else "Play"

    def _on_play(self) -> None:
        self.play(not self._playing)

    def _on_choice(self, event: Any) -> None:
        if event.client is not None:
            self.select(self._labels.index(event.target.value))

    def _on_slider(self, event: Any) -> None:
        if event.client is not None and not self._sliding:
            self.play(False)
            self.seek(float(event.target.value))

    # what is shown -----------------------------------------------------------------------------
    def _lay_beside(self, clip: Clip) -> None:
        gui = self._server.viser.gui
        self._beside.remove()
        self._plot = self._strip = None
        film = self._film(clip)
        error_m = clip.error_m
        self._beside = gui.add_folder("Tracking" if film is None else "Beside it", order=self._loop.order + 0.5)
        self._beside.visible = film is not None or error_m is not None
        with self._beside:
            if film is not None:
                self._strip = FilmStrip(self._server.viser, film)
            if error_m is not None:
                step = max(1, -(-len(clip) // PLOT_POINTS))
                self._curve_t = np.arange(0, len(clip), step) / clip.fps
                self._curve = 100.0 * error_m[::step]
                self._plot = Plot(
                    self._server.viser, "mean keypoint error", ("error [cm]", "now"), height=170, dots=(1,)
                )  # fmt: skip
                self._mark(0.0)

    def _film(self, clip: Clip) -> Film | None:
        path = clip.video
        if path is None and self._video is not None and self._number == 0:
            path = Path(self._video)
        if path is None:
            return None
        if path not in self._films:
            self._films[path] = read_film(path)
        return self._films[path]

    def _mark(self, time_s: float) -> None:
        if self._plot is not None:
            now, idx = np.full(len(self._curve), np.nan), int(np.searchsorted(self._curve_t, time_s))
            idx = min(idx, len(now) - 1)
            now[idx] = self._curve[idx]
            self._plot.set(self._curve_t, self._curve, now)

    def step(self, dt_s: float) -> bool:
        """Let ``dt_s`` of real time pass; return whether the picture has changed."""
        with self._lock:
            clip = self._clip
            if self._playing:
                self._time_s += dt_s * float(self._speed.value)
                if self._time_s > clip.duration:
                    if self._loop.value:
                        self._time_s %= max(clip.duration, 1e-3)
                    else:
                        self._time_s = clip.duration
                        self.play(False)
            elif not self._changed:
                return False
            self._changed = False
            frame = min(round(self._time_s * clip.fps), len(clip) - 1)
            with self._server.viser.atomic():
                self.scene.update(clip.pose(frame))
            return True

    def _refresh_panel(self) -> None:
        """Move the slider, the plot's dot and the film."""
        with self._lock:
            self._sliding = True
            try:
                self._slider.value = round(self._time_s, 2)
            finally:
                self._sliding = False
            self._mark(self._time_s)

    def run(self) -> None:
        """Play until `stop`. Nothing happens while nobody looks."""
        last = time.monotonic()
        panel_s = 0.0
        while not self._stop.wait(1.0 / RATE_HZ):
            now = time.monotonic()
            dt_s, last = min(now - last, 0.25), now
            clients = self._server.clients
            if clients == 0:
                self._clients = 0
                self._stop.wait(0.2)
                last = time.monotonic()
                continue
            if clients != self._clients:
                self._clients, self._changed = clients, True
            if not self.step(dt_s):
                continue
            if self._strip is not None:
                start = self._clip.motion_frames[0] / self._clip.fps
                self._strip.show(self._time_s - start + self._video_start_s)
            if now - panel_s >= 1.0 / CURSOR_HZ or not self._playing:
                panel_s = now
                self._refresh_panel()

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()

    def ended(self, timeout_s: float = 0.0) -> bool:
        """Wait for `stop` so long; return whether it was called."""
        return self._stop.wait(timeout_s)

    @property
    def looked_at(self) -> bool:
        """Whether a browser shows the page."""
        return self._server.clients > 0


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names, numbered where several are the same."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if names.count(name) == 1 else f"{name} ({seen[name]})")
    return found
