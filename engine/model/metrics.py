"""How far two outputs or two masks lie apart: relative error, Dice, surface distances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Overlap:
    """Two masks: Dice 0..1, 95th percentile Hausdorff and average symmetric surface distance in mm.

    Two empty masks agree (1, 0, 0); an empty and a full one could not be further apart (0, inf, inf).
    """

    dice: float
    hd95_mm: float
    assd_mm: float


def relative_error(values: ArrayLike, expected: ArrayLike) -> float:
    """Largest difference over the largest expected magnitude; inf when a value is not finite (asked first:
    no comparison with NaN is true) or the shapes differ."""
    a, b = np.asarray(values, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != b.shape or not np.isfinite(a).all() or not np.isfinite(b).all():
        return math.inf
    if a.size == 0:
        return 0.0
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6))


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """2 |a and b| / (|a| + |b|) of two masks of one shape; 1 when both are empty."""
    first, second = np.asarray(a, dtype=np.bool_), np.asarray(b, dtype=np.bool_)
    total = int(first.sum()) + int(second.sum())
    return 1.0 if total == 0 else 2 * int((first & second).sum()) / total


def mean_dice(labels: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    """Mean Dice over the labels above 0 that either holds; 1 when neither holds any."""
    present = sorted(set(np.unique(labels).tolist()) | set(np.unique(expected).tolist()) - {0})
    scores = [dice(labels == k, expected == k) for k in present if k != 0]
    return float(np.mean(scores)) if scores else 1.0


def overlap(a: ArrayLike, b: ArrayLike, spacing: tuple[float, float, float]) -> Overlap:
    """Compare two masks (Z, Y, X) with spacing (x, y, z) mm.

    hd95: the larger of the two directed 95th percentiles. assd: the mean over the voxels of both surfaces of
    the distance to the other surface. A surface voxel has a face neighbour outside the mask.
    """
    first, second = np.asarray(a, dtype=np.bool_), np.asarray(b, dtype=np.bool_)
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"two masks of one shape (Z, Y, X) are wanted, not {first.shape} and {second.shape}")
    if not first.any() or not second.any():
        same = first.any() == second.any()
        return Overlap(1.0, 0.0, 0.0) if same else Overlap(0.0, math.inf, math.inf)
    score = dice(first, second)
    box = _bounding_box(first | second)
    edges = [_surface(mask[box]) for mask in (first, second)]
    there = _distance_to(edges[1], spacing)[edges[0]]
    back = _distance_to(edges[0], spacing)[edges[1]]
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return Overlap(score, hd95, float((there.sum() + back.sum()) / (there.size + back.size)))


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    where = [np.flatnonzero(mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(int(w[0]), int(w[-1]) + 1) for w in where)


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    core = (slice(1, -1),) * 3
    inner = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis=axis)[core]
    return mask & ~inner


def _distance_to(surface: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """(Z, Y, X) mm to the nearest surface voxel's centre, 0 on the surface."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(surface.astype(np.uint8))
    image.SetSpacing(spacing)  # type: ignore[no-untyped-call]
    distance = sitk.SignedMaurerDistanceMap(  # type: ignore[no-untyped-call]
        image, squaredDistance=False, useImageSpacing=True
    )
    return np.asarray(np.maximum(sitk.GetArrayFromImage(distance), 0), dtype=np.float32)
