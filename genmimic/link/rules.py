# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/safety.md, from the rules themselves: ``python -m genmimic.link.rules``. Needs no DDS."""

from __future__ import annotations

from genmimic.core import gate
from genmimic.core.modes import APPLIED, ARMED
from genmimic.core.safety import SafetyLimits, quantity, rule_table
from genmimic.link.config import DAMPING_FAULTS, LinkConfig


def monitor_table() -> str:
    """Return the monitor's rules as a Markdown table, with the numbers in force by default."""
    return rule_table(SafetyLimits(), LinkConfig())


def bridge_table() -> str:
    """Return the rules on which the bridge damps by itself as a Markdown table."""
    settings = gate.GateConfig(), LinkConfig()
    rows = ["| Rule | Watched | Limit | Judged in |", "|---|---|---|---|"]
    names = {None: "every mode", ARMED: "armed", APPLIED: "policy"}
    for rule in gate.RULES:
        limit = ", ".join(quantity(settings, name) for name in rule.limits) or "-"
        rows.append(f"| `{rule.id}` | {rule.watches} | {limit} | {names[rule.modes]} |")
    same = ", ".join(f"`{name}`" for name in DAMPING_FAULTS)
    rows.append(f"| {same} | hardware: as in the monitor's table | as there | every mode; `joint_frozen`: policy |")
    rows.append("| `remote` | hardware: B or Select on the remote or the keyboard | - | every mode |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(monitor_table())
    print(bridge_table(), end="")
