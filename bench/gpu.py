"""Kernels, network and a whole study on the GPU in this machine, beside PyTorch: right, and how fast.

    python -m npc_edge.bench gpu [--steps NAMES] [--limit-s S] [--device N|cpu] [--out FILE.json]

Every kernel against its reference, between guard bands, and under compute-sanitizer; bandwidth as a
percentage of a copy; the network through ONNX Runtime, TensorRT and PyTorch, in turns; a study from upload to
labels beside MONAI; from folder to files. Each step is a process with a time limit: one that lacks something
says "not run" and why, the others go on, and the JSON is there after each. Without a GPU: one line, exit code
5; a wrong result or a step that fails: exit code 1.
"""

from __future__ import annotations

import sys
import time
import warnings
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path

from npc_edge.bench import gpu_facts
from npc_edge.bench.gpu_place import NEEDS_A_GPU, Place, Row, open_launcher
from npc_edge.bench.gpu_steps import STEPS, correctness, note, publish, run_apart, run_here
from npc_edge.bench.gpu_table import passed, table
from npc_edge.bench.machine import describe
from npc_edge.engine.errors import BackendError, NpcEdgeError, UsageError
from npc_edge.engine.gpu import find_gpus
from npc_edge.engine.machine import available_cores
from npc_edge.kernels.launch import LaunchError

_LIMIT_S = 480.0
_SHORTEST_S = 5.0


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--launcher", choices=("cuda-core", "pycuda"), default="cuda-core")
    parser.add_argument("--device", default="0", help="number of the GPU; cpu: see that the suite works")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"of {','.join(STEPS)}; default: all")
    parser.add_argument("--limit-s", type=float, default=_LIMIT_S, help="seconds for all steps together")
    parser.add_argument("--small", action="store_true", help="tiny volumes: to see that all of it runs")
    parser.add_argument("--checks-only", action="store_true", help="the kernels' correctness, here; no file")
    parser.add_argument("--out", type=Path, default=None, help="default: bench/results/<date>-<device>.json")
    parser.add_argument("--step", choices=tuple(STEPS), default=None, help="one step, in this process")
    parser.add_argument("--into", type=Path, default=None, help="of --step: where what it finds goes")


def main(given: Namespace) -> int:
    """Check, measure, print a table and write JSON."""
    try:
        place = _place(given)
        if given.step is not None:
            warnings.simplefilter("ignore")  # libraries': what matters is raised
            return run_here(STEPS[given.step], place, given.into or Path("found.json"))
        if given.checks_only:
            return _checks_only(place)
        return _suite(place, _chosen(given.steps), given)
    except NpcEdgeError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return error.exit_code


def _place(given: Namespace) -> Place:
    """Where to run; BackendError without a GPU."""
    until = time.monotonic() + given.limit_s
    if given.device == "cpu":
        return Place(None, given.launcher, given.small, until)
    if not given.device.isdecimal():
        raise UsageError(f"--device {given.device} is no GPU's number", "name one as 0, or cpu")
    found, number = find_gpus(), int(given.device)
    if number >= len(found.capabilities):
        why = found.why or f"the machine has {len(found.capabilities)}"
        raise BackendError(f"there is no GPU {number}: {why}", NEEDS_A_GPU)
    return Place(number, given.launcher, given.small, until)


def _chosen(steps: str) -> tuple[str, ...]:
    asked = {name.strip() for name in steps.split(",") if name.strip()}
    if unknown := sorted(asked - set(STEPS)):
        raise UsageError(f"there is no step {unknown[0]}", f"the steps are {', '.join(STEPS)}")
    return tuple(name for name in STEPS if name in asked)


def _checks_only(place: Place) -> int:
    try:
        launcher = open_launcher(place)
        report: Row = {"device": launcher.device, "checks": correctness(launcher), "steps": {}}
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(report))
    return 0 if passed(report) else 1


def _suite(place: Place, steps: tuple[str, ...], given: Namespace) -> int:
    report = _begun(place, given)
    name = f"{datetime.now(UTC):%Y-%m-%d}-{gpu_facts.slug(report['device'])}.json"
    out: Path = given.out or Path("bench/results") / name
    out.parent.mkdir(parents=True, exist_ok=True)
    for step in steps:
        limit = min(STEPS[step].seconds, place.left_s)
        if limit < _SHORTEST_S:
            why = f"the {given.limit_s:.0f} s of --limit-s were over"
            report["steps"][step] = {"status": "not run", "seconds": 0, "why": why}
            continue
        note(f"step {step}, at most {limit:.0f} s")
        found, became = run_apart(step, place, limit)
        report |= found
        report["steps"][step] = became
        publish(out, report)
    if place.number is not None:
        report["gpu"]["smi_after"] = gpu_facts.smi(place.number)
    publish(out, report)
    print(table(report))
    print(f"\n{out}")
    return 0 if passed(report) else 1


def _begun(place: Place, given: Namespace) -> Row:
    """The report before its first step."""
    report: Row = {
        "schema": 1,
        "measured": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "machine": describe(),
        "versions": gpu_facts.versions(),
        "launcher": given.launcher,
        "limit_s": given.limit_s,
        "small": place.small,
        "steps": {},
    }
    if place.number is None:
        return {**report, "device": f"processor, {available_cores()} cores: no speed of a GPU"}
    known = gpu_facts.gpu(place.number)
    return {
        **report,
        "device": known["name"],
        "gpu": {**known, "smi_before": gpu_facts.smi(place.number)},
    }


if __name__ == "__main__":
    command = ArgumentParser(prog="python -m npc_edge.bench.gpu", description=(__doc__ or "").split("\n")[0])
    add_arguments(command)
    sys.exit(main(command.parse_args()))
