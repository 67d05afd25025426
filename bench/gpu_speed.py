"""How fast the kernels are on a launcher's device: bandwidth by operation, and what surrounds a network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from npc_edge.bench.kernel_cases import tilted
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import MARKED, Grids, Rule, Sampling
from npc_edge.kernels.launch import DeviceArray, Launcher
from npc_edge.kernels.sampling import Shape

_AHEAD = 8
"""Copies queued before an operation that is timed, so that the device is busy while the host queues it."""

Row = dict[str, Any]
Work = dict[str, tuple[Callable[[], object], int]]
"""Name → what to run and the bytes it must move: each input once, each output once."""


def bandwidth(launcher: Launcher, size: Shape, repeats: int = 20, copied: int = 2**28) -> list[Row]:
    """Milliseconds, GB/s and percent of a copy for each operation on volumes of such a size (Z, Y, X).

    copied: bytes of the copy. The host takes longer to queue a kernel than many a kernel takes, so copies are
    queued first: between an operation's two marks the device never waits for the host.
    """
    there, here = (launcher.empty((copied,), np.uint8) for _ in range(2))

    def copy() -> None:
        launcher.copy(there, here)

    def median_ms(run: Callable[[], object]) -> float:
        taken = []
        for _ in range(repeats + 2):
            for _ in range(_AHEAD):
                copy()
            start = launcher.mark()
            run()
            taken.append(launcher.elapsed_ms(start, launcher.mark()))
            launcher.synchronize()
        return float(np.median(taken[2:]))

    copy_ms = median_ms(copy)
    fastest = 2 * copied / copy_ms / 1e6
    rows: list[Row] = [{"operation": "copy", "ms": copy_ms, "gb_s": fastest, "percent_of_copy": 100.0}]
    operations = Operations(launcher)
    work = {**_inputs(operations, size), **_windows(operations, size), **_outputs(operations, size)}
    for name, (run, moved) in work.items():
        milliseconds = median_ms(run)
        speed = moved / milliseconds / 1e6
        share = 100 * speed / fastest
        rows.append({"operation": name, "ms": milliseconds, "gb_s": speed, "percent_of_copy": share})
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
    # Page-locked once and passed through again, as the engine does: locking takes longer than the copy.
    staged = [launcher.pinned(shape, np.float32) for _ in volumes]
    taken: list[list[float]] = []
    for _ in range(repeats + 2):
        launcher.synchronize()
        marks = [launcher.mark()]
        held = [operations.upload_slices(v, shape, pages) for v, pages in zip(volumes, staged, strict=True)]
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


def _inputs(operations: Operations, size: Shape) -> Work:
    source = operations.upload(np.random.default_rng(0).gamma(2, 60, size=size).astype(np.float32))
    half = operations.launcher.empty(size, np.float16)
    same = Grids(np.eye(4), tilted((1, 1, 1), (0.3, 0.2, 0.1), 0.05), size)
    less = (size[0], size[1] // 2, size[2] // 2)
    smaller, shrunk = (
        Grids(np.eye(4), np.diag([2.0, 2.0, 1.0, 1.0]), less),
        operations.launcher.empty(less, np.float16),
    )
    rule = Rule()
    found = operations.statistics(source, rule)
    scale = (found, rule)
    linear, cubic = Sampling(anti_alias=False), Sampling("bspline", anti_alias=False)
    moved = _bytes(source, half)
    return {
        "resample + clip + normalise + cast + place": (
            lambda: operations.resample(source, same, linear, half, scale),
            moved,
        ),
        "the same, shrinking by 2 x 2": (
            lambda: operations.resample(source, smaller, Sampling(), shrunk, scale),
            _bytes(source, shrunk),
        ),
        "the same, cubic B-spline": (lambda: operations.resample(source, same, cubic, half, scale), moved),
        "a channel with its statistics": (
            lambda: operations.channel(source, same, MARKED, rule, half),
            moved,
        ),
        "percentiles": (lambda: operations.statistics(source, rule), _bytes(source)),
        "normalise": (lambda: operations.normalise(source, found, rule, half), moved),
    }


def _windows(operations: Operations, size: Shape) -> Work:
    window = (size[0], size[1] // 2, size[2] // 2)
    starts = ((0,), (0, size[1] // 4, size[1] // 2), (0, size[2] // 4, size[2] // 2))
    corners = list(itertools.product(*starts))
    volume = operations.upload(np.random.default_rng(1).normal(size=(1, *size)).astype(np.float16))
    cut = operations.gather(volume, corners, window)
    whole = operations.launcher.empty((1, *size), np.float32)
    return {
        "gather": (lambda: operations.gather(volume, corners, window), 2 * _bytes(cut)),
        "blend": (lambda: operations.blend(cut, starts, whole), _bytes(cut, whole)),
    }


def _outputs(operations: Operations, size: Shape) -> Work:
    coarse = (max(size[0] // 2, 1), size[1] // 4, size[2] // 4)
    logits = operations.upload(np.random.default_rng(2).normal(size=(25, *coarse)).astype(np.float16))
    logit = logits.part(0, 1).shaped(*coarse)
    grids = Grids(np.diag([4.0, 4.0, 2.0, 1.0]), np.eye(4), size)
    voxels = size[0] * size[1] * size[2]
    return {
        "labels of 25 classes": (lambda: operations.labels(logits, grids), _bytes(logits) + voxels),
        "probability and mask": (
            lambda: operations.threshold(logit, grids, 0.5),
            _bytes(logit) + 5 * voxels,
        ),
    }


def _bytes(*arrays: DeviceArray) -> int:
    return sum(array.nbytes for array in arrays)
