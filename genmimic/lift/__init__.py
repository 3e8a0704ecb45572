# SPDX-License-Identifier: Apache-2.0
"""From a video, or from what other tools made of one, to a human motion. See docs/lifting.md.

`lift_video` makes a `genmimic.core.human.HumanMotion` of a clip, `read_human` reads one from a file of almost any kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genmimic.lift.importers import read_human
    from genmimic.lift.pipeline import lift_video

__all__ = ["lift_video", "read_human"]


def __getattr__(name: str) -> Any:
    if name == "read_human":
        from genmimic.lift.importers import read_human

        return read_human
    if name == "lift_video":
        from genmimic.lift.pipeline import lift_video

        return lift_video
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
