# SPDX-License-Identifier: Apache-2.0
"""The motion gate: check a motion, repair it where asked to, and keep the verdict in its file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.check.judge import Judgement, Limits, Tracking, judge, track
from genmimic.check.repair import GENTLER, repair
from genmimic.core.errors import GenMimicError
from genmimic.core.motion import CONTROL_RATE_HZ, Motion, resample
from genmimic.core.robot import Robot

CHECK_FORMAT = "genmimic-check/1"
PASSING = ("ok", "repaired")
VERDICTS = (*PASSING, "gantry only", "refused")

WORSE_CM = 3.0
"""By how much more a repaired motion may be missed in simulation than the one that came."""

_log = logging.getLogger("genmimic.check")


class GateError(GenMimicError, ValueError):
    """A motion has not passed the gate, and the robot is real."""


@dataclass(frozen=True)
class Checked:
    """A motion with its verdict inside, and what led to it.

    Attributes:
        motion: At 50 Hz, repaired where asked for, with the verdict in ``source["check"]``.
        judgement: Of it.
        before: Judgement of the motion as it came; None when nothing was repaired.
        original: The motion as it came, at 50 Hz.
        left_out: Why it was repaired less than its findings ask for, one line each.
    """

    motion: Motion
    judgement: Judgement
    before: Judgement | None
    original: Motion
    left_out: tuple[str, ...] = ()


def check_motion(
    robot: Robot,
    motion: Motion,
    policy_path: str | Path | None = None,
    *,
    mend: bool = False,
    rollouts: int = 4,
    seed: int = 0,
    limits: Limits = Limits(),  # noqa: B008
) -> Checked:
    """Return the motion with its verdict.

    Args:
        robot: The robot.
        motion: At any rate; resampled to 50 Hz.
        policy_path: Tracks the motion in simulation; None leaves that out, and the verdict then never passes
            `require_verdict`.
        mend: Repair what can be repaired before judging. With a policy, a repair at which the simulated robot does
            worse than without it is done without the steps that may cost it its balance, or left out.
        rollouts: In simulation, one of them nominal.
        seed: Of the others.
        limits: What is held against what.

    Raises:
        MotionError: It is too short.
        GenMimicError: The policy cannot be used.
    """
    original = resample(robot, motion, CONTROL_RATE_HZ)
    tracking = None if policy_path is None else track(robot, original, policy_path, rollouts, seed)
    judgement = judge(robot, original, tracking, limits=limits)
    before, mended, left_out = None, original, []
    if mend and judgement.verdict != "ok":
        came, tried = judgement, set()
        for leave_out in GENTLER:
            fixed = repair(robot, original, came, leave_out)
            if not fixed.done:
                break
            if fixed.done in tried:
                continue
            tried.add(fixed.done)
            after = None if policy_path is None else track(robot, fixed.motion, policy_path, rollouts, seed)
            problem = None if after is None or tracking is None else _worse(tracking, after)
            if problem is None:
                before, mended = came, fixed.motion
                judgement = judge(robot, mended, after, fixed.done, limits)
                break
            what = f"repair without {' and '.join(leave_out)}" if leave_out else "the whole repair"
            left_out.append(f"{what}: {problem}")
    record = verdict_record(mended, judgement, limits)
    if left_out:
        record["repairs_left_out"] = left_out
    source = {**mended.source, "check": record}
    return Checked(replace(mended, source=source), judgement, before, original, tuple(left_out))


def _worse(before: Tracking, after: Tracking) -> str | None:
    """Return how the simulated robot does worse after a repair than before it; None when it does not."""
    stood, stands = (sum(at is None for at in one.fell_at_s) for one in (before, after))
    count = len(after.fell_at_s)
    if stands < stood:
        return f"the simulated robot stands in {stands} of {count} rollouts, {stood} before"
    if before.fell_at_s[0] is None and after.fell_at_s[0] is not None:
        return "the simulated robot falls without noise, and did not before"
    error = after.lmpkpe_cm[0] - before.lmpkpe_cm[0]
    if before.fell_at_s[0] is None and error > WORSE_CM:
        return f"the simulated robot is {error:.1f} cm farther off"
    return None


def verdict_record(motion: Motion, judgement: Judgement, limits: Limits) -> dict[str, Any]:
    """Return the verdict as it stands in a motion file, plain JSON."""
    from genmimic.evaluate.report import versions

    tracking = judgement.tracking
    return {
        "format": CHECK_FORMAT,
        "verdict": judgement.verdict,
        "motion_sha256": motion_digest(motion),
        "policy": None if tracking is None else tracking.policy,
        "policy_sha256": None if tracking is None else tracking.policy_sha256,
        "findings": [finding.as_json() for finding in judgement.findings],
        "repairs": list(judgement.repairs),
        "scores": dict(judgement.scores),
        "tracking": None if tracking is None else asdict(tracking),
        "limits": {name: list(pair) for name, pair in asdict(limits).items()},
        "versions": versions(),
    }


def motion_digest(motion: Motion) -> str:
    """Return a digest of joints and root path as files keep them, so that a changed motion loses its verdict."""
    digest = hashlib.sha256(np.float64(motion.fps).tobytes())
    for values in (motion.joint_pos, motion.root_pos):
        digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()


def require_verdict(motion: Motion, policy_sha256: str, override: bool = False, on_gantry: bool = False) -> str:
    """Return the verdict of a motion that may run on the real robot; call it before anything is started.

    Args:
        motion: As read from its file.
        policy_sha256: Of the policy that will run.
        override: Run it anyway; logged as a warning with the reason it would have been refused for.
        on_gantry: The robot hangs in its gantry, so that ``gantry only`` passes too.

    Returns:
        One of `VERDICTS`, or ``overridden``.

    Raises:
        GateError: Not checked, changed since, checked with another policy or without one, or not passed.
    """
    problem = verdict_problem(motion, policy_sha256, on_gantry)
    if problem is None:
        return str(motion.source["check"]["verdict"])
    if not override:
        raise GateError(f"motion {motion.name!r} may not run on the real robot: {problem}")
    _log.warning("gate overridden for motion %r: %s", motion.name, problem)
    return "overridden"


def verdict_problem(motion: Motion, policy_sha256: str, on_gantry: bool = False) -> str | None:
    """Return why a motion may not run on the real robot, one line with what to do about it; None when it may.

    Arguments as those of `require_verdict`.
    """
    record = motion.source.get("check")
    if not isinstance(record, Mapping) or record.get("format") != CHECK_FORMAT:
        return "it has not been checked; run `genmimic check FILE`"
    if record.get("motion_sha256") != motion_digest(motion):
        return "it was changed after its check; run `genmimic check FILE` again"
    if not record.get("policy_sha256"):
        return "it was checked without a policy; run `genmimic check FILE` without --no-simulation"
    if record["policy_sha256"] != policy_sha256:
        return (
            f"it was checked with policy {str(record['policy_sha256'])[:12]}, not with {policy_sha256[:12]}; "
            "run `genmimic check FILE --policy P` with the one that will run"
        )
    verdict = record.get("verdict")
    if verdict in PASSING or (verdict == "gantry only" and on_gantry):
        return None
    findings = record.get("findings") or [{}]
    reason = findings[0].get("text", "no reason given") if isinstance(findings[0], Mapping) else "no reason given"
    if verdict == "gantry only":
        return f"its verdict is {verdict!r}: {reason}; say so when the robot hangs in its gantry (--on-gantry)"
    return f"its verdict is {verdict!r}: {reason}"
