# SPDX-License-Identifier: Apache-2.0
"""The paper's ablations (tables 3 and 4) by name, and the table of what has been run.

A row is a teacher trained over some base configuration with a few settings changed, judged on held-back clips: as they
are, and damaged as generated video damages them (the paper has AMASS's test split and GenMimicBench).
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from genmimic.core.errors import ConfigError, InputFileError
from genmimic.core.files import write_whole
from genmimic_train.config import RewardConfig, TrainConfig
from genmimic_train.runs import Run

RESULT_NAME = "ablation.json"
RESULT_FORMAT = "genmimic-ablation/1"

WEIGHT_RATE = -0.1
"""Weight of the penalty on changes of learned keypoint weights; the paper gives none. With logits as noisy as an
untrained action this is a tenth of what the penalty on the action's rate takes."""

SYMMETRY = 1.0
"""lambda_SYM of Eq. 2 where a row has the symmetry loss; the paper gives none."""

ABLATIONS: dict[str, str] = {
    "dofs": "goals as joint angles; equal weights, no symmetry loss",
    "3dp": "goals as 3D points; equal weights, no symmetry loss",
    "dofs_weights": "goals as joint angles; keypoint weights",
    "3dp_weights": "goals as 3D points; keypoint weights",
    "3dp_self_supervised": "goals as 3D points; keypoint weights by the policy (softmax), their change penalised",
    "dofs_weights_symmetry": "goals as joint angles; keypoint weights; symmetry loss",
    "3dp_weights_symmetry": "goals as 3D points; keypoint weights; symmetry loss: the GenMimic teacher",
}
"""In the order of the tables."""

PAPER = {
    "sr": {
        "dofs": (45.8, 23.8), "3dp": (50.0, 40.0), "dofs_weights": (66.9, 40.4), "3dp_weights": (97.7, 77.4),
        "3dp_self_supervised": (67.6, 62.0), "dofs_weights_symmetry": (84.0, 40.0),
        "3dp_weights_symmetry": (99.3, 86.8),
    },
    "lmpkpe_cm": {
        "dofs": (6.65, 7.76), "3dp": (7.19, 7.07), "dofs_weights": (6.68, 7.37), "3dp_weights": (6.09, 7.03),
        "3dp_self_supervised": (6.10, 6.49), "dofs_weights_symmetry": (5.53, 6.73),
        "3dp_weights_symmetry": (5.62, 6.68),
    },
}  # fmt: skip
"""Success rates (%) and local keypoint errors (cm) of tables 3 and 4, after 1.5 billion samples: AMASS (test),
GenMimicBench."""

COLUMNS = (("sr", "SR %"), ("mpkpe_cm", "MPKPE"), ("lmpkpe_cm", "LMPKPE"), ("mpkpe_nt_cm", "MPKPE-NT"),
           ("lmpkpe_nt_cm", "LMPKPE-NT"))  # fmt: skip


def ablated(name: str, base: TrainConfig) -> TrainConfig:
    """Return ``base`` with what the row ``name`` changes. Raises ConfigError for an unknown name."""
    if name not in ABLATIONS:
        raise ConfigError(f"ablation {name!r} is not known; known: {', '.join(ABLATIONS)}")
    rewards = base.env.rewards
    paper = RewardConfig()
    learned = name.endswith("self_supervised")
    if "weights" in name:
        rewards = replace(rewards, keypoint_weights=paper.keypoint_weights, joint_weights=paper.joint_weights)
    else:
        rewards = replace(
            rewards,
            keypoint_weights=dict.fromkeys(paper.keypoint_weights, 1.0),
            joint_weights=dict.fromkeys(paper.joint_weights, 1.0),
        )
    rewards = replace(
        rewards, learned_weights=learned, weights={**rewards.weights, "weight_rate": WEIGHT_RATE if learned else 0.0}
    )
    env = replace(base.env, teacher_goal="joints" if name.startswith("dofs") else "keypoints", rewards=rewards)
    symmetry = SYMMETRY if name.endswith("symmetry") else 0.0
    return replace(base, env=env, ppo=replace(base.ppo, symmetry=symmetry))


def write_result(run: Run, name: str, seed: int, reports: dict[str, dict[str, Any]], rollouts: int) -> Path:
    """Write what a row came to beside its run: the totals of each report."""
    result = {
        "format": RESULT_FORMAT,
        "ablation": name,
        "seed": seed,
        "samples": run.load()["samples"],
        "motion_set": run.info()["motion_set"],
        "rollouts": rollouts,
        "tests": {test: report["total"] for test, report in reports.items()},
    }
    path = run.folder / RESULT_NAME
    write_whole(path, (json.dumps(result, indent=1) + "\n").encode())
    return path


def read_results(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return the results in ``folders``, searched. Raises InputFileError when one is damaged or there are none."""
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputFileError(f"{folder}: no such folder")
        for path in sorted(folder.rglob(RESULT_NAME)):
            try:
                result = json.loads(path.read_text())
                wrong = result["format"] != RESULT_FORMAT or result["ablation"] not in ABLATIONS
                if wrong or not {"seed", "samples", "tests"} <= set(result):
                    raise ValueError("unexpected content")
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputFileError(f"{path}: not the result of an ablation ({error})") from None
            found.append(result)
    if not found:
        raise InputFileError(f"no {RESULT_NAME} found in {', '.join(map(str, folders))}; run `genmimic-train ablation`")
    return found


def table3(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return table 3 as far as it has been run: rows of means and spreads over seeds.

    Of each row and seed the run with the most samples counts. ``order`` compares the rows' success rates and local
    keypoint errors with the paper's: pairs of rows that both have, and how many of them are the same way round.
    """
    latest: dict[tuple[str, int], dict[str, Any]] = {}
    for result in results:
        key = (result["ablation"], result["seed"])
        if key not in latest or latest[key]["samples"] < result["samples"]:
            latest[key] = result
    seeds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (name, _), result in sorted(latest.items()):
        seeds[name].append(result)
    tests = sorted({test for result in latest.values() for test in result["tests"]})
    rows = []
    for name in ABLATIONS:
        if name not in seeds:
            continue
        row: dict[str, Any] = {
            "ablation": name,
            "seeds": [result["seed"] for result in seeds[name]],
            "samples": [result["samples"] for result in seeds[name]],
            "tests": {},
        }
        for test in tests:
            parts = [result["tests"][test] for result in seeds[name] if test in result["tests"]]
            row["tests"][test] = {metric: _spread([part[metric] for part in parts]) for metric, _ in COLUMNS}
        rows.append(row)
    return {"format": "genmimic-table3/1", "tests": tests, "rows": rows, "order": _order(rows, tests)}


def table_text(table: dict[str, Any]) -> str:
    """Return the table for people: mean ± standard deviation over seeds, and the paper's success rates beside."""
    lines = []
    for column, test in enumerate(table["tests"]):
        rows = [["", "seeds", "M samples", *(title for _, title in COLUMNS), "paper SR %"]]
        for row in table["rows"]:
            cells = [_cell(row["tests"][test][metric], 100.0 if metric == "sr" else 1.0) for metric, _ in COLUMNS]
            samples = sorted({round(count / 1e6, 2) for count in row["samples"]})
            many = f"{samples[0]:g}" if len(samples) == 1 else f"{samples[0]:g}-{samples[-1]:g}"
            rows.append(
                [
                    row["ablation"],
                    str(len(row["seeds"])),
                    many,
                    *cells,
                    f"{PAPER['sr'][row['ablation']][min(column, 1)]:g}",
                ]
            )
        widths = [max(len(line[idx]) for line in rows) for idx in range(len(rows[0]))]
        lines += [f"{test} clips, cm; mean ± standard deviation over seeds"]
        lines += [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in rows
        ]
        for metric, what in (("sr", "success rates"), ("lmpkpe_cm", "LMPKPE")):
            order = table["order"][test][metric]
            if order["pairs"]:
                lines += [f"order of {what} as in the paper: {order['agree']} of {order['pairs']} pairs"]
        lines += [""]
    return "\n".join(lines).rstrip()


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "sd": None}
    return {"mean": statistics.fmean(known), "sd": statistics.stdev(known) if len(known) > 1 else None}


def _cell(spread: dict[str, float | None], factor: float) -> str:
    if spread["mean"] is None:
        return "-"
    text = f"{factor * spread['mean']:.1f}"
    return text if spread["sd"] is None else f"{text} ± {factor * spread['sd']:.1f}"


def _order(rows: Sequence[dict[str, Any]], tests: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    order = {}
    for column, test in enumerate(tests):
        order[test] = {metric: _pairs(rows, test, min(column, 1), metric) for metric in PAPER}
    return order


def _pairs(rows: Sequence[dict[str, Any]], test: str, column: int, metric: str) -> dict[str, int]:
    known = [(row["tests"][test][metric]["mean"], PAPER[metric][row["ablation"]][column]) for row in rows]
    known = [(ours, theirs) for ours, theirs in known if ours is not None]
    pairs = [(first, second) for first, second in combinations(known, 2) if first[1] != second[1]]
    agree = sum((first[0] - second[0]) * (first[1] - second[1]) > 0.0 for first, second in pairs)
    return {"pairs": len(pairs), "agree": agree}
