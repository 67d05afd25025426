"""The CUDA kernels on the GPU in this machine: right, within bounds, and how near to the memory's speed.

    python -m npc_edge.bench gpu [--launcher cuda-core|pycuda] [--device N] [--out FILE.json]

Correctness first: every kernel against its reference, between guard bands. Then the same under
compute-sanitizer, where it is installed. Then bandwidth: bytes of each input once and each output once, as a
percentage of a copy on the same GPU in the same run. Without a GPU: one line, exit code 5; a kernel that is
wrong: exit code 1.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.bench.kernel_cases import checks, tilted
from npc_edge.bench.machine import describe
from npc_edge.engine.errors import BackendError
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import MARKED, Grids, Rule, Sampling
from npc_edge.kernels.launch import DeviceArray, Launcher, LaunchError
from npc_edge.kernels.sampling import Shape

_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
_COPY_BYTES = 2**28
Row = dict[str, Any]


def open_launcher(name: str, ordinal: int) -> Launcher:
    """The launcher of that name. LaunchError where its library, the driver or the GPU is missing."""
    if name == "pycuda":
        from npc_edge.kernels.cuda.py_cuda import PyCudaLauncher

        return PyCudaLauncher(ordinal)
    from npc_edge.kernels.cuda.cuda_core import CudaCoreLauncher

    return CudaCoreLauncher(ordinal)


def correctness(launcher: Launcher) -> list[Row]:
    """Every check as a row with `passed`."""
    return [{**asdict(check), "passed": check.passed} for check in checks(launcher)]


def bandwidth(launcher: Launcher, size: Shape, repeats: int = 20) -> list[Row]:
    """Milliseconds, GB/s and percent of a copy for each operation on volumes of about that size (Z, Y, X)."""
    copy_ms = _copy_ms(launcher, repeats)
    copied = 2 * _COPY_BYTES / copy_ms / 1e6
    rows: list[Row] = [{"operation": "copy", "ms": copy_ms, "gb_s": copied, "percent_of_copy": 100.0}]
    for name, (run, moved) in _workloads(Operations(launcher), size).items():
        milliseconds = _median_ms(launcher, run, repeats)
        speed = moved / milliseconds / 1e6
        rows.append(
            {
                "operation": name,
                "ms": milliseconds,
                "gb_s": speed,
                "percent_of_copy": 100 * speed / copied,
            }
        )
    return rows


def stages(launcher: Launcher, shape: Shape, window: Shape, repeats: int = 20) -> Row:
    """Median milliseconds of what surrounds a network for two sequences of one shape (Z, Y, X): the upload,
    slice by slice; both channels as fp16; the labels of 25 classes; these on their way home. No network."""
    operations = Operations(launcher)
    random = np.random.default_rng(0)
    volumes = random.gamma(2, 60, size=(2, *shape)).astype(np.float32)
    image = launcher.empty((2, *window), np.float16)
    logits = operations.upload(random.normal(size=(25, *window)).astype(np.float16))
    spacing = [0.5 * n / m for n, m in zip(shape[::-1], window[::-1], strict=True)]  # the middle half
    inner = np.diag([*spacing, 1.0])
    inner[:3, 3] = [n / 4 for n in shape[::-1]]
    there, back = Grids(np.eye(4), inner, window), Grids(inner, np.eye(4), shape)
    taken: list[list[float]] = []
    for _ in range(repeats + 2):
        marks = [launcher.mark()]
        held = [operations.upload_slices(volume, shape) for volume in volumes]
        marks.append(launcher.mark())
        for number, source in enumerate(held):
            part = image.part(number, number + 1).shaped(*window)
            operations.channel(source, there, Sampling(), Rule(), part)
        marks.append(launcher.mark())
        labels = operations.labels(logits, back)
        marks.append(launcher.mark())
        launcher.copy_out(labels)
        marks.append(launcher.mark())
        taken.append([launcher.elapsed_ms(a, b) for a, b in itertools.pairwise(marks)])
    names = ("upload", "prepare", "labels", "home")
    return dict(zip(names, np.median(taken[2:], axis=0).tolist(), strict=True))


def sanitized(arguments: list[str]) -> list[Row]:
    """The checks under each tool of compute-sanitizer; `passed` is None where it is not installed."""
    program = shutil.which("compute-sanitizer")
    rows: list[Row] = []
    for tool in _TOOLS:
        if program is None:
            rows.append({"tool": tool, "passed": None, "detail": "compute-sanitizer is not installed"})
            continue
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable]
        command += ["-m", "npc_edge.bench", "gpu", "--checks-only", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (ran.stdout + ran.stderr).strip().splitlines()
        rows.append({"tool": tool, "passed": ran.returncode == 0, "detail": said[-1] if said else ""})
    return rows


def _copy_ms(launcher: Launcher, repeats: int) -> float:
    there, here = (launcher.empty((_COPY_BYTES,), np.uint8) for _ in range(2))
    return _median_ms(launcher, lambda: launcher.copy(there, here), repeats)


def _median_ms(launcher: Launcher, run: Callable[[], object], repeats: int) -> float:
    """Of single runs between two marks, after two that are not counted."""
    taken = []
    for number in range(repeats + 2):
        start = launcher.mark()
        run()
        end = launcher.mark()
        taken.append(launcher.elapsed_ms(start, end))
        launcher.synchronize()
        if number == 1:
            taken.clear()
    return float(np.median(taken))


def _workloads(operations: Operations, size: Shape) -> dict[str, tuple[Callable[[], object], int]]:
    """Name → what to run and the bytes it must move: each input once, each output once."""
    random = np.random.default_rng(0)
    source = operations.upload(random.gamma(2, 60, size=size).astype(np.float32))
    empty, rule = operations.launcher.empty, Rule()
    half, single = empty(size, np.float16), empty(size, np.float32)
    same = Grids(np.eye(4), tilted((1, 1, 1), (0.3, 0.2, 0.1), 0.05), size)
    less = (size[0], size[1] // 2, size[2] // 2)
    shrunk = empty(less, np.float16)
    smaller = Grids(np.eye(4), np.diag([2.0, 2.0, 1.0, 1.0]), less)
    found = operations.statistics(source, rule)
    window = (size[0], size[1] // 2, size[2] // 2)
    starts = ((0,), (0, size[1] // 4, size[1] // 2), (0, size[2] // 4, size[2] // 2))
    corners = [(0, y, x) for y in starts[1] for x in starts[2]]
    volume = half.shaped(1, *size)
    cut = operations.gather(volume, corners, window)
    coarse = (max(size[0] // 2, 1), size[1] // 4, size[2] // 4)
    logits = operations.upload(random.normal(size=(25, *coarse)).astype(np.float16))
    logit = logits.part(0, 1).shaped(*coarse)
    up = Grids(np.diag([4.0, 4.0, 2.0, 1.0]), np.eye(4), size)
    scale = (found, rule)

    def bytes_of(*arrays: DeviceArray) -> int:
        return sum(array.nbytes for array in arrays)

    linear, cubic = Sampling(anti_alias=False), Sampling("bspline", anti_alias=False)
    return {
        "resample + clip + normalise + cast + place": (
            lambda: operations.resample(source, same, linear, half, scale),
            bytes_of(source, half),
        ),
        "the same, shrinking by 2 x 2": (
            lambda: operations.resample(source, smaller, Sampling(), shrunk, scale),
            bytes_of(source, shrunk),
        ),
        "the same, cubic B-spline": (
            lambda: operations.resample(source, same, cubic, half, scale),
            bytes_of(source, half),
        ),
        "a channel with its statistics": (
            lambda: operations.channel(source, same, MARKED, rule, half),
            bytes_of(source, half),
        ),
        "percentiles": (lambda: operations.statistics(source, rule), bytes_of(source)),
        "normalise": (
            lambda: operations.normalise(source, found, rule, half),
            bytes_of(source, half),
        ),
        "gather": (lambda: operations.gather(volume, corners, window), 2 * bytes_of(cut)),
        "blend": (
            lambda: operations.blend(cut, starts, single.shaped(1, *size)),
            bytes_of(cut, single),
        ),
        "labels of 25 classes": (
            lambda: operations.labels(logits, up),
            bytes_of(logits) + size[0] * size[1] * size[2],
        ),
        "probability and mask": (
            lambda: operations.threshold(logit, up, 0.5),
            bytes_of(logit) + 5 * size[0] * size[1] * size[2],
        ),
    }


def table(report: Row) -> str:
    """The report as Markdown."""
    failed = [row for row in report["checks"] if not row["passed"]]
    lines = [f"{report['device']}: {len(report['checks'])} checks, {len(failed)} failed"]
    lines += [
        f"FAILED {row['operation']}, {row['case']}: {row['error']:.3g}, allowed {row['allowed']:.3g}"
        for row in failed
    ]
    said = {True: "clean", False: "FAILED", None: "not run"}
    lines += [
        f"compute-sanitizer {row['tool']}: {said[row['passed']]}. {row['detail']}"
        for row in report.get("sanitizer", [])
    ]
    if "bandwidth" in report:
        lines += ["", "| | ms | GB/s | % of a copy |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row['operation']} | {row['ms']:.3f} | {row['gb_s']:.0f} | {row['percent_of_copy']:.0f} |"
            for row in report["bandwidth"]
        ]
    if "stages_ms" in report:
        spent = ", ".join(f"{name} {value:.2f}" for name, value in report["stages_ms"].items())
        lines += ["", f"2 x (36 x 512 x 512), without a network, ms: {spent}"]
    return "\n".join(lines)


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--launcher", choices=("cuda-core", "pycuda"), default="cuda-core")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--checks-only", action="store_true", help="correctness only; writes no file")
    parser.add_argument("--out", type=Path, default=None, help="default: bench/results/<date>-gpu.json")


def main(given: Namespace) -> int:
    """Check, measure, print a table and write JSON."""
    try:
        launcher = open_launcher(given.launcher, given.device)
    except LaunchError as error:
        missing = BackendError(str(error), "this bench needs an NVIDIA GPU with its driver")
        print(f"error: {missing.one_line()}", file=sys.stderr)
        return missing.exit_code
    try:
        return _measure(launcher, given)
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _measure(launcher: Launcher, given: Namespace) -> int:
    report: Row = {"machine": describe(), "device": launcher.device, "launcher": given.launcher}
    report["checks"] = correctness(launcher)
    passed = all(row["passed"] for row in report["checks"])
    if not given.checks_only:
        again = ["--launcher", given.launcher, "--device", str(given.device)]
        report["sanitizer"] = sanitized(again)
        report["bandwidth"] = bandwidth(launcher, (256, 256, 256))
        report["stages_ms"] = stages(launcher, (36, 512, 512), (32, 144, 144))
        passed = passed and all(row["passed"] is not False for row in report["sanitizer"])
        out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-gpu.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0 if passed else 1
