# SPDX-License-Identifier: Apache-2.0
"""``genmimic-train``: data sets, teacher, student, ablations, export."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genmimic import __version__
from genmimic.cli.terminal import paint
from genmimic.cli.usage import Parser, finish
from genmimic.cli.view import add_server_options
from genmimic.core.errors import GenMimicError
from genmimic_train.benchmark import bench_arguments

if TYPE_CHECKING:
    from genmimic_train.config import TrainConfig
    from genmimic_train.learning.distributed import World
    from genmimic_train.runs import Run
    from genmimic_train.tracking.motions import MotionLibrary

# Two busy threads that spin cost more than the arithmetic they wait for; before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_TEACH = (
    "genmimic-train teacher --run runs/teacher --motions motions \\\n      --config config/train/cpu.yaml --minutes 60"
)

EXAMPLES = {
    "": (_TEACH, "genmimic-train export runs/student -o policy.onnx"),
    "dataset": ("genmimic-train dataset clips/ -o data/set --permissive --gestures 2",),
    "teacher": (
        _TEACH,
        "genmimic-train teacher --run runs/teacher --resume --minutes 60",
        "genmimic-train teacher --run runs/teacher --resume \\\n      --config config/train/gpu.yaml --minutes 20",
    ),
    "student": (
        "genmimic-train student --run runs/student --teacher runs/teacher \\\n"
        "      --motions motions --config config/train/cpu.yaml --minutes 30",
    ),
    "finetune": (
        "genmimic-train finetune --run runs/tuned --student runs/student \\\n"
        "      --teacher runs/teacher --motions motions --config config/train/cpu.yaml",
    ),
    "average": ("genmimic-train average runs/student runs/tuned --weights 1 1 -o runs/averaged",),
    "export": ("genmimic-train export runs/student -o policy.onnx",),
    "evaluate": (
        "genmimic-train evaluate runs/teacher --motions data/set/test --rollouts 8",
        "genmimic-train evaluate runs/teacher --motions data/set/test --sim warp:cuda",
    ),
    "view": (
        "genmimic-train view runs/teacher --motions motions/wave.npz",
        "genmimic-train view runs/student --motions motions --noise 1 --level 1",
    ),
    "ablation": (
        "genmimic-train ablation 3dp_weights -o runs/table3 --samples 4e6 --seed 1 \\\n"
        "      --motions data/set/train --test data/set/test \\\n"
        "      --config config/train/cpu.yaml",
    ),
    "table3": ("genmimic-train table3 runs/table3",),
    "pack": ("genmimic-train pack runs/teacher -o training/teacher",),
    "bench": ("genmimic-train bench",),
}


def build_parser() -> Parser:
    """Return the parser with every subcommand."""
    parser = Parser(prog="genmimic-train", description="Train, distil and export tracking policies.")
    parser.add_argument("--version", action="version", version=f"genmimic-train {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    dataset = commands.add_parser(
        "dataset",
        help="build a training set from any mix of motions",
        description="Bring motions of people (AMASS and other SMPL files, BVH, ASF/AMC, our human motions) and of "
        "G1 robots to the 23-joint robot, leave out what cannot be done, hold a tenth back for honest evaluation, and "
        "add motions of our own making. Writes train/*.npz, test/*.npz and dataset.json, which says what became of "
        "each source.",
    )
    dataset.add_argument("sources", nargs="+", metavar="PATH", help="motion files or folders")
    dataset.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to fill")
    dataset.add_argument(
        "--permissive", action="store_true", help="only clips under whose licence a policy may be released"
    )
    dataset.add_argument("--exclude", metavar="FILE", help="a list of clips to leave out, such as those for evaluation")
    dataset.add_argument(
        "--max-error", type=float, default=8.0, metavar="CM", help="largest mean retargeting error (8)"
    )
    dataset.add_argument("--test-share", type=float, default=0.1, metavar="X", help="part of the clips held back (0.1)")
    dataset.add_argument("--gestures", type=int, default=0, metavar="N", help="add N gestures of each style (0)")
    dataset.add_argument("--walks", type=int, default=0, metavar="N", help="add N walks of each style (0)")
    dataset.add_argument("--composites", type=int, default=0, metavar="N", help="add N times arms over other legs (0)")
    dataset.add_argument(
        "--balance",
        action="store_true",
        help="walk the clips to train on again as physics allows",
    )
    dataset.add_argument("--no-check", action="store_true", help="keep clips that the motion gate refuses")
    dataset.add_argument("--seed", type=int, default=0, help="of gestures, walks and composites (0)")
    dataset.add_argument("--jobs", type=int, default=-1, metavar="N", help="processes; -1: one per core (-1)")
    dataset.add_argument(
        "--backend", metavar="NAME", help="joblib back end to spread the work over, such as dask or ray"
    )
    dataset.set_defaults(run=_dataset)

    teacher = commands.add_parser("teacher", help="train a privileged teacher by PPO with the symmetry loss")
    _run_arguments(teacher)
    teacher.set_defaults(run=_teacher)

    student = commands.add_parser("student", help="distil a teacher into a student by DAgger")
    _run_arguments(student)
    student.add_argument(
        "--teacher",
        nargs="+",
        metavar="RUN",
        help="the teacher's run folder (not needed with --resume); of several each clip has the first that was trained "
        "on it, and the first of all where none was",
    )
    student.add_argument("--init", metavar="ONNX", help="an exported policy whose weights a new run begins with")
    student.set_defaults(run=_student)

    tuned = commands.add_parser(
        "finetune",
        help="let a distilled student go on learning by PPO",
        description="Let a distilled student go on learning from its own falls, by PPO with the rewards of its teacher "
        "and, to begin with, the teacher's critic. The result is a student's run like any other.",
    )
    _run_arguments(tuned)
    tuned.add_argument("--student", metavar="RUN", help="the student's run folder (not needed with --resume)")
    tuned.add_argument("--teacher", metavar="RUN", help="its teacher's run folder (not needed with --resume)")
    tuned.set_defaults(run=_finetune)

    average = commands.add_parser(
        "average",
        help="make one student of several that grew from one another",
        description="Average the weights of students that grew from one another, such as a distilled one and what "
        "fine-tuning made of it. The result is a student's run like any other.",
    )
    average.add_argument("folders", nargs="+", metavar="RUN", help="students' run folders")
    average.add_argument("--weights", nargs="+", type=float, metavar="W", help="of each run (equal)")
    average.add_argument("-o", "--output", required=True, metavar="DIR", help="the run folder to make")
    average.set_defaults(run=_average)

    export = commands.add_parser("export", help="write a student as policy.onnx with its manifest")
    export.add_argument("folder", metavar="RUN", help="a student's run folder")
    export.add_argument("-o", "--output", required=True, metavar="FILE", help="the .onnx file to write")
    export.set_defaults(run=_export)

    evaluate = commands.add_parser(
        "evaluate",
        help="play every clip with a teacher or student in its training environment",
        description="Play every clip from standing to standing in the training environment and print a table. For "
        "teachers, which see what only a simulator knows; an exported student is judged by `genmimic evaluate`.",
    )
    evaluate.add_argument("folder", metavar="RUN", help="a teacher's or student's run folder")
    evaluate.add_argument("--motions", nargs="+", required=True, metavar="PATH", help="motion files or folders")
    evaluate.add_argument("--rollouts", type=int, default=8, metavar="N", help="of each clip (8)")
    evaluate.add_argument("--noise", type=float, default=0.0, metavar="X", help="times Table 8's sensor noise (0)")
    evaluate.add_argument(
        "--level", type=float, default=0.0, metavar="X", help="of randomisation and pushes, 0 to 1 (0)"
    )
    evaluate.add_argument(
        "--follow",
        type=float,
        default=0.0,
        metavar="S",
        help="let the goal's place follow the robot, but for a student with odometry (0: it stays)",
    )
    evaluate.add_argument(
        "--corrupt", nargs="+", default=[], metavar="KIND[:STRENGTH]",
        help="damage the clips as generated video does; without a strength, at 0.5 and 1; 'all': every kind",
    )  # fmt: skip
    evaluate.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (0)")
    evaluate.add_argument(
        "--sim", default="mujoco", metavar="BACKEND[:DEVICE]", help="mujoco, warp or isaacgym; e.g. warp:cuda (mujoco)"
    )
    evaluate.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    evaluate.add_argument("--report", metavar="DIR", help="write report.json there")
    evaluate.add_argument("--json", action="store_true", help="print the report as JSON")
    evaluate.set_defaults(run=_evaluate)

    view = commands.add_parser(
        "view",
        help="look at a teacher or student at work, while it trains or after",
        description="Play motions with a checkpoint in its training environment and show robot and goal in the "
        "browser, with a time line. When training writes a new checkpoint it is played again, as long as somebody "
        "looks. Ctrl-C ends it.",
    )
    view.add_argument("folder", metavar="RUN", help="a teacher's or student's run folder, or one of its *.pt")
    view.add_argument("--motions", nargs="+", required=True, metavar="PATH", help="motion files or folders")
    view.add_argument("--count", type=int, default=16, metavar="N", help="of the motions, at most, the first (16)")
    view.add_argument("--noise", type=float, default=0.0, metavar="X", help="times Table 8's sensor noise (0)")
    view.add_argument("--level", type=float, default=0.0, metavar="X", help="of randomisation and pushes, 0 to 1 (0)")
    view.add_argument(
        "--follow", type=float, metavar="S", help="let the goal's place follow the robot; 0: it stays (as in training)"
    )
    view.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (0)")
    view.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    add_server_options(view)
    view.set_defaults(run=_view)

    ablation = commands.add_parser(
        "ablation",
        help="train and judge a row of the paper's table 3",
        description="Train a teacher under one of the paper's ablations and judge it on held-back clips, as they are "
        "and damaged. Given again, it goes on where it stopped; `genmimic-train table3` prints what has been run.",
    )
    ablation.add_argument(
        "name",
        metavar="NAME",
        help="dofs, 3dp, dofs_weights, 3dp_weights, 3dp_self_supervised, dofs_weights_symmetry or 3dp_weights_symmetry",
    )
    ablation.add_argument("-o", "--output", required=True, metavar="DIR", help="holds a folder for each row and seed")
    ablation.add_argument("--samples", type=float, required=True, metavar="N", help="to train on")
    ablation.add_argument("--seed", type=int, default=1, metavar="S", help="of the whole run (1)")
    ablation.add_argument("--motions", nargs="+", required=True, metavar="PATH", help="to train on")
    ablation.add_argument("--test", nargs="+", required=True, metavar="PATH", help="held-back clips to judge it on")
    ablation.add_argument("--rollouts", type=int, default=8, metavar="N", help="of each clip when judged (8)")
    ablation.add_argument(
        "--corrupt", nargs="+", default=["all"], metavar="KIND[:STRENGTH]", help="damage to the clips, once more (all)"
    )
    ablation.add_argument("--config", nargs="+", metavar="YAML", help="what all rows share, e.g. config/train/cpu.yaml")
    ablation.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides", help="over --config")
    ablation.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    ablation.set_defaults(run=_ablation)

    table = commands.add_parser("table3", help="print the paper's table 3 as far as it has been run")
    table.add_argument("folders", nargs="+", metavar="DIR", help="folders that `ablation` filled")
    table.add_argument("--json", action="store_true", help="print it as JSON")
    table.set_defaults(run=_table3)

    bench = commands.add_parser(
        "bench",
        help="measure how many samples a second a teacher learns from",
        description="Train for a few iterations in a temporary folder and print samples per second, memory, and how "
        "both scale over processes, as JSON.",
    )
    bench_arguments(bench)
    bench.set_defaults(run=_bench)

    pack = commands.add_parser("pack", help="copy a run without optimiser moments and machine paths, to keep or share")
    pack.add_argument("folder", metavar="RUN", help="a run folder")
    pack.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to make")
    pack.set_defaults(run=_pack)

    return finish(parser, EXAMPLES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code (0 done, 2 bad input)."""
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said what is wrong
        return stop.code if isinstance(stop.code, int) else 2
    _stop_on_signals()
    try:
        _isaacgym_before_torch(args)
        return args.run(args)
    except GenMimicError as error:
        if os.environ.get("RANK", "0") == "0":  # of several processes, one talks
            print(paint("genmimic-train: error:", "red", sys.stderr), " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _isaacgym_before_torch(args: argparse.Namespace) -> None:
    """Import isaacgym where it will be asked for: it refuses to be imported after torch."""
    import contextlib
    import json

    wanted = getattr(args, "sim", "").startswith("isaacgym")
    if not wanted and hasattr(args, "overrides"):
        from genmimic_train.config import config_from_dict, load_config

        base = None
        if getattr(args, "resume", False):
            with contextlib.suppress(OSError, ValueError, KeyError):  # what is wrong with the run is said later
                base = config_from_dict(json.loads((Path(args.folder) / "run.json").read_text())["config"])
        wanted = load_config(args.config, args.overrides, base).sim.backend == "isaacgym"
    if wanted:
        with contextlib.suppress(ImportError):  # said when the simulator is made
            import isaacgym  # noqa: F401


def _stop_on_signals() -> None:
    """Let SIGINT and SIGTERM end a run with its checkpoint written.

    A background child of a non-interactive shell inherits an ignored SIGINT, hence both are set.
    """

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", dest="folder", required=True, metavar="DIR", help="the run folder")
    parser.add_argument(
        "--motions",
        nargs="+",
        metavar="PATH",
        help="motion files or folders; with --resume, the run's own when left out",
    )
    parser.add_argument(
        "--config",
        nargs="+",
        metavar="YAML",
        help="files over the defaults, or with --resume over the run's own; e.g. config/train/cpu.yaml",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides", help="e.g. ppo.epochs=3")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--samples", type=float, default=math.inf, help="stop at this many samples in all")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this many minutes of this call")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")


def _prepare(args: argparse.Namespace, kind: str, **facts: object) -> tuple[Run, TrainConfig, MotionLibrary]:
    """Return the run, its configuration and its motions, of a new folder or of one to resume."""
    from genmimic.core.errors import ConfigError
    from genmimic.core.robot import G1_23DOF
    from genmimic_train.config import config_dict, load_config
    from genmimic_train.runs import Run
    from genmimic_train.sim import resolve_device
    from genmimic_train.tracking.motions import MotionLibrary

    run = Run(args.folder)
    if args.resume:
        info = run.info()
        if info["kind"] != kind:
            raise ConfigError(f"{args.folder} holds a {info['kind']} run, not a {kind} run")
        run.load()
        before = run.config()
        config = load_config(args.config, args.overrides, before)
        if (config.ppo.hidden, config.dagger.hidden) != (before.ppo.hidden, before.dagger.hidden):
            raise ConfigError(
                f"the layers of {args.folder} cannot change: ppo.hidden and dagger.hidden stay as they are"
            )
        motions = args.motions or info["motions"]
        if not motions:
            raise ConfigError(f"{args.folder} does not know where its motions are: give --motions")
        facts = {}
    else:
        if not args.motions:
            raise ConfigError("--motions is missing: give motion files or folders to train on")
        config = load_config(args.config, args.overrides)
        motions = args.motions
    library = MotionLibrary.load(G1_23DOF, motions, config.env.mirror_motions, resolve_device(config.sim))
    about_motions = {
        "motions": [str(Path(path).resolve()) for path in motions],
        "clips": library.names,
        "motion_set": library.digest(),
        "motion_hours": round(library.hours, 3),
    }
    if args.resume:
        run.amend(config=config_dict(config), **about_motions)  # the manifest of an export names these
    else:
        run.create(kind, config, **about_motions, **facts)
    return run, config, library


def _dataset(args: argparse.Namespace) -> int:
    import contextlib

    import joblib

    from genmimic_train.data.dataset import DatasetOptions, build_dataset, read_exclusions

    options = DatasetOptions(
        permissive=args.permissive,
        max_error_cm=args.max_error,
        check=not args.no_check,
        test_share=args.test_share,
        gestures=args.gestures,
        walks=args.walks,
        composites=args.composites,
        balance=args.balance,
        seed=args.seed,
    )

    def show(done: int, count: int) -> None:
        print(f"\r{done}/{count} sources", end="" if done < count else "\n", file=sys.stderr, flush=True)

    exclude = read_exclusions(args.exclude) if args.exclude else []
    with joblib.parallel_config(backend=args.backend) if args.backend else contextlib.nullcontext():
        record = build_dataset(
            args.sources, args.output, options,
            exclude=exclude, jobs=args.jobs, show=show if sys.stderr.isatty() else None,
        )  # fmt: skip
    for part in ("train", "test"):
        print(f"{part:<6}{record['clips'][part]:5d} clips  {record['minutes'][part]:7.1f} min")
    if args.test_share > 0.0 and not record["clips"]["test"]:
        print("no clip is held back: the set is so small that none was drawn")
    if args.balance:
        told = [entry["balanced"] for entry in record["entries"] if entry.get("balanced")]
        print(f"walked again: {told.count('yes')} of {len(told)}; why not, in {args.output}/dataset.json")
    left_out = [entry for entry in record["entries"] if not entry["split"]]
    for entry in left_out[:20]:
        print(f"left out: {entry['name']}: {entry['reason']}")
    if len(left_out) > 20:
        print(f"and {len(left_out) - 20} more, in {args.output}/dataset.json")
    print(f"licences: {', '.join(record['licences'])}")
    return 0


def _prepare_together(args: argparse.Namespace, world: World) -> tuple[Run, TrainConfig, MotionLibrary]:
    """Return the same as `_prepare`, which one of several processes does for all."""
    from genmimic.core.robot import G1_23DOF
    from genmimic_train.runs import Run, TrainingError
    from genmimic_train.sim import resolve_device
    from genmimic_train.tracking.motions import MotionLibrary

    if world.main:
        try:
            prepared = _prepare(args, "teacher")
            world.part_of(prepared[1].env.num_envs, "env.num_envs")
        except GenMimicError as error:
            world.share(str(error))
            raise
        world.share(None)
        return prepared
    problem = world.share(None)
    if problem is not None:
        raise TrainingError(problem)
    run = Run(args.folder)
    config = run.config()
    device = resolve_device(config.sim)
    return run, config, MotionLibrary.load(G1_23DOF, run.info()["motions"], config.env.mirror_motions, device)


def _teacher(args: argparse.Namespace) -> int:
    from genmimic_train.learning.distributed import join_world

    world = join_world()
    run, config, library = _prepare_together(args, world) if world.size > 1 else _prepare(args, "teacher")
    _train_teacher(run, config, library, args.samples, args.minutes, args.threads, world)
    return 0


def _train_teacher(
    run: Run, config: TrainConfig, library: MotionLibrary, samples: float, minutes: float, threads: int, world: World
) -> None:
    from dataclasses import replace

    from genmimic_train.learning.ppo import train_teacher
    from genmimic_train.sim import make_simulator
    from genmimic_train.tracking.env import TrackingEnv

    threads = max(1, threads // world.local_size)
    own = replace(config.env, num_envs=world.part_of(config.env.num_envs, "env.num_envs"))
    sim = make_simulator(config.sim, own.num_envs, threads)
    env = TrackingEnv(own, sim, library, seed=config.seed + 7919 * world.rank)
    train_teacher(env, config, run, samples, minutes, _report, threads, world)


def _ablation(args: argparse.Namespace) -> int:
    from dataclasses import replace

    import torch

    from genmimic.core.errors import ConfigError
    from genmimic.core.motion import load_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.evaluate.corruption import parse_corruptions
    from genmimic.evaluate.report import file_sha256
    from genmimic_train.ablations import RESULT_NAME, ablated, write_result
    from genmimic_train.config import load_config
    from genmimic_train.learning.dagger import load_teacher
    from genmimic_train.learning.distributed import World
    from genmimic_train.runs import Run
    from genmimic_train.sim import make_simulator, resolve_device
    from genmimic_train.tracking.evaluation import damaged_library, evaluate_in_training
    from genmimic_train.tracking.motions import MotionLibrary, find_motions

    if not args.samples >= 1 or args.rollouts < 1:
        raise ConfigError(f"--samples is {args.samples:g} and --rollouts {args.rollouts}, expected at least 1")
    corruptions = parse_corruptions(args.corrupt)
    config = ablated(args.name, load_config(args.config, [*args.overrides, f"seed={args.seed}"]))
    tests = [load_motion(path, G1_23DOF) for path in find_motions(args.test)]
    run = Run(Path(args.output) / f"{args.name}-seed{args.seed}")
    device = resolve_device(config.sim)
    library = MotionLibrary.load(G1_23DOF, args.motions, config.env.mirror_motions, device)
    if run.checkpoint.exists():
        if run.info().get("ablation") != args.name or replace(run.config(), sim=config.sim) != config:
            raise ConfigError(f"{run.folder} holds another row or other settings; choose another --output")
        if run.info()["motion_set"] != library.digest():
            raise ConfigError(f"{run.folder} was trained on other motions; choose another --output")
    else:
        run.create(
            "teacher", config, ablation=args.name, motions=[str(Path(path).resolve()) for path in args.motions],
            clips=library.names, motion_set=library.digest(), motion_hours=round(library.hours, 3),
        )  # fmt: skip
    (run.folder / RESULT_NAME).unlink(missing_ok=True)
    _train_teacher(run, config, library, args.samples, math.inf, args.threads, World())

    actor, reports = load_teacher(run)[0].to(device), {}
    torch.set_num_threads(1)
    for test, damage in (("clean", ()), ("damaged", corruptions)):
        reports[test] = evaluate_in_training(
            actor,
            config.env,
            damaged_library(G1_23DOF, tests, damage, device=device),
            lambda count: make_simulator(config.sim, count, args.threads),
            name=run.folder.name,
            sha256=file_sha256(run.checkpoint),
            rollouts=args.rollouts if test == "clean" else max(1, args.rollouts // 8),
            corruptions=damage,
        )
    path = write_result(run, args.name, args.seed, reports, args.rollouts)
    for test, report in reports.items():
        total = report["total"]
        print(f"{args.name}, {test} clips: SR {100 * total['sr']:.1f} %, LMPKPE-NT {total['lmpkpe_nt_cm']:.1f} cm")
    print(f"wrote {path}")
    return 0


def _bench(args: argparse.Namespace) -> int:
    import json

    from genmimic_train.benchmark import measure_all

    print(json.dumps(measure_all(args), indent=1))
    return 0


def _table3(args: argparse.Namespace) -> int:
    import json

    from genmimic_train.ablations import read_results, table3, table_text

    table = table3(read_results(args.folders))
    print(json.dumps(table, indent=1) if args.json else table_text(table))
    return 0


def _student(args: argparse.Namespace) -> int:
    import torch

    from genmimic.core.errors import ConfigError
    from genmimic_train.learning.dagger import Teachers, load_teacher, teacher_of_clips, train_student
    from genmimic_train.runs import Run
    from genmimic_train.sim import make_simulator
    from genmimic_train.tracking.env import TrackingEnv

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("a student is distilled by one process; start it without torchrun")
    if args.resume and args.init:
        raise ConfigError("--init is for a new run; --resume goes on with the run's own weights")
    if not args.resume and not args.teacher:
        raise ConfigError("--teacher is missing: give the teacher's run folder")
    if args.resume and "fine_tuned_from" in Run(args.folder).info():
        raise ConfigError(f"{args.folder} holds a fine-tuned student: go on with `genmimic-train finetune --resume`")
    runs = [Run(folder) for folder in args.teacher or _teachers_of(Run(args.folder))]
    models, all_facts = zip(*(load_teacher(run) for run in runs), strict=True)
    if args.init and not Path(args.init).is_file():
        raise ConfigError(f"--init {args.init}: no such file")
    goals = {facts.get("teacher_goal", "keypoints") for facts in all_facts}
    if len(goals) > 1:
        raise ConfigError(f"the teachers' goals are {' and '.join(sorted(goals))}, expected one kind")
    folders = [str(run.folder.resolve()) for run in runs]
    more = {"more_teachers": folders[1:], "more_teachers_facts": all_facts[1:]} if len(runs) > 1 else {}
    run, config, library = _prepare(args, "student", teacher=folders[0], teacher_facts=all_facts[0], **more)
    if config.env.teacher_goal not in goals:
        raise ConfigError(f"the teacher's goals are {goals.pop()}: set env.teacher_goal to that")
    of_clip = teacher_of_clips(library.names, runs)
    for idx, teacher in enumerate(runs if len(runs) > 1 else []):
        print(f"{teacher.folder.name}: teaches {of_clip.count(idx)} of {len(of_clip)} clips, mirror images included")
    led = [facts.get("arms_led", False) for facts in all_facts]
    teachers = Teachers(models, torch.tensor(of_clip), led)
    sim = make_simulator(config.sim, config.env.num_envs, args.threads)
    env = TrackingEnv(config.env, sim, library, with_student=True, seed=config.seed)
    initial = Path(args.init) if args.init else None
    train_student(env, teachers, config, run, args.samples, args.minutes, _report, args.threads, initial)
    return 0


def _teachers_of(run: Run) -> list[str]:
    """Return the folders of the teachers of a student's run."""
    info = run.info()
    return [info["teacher"], *info.get("more_teachers", ())]


def _finetune(args: argparse.Namespace) -> int:
    from genmimic.core.errors import ConfigError
    from genmimic_train.config import load_config
    from genmimic_train.learning.finetune import begin_from, fine_tune
    from genmimic_train.runs import Run
    from genmimic_train.sim import make_simulator
    from genmimic_train.tracking.env import TrackingEnv

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("a student is fine-tuned by one process; start it without torchrun")
    if args.resume:
        if not {"fine_tuned_from", "critic_hidden"} <= Run(args.folder).info().keys():
            raise ConfigError(f"{args.folder} holds no fine-tuned student; begin one with --student and --teacher")
        run, config, library = _prepare(args, "student")
    else:
        if not args.student or not args.teacher:
            raise ConfigError("--student and --teacher are missing: give their run folders")
        student, teacher = Run(args.student), Run(args.teacher)
        begin = begin_from(student, teacher)
        facts = {
            "teacher": str(Path(args.teacher).resolve()),
            "teacher_facts": student.info().get("teacher_facts", {}),
            "critic_hidden": list(teacher.config().ppo.hidden),
            "fine_tuned_from": {"run": student.folder.name, "samples": begin["samples"], "algorithm": "DAgger"},
        }
        asked, its = load_config(args.config, args.overrides).dagger, student.config().dagger
        if asked.hidden != its.hidden:
            raise ConfigError(f"dagger.hidden is {asked.hidden}, the student's is {its.hidden}")
        if its.equivariant and not asked.equivariant:  # the other way round nothing is lost
            raise ConfigError("dagger.equivariant is false, the student's is true")
        run, config, library = _prepare(args, "student", **facts)
        run.save(begin)
    sim = make_simulator(config.sim, config.env.num_envs, args.threads)
    env = TrackingEnv(config.env, sim, library, with_student=True, seed=config.seed)
    critic_hidden = tuple(run.info()["critic_hidden"])
    fine_tune(env, config, critic_hidden, run, args.samples, args.minutes, _report, args.threads)
    return 0


def _average(args: argparse.Namespace) -> int:
    from genmimic_train.learning.average import average_students
    from genmimic_train.runs import Run

    weights = args.weights or [1.0] * len(args.folders)
    averaged = average_students([Run(folder) for folder in args.folders], weights, Path(args.output))
    print(f"wrote {averaged.folder}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from genmimic_train.export import export_student
    from genmimic_train.runs import Run

    path = export_student(Run(args.folder), Path(args.output))
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    import json

    from genmimic.cli.evaluate import report_table
    from genmimic.core.errors import ConfigError
    from genmimic.core.motion import load_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.evaluate.corruption import parse_corruptions
    from genmimic.evaluate.report import file_sha256, write_report
    from genmimic_train.learning.dagger import load_student, load_teacher
    from genmimic_train.runs import Run
    from genmimic_train.sim import make_simulator, parse_sim, resolve_device
    from genmimic_train.tracking.evaluation import damaged_library, evaluate_in_training
    from genmimic_train.tracking.gait import gait_line
    from genmimic_train.tracking.motions import find_motions

    if args.rollouts < 1:
        raise ConfigError(f"--rollouts is {args.rollouts}, expected at least 1")
    if not args.noise >= 0.0 or not 0.0 <= args.level <= 1.0:
        raise ConfigError(f"--noise is {args.noise:g} and --level {args.level:g}, expected 0 or more and 0 to 1")
    corruptions = parse_corruptions(args.corrupt)
    motions = [load_motion(path, G1_23DOF) for path in find_motions(args.motions)]
    run = Run(args.folder)
    student = run.info()["kind"] == "student"
    sim = parse_sim(args.sim)
    device = resolve_device(sim)
    actor = load_student(run) if student else load_teacher(run)[0]
    report = evaluate_in_training(
        actor.to(device),
        run.config().env,
        damaged_library(G1_23DOF, motions, corruptions, args.seed, device),
        lambda count: make_simulator(sim, count, args.threads),
        name=run.folder.name,
        sha256=file_sha256(run.checkpoint),
        student=student,
        rollouts=args.rollouts,
        noise=args.noise,
        level=args.level,
        follow_s=args.follow,
        seed=args.seed,
        corruptions=corruptions,
    )
    if args.report:
        write_report(args.report, report)
    print(json.dumps(report, indent=1) if args.json else f"{report_table(report)}\ngait: {gait_line(report['gait'])}")
    return 0


def _view(args: argparse.Namespace) -> int:
    from functools import partial

    import torch

    from genmimic.cli.view import serve
    from genmimic.core.errors import ConfigError
    from genmimic.core.motion import load_motion
    from genmimic.core.robot import G1_23DOF
    from genmimic.view.server import import_viser
    from genmimic_train.runs import Run
    from genmimic_train.sim.mujoco_cpu import MujocoCpuSimulator
    from genmimic_train.tracking.motions import MotionLibrary, find_motions
    from genmimic_train.viewing import Conditions, keep_up, played

    import_viser()
    if args.count < 1 or args.threads < 1:
        raise ConfigError(f"--count is {args.count} and --threads {args.threads}, expected at least 1")
    conditions = Conditions(args.noise, args.level, args.follow, args.seed)
    paths = find_motions(args.motions)
    if len(paths) > args.count:
        print(f"{args.count} of {len(paths)} motions; more with --count", file=sys.stderr)
    run = Run(args.folder)
    library = MotionLibrary(G1_23DOF, [load_motion(path, G1_23DOF) for path in paths[: args.count]], mirror=False)
    torch.set_num_threads(args.threads)
    again = partial(played, run, library, partial(MujocoCpuSimulator, threads=args.threads), conditions)
    return serve(args, again(), beside=partial(keep_up, run=run, again=again))


def _pack(args: argparse.Namespace) -> int:
    from genmimic_train.runs import Run, pack

    folder = pack(Run(args.folder), Path(args.output))
    print(f"wrote {folder} ({sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB)")
    return 0


def _report(iteration: int, samples: int, figures: dict[str, float]) -> None:
    """Print a line every ten iterations."""
    if iteration % 10:
        return
    keys = (
        ("train/reward", "reward {:.3f}"),
        ("track/mpkpe_cm", "mpkpe {:.1f} cm"),
        ("track/hands_cm", "hands {:.1f} cm"),
        ("track/fell", "fell {:.2f}"),
        ("loss/imitation", "loss {:.4f}"),
        ("train/std", "std {:.2f}"),
        ("train/level", "level {:.2f}"),
        ("train/assist", "held {:.2f}"),
        ("speed/samples_per_s", "{:.0f}/s"),
    )
    text = "  ".join(form.format(figures[key]) for key, form in keys if key in figures)
    print(f"{iteration:6d}  {samples / 1e6:7.2f} M  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
