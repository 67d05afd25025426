"""Intensity normalisation: one plain function, the same for training and for running."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.kernels.cpu import percentiles


def normalise(
    array: NDArray[np.float32],
    method: Literal["percentile", "zscore", "zscore-nonzero"],
    lower: float = 0.5,
    upper: float = 99.5,
    foreground: float = 0.1,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """(Z, Y, X) → (Z, Y, X) float32, new. ValueError when a voxel is not finite.

    inside: bool, the voxels that hold data (None: all); only they count, and all others become 0.
    percentile: clip to the lower and upper percentile of the foreground (the voxels above `foreground` times
    the mean of the positive ones), then scale these two to 0 and 1. zscore: subtract the mean and divide by
    the standard deviation, both of all voxels inside. zscore-nonzero: both of the voxels inside that are not
    0; those that are stay 0. An array without contrast becomes 0.
    """
    values = np.asarray(array, dtype=np.float32)
    if method == "zscore-nonzero":
        inside = values != 0 if inside is None else inside & (values != 0)
    counted = values if inside is None else values[inside]
    if method == "percentile":
        low, high = percentiles(counted, lower, upper, foreground)
        result = np.clip(values, np.float32(low), np.float32(high))
    else:
        if not np.isfinite(counted).all():
            raise ValueError("the array holds values that are not finite")
        low = float(counted.mean(dtype=np.float64)) if counted.size else 0.0
        high = low + (float(counted.std(dtype=np.float64)) if counted.size else 0.0)
        result = values.copy()
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        return np.zeros(values.shape, dtype=np.float32)
    result -= np.float32(low)
    result /= np.float32(high - low)
    if inside is not None:
        result[~inside] = 0
    return result
