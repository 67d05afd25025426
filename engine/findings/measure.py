"""How deep, on how many slices and how surely a tumour lies in a region.

Depth is in plane: the diameter of the largest disc that fits into the overlap of tumour and region on one
slice. A disc has no direction, so a turned head measures the same, and a seam of 1 mm along a border of 30
is 1 mm deep. Between slices nothing is interpolated: through a 5 mm slice one voxel is partial volume.

Support is the same question the other way round: the highest probability p at which the voxels of
probability >= p still hold a disc of the depth asked for, on the number of neighbouring slices asked for.
One number then answers every threshold of a sweep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.findings.masks import bounding_box
from npc_edge.engine.findings.rules import Limits

_FINE_MM = 0.3  # discs are fitted on pixels no larger than this
_DEEPEST_MM = 30.0  # depths beyond this are reported as this


@dataclass(frozen=True, eq=False)
class Field:
    """The tumour around which everything is measured, cropped.

    probability (Z, Y, X) float32, 0 in what is no primary tumour; mask (Z, Y, X) bool at the bundle's
    threshold; pixel (y, x) mm; voxel_mm3; first_slice: index of the crop's slice 0 in the volume;
    threshold: the bundle's, at which the mask was made.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    pixel: tuple[float, float]
    voxel_mm3: float
    first_slice: int
    threshold: float


@dataclass(frozen=True)
class Overlap:
    """Tumour in a region. depth_mm: the deepest slice. slices: those as deep as asked. probability: the
    90th percentile in the overlap. support: see the module; core: the same on the slices a core needs.
    source_slice: where it is deepest."""

    overlap_mm3: float
    depth_mm: float
    slices: int
    probability: float
    support: float
    core: float
    source_slice: int


def measure(field: Field, region: NDArray[np.bool_], limits: Limits) -> Overlap | None:
    """The tumour's overlap with a region (Z, Y, X) bool on the field's crop; None where there is none."""
    inside = region & (field.probability > 0)
    box = bounding_box(inside)
    if box is None:
        return None
    probability = np.where(inside[box], field.probability[box], np.float32(0))
    overlap = inside[box] & field.mask[box]
    count = int(overlap.sum())
    steps = _even_steps(field.pixel[0]), _even_steps(field.pixel[1])
    fine = field.pixel[0] / steps[0], field.pixel[1] / steps[1]
    depths = largest_discs(_finer(overlap, steps), fine) if count else np.zeros(len(overlap))
    fits = fitting_probability(_finer(probability, steps), limits.depth_mm, fine)
    # Among slices equally deep the one with the most tumour is the one to look at.
    best = int(np.lexsort((overlap.sum(axis=(1, 2)), depths))[-1])
    return Overlap(
        overlap_mm3=count * field.voxel_mm3,
        depth_mm=float(depths.max()),
        slices=int((depths >= limits.depth_mm - 1e-6).sum()),
        probability=float(np.percentile(probability[overlap], 90)) if count else 0.0,
        support=on_neighbours(fits, limits.slices),
        core=on_neighbours(fits, limits.core_slices),
        source_slice=field.first_slice + box[0].start + best,
    )


def largest_discs(mask: NDArray[np.bool_], pixel: tuple[float, float]) -> NDArray[np.float64]:
    """mask (Z, Y, X) → (Z,) diameter in mm of the largest disc inside it on each slice; pixel (y, x) mm.

    Twice the largest distance from a pixel centre inside to the nearest one outside, exactly (no chamfer);
    what lies beyond the array is outside.
    """
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    along = _distance_along_x(padded) * pixel[1]
    squared = np.minimum(along, _DEEPEST_MM / 2).astype(np.float32) ** 2
    best = squared.copy()
    for step in range(1, padded.shape[1]):
        away = (step * pixel[0]) ** 2
        if away >= float(best.max()):
            break
        np.minimum(best[:, step:], squared[:, :-step] + away, out=best[:, step:])
        np.minimum(best[:, :-step], squared[:, step:] + away, out=best[:, :-step])
    return np.asarray(2 * np.sqrt(best.max(axis=(1, 2)).astype(np.float64)))


def fitting_probability(
    probability: NDArray[np.float32], diameter_mm: float, pixel: tuple[float, float]
) -> NDArray[np.float64]:
    """probability (Z, Y, X) → (Z,) the highest p for which a disc fits into {probability >= p} on a slice.

    A grey-scale erosion by the disc, whose maximum it is. The disc holds the pixels whose centres lie
    strictly within its radius, so it fits exactly where `largest_discs` says at least diameter_mm.
    """
    radius = diameter_mm / 2 - 1e-6
    reach_y, reach_x = int(radius // pixel[0]), int(radius // pixel[1])
    padded = np.pad(probability, ((0, 0), (reach_y, reach_y), (reach_x, reach_x)))
    rows, columns = probability.shape[1:]
    least = probability
    for dy in range(-reach_y, reach_y + 1):
        for dx in range(-reach_x, reach_x + 1):
            if (dy or dx) and (dy * pixel[0]) ** 2 + (dx * pixel[1]) ** 2 < radius**2:
                y, x = reach_y + dy, reach_x + dx
                least = np.minimum(least, padded[:, y : y + rows, x : x + columns])
    return np.asarray(least.max(axis=(1, 2)), dtype=np.float64)


def on_neighbours(values: NDArray[np.float64], slices: int) -> float:
    """The highest value that `slices` neighbouring entries of (Z,) all reach; 0 when there are fewer."""
    if len(values) < slices:
        return 0.0
    return float(np.lib.stride_tricks.sliding_window_view(values, slices).min(axis=1).max())


def _even_steps(pixel_mm: float) -> int:
    """Parts a pixel is cut in: even, so that a strip n pixels wide measures n pixels, not one part more."""
    return max(2, 2 * int(np.ceil(pixel_mm / _FINE_MM / 2)))


def _finer(array: NDArray, steps: tuple[int, int]) -> NDArray:  # type: ignore[type-arg]
    return array.repeat(steps[0], axis=1).repeat(steps[1], axis=2)


def _distance_along_x(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pixels to the nearest False along X, 0 at a False; every row starts and ends with one."""
    index = np.arange(mask.shape[2])
    before = np.maximum.accumulate(np.where(mask, 0, index), axis=2)
    after = np.minimum.accumulate(np.where(mask, index[-1], index)[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.minimum(index - before, after - index).astype(np.float64)
