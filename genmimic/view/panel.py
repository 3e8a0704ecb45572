# SPDX-License-Identifier: Apache-2.0
"""Parts of the side panel that replay and live view share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from genmimic.view.pictures import Film
from genmimic.view.scene import RobotScene

LINE_COLOURS = ("#4da3ff", "#ffb347", "#9aa4b2")

_BELOW = -1e6
"""Drawn out of sight."""

_LABELS = {
    "robot": "robot",
    "keypoints": "robot keypoints (yellow)",
    "goal": "goal keypoints (blue)",
    "errors": "error lines",
    "contacts": "soles on the floor (green)",
    "rope": "gantry rope",
}


def dress(viser: Any) -> None:
    """Set the page's looks: dark, without a logo or the button that shares through a server elsewhere."""
    viser.gui.configure_theme(
        dark_mode=True, show_logo=False, show_share_button=False, control_width="medium", brand_color=(38, 110, 196)
    )
    viser.gui.main_panel.dock_right()
    viser.gui.main_panel.set_width(340)


def add_display(viser: Any, scene: RobotScene, names: Sequence[str]) -> None:
    """Add the switches for what is drawn."""
    gui = viser.gui
    with gui.add_folder("Show", expand_by_default=False):
        for name in names:
            box = gui.add_checkbox(_LABELS[name], scene.shown[name])
            box.on_update(lambda event, name=name: scene.show(name, bool(event.target.value)))
        glass = gui.add_checkbox("see through the robot", False)
        glass.on_update(lambda event: scene.see_through(bool(event.target.value)))
        shadows = gui.add_checkbox("shadows", True, hint="off is faster where no GPU draws")
        shadows.on_update(lambda event: viser.scene.configure_default_lights(cast_shadow=bool(event.target.value)))
        follow = gui.add_checkbox("keep the robot in the middle", scene.follow)
        follow.on_update(lambda event: setattr(scene, "follow", bool(event.target.value)))
        gui.add_button("Camera back to start").on_click(lambda _: scene.look_at_robot())


class Plot:
    """Curves over time.

    Args:
        viser: The ``viser.ViserServer``.
        title: Above it.
        labels: Of the curves, with units.
        height: In pixels.
        low: Lower end of the y axis; 0 when left out.
        high: Upper end; follows the curves when left out.
        dots: Numbers of the curves that are drawn as dots.
    """

    def __init__(
        self,
        viser: Any,
        title: str,
        labels: Sequence[str],
        *,
        height: int = 150,
        low: float | None = None,
        high: float | None = None,
        dots: Sequence[int] = (),
    ) -> None:
        from viser import uplot

        series = [uplot.Series(label="t [s]")]
        for idx, label in enumerate(labels):
            colour = LINE_COLOURS[idx % len(LINE_COLOURS)]
            if idx in dots:
                series.append(
                    uplot.Series(label=label, stroke="#ffffff", width=0, points={"show": True, "size": 9})
                )  # fmt: skip
            else:
                series.append(uplot.Series(label=label, stroke=colour, width=1.6, points={"show": False}))
        self._low, self._high, self._fixed = low or 0.0, high or 1.0, high is not None
        axis = {"stroke": "#b9c2cf", "grid": {"stroke": "#39414d", "width": 1}, "ticks": {"stroke": "#39414d"}}
        self._handle = viser.gui.add_uplot(
            (np.array([0.0, 1.0]), *(np.full(2, _BELOW) for _ in labels)),
            tuple(series),
            title=title,
            scales=self._scales(),
            axes=({**axis, "size": 30}, {**axis, "size": 44}),
            legend={"show": len(labels) > 1, "live": False},
            cursor={"show": False},
            height=height,
            padding=(6, 10, 0, 0),
        )

    def set(self, t: np.ndarray, *curves: np.ndarray) -> None:
        """Draw curves over times in s, all of the same length; what is not finite is left out."""
        if len(t) < 2:
            return
        stacked = np.array(curves, float)
        known = stacked[np.isfinite(stacked)]
        highest = float(known.max()) if len(known) else 0.0
        if not self._fixed and not 0.5 * self._high < highest < 0.97 * self._high:
            self._high = max(self._low + 1e-3, 1.25 * highest)
            self._handle.scales = self._scales()
        shown = np.where(np.isfinite(stacked), stacked, _BELOW)  # uPlot's own scaling does not survive NaN
        self._handle.data = (np.asarray(t, float), *shown)

    def _scales(self) -> dict[str, Any]:
        from viser import uplot

        return {"x": uplot.Scale(time=False), "y": uplot.Scale(range=(self._low, self._high))}


class FilmStrip:
    """The source video in the panel.

    Args:
        viser: The ``viser.ViserServer``.
        film: Its pictures.
        label: Above it.
    """

    def __init__(self, viser: Any, film: Film, label: str = "source video") -> None:
        self._film = film
        self._number = 0
        self._handle = viser.gui.add_image(film.image(0), label=label, format="jpeg", jpeg_quality=75)

    def show(self, time_s: float) -> None:
        """Show the picture of a time since the video's start."""
        number = self._film.at(time_s)
        if number != self._number:
            self._number = number
            self._handle.image = self._film.image(number)
