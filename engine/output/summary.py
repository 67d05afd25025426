"""What each sequence looks like inside the network's window, in a few numbers the monitor can follow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npc_edge.engine.geometry import Floats, Geometry
from npc_edge.engine.types import Segmentation, Volume

_MOST = (12, 24, 24)  # points along z, y, x of the window, 4 to 5 mm apart: recording must cost little
_FEWEST_IN_TUMOUR = 8


def intensity_summary(
    volumes: Mapping[str, Volume], window: Geometry, masks: Segmentation | None
) -> dict[str, float]:
    """Numbers by "<sequence>.<name>", over the nearest voxels to a lattice of points in the window.

    median, iqr (75th - 25th percentile): in the sequence's own units. bright: 99th percentile / median.
    dark: 1st percentile / median. tumour_contrast: median inside the tumour mask / median outside of it,
    where the mask holds enough of the lattice. No ratio where the median is not above 0; nothing of a
    sequence that does not reach the window.
    """
    points = window.to_world(_lattice(window))
    tumour = None if masks is None else _nearest(masks.tumour, masks.geometry, points) > 0
    found: dict[str, float] = {}
    for name, volume in volumes.items():
        values = _nearest(volume.voxels, volume.geometry, points)
        known = np.isfinite(values)
        if not known.any():
            continue
        p1, p25, median, p75, p99 = np.percentile(values[known], [1, 25, 50, 75, 99])
        found |= {f"{name}.median": float(median), f"{name}.iqr": float(p75 - p25)}
        if median > 0:
            found |= {f"{name}.bright": float(p99 / median), f"{name}.dark": float(p1 / median)}
        if tumour is not None and (known & tumour).sum() >= _FEWEST_IN_TUMOUR and (known & ~tumour).any():
            inside, outside = np.median(values[known & tumour]), np.median(values[known & ~tumour])
            if outside > 0:
                found[f"{name}.tumour_contrast"] = float(inside / outside)
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def _lattice(window: Geometry) -> Floats:
    """(N, 3) indices in x, y, z order, evenly over the window."""
    lines = [
        np.linspace(0, length - 1, min(length, most))
        for length, most in zip(window.shape, _MOST, strict=True)
    ]
    z, y, x = np.meshgrid(*lines, indexing="ij")
    return np.stack([x, y, z], axis=-1).reshape(-1, 3)


def _nearest(voxels: np.ndarray, grid: Geometry, points: Floats) -> Floats:
    """(N,) float64 values at the voxels nearest to points (N, 3) in LPS mm; nan outside of the grid."""
    index = np.rint(grid.to_index(points)).astype(np.int64)
    shape = np.array(grid.shape[::-1])
    inside = ((index >= 0) & (index < shape)).all(axis=1)
    i, j, k = np.clip(index, 0, shape - 1).T
    return np.where(inside, voxels[k, j, i].astype(np.float64), np.nan)
