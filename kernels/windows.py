"""Windows over a grid: the Gaussian that weighs a window's voxels. Shared by every path that blends them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npc_edge.kernels.sampling import Floats, Shape

LEAST_WEIGHT = 1e-3
"""Far from its centre a window still counts a little, so that no voxel divides by nothing."""


def axis_weight(length: int) -> Floats:
    """(length,): a Gaussian, 1 in the middle, sigma an eighth of the length."""
    distance = (np.arange(length) - (length - 1) / 2) / (length / 8)
    return np.asarray(np.exp(-0.5 * distance**2))


def gaussian_weight(window: Shape) -> NDArray[np.float32]:
    """(Z, Y, X) float32: the product of the axes' Gaussians, never below a thousandth."""
    z, y, x = (axis_weight(length) for length in window)
    weight = z[:, None, None] * y[:, None] * x
    return np.maximum(weight, LEAST_WEIGHT).astype(np.float32)
