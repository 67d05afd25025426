"""Grids that lie to each other in every way that matters, for tests of the voxel operations."""

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]


def affine(
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
    axes: tuple[int, int, int] = (0, 1, 2),
    flips: tuple[int, int, int] = (1, 1, 1),
) -> Affine:
    """Angles in radians about x, y, z; axes and flips permute and turn round the columns."""
    a, b, c = turn
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    result = np.eye(4)
    result[:3, :3] = (about_x @ about_y @ about_z)[:, axes] * np.array(spacing) * np.array(flips)
    result[:3, 3] = origin
    return result


CASES = {
    "aligned": (affine((0.5, 0.6, 4.0), (-3, 1, -2)), (7, 41, 39)),
    "reversed": (affine((0.5, 0.6, 4.0), (16, 1, 22), flips=(-1, 1, -1)), (7, 41, 39)),
    "sagittal": (affine((0.6, 0.5, 4.0), (-3, 1, -2), axes=(1, 2, 0)), (5, 41, 39)),
    "tilted": (affine((0.5, 0.6, 4.0), (-3, -1, -2), (0.2, -0.1, 0.15)), (7, 41, 39)),
    "barely tilted": (affine((0.5, 0.6, 4.0), (-3, -1, -2), (1e-7, 0, 1e-7)), (7, 41, 39)),
    "sheared": (affine((0.5, 0.6, 4.0), (-3, -1, -2)) + np.eye(4, k=1) * [0, 0.2, 0.3, 0], (7, 41, 39)),
    "one slice": (affine((0.5, 0.6, 4.0), (-3, -1, 3), (0.2, 0, 0)), (1, 41, 39)),
    "one column": (affine((2.0, 0.6, 4.0), (5, -1, 0)), (5, 41, 1)),
    "one voxel": (affine((9.0, 9.0, 9.0), (5, 5, 5), (0.1, 0.1, 0.1)), (1, 1, 1)),
    "elsewhere": (affine((0.5, 0.6, 4.0), (300, 0, 0), (0.2, 0, 0)), (7, 41, 39)),
    "beside, tilted": (affine((0.5, 0.6, 4.0), (24, -16, -2), (0.0, 0.0, 0.78)), (7, 41, 39)),
}
