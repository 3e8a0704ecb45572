# SPDX-License-Identifier: Apache-2.0
"""Damaged references as an axis of evaluation: which kinds, how strong, and what came of each."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genmimic.check.corrupt import KINDS, corrupt
from genmimic.core.errors import ConfigError
from genmimic.core.motion import Motion
from genmimic.core.robot import Robot
from genmimic.evaluate.metrics import summarize

LEVELS = (0.5, 1.0)
"""Each kind at these strengths is the whole suite; 1 is what bad lifting gives (`genmimic.check.corrupt`)."""

MAX_LEVEL = 10.0


@dataclass(frozen=True)
class Corruption:
    """One kind of damage at one strength."""

    kind: str
    level: float

    @property
    def label(self) -> str:
        return f"{self.kind}@{self.level:g}"

    def damage(self, robot: Robot, motion: Motion, seed: int, name: str, number: int) -> Motion:
        """Return ``motion`` damaged: another damage for each seed, motion ``name`` and rollout ``number``."""
        chance = np.random.SeedSequence([seed, zlib.crc32(name.encode()), number])
        return corrupt(robot, motion, self.kind, self.level, int(chance.generate_state(1)[0]))


def parse_corruptions(texts: Sequence[str]) -> tuple[Corruption, ...]:
    """Return what ``KIND`` (both strengths), ``KIND:STRENGTH`` and ``all`` name, each once, in order.

    Raises:
        ConfigError: A kind is unknown, or a strength is no number from 0 to 10.
    """
    found: list[Corruption] = []
    for text in texts:
        kind, colon, strength = text.partition(":")
        kinds = KINDS if kind == "all" else (kind,)
        if not set(kinds) <= set(KINDS):
            raise ConfigError(f"corruption {kind!r} is not known; known: all, {', '.join(KINDS)}")
        levels: Sequence[float] = LEVELS
        if colon:
            try:
                levels = (float(strength),)
            except ValueError:
                levels = (math.nan,)
            if not 0.0 <= levels[0] <= MAX_LEVEL:
                raise ConfigError(f"corruption {text!r}: strength is {strength!r}, expected 0 to {MAX_LEVEL:g}")
        found += [Corruption(name, level) for name in kinds for level in levels]
    return tuple(dict.fromkeys(found))


def corruption_summaries(
    corruptions: Sequence[Corruption], entries: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return for each corruption the means over all rollouts of the `motion_entry` parts that name it."""
    summaries = []
    for corruption in corruptions:
        facts = {"kind": corruption.kind, "level": corruption.level}
        each = [rollout for entry in entries if entry.get("corrupt") == facts for rollout in entry["each"]]
        summaries.append({**facts, **summarize(each)})
    return summaries
