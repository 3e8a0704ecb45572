# SPDX-License-Identifier: Apache-2.0
"""One page about a run or an evaluation: what was asked, how well it went, timing, safety, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from genmimic import page as p
from genmimic.core.errors import GenMimicError
from genmimic.core.modes import DAMPING, Mode
from genmimic.core.motion import CONTROL_RATE_HZ
from genmimic.core.robot import Robot
from genmimic.core.rotation import heading, wrap_angle
from genmimic.evaluate.bench import COLUMNS, PAPER_TABLE_1, class_rows
from genmimic.evaluate.metrics import (
    LOCAL_SUCCESS_CM,
    METRICS,
    RATES,
    aligned_keypoints,
    error_curves,
    wilson_interval,
)
from genmimic.evaluate.report import FIGURE_NAME, TRAJECTORY_NAME, bones_of, load_trajectory, track_of
from genmimic.evaluate.runs import Run

PAGE_NAME = "report.html"

MEANINGS = {
    "sr": ("SR", "no fall, and never more than 0.5 m from the goal in the mean over the keypoints"),
    "sr_local": ("SR local", f"no fall, and LMPKPE-NT at most {LOCAL_SUCCESS_CM:g} cm; ours"),
    "no_fall": ("no fall", "the robot still stood at the end; ours"),
    "mpkpe_cm": ("MPKPE", "distance of the keypoints from the goal in the world, until termination"),
    "lmpkpe_cm": ("LMPKPE", "the same with pelvis and heading laid over the goal's: the pose alone"),
    "mpkpe_nt_cm": ("MPKPE-NT", "as MPKPE, over the whole motion, whatever happens"),
    "lmpkpe_nt_cm": ("LMPKPE-NT", "as LMPKPE, over the whole motion, whatever happens"),
    "hands_cm": ("hands", "as LMPKPE, the two hands alone; ours"),
    "drift_m": ("drift", "horizontal distance of the pelvis from its goal at the end; ours"),
}
"""Title and meaning of each metric."""

MAX_VIDEO_S = 20.0
MAX_SHOWN_ROLLOUTS = 4
_VIDEO_SIZE = (640, 480)


def save_report_page(path: str | Path, run: Run, robot: Robot, video: bool = True) -> Path:
    """Write the page; return its path. Raises InputFileError."""
    return report_page(run, robot, video).save(path)


def report_page(run: Run, robot: Robot, video: bool = True) -> p.Page:
    """Return the page about a run or an evaluation; ``video``: with a film, where one can be drawn."""
    report = run.report
    page = p.Page(f"{report['motion']}: {report['policy']}")
    _head(page, run)
    if run.trajectory is not None:
        _show(page, run, robot, video)
    _asked(page, run)
    _metrics(page, report)
    if len(report["motions"]) > 1:
        _classes(page, report)
    if run.trajectory is not None:
        _over_time(page, run.trajectory, robot)
        _per_keypoint(page, run.trajectory, robot)
    _rollouts(page, run)
    if run.is_evaluation:
        _kept(page, run, robot)
    _timing(page, run)
    if run.log is not None:
        _safety(page, run, robot)
    if run.picture is not None:
        page.section("Picture", f'<img alt="robot and goal over time" src="{_image(run.picture)}">')
    _files(page, run)
    return page


# parts -----------------------------------------------------------------------------------------
def _head(page: p.Page, run: Run) -> None:
    report, total = run.report, run.report["total"]
    good = bool(report["success"])
    words = "success" if good else "failed"
    page.add(f"<h1>{p.text(report['motion'])}</h1>")
    where = "in simulation, without ROS" if run.is_evaluation else f"robot {p.text(report.get('robot', '?'))}"
    page.add(
        f"<p>{p.chip(words, 'good' if good else 'bad')} &nbsp; policy <b>{p.text(report['policy'])}</b>, {where}</p>"
    )
    outcomes = sorted(
        {str(each["outcome"]) for entry in report["motions"] for each in entry.get("each", ())
         if each.get("outcome", "done") != "done"} | ({str(report["reason"])} if report.get("reason") else set())
    )  # fmt: skip
    for outcome in outcomes[:5]:
        page.add(f'<p class="bad">{p.text(outcome)}</p>')
    stood = total["no_fall"]
    entries = [
        ("–" if stood is None else f"{100 * stood:.0f} %", f"of {total['rollouts']} stood to the end",
         "" if stood is None else "good" if stood >= 0.97 else "bad"),
        (p.number(total["lmpkpe_nt_cm"], 1, " cm"), "pose error (LMPKPE-NT)",
         "" if total["lmpkpe_nt_cm"] is None else "good" if total["lmpkpe_nt_cm"] <= LOCAL_SUCCESS_CM else "warn"),
        (p.number(total["hands_cm"], 1, " cm"), "hands", ""),
        (p.number(total["mpkpe_nt_cm"], 1, " cm"), "in the world (MPKPE-NT)", ""),
        (p.number(total["drift_m"], 2, " m"), "drift at the end", ""),
    ]  # fmt: skip
    if total["sr"] is not None:
        entries.insert(1, (f"{100 * total['sr']:.0f} %", "success rate (SR)", ""))
    if "missed" in report:
        missed = int(report["missed"])
        entries.append((f"{missed} / {report['ticks']}", "missed ticks", "bad" if missed else "good"))
    page.add(p.tiles(entries))


def _show(page: p.Page, run: Run, robot: Robot, video: bool) -> None:
    assert run.trajectory is not None
    page.add('<div class="pair"><div>', trajectory_player(run.trajectory, robot), "</div>")
    film, problem = b"", "left out"
    if video:
        film, problem = render_film(run.trajectory, robot)
    if film:
        page.add(
            f'<video controls loop muted playsinline preload="metadata" src="{p.embedded(film, "video/mp4")}"></video>'
        )
    else:
        page.add(f'<p class="muted">No video: {p.text(problem)}</p>')
    page.add("</div>")
    if len(run.report["motions"][0].get("each", ())) > 1:
        page.add('<p class="muted">Shown and drawn below: the worst of the performances.</p>')


def trajectory_player(trajectory: Mapping[str, np.ndarray], robot: Robot, label: str = "robot") -> str:
    """Return the player of a trajectory: the robot and its goal."""
    falls = np.flatnonzero(trajectory["fell"])
    fell = int(falls[0]) if len(falls) else None
    bodies = [
        (label, "robot", trajectory["keypoint_pos"], fell),
        ("goal", "goal", trajectory["goal_keypoint_pos"], None),
    ]
    return p.player(bodies, bones_of(robot), player_ends(robot), 1.0 / _step_s(trajectory["t"]))


def body_player(positions: np.ndarray, robot: Robot, kind: str) -> str:
    """Return the player of ``robot`` or ``goal`` alone; ``positions``: keypoints at the control rate (T, K, 3)."""
    return p.player([(kind, kind, positions, None)], bones_of(robot), player_ends(robot), CONTROL_RATE_HZ)


def player_ends(robot: Robot) -> list[int]:
    """Return the keypoints that are drawn as dots."""
    return [int(idx) for idx in robot.keypoint_idx(["head", "left_hand", "right_hand"])]


def render_film(trajectory: Mapping[str, np.ndarray], robot: Robot) -> tuple[bytes, str]:
    """Return an mp4 of the robot with its goal's keypoints, or nothing and one line that says why not."""
    from genmimic.sim.render import render_sequence
    from genmimic.sim.video import encode_video

    fps = 1.0 / _step_s(trajectory["t"])
    start, end = (int(value) for value in trajectory["motion_frames"])
    lead = int(0.5 * fps)
    frames = slice(max(0, start - lead), min(len(trajectory["t"]), end + lead, start + int(MAX_VIDEO_S * fps)))
    every = max(1, round(fps / 25.0))
    try:
        images = render_sequence(
            robot, trajectory["root_pos"][frames], trajectory["root_quat"][frames], trajectory["joint_pos"][frames],
            trajectory["goal_keypoint_pos"][frames], every=every, width=_VIDEO_SIZE[0], height=_VIDEO_SIZE[1],
            shadows=False,
        )  # fmt: skip
        return encode_video(images, fps / every), ""
    except GenMimicError as error:
        return b"", " ".join(str(error).split())


def _asked(page: p.Page, run: Run) -> None:
    report = run.report
    recorded = run.recording.facts.get("genmimic", {}) if run.recording is not None else {}
    digest = str(report.get("policy_sha256", ""))
    durations = [entry["duration_s"] for entry in report["motions"] if entry.get("duration_s")]
    pairs = [
        ("motion", p.text(report["motion"]) + (f", {durations[0]:.1f} s" if len(durations) == 1 else "")),
        ("motion's SHA-256", _code(recorded.get("motion_sha256", "")[:16])),
        ("policy", f"{p.text(report['policy'])} {_code(digest[:16])}"),
        ("robot", p.text(report.get("robot", ""))),
        ("rollouts", str(report["total"]["rollouts"])),
        ("noise", p.text(report["noise"])),
        ("randomisation", p.text(report["randomize"])),
        ("seed", str(report["seed"])),
        ("motion gate", p.text(": ".join(map(str, report["gate"].values()))) if report.get("gate") else ""),
        ("started", p.text(recorded.get("started", ""))),
        ("versions", p.text(", ".join(f"{name} {version}" for name, version in report["versions"].items()))),
    ]  # fmt: skip
    if report.get("training"):
        told = ", ".join(
            f"{name} {value}" for name, value in report["training"].items() if not isinstance(value, (dict, list))
        )
        pairs.append(("training", p.text(told)))
    page.section("What was asked", p.facts(pairs))


def _metrics(page: p.Page, report: Mapping[str, Any]) -> None:
    total = report["total"]
    paper = dict(zip([name for _, name in COLUMNS[:5]], PAPER_TABLE_1["GenMimic student"], strict=True))
    rows = []
    for name in METRICS:
        title, meaning = MEANINGS[name]
        theirs = "" if name not in paper else _value(name, paper[name])
        rows.append(
            [p.text(title), p.text(meaning), _value(name, total[name]), _range(name, total["ci95"].get(name)), theirs]
        )
    page.section(
        "How well it went",
        p.table(["metric", "meaning", "value", "95 % interval", "paper's student"], rows, left=2),
        note="Intervals: Wilson's for rates, 1.96 standard errors for errors. The last column is what the paper reports"
        " for its student on GenMimicBench (Table 1): other motions and another simulator, so a landmark, not a rival.",
    )


def _classes(page: p.Page, report: Mapping[str, Any]) -> None:
    rows = [
        [p.text(name), str(motions), *(_value(key, summary[key]) for _, key in COLUMNS)]
        for name, motions, summary in class_rows(report)
    ]
    page.section(
        "By class of motion",
        p.table(["class", "motions", *(title for title, _ in COLUMNS)], rows, [""] * (len(rows) - 1) + ["strong"]),
        note="Classes after the paper's taxonomy, by the motions' names. All rollouts count the same.",
    )


def _over_time(page: p.Page, trajectory: Mapping[str, np.ndarray], robot: Robot) -> None:
    track = track_of({**trajectory, "motion_frames": np.array([0, len(trajectory["t"])])})
    curves = error_curves(track, robot)
    figure = p.figure(10.0, 5.0)
    pose, place = figure.subplots(2, 1, sharex=True)
    pose.plot(*p.thinned(track.t, 100 * curves.local), color=p.ROBOT, lw=1.6, label="all keypoints")
    pose.plot(*p.thinned(track.t, 100 * curves.hands), color=p.OTHER, lw=1.3, label="hands")
    pose.axhline(LOCAL_SUCCESS_CM, color=p.MUTED, lw=0.9, ls="--")
    drift = np.linalg.norm(track.keypoint_pos[:, 0, :2] - track.goal_keypoint_pos[:, 0, :2], axis=-1)
    turn = np.degrees(np.abs(wrap_angle(heading(track.root_quat) - heading(track.goal_root_quat))))
    place.plot(*p.thinned(track.t, 100 * curves.deviation), color=p.ROBOT, lw=1.6, label="all keypoints, cm")
    place.plot(*p.thinned(track.t, 100 * drift), color=p.GOAL, lw=1.3, label="pelvis, horizontal, cm")
    place.plot(*p.thinned(track.t, turn), color=p.WARN, lw=1.1, label="heading, degrees")
    start, end = (int(value) for value in trajectory["motion_frames"])
    last = len(track.t) - 1
    for axis in (pose, place):
        for first, stop in ((0, start), (min(end, last), last)):
            if stop > first:
                axis.axvspan(track.t[first], track.t[stop], color=p.SHADE, lw=0, zorder=0)
        if track.fell_at is not None:
            axis.axvline(track.t[min(max(track.fell_at, 0), last)], color=p.BAD, lw=1.6, label="fell")
        axis.set_xlim(track.t[0], track.t[-1])
        axis.set_ylim(bottom=0.0)
    p.style_axis(pose, "cm", "error of the pose (pelvis and heading laid over the goal's)")
    p.style_axis(place, "", "error in the world", "s")
    page.section(
        "Over time", p.svg(figure, "time", "errors over time"),
        note="Grey: standing and blending, not judged. Dashed: the limit of SR local, for the mean.",
    )  # fmt: skip


def _per_keypoint(page: p.Page, trajectory: Mapping[str, np.ndarray], robot: Robot) -> None:
    track = track_of(trajectory)
    aligned = np.linalg.norm(
        aligned_keypoints(track.keypoint_pos, track.root_quat)
        - aligned_keypoints(track.goal_keypoint_pos, track.goal_root_quat),
        axis=-1,
    )  # (T, K)
    mean, high = 100 * aligned.mean(0), 100 * np.percentile(aligned, 95, axis=0)
    order = np.arange(1, robot.num_keypoints)  # the pelvis is on the goal's by definition
    names = [robot.keypoint_names[idx].replace("_", " ") for idx in order]
    figure = p.figure(10.0, 5.2)
    axis = figure.subplots()
    places = np.arange(len(order))[::-1]
    axis.barh(places, high[order], color=p.LINE, height=0.72, label="95th percentile")
    axis.barh(places, mean[order], color=p.ROBOT, height=0.72, label="mean")
    axis.set_yticks(places, names)
    axis.set_ylim(-0.6, len(order) - 0.4)
    p.style_axis(axis, x_label="cm")
    axis.grid(axis="y", visible=False)

    torque = np.abs(trajectory["torque"])
    share = 100 * torque.max(0) / robot.joint_effort
    heavy = np.argsort(-share)[:8]
    rows = [
        [p.text(robot.joint_names[idx].removesuffix("_joint").replace("_", " ")), f"{torque[:, idx].max():.0f}",
         f"{np.sqrt((torque[:, idx] ** 2).mean()):.0f}", f"{robot.joint_effort[idx]:.0f}", f"{share[idx]:.0f} %"]
        for idx in heavy
    ]  # fmt: skip
    page.section(
        "By keypoint", p.svg(figure, "keypoints", "error of each keypoint"),
        "<details><summary>The joints that worked hardest</summary>",
        p.table(["joint", "peak N m", "RMS N m", "limit N m", "peak of limit"], rows), "</details>",
        note="Error of the pose, over the motion itself.",
    )  # fmt: skip


def _rollouts(page: p.Page, run: Run) -> None:
    report = run.report
    many = len(report["motions"]) > 1
    if many:
        entries = sorted(
            report["motions"], key=lambda entry: (entry["no_fall"] or 0.0, -(entry["lmpkpe_nt_cm"] or 0.0))
        )
        rows = [
            [p.text(entry["motion"]), str(entry["rollouts"]), *(_value(name, entry[name]) for name in METRICS)]
            for entry in entries
        ]
        page.section(
            "By motion", _forest(entries), p.table(["motion", "n", *(MEANINGS[name][0] for name in METRICS)], rows),
            note="The worst first.",
        )  # fmt: skip
        return
    each = report["motions"][0].get("each", ())
    if len(each) > 1:
        rows = [
            [str(number + 1), p.text(one.get("outcome", "done" if one.get("no_fall") else "fell")),
             *(_value(name, _float(one.get(name))) for name in METRICS), p.number(_float(one.get("fell_at_s")), 2)]
            for number, one in enumerate(each[:200])
        ]  # fmt: skip
        head = ["", "outcome", *(MEANINGS[name][0] for name in METRICS), "fell at, s"]
        page.section("Every time", p.table(head, rows, left=2))


def _forest(entries: Sequence[Mapping[str, Any]]) -> str:
    """Draw each motion's share of rollouts that stood and its pose error, with intervals."""
    shown = entries[:40]
    figure = p.figure(10.0, 0.9 + 0.26 * len(shown))
    stood, pose = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(shown))[::-1]
    for place, entry in zip(places, shown, strict=True):
        count, rate = int(entry["rollouts"]), entry["no_fall"]
        if rate is not None and count:
            low, high = wilson_interval(round(rate * count), count)
            stood.plot([100 * low, 100 * high], [place, place], color=p.LINE, lw=5, solid_capstyle="round")
            stood.plot([100 * rate], [place], "o", color=p.ROBOT if rate >= 0.97 else p.BAD, ms=5)
        values = [float(one["lmpkpe_nt_cm"]) for one in entry.get("each", ()) if one.get("lmpkpe_nt_cm") is not None]
        if values:
            pose.plot([min(values), max(values)], [place, place], color=p.LINE, lw=5, solid_capstyle="round")
            pose.plot([float(np.mean(values))], [place], "o", color=p.ROBOT, ms=5)
    stood.set_yticks(places, [str(entry["motion"])[:32] for entry in shown])
    stood.set_xlim(-2, 102)
    stood.set_ylim(-0.7, len(shown) - 0.3)
    pose.set_xlim(left=0.0)
    p.style_axis(stood, title="stood to the end, % (bar: 95 % interval)")
    p.style_axis(pose, title="pose error LMPKPE-NT, cm (bar: best to worst)")
    return p.svg(figure, "forest", "each motion's share of rollouts that stood, and its pose error")


def _kept(page: p.Page, run: Run, robot: Robot) -> None:
    entries = sorted(
        run.report["motions"], key=lambda entry: (entry["no_fall"] or 0.0, -(entry["lmpkpe_nt_cm"] or 0.0))
    )
    found = [(entry, run.kept(entry)[0]) for entry in entries if run.kept(entry)]
    if not found:
        return
    parts = []
    for entry, folder in found[:MAX_SHOWN_ROLLOUTS]:
        try:
            trajectory = load_trajectory(folder / TRAJECTORY_NAME, robot)
        except GenMimicError:
            continue
        parts.append(f"<div><h3>{p.text(entry['motion'])}</h3>{trajectory_player(trajectory, robot)}")
        if (folder / FIGURE_NAME).is_file():
            parts.append(
                f'<details><summary>Picture</summary><img alt="{p.text(entry["motion"])}" '
                f'src="{_image(folder / FIGURE_NAME)}"></details>'
            )
        parts.append("</div>")
    more = f" {len(found) - MAX_SHOWN_ROLLOUTS} more are in the folder." if len(found) > MAX_SHOWN_ROLLOUTS else ""
    page.section(
        "Looking at them", f'<div class="pair">{"".join(parts)}</div>',
        note=f"A kept rollout of each of the worst motions. Drag to turn.{more}",
    )  # fmt: skip


def _timing(page: p.Page, run: Run) -> None:
    report = run.report
    if "period_ms" not in report:
        return
    rows = [
        [label, *(p.number(report[name][key], 2) for key in ("p50", "p99", "max"))]
        for label, name in (("period of the policy's loop", "period_ms"), ("computing, of it", "compute_ms"),
                            ("from measurement to command", "latency_ms"))
    ]  # fmt: skip
    parts = [p.table(["", "p50, ms", "p99, ms", "max, ms"], rows)]
    if run.log is not None and len(run.log.tick_period_ms):
        figure = p.figure(10.0, 2.5)
        axes = figure.subplots(1, 2)
        for axis, values, title in (
            (axes[0], run.log.tick_period_ms, "period, ms"), (axes[1], run.log.tick_compute_ms, "computing, ms"),
        ):  # fmt: skip
            known = values[np.isfinite(values)]
            if len(known):
                axis.hist(known, bins=60, color=p.ROBOT, log=True)
            p.style_axis(axis, "ticks", title)
        parts.append(p.svg(figure, "timing", "histograms of the loop's period and computing time"))
    usage = report.get("nodes")
    if usage:
        cells = [
            [p.text(name), f"{each['cpu_percent']:.0f} %", f"{each['rss_mb']:.0f} MB"] for name, each in usage.items()
        ]
        parts += ["<details><summary>What each node used</summary>", p.table(["node", "of a core", "memory"], cells),
                  "</details>"]  # fmt: skip
    note = f"{report['ticks']} ticks, {report['missed']} missed, {report['late_5ms']} more than 5 ms late."
    page.section("Timing", *parts, note=note)


def _safety(page: p.Page, run: Run, robot: Robot) -> None:
    log, recording = run.log, run.recording
    assert log is not None and recording is not None
    rows = []
    for event, following in zip_longest(log.events, log.events[1:]):
        lasted = f"{following.at_s - event.at_s:.2f}" if following is not None else ""
        kind = "bad" if event.mode in DAMPING else "warn" if event.mode is Mode.HOLD else ""
        name = f"<b class={kind}>{event.mode.name}</b>" if kind else event.mode.name
        rows.append([f"{event.at_s:.2f}", name, p.text("; ".join(event.reasons)), lasted])
    shown = rows if len(rows) <= 60 else [*rows[:30], ["", f"… {len(rows) - 60} more …", "", ""], *rows[-30:]]
    parts = [p.table(["at, s", "mode", "reasons", "for, s"], shown, left=3)]
    figure = p.figure(10.0, 2.4)
    axes = figure.subplots(1, 2)
    if np.isfinite(log.tension_n).any():
        axes[0].plot(*p.thinned(log.tension_t, log.tension_n), color=p.ROBOT, lw=1.2)
    p.style_axis(axes[0], "N", "tension of the gantry's rope", "s")
    if len(log.torque):
        share = 100 * np.abs(log.torque) / robot.joint_effort
        axes[1].plot(*p.thinned(log.state_t, share.max(-1)), color=p.OTHER, lw=1.0, label="hardest joint")
        axes[1].plot(*p.thinned(log.state_t, share.mean(-1)), color=p.ROBOT, lw=1.0, label="mean of all")
    p.style_axis(axes[1], "%", "torque, of the motor's limit", "s")
    for axis in axes:
        for event in log.events:
            if event.mode in DAMPING:
                axis.axvline(event.at_s, color=p.BAD, lw=1.0)
        axis.set_ylim(bottom=0.0)
    parts.append(p.svg(figure, "safety", "tension of the rope and torques over the recording"))
    hot = log.temperature[np.isfinite(log.temperature)]
    known = [f"hottest motor {hot.max():.0f} °C"] if len(hot) else []
    known += (
        [f"battery {100 * log.battery[-1]:.0f} % at the end"]
        if len(log.battery) and np.isfinite(log.battery[-1])
        else []
    )
    lost = {name: count for name, count in log.lost.items() if count}
    known.append("no message is missing" if not lost else "missing: " + ", ".join(f"{n} {k}" for k, n in lost.items()))
    if not recording.whole:
        known.append("the recording was cut off")
    told = "; ".join(known)
    page.section("Safety", *parts, note=p.text(f"{told[:1].upper()}{told[1:]}. A session ends by damping the robot."))


def _files(page: p.Page, run: Run) -> None:
    rows = []
    if run.folder.is_dir():
        for file in sorted(each for each in run.folder.iterdir() if each.is_file() and not each.name.startswith(".")):
            size = file.stat().st_size
            rows.append(
                [f"<code>{p.text(file.name)}</code>", f"{size / 1e6:.1f} MB" if size > 1e5 else f"{size / 1e3:.1f} kB"]
            )
    asked = ""
    if run.recording is not None:
        asked = run.recording.facts.get("genmimic", {}).get("asked", "")
        try:
            asked = json.dumps(json.loads(asked), indent=1) if asked else ""
        except ValueError:
            pass
    parts = [p.table(["file", "size"], rows[:60])] if rows else []
    if asked:
        parts += ["<details><summary>Arguments</summary>", f"<pre><code>{p.text(asked)}</code></pre>", "</details>"]
    parts.append(
        "<details><summary>Everything in report.json</summary>"
        f"<pre><code>{p.text(json.dumps(_short(run.report), indent=1))}</code></pre></details>"
    )
    page.section("Files", *parts)


# small things ----------------------------------------------------------------------------------
def _short(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report with at most 20 rollouts per motion and 20 motions."""
    motions = [{**entry, "each": list(entry.get("each", ()))[:20]} for entry in report["motions"][:20]]
    return {**report, "motions": motions}


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name in RATES:
        return p.rate(value)
    return p.number(value, 2, " m") if name.endswith("_m") else p.number(value, 1, " cm")


def _range(name: str, pair: Sequence[float] | None) -> str:
    if name in RATES:
        return p.interval(pair, 1, 100.0)
    return p.interval(pair, 2 if name.endswith("_m") else 1)


def _code(value: str) -> str:
    return f"<code>{p.text(value)}</code>" if value else ""


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _image(path: Path) -> str:
    return p.embedded(path.read_bytes(), "image/png")


def _step_s(t: np.ndarray) -> float:
    return float(np.median(np.diff(t))) if len(t) > 1 else 0.02
