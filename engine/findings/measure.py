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

from npc_edge.engine.findings.boxes import bounding_box
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
    parts = _even_parts(field.pixel[0]), _even_parts(field.pixel[1])
    fine = field.pixel[0] / parts[0], field.pixel[1] / parts[1]
    depths = largest_discs(overlap, fine, parts) if count else np.zeros(len(overlap))
    fits = fitting_probability(probability, limits.depth_mm, fine, parts)
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


def largest_discs(
    mask: NDArray[np.bool_], pixel: tuple[float, float], parts: tuple[int, int] = (1, 1)
) -> NDArray[np.float64]:
    """mask (Z, Y, X) → (Z,) diameter in mm of the largest disc inside it on each slice.

    parts (y, x): how many pixels each entry of the mask stands for in a row, of the size `pixel` (y, x) mm.
    Twice the largest distance from a pixel centre inside to the nearest one outside, exactly (no chamfer);
    what lies beyond the array is outside.
    """
    padded = np.pad(mask.repeat(parts[1], axis=2), ((0, 0), (1, 1), (1, 1)))
    along = _distance_along_x(padded) * pixel[1]
    squared = np.minimum(along, _DEEPEST_MM / 2).astype(np.float32) ** 2
    # Pixels that an entry stands for differ in how far it is to the entries above and below, in nothing else.
    best = np.max([_least_squared(squared, pixel[0], parts[0], part) for part in range(parts[0])], axis=0)
    return np.asarray(2 * np.sqrt(best.astype(np.float64)))


def _least_squared(
    squared: NDArray[np.float32], pixel_mm: float, parts: int, part: int
) -> NDArray[np.float32]:
    """(Z,) the largest squared distance to what is outside, of the pixels that are `part` of their entry.

    squared (Z, Y, X): along X. An entry n rows further down begins n * parts - part pixels away; one as far
    up ends as many away from the other end of this one.
    """
    best = squared.copy()
    for row in range(1, squared.shape[1]):
        down, up = row * parts - part, row * parts - (parts - 1 - part)
        if (min(down, up) * pixel_mm) ** 2 >= float(best.max()):
            break
        np.minimum(best[:, :-row], squared[:, row:] + (down * pixel_mm) ** 2, out=best[:, :-row])
        np.minimum(best[:, row:], squared[:, :-row] + (up * pixel_mm) ** 2, out=best[:, row:])
    return np.asarray(best.max(axis=(1, 2)))


def fitting_probability(
    probability: NDArray[np.float32],
    diameter_mm: float,
    pixel: tuple[float, float],
    parts: tuple[int, int] = (1, 1),
) -> NDArray[np.float64]:
    """probability (Z, Y, X) → (Z,) the highest p for which a disc fits into {probability >= p} on a slice.

    parts, pixel: as in `largest_discs`. A grey-scale erosion by the disc, whose maximum it is. The disc holds
    the pixels whose centres lie strictly within its radius, so it fits exactly where `largest_discs` says at
    least diameter_mm.
    """
    radius = diameter_mm / 2 - 1e-6
    reach_y, reach_x = int(radius // pixel[0]), int(radius // pixel[1])
    disc = [
        (dy, dx)
        for dy in range(-reach_y, reach_y + 1)
        for dx in range(-reach_x, reach_x + 1)
        if (dy * pixel[0]) ** 2 + (dx * pixel[1]) ** 2 < radius**2
    ]
    # The disc around each of the pixels that an entry stands for covers some entries around it.
    covers = {
        frozenset(((y + dy) // parts[0], (x + dx) // parts[1]) for dy, dx in disc)
        for y in range(parts[0])
        for x in range(parts[1])
    }
    reach = -(-reach_y // parts[0]), -(-reach_x // parts[1])
    padded = np.pad(probability, ((0, 0), (reach[0], reach[0]), (reach[1], reach[1])))
    fits = [_least(padded, probability.shape, reach, cover).max(axis=(1, 2)) for cover in covers]
    return np.asarray(np.max(fits, axis=0), dtype=np.float64)


def _least(
    padded: NDArray[np.float32],
    shape: tuple[int, ...],
    reach: tuple[int, int],
    cover: frozenset[tuple[int, int]],
) -> NDArray[np.float32]:
    """(Z, Y, X) the least of the entries that lie around each one as `cover` (y, x) says."""
    _, rows, columns = shape
    views = [
        padded[:, reach[0] + dy : reach[0] + dy + rows, reach[1] + dx : reach[1] + dx + columns]
        for dy, dx in sorted(cover)
    ]
    least = views[0].copy()
    for view in views[1:]:
        np.minimum(least, view, out=least)
    return least


def on_neighbours(values: NDArray[np.float64], slices: int) -> float:
    """The highest value that `slices` neighbouring entries of (Z,) all reach; 0 when there are fewer."""
    if len(values) < slices:
        return 0.0
    return float(np.lib.stride_tricks.sliding_window_view(values, slices).min(axis=1).max())


def _even_parts(pixel_mm: float) -> int:
    """Parts a pixel is cut in: even, so that a strip n pixels wide measures n pixels, not one part more."""
    return max(2, 2 * int(np.ceil(pixel_mm / _FINE_MM / 2)))


def _distance_along_x(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pixels to the nearest False along X, 0 at a False; every row starts and ends with one."""
    index = np.arange(mask.shape[2])
    before = np.maximum.accumulate(np.where(mask, 0, index), axis=2)
    after = np.minimum.accumulate(np.where(mask, index[-1], index)[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.minimum(index - before, after - index).astype(np.float64)
