"""Every kernel against its reference on whatever launcher there is: what `gpu` runs first, on a GPU.

Small volumes of odd shapes, anisotropic, tilted, one slice thick; all arrays lie between guard bands. The
tolerances are those of docs/kernels.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.kernels import reference
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import Grids, Rule, Sampling
from npc_edge.kernels.guarded import Guarded
from npc_edge.kernels.launch import Launcher
from npc_edge.kernels.reference_network import blend, gather, moments, probability_on_grid, scaled
from npc_edge.kernels.sampling import index_map, inside


@dataclass(frozen=True)
class Check:
    """One comparison: the largest error and what was allowed, both in units of the values compared."""

    operation: str
    case: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """NaN does not pass."""
        return bool(self.error <= self.allowed)


def checks(launcher: Launcher) -> Iterator[Check]:
    """All of them. LaunchError when a kernel wrote beside an array, or when the device refused."""
    guarded = Guarded(launcher)
    operations = Operations(guarded)
    for part in (_resampling, _statistics, _channel, _windows, _predictions):
        yield from part(operations)
        guarded.check_guards()


def tilted(spacing: tuple[float, float, float], origin: tuple[float, float, float], angle: float) -> Any:
    """(4, 4): a grid turned by an angle in radians about the diagonal."""
    axis = np.ones(3) / np.sqrt(3)
    cross = np.cross(np.eye(3), axis)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * np.array(spacing), origin
    return affine


_TARGET, _SHAPE = tilted((1.1, 1.2, 3.0), (-4, 0.5, -3), 0), (9, 17, 45)
_SOURCES = {
    "aligned": (tilted((0.5, 0.6, 4.0), (-3, 1, -2), 0), (7, 41, 99)),
    "tilted": (tilted((0.5, 0.6, 4.0), (-3, -1, -2), 0.3), (7, 41, 99)),
    "one slice": (tilted((0.5, 0.6, 4.0), (-3, -1, 3), 0.2), (1, 41, 99)),
    "one voxel": (tilted((9.0, 9.0, 9.0), (5, 5, 5), 0.1), (1, 1, 1)),
}


def _error(got: ArrayLike, wanted: ArrayLike) -> float:
    return float(np.abs(np.asarray(got, np.float64) - np.asarray(wanted, np.float64)).max())


def _resampling(operations: Operations) -> Iterator[Check]:
    for name, (affine, shape) in _SOURCES.items():
        voxels = np.random.default_rng(1).normal(50, 100, size=shape).astype(np.float32)
        for interpolation, anti_alias in itertools.product(("linear", "bspline"), (True, False)):
            out = operations.launcher.empty(_SHAPE, np.float32)
            sampling = Sampling(interpolation, anti_alias)  # type: ignore[arg-type]
            operations.resample(operations.upload(voxels), Grids(affine, _TARGET, _SHAPE), sampling, out)
            wanted = reference.resample(
                voxels,
                affine,
                _TARGET,
                _SHAPE,
                anti_alias=anti_alias,
                interpolation=interpolation,  # type: ignore[arg-type]
            )
            allowed = (1e-6 if interpolation == "linear" else 1e-5) * float(np.abs(voxels).max())
            case = f"{name}, {interpolation}{', smoothed' if anti_alias else ''}"
            yield Check("resample", case, _error(operations.launcher.copy_out(out), wanted), allowed)


def _intensities(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(2).gamma(2, 60, size=shape).astype(np.float32)


def _statistics(operations: Operations) -> Iterator[Check]:
    values = _intensities((7, 61, 99))
    for lower, upper, foreground in ((0.5, 99.5, 0.1), (2.0, 97.0, 0.5), (0.0, 100.0, 0.0)):
        rule = Rule("percentile", lower, upper, foreground)
        found = operations.refuse(operations.statistics(operations.upload(values), rule))
        wanted = reference.percentiles(values, lower, upper, foreground)
        error = _error((found["low"], found["high"]), wanted)
        yield Check("statistics", f"percentiles {lower:g} and {upper:g}", error, 1e-6 * float(values.max()))
    found = operations.refuse(operations.statistics(operations.upload(values), Rule("zscore")))
    mean, deviation = moments(values, nonzero=False)
    error = _error((found["low"], found["width"]), (mean, deviation))
    yield Check("statistics", "mean and deviation", error, 2e-6 * deviation)


def _channel(operations: Operations) -> Iterator[Check]:
    affine, shape = _SOURCES["tilted"]
    voxels = _intensities(shape)
    covered = inside(index_map(affine, _TARGET), (shape[0], shape[1], shape[2]), _SHAPE)
    plain = reference.resample(voxels, affine, _TARGET, _SHAPE)
    low, high = reference.percentiles(plain[covered], 0.5, 99.5, 0.1)
    wanted = scaled(plain, low, high, covered, clip=True)
    for dtype, allowed in ((np.float32, 1e-5), (np.float16, 1e-5 + 2.0**-11)):
        out = operations.launcher.empty(_SHAPE, dtype)
        grids = Grids(affine, _TARGET, _SHAPE)
        operations.refuse(operations.channel(operations.upload(voxels), grids, Sampling(), Rule(), out))
        error = _error(operations.launcher.copy_out(out), wanted)
        yield Check("channel", f"resampled, normalised, {np.dtype(dtype).name}", error, allowed)


def _windows(operations: Operations) -> Iterator[Check]:
    window, shape, starts = (4, 6, 40), (9, 10, 75), ((0, 3, 5), (0, 4), (0, 20, 35))
    for dtype in (np.float32, np.float16):
        volume = np.random.default_rng(3).normal(size=(2, *shape)).astype(dtype)
        corners = list(itertools.product(*starts))
        cut = operations.gather(operations.upload(volume), corners, window)
        wanted = gather(volume, corners, window)
        name = np.dtype(dtype).name
        yield Check("gather", name, _error(operations.launcher.copy_out(cut), wanted), 0.0)
        whole = operations.launcher.empty((2, *shape), np.float32)
        operations.blend(cut, starts, whole)
        # Windows cut out of one volume blend back into it.
        allowed = 1e-6 * float(np.abs(volume).max())
        yield Check(
            "blend", f"{name}, of one volume", _error(operations.launcher.copy_out(whole), volume), allowed
        )
        apart = np.random.default_rng(4).normal(size=cut.shape).astype(dtype)
        slab = operations.launcher.empty((2, 4, *shape[1:]), np.float32)
        operations.blend(operations.upload(apart), starts, slab, first=3)
        error = _error(operations.launcher.copy_out(slab), blend(apart, starts, shape)[:, 3:7])
        yield Check("blend", f"{name}, a slab", error, 1e-6 * float(np.abs(apart).max()))


def _predictions(operations: Operations) -> Iterator[Check]:
    for (name, (affine, shape)), dtype in itertools.product(_SOURCES.items(), (np.float32, np.float16)):
        logits = np.random.default_rng(5).normal(size=(5, *shape)).astype(dtype)
        grids = Grids(affine, _TARGET, _SHAPE)
        got = operations.launcher.copy_out(operations.labels(operations.upload(logits), grids))
        wanted = reference.labels_on_grid(logits, affine, _TARGET, _SHAPE)
        case = f"{name}, {np.dtype(dtype).name}"
        yield Check("labels", case, float((got != wanted).sum()), 0.0)
        probability, mask = operations.threshold(operations.upload(logits[0]), grids, 0.4)
        truth = probability_on_grid(logits[0], affine, _TARGET, _SHAPE)
        yield Check("threshold", case, _error(operations.launcher.copy_out(probability), truth), 1e-6)
        sure = np.abs(truth - 0.4) > 1e-6
        wrong = (operations.launcher.copy_out(mask) != (truth >= 0.4)) & sure
        yield Check("threshold", f"{case}, mask", float(wrong.sum()), 0.0)
