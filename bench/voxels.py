"""The voxel operations on this processor: the path that ships against the kernels' bodies compiled by g++.

    python -m npc_edge.bench voxels [--runs N] [--threads N] [--out FILE.json]

Both do the same work on a study of the size that a scanner gives (2 sequences of 512 x 512 x 36; here one),
taking turns in one process. The ratio is what to read: above 1 the compiled body is faster. What ships needs
no compiler, so the compiled one is a measure, not an alternative. --threads counts for the compiled one;
OMP_NUM_THREADS and ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS for the other. Without g++: exit code 5.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.bench.kernel_cases import tilted
from npc_edge.bench.machine import describe
from npc_edge.engine.errors import BackendError
from npc_edge.engine.machine import available_cores
from npc_edge.kernels import cpu
from npc_edge.kernels.cuda import host
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import Grids, Rule, Sampling
from npc_edge.kernels.intensity import normalise
from npc_edge.kernels.launch import LaunchError
from npc_edge.kernels.windows import gaussian_weight

Row = dict[str, Any]
Run = Callable[[], object]


@dataclass(frozen=True)
class Study:
    """Sizes (Z, Y, X): of the source, the network's window, and how many anatomy classes it predicts."""

    source: tuple[int, int, int] = (36, 512, 512)
    window: tuple[int, int, int] = (32, 144, 144)
    classes: int = 25


def pairs(operations: Operations, study: Study) -> dict[str, tuple[Run, Run]]:
    """Name → what ships, and the compiled body; each from arrays that are there to arrays that are new."""
    return {**_inputs(operations, study), **_windows(operations, study), **_outputs(operations, study)}


def _inputs(operations: Operations, study: Study) -> dict[str, tuple[Run, Run]]:
    voxels = np.random.default_rng(0).gamma(2, 60, size=study.source).astype(np.float32)
    there = operations.upload(voxels)
    target, window = tilted((1.0, 1.0, 4.0), (40, 40, 4), 0), study.window
    grids = {
        "aligned": Grids(np.diag([0.45, 0.45, 4.0, 1.0]), target, window),
        "tilted": Grids(tilted((0.45, 0.45, 4.0), (0, 0, 0), 0.1), target, window),
    }

    def resampled(kind: str, sampling: Sampling) -> tuple[Run, Run]:
        grid = grids[kind]
        out = operations.launcher.empty(window, np.float32)
        options = {"anti_alias": sampling.anti_alias, "interpolation": sampling.interpolation}
        return (
            lambda: cpu.resample(voxels, grid.affine, grid.target_affine, window, **options),  # type: ignore[arg-type]
            lambda: operations.resample(there, grid, sampling, out),
        )

    values = cpu.resample(voxels, grids["aligned"].affine, target, window)
    held = operations.upload(values)
    scaled = operations.launcher.empty(window, np.float32)

    def channel() -> None:
        rule = Rule()
        operations.normalise(held, operations.statistics(held, rule), rule, scaled)

    return {
        "resample, aligned, smoothed": resampled("aligned", Sampling()),
        "resample, tilted, smoothed": resampled("tilted", Sampling()),
        "resample, tilted, linear": resampled("tilted", Sampling(anti_alias=False)),
        "resample, aligned, cubic B-spline": resampled("aligned", Sampling("bspline", False)),
        "resample, tilted, cubic B-spline": resampled("tilted", Sampling("bspline", False)),
        "percentiles": (
            lambda: cpu.percentiles(values, 0.5, 99.5, 0.1),
            lambda: operations.statistics(held, Rule()),
        ),
        "percentiles and normalise": (lambda: normalise(values, "percentile"), channel),
    }


def _windows(operations: Operations, study: Study) -> dict[str, tuple[Run, Run]]:
    z, y, x = study.window
    starts = ((0,), (0, y // 2, y), (0, x // 2, x))
    shape = (z, 2 * y, 2 * x)
    volume = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    held = operations.upload(volume)
    corners = list(itertools.product(*starts))
    boxes = [tuple(slice(s, s + n) for s, n in zip(c, study.window, strict=True)) for c in corners]
    predicted = operations.gather(held, corners, study.window)
    windows = operations.launcher.copy_out(predicted)
    out = operations.launcher.empty((2, *shape), np.float32)
    weight = gaussian_weight(study.window)

    def blended() -> None:
        total, result = np.zeros(shape, np.float32), np.zeros((2, *shape), np.float32)
        for one, box in zip(windows, boxes, strict=True):
            result[(slice(None), *box)] += one * weight
            total[box] += weight
        result /= total

    return {
        "gather 9 windows": (
            lambda: np.stack([volume[(slice(None), *box)] for box in boxes]),
            lambda: operations.gather(held, corners, study.window),
        ),
        "blend 9 windows": (blended, lambda: operations.blend(predicted, starts, out)),
    }


def _outputs(operations: Operations, study: Study) -> dict[str, tuple[Run, Run]]:
    random = np.random.default_rng(2)
    # Blobs, as a network predicts: most cells are decided by their corners.
    coarse = random.normal(size=(study.classes, 8, 12, 12)).astype(np.float32) * 4
    steps = [8 / study.window[0], 12 / study.window[1], 12 / study.window[2]]
    fine = np.diag([steps[2], steps[1], steps[0], 1.0])
    options = {"anti_alias": False}
    logits = np.stack([cpu.resample(c, np.eye(4), fine, study.window, **options) for c in coarse])  # type: ignore[arg-type]
    held = operations.upload(logits)
    z, y, x = study.source
    affine = np.diag([x / study.window[2], y / study.window[1], z / study.window[0], 1.0])
    grids = Grids(affine, np.eye(4), study.source)

    def thresholded() -> object:
        logit = cpu.resample(logits[0], affine, np.eye(4), study.source, anti_alias=False, fill=-30.0)
        return 0.5 * np.tanh(0.5 * logit) + 0.5 >= 0.5

    one = held.part(0, 1).shaped(*study.window)
    return {
        f"labels of {study.classes} classes": (
            lambda: cpu.labels_on_grid(logits, affine, np.eye(4), study.source),
            lambda: operations.labels(held, grids),
        ),
        "probability and mask": (thresholded, lambda: operations.threshold(one, grids, 0.5)),
    }


def compare(pair: tuple[Run, Run], runs: int) -> Row:
    """Both in turn: median milliseconds of the clock and of the processor (all threads together), and the
    ratios of both with their spread over the turns. On a busy machine the processor's is the one to read."""
    taken = []
    for _ in range(runs + 1):
        times = []
        for run in pair:
            clock, processor = time.perf_counter(), time.process_time()
            run()
            times.append((time.perf_counter() - clock, time.process_time() - processor))
        taken.append(times)
    spent = 1000 * np.array(taken[1:])  # turns, which of the two, clock or processor
    row: Row = {}
    for unit, name in enumerate(("clock", "processor")):
        ships, compiled = spent[:, 0, unit], np.maximum(spent[:, 1, unit], 1e-3)
        ratios = ships / compiled
        row[name] = {
            "ships_ms": float(np.median(ships)),
            "compiled_ms": float(np.median(compiled)),
            "ratio": float(np.median(ratios)),
            "ratio_range": [float(ratios.min()), float(ratios.max())],
        }
    return row


def table(report: Row) -> str:
    """The report as Markdown."""
    machine = report["machine"]
    lines = [
        f"{machine['processor']}, {report['threads']} threads, {report['runs']} turns, load {report['load']}",
        "",
        "| | ships, ms | compiled, ms | ratio (range) | ratio of processor time (range) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in report["operations"].items():
        clock, ratios = row["clock"], []
        for unit in ("clock", "processor"):
            low, high = row[unit]["ratio_range"]
            ratios.append(f"{row[unit]['ratio']:.2f} ({low:.2f}-{high:.2f})")
        lines.append(
            f"| {name} | {clock['ships_ms']:.1f} | {clock['compiled_ms']:.1f} | {' | '.join(ratios)} |"
        )
    return "\n".join(lines)


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--out", type=Path, default=None, help="default: bench/results/<date>-voxels.json")


def main(given: Namespace) -> int:
    """Measure, print a table and write JSON."""
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as folder:
        try:
            launcher = host.HostLauncher(host.build(Path(folder)), given.threads)
        except LaunchError as error:
            missing = BackendError(str(error), "this bench compiles the kernels' bodies with g++")
            print(f"error: {missing.one_line()}", file=sys.stderr)
            return missing.exit_code
        rows = {
            name: compare(pair, given.runs) for name, pair in pairs(Operations(launcher), Study()).items()
        }
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    counts = {"threads": given.threads, "runs": given.runs, "load": load}
    report = {"machine": describe(), **counts, "operations": rows}
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-voxels.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0
