# SPDX-License-Identifier: Apache-2.0
"""The motion gate: can and should a robot do this motion? See docs/motion-gate.md."""

from genmimic.check.gate import Checked, GateError, check_motion, motion_digest, require_verdict, verdict_problem
from genmimic.check.judge import Finding, Judgement, Limits, Severity, Tracking, judge
from genmimic.check.repair import Repaired, repair

__all__ = [
    "Checked", "Finding", "GateError", "Judgement", "Limits", "Repaired", "Severity", "Tracking", "check_motion",
    "judge", "motion_digest", "repair", "require_verdict", "verdict_problem",
]  # fmt: skip
