"""The reference of what surrounds a network: scaling its input, cutting windows, blending them, thresholding.

NumPy, float64, written to be read; see `reference` for resampling, percentiles and labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.kernels import reference
from npc_edge.kernels.sampling import Floats, Shape, index_map, inside
from npc_edge.kernels.windows import LEAST_WEIGHT, axis_weight

Starts = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""The first voxels of the windows along z, y and x; every combination is a window, z slowest."""


def scaled(values: ArrayLike, low: float, high: float, covered: NDArray[np.bool_], clip: bool) -> Floats:
    """low becomes 0 and high 1, clipped to them first when asked; 0 where nothing is covered, and everywhere
    without contrast. The same shape, float64."""
    given = np.asarray(values, dtype=np.float64)
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        return np.zeros(given.shape)
    inner = np.clip(given, low, high) if clip else given
    return np.where(covered, (inner - low) / (high - low), 0.0)


def moments(values: ArrayLike, nonzero: bool) -> tuple[float, float]:
    """Mean and standard deviation of the values, or of those that are not 0; (0, 0) of none."""
    given = np.asarray(values, dtype=np.float64).ravel()
    counted = given[given != 0] if nonzero else given
    return (float(counted.mean()), float(counted.std())) if counted.size else (0.0, 0.0)


def gather(volume: NDArray[Any], starts: ArrayLike, window: Shape) -> NDArray[Any]:
    """(C, Z, Y, X) and (n, 3) first voxels z, y, x → the windows (n, C, z, y, x)."""
    corners = np.asarray(starts, dtype=int)
    dz, dy, dx = window
    return np.stack([volume[:, z : z + dz, y : y + dy, x : x + dx] for z, y, x in corners])


def blend(windows: ArrayLike, starts: Starts, shape: Shape) -> Floats:
    """(n, K, z, y, x) predictions → (K, Z, Y, X): averaged with a Gaussian centred on each window."""
    given = np.asarray(windows, dtype=np.float64)
    z, y, x = (axis_weight(length) for length in given.shape[2:])
    weight = np.maximum(z[:, None, None] * y[:, None] * x, LEAST_WEIGHT)
    result, total = np.zeros((given.shape[1], *shape)), np.zeros(shape)
    for one, corner in zip(given, itertools.product(*starts), strict=True):
        box = tuple(slice(s, s + n) for s, n in zip(corner, weight.shape, strict=True))
        result[(slice(None), *box)] += one * weight
        total[box] += weight
    return np.asarray(result / total)


def probability_on_grid(
    logit: ArrayLike, affine: ArrayLike, target_affine: ArrayLike, target_shape: Shape
) -> Floats:
    """logit (Z, Y, X) → (Z, Y, X) float64 on another grid: the interpolated logit's sigmoid, 0 outside."""
    given = np.asarray(logit, dtype=np.float64)
    value = reference.resample(given, affine, target_affine, target_shape, anti_alias=False).astype(
        np.float64
    )
    covered = inside(
        index_map(affine, target_affine), (given.shape[0], given.shape[1], given.shape[2]), target_shape
    )
    return np.where(covered, 1 / (1 + np.exp(-value)), 0.0)


def margin(logits: ArrayLike, code: int) -> Floats:
    """logits (K, Z, Y, X) → (Z, Y, X) float64: log p / (1 - p) of class `code` under the softmax of all."""
    given = np.asarray(logits, dtype=np.float64)
    rest = np.delete(given, code, axis=0)
    peak = rest.max(axis=0)
    return np.asarray(given[code] - peak - np.log(np.exp(rest - peak).sum(axis=0)))
