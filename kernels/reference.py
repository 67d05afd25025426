"""The reference of every voxel operation: NumPy, float64, written to be read, not to be fast.

Axes (Z, Y, X); affines map index (x, y, z, 1) to LPS mm. Non-finite input is a ValueError everywhere.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.kernels.sampling import (
    SPLINE_PAD,
    Floats,
    Interpolation,
    Order,
    Shape,
    axis_index,
    centres,
    checked,
    gaussian,
    index_map,
    inside,
    smoothing_sigmas,
)


def resample(
    voxels: ArrayLike,
    affine: ArrayLike,
    target_affine: ArrayLike,
    target_shape: Shape,
    *,
    anti_alias: bool = True,
    interpolation: Interpolation = "linear",
    fill: float = 0.0,
) -> NDArray[np.float32]:
    """Source voxels (Z, Y, X) on another grid, (Z, Y, X) float32.

    anti_alias: a Gaussian along each source axis on which the target is coarser (see `smoothing_sigmas`),
    edge voxels repeated. linear: clamped within the outer half voxel. bspline: cubic, through the voxels,
    edge voxels repeated, clipped to the source's range. fill: outside the source's voxels.
    """
    checked(voxels, 3)
    source = np.asarray(voxels, dtype=np.float64)
    mapping = index_map(affine, target_affine)
    low, high = source.min(), source.max()
    if anti_alias:
        for axis, sigma in zip((2, 1, 0), smoothing_sigmas(affine, target_affine), strict=True):
            source = _smooth(source, axis, sigma)
    index = [axis_index(row, target_shape) for row in mapping[[2, 1, 0]]]
    if interpolation == "linear":
        values = _linear(source, index)
    else:
        values = np.clip(_cubic(source, index), low, high)
    shape = (source.shape[0], source.shape[1], source.shape[2])
    return np.where(inside(mapping, shape, target_shape), values, fill).astype(np.float32)


def resize(voxels: ArrayLike, shape: Shape, order: Order) -> NDArray[np.float32]:
    """The same field of view in another number of voxels (Z, Y, X), float32; no smoothing.

    A spline of that order through the voxels, edge voxels repeated, clipped to the source's range: what
    skimage.transform.resize does with mode "edge" and without anti-aliasing.
    """
    checked(voxels, 3)
    return _resized(np.asarray(voxels, dtype=np.float64), shape, order).astype(np.float32)


def resize_slices(
    voxels: ArrayLike, shape: Shape, axis: int, order: Order, order_along: Order
) -> NDArray[np.float32]:
    """`resize` for slices far apart: each slice across `axis` by itself, clipped to its own range, then
    along `axis` with a spline of another order, not clipped."""
    checked(voxels, 3)
    slices = np.moveaxis(np.asarray(voxels, dtype=np.float64), axis, 0)
    count, *in_plane = [shape[axis], *np.delete(shape, axis).tolist()]
    flat = np.stack([_resized(one[None], (1, in_plane[0], in_plane[1]), order)[0] for one in slices])
    lines = [centres(len(flat), count), *(np.arange(n, dtype=np.float64) for n in in_plane)]
    values = _SPLINES[order_along](flat, list(np.meshgrid(*lines, indexing="ij")))
    return np.moveaxis(values, 0, axis).astype(np.float32)


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """mask (Z, Y, X) with all that it encloses: what cannot be reached from outside face by face."""
    closed = np.pad(mask, 1)
    outside = np.zeros_like(closed)
    outside[0, 0, 0] = True
    grown = 0
    while grown != (grown := int(outside.sum())):
        for axis, step in itertools.product(range(3), (-1, 1)):
            outside |= np.roll(outside, step, axis) & ~closed  # what wraps round is outside on either end
    return np.asarray(~outside[1:-1, 1:-1, 1:-1])


def percentiles(voxels: ArrayLike, lower: float, upper: float, foreground: float) -> tuple[float, float]:
    """The lower and upper percentile (0..100) of the foreground of voxels, any shape.

    Foreground: voxels above `foreground` times the mean of the positive ones. Percentiles are interpolated
    linearly between order statistics. (0, 0) when nothing is positive.
    """
    values = np.asarray(voxels, dtype=np.float64).ravel()
    if not np.isfinite(values).all():
        raise ValueError("the array holds values that are not finite")
    positive = values[values > 0]
    if positive.size == 0:
        return 0.0, 0.0
    ordered = np.sort(values[values > foreground * positive.mean()])
    if ordered.size == 0:
        return 0.0, 0.0
    place = np.array([lower, upper]) / 100 * (ordered.size - 1)
    low, high = np.interp(place, np.arange(ordered.size), ordered)
    return float(low), float(high)


def labels_on_grid(
    logits: ArrayLike, affine: ArrayLike, target_affine: ArrayLike, target_shape: Shape, slab: int = 4
) -> NDArray[np.uint8]:
    """logits (K, Z, Y, X) → (Z, Y, X) uint8 on another grid: the class whose linearly interpolated logit is
    largest, the lowest such class on a tie, 0 outside the source's voxels. slab: slices at a time."""
    checked(logits, 4)
    classes = np.asarray(logits, dtype=np.float64)
    if classes.shape[0] > 256:
        raise ValueError(f"{classes.shape[0]} classes do not fit in uint8")
    mapping = index_map(affine, target_affine)
    shape = (classes.shape[1], classes.shape[2], classes.shape[3])
    labels = np.zeros(target_shape, dtype=np.uint8)
    for start in range(0, target_shape[0], slab):
        offset = np.eye(4)
        offset[2, 3] = start
        part = (min(slab, target_shape[0] - start), target_shape[1], target_shape[2])
        here = mapping @ offset
        index = [axis_index(row, part) for row in here[[2, 1, 0]]]
        winner = np.argmax([_linear(one, index) for one in classes], axis=0)
        labels[start : start + part[0]] = np.where(inside(here, shape, part), winner, 0)
    return labels


def _resized(source: Floats, shape: Shape, order: Order) -> Floats:
    lines = [centres(length, count) for length, count in zip(source.shape, shape, strict=True)]
    values = _SPLINES[order](source, list(np.meshgrid(*lines, indexing="ij")))
    return np.asarray(np.clip(values, source.min(), source.max()))


def _smooth(source: Floats, axis: int, sigma: float) -> Floats:
    """Convolve one axis with a sampled Gaussian, edge voxels repeated."""
    weights = gaussian(sigma)
    radius = len(weights) // 2
    length = source.shape[axis]
    result = np.zeros_like(source)
    for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
        result += weight * source.take(np.clip(np.arange(length) + offset, 0, length - 1), axis=axis)
    return result


def _nearest(source: Floats, index: list[Floats]) -> Floats:
    """Sample at the nearest voxel, the higher one halfway."""
    z, y, x = (
        np.clip(np.floor(i + 0.5), 0, n - 1).astype(int) for i, n in zip(index, source.shape, strict=True)
    )
    return np.asarray(source[z, y, x])


def _linear(source: Floats, index: list[Floats]) -> Floats:
    """Sample at fractional (z, y, x) indices, clamped to the outermost voxel centres."""
    base, fraction = [], []
    for position, length in zip(index, source.shape, strict=True):
        clamped = np.clip(position, 0, length - 1)
        floor = np.minimum(np.floor(clamped), max(length - 2, 0)).astype(int)
        base.append(floor)
        fraction.append(clamped - floor)
    result = np.zeros(index[0].shape)
    for corner in itertools.product((0, 1), repeat=3):
        weight = np.ones(index[0].shape)
        for step, part in zip(corner, fraction, strict=True):
            weight *= part if step else 1 - part
        z, y, x = (np.minimum(b + s, n - 1) for b, s, n in zip(base, corner, source.shape, strict=True))
        result += weight * source[z, y, x]
    return result


def _cubic(source: Floats, index: list[Floats]) -> Floats:
    """Cubic B-spline through the voxels, sampled at fractional (z, y, x) indices."""
    coefficients: Floats = np.pad(source, SPLINE_PAD, mode="edge")
    for axis in range(3):
        system = spline_system(coefficients.shape[axis])
        front = np.moveaxis(coefficients, axis, 0)
        solved = np.linalg.solve(system, front.reshape(len(system), -1)).reshape(front.shape)
        coefficients = np.asarray(np.moveaxis(solved, 0, axis), dtype=np.float64)
    padded = [np.clip(i, -0.5, n - 0.5) + SPLINE_PAD for i, n in zip(index, source.shape, strict=True)]
    base = [np.floor(position).astype(int) for position in padded]
    result = np.zeros(index[0].shape)
    for corner in itertools.product((-1, 0, 1, 2), repeat=3):
        weight = np.ones(index[0].shape)
        for step, floor, position in zip(corner, base, padded, strict=True):
            weight *= cubic_weight(position - floor - step)
        z, y, x = (b + s for b, s in zip(base, corner, strict=True))
        result += weight * coefficients[z, y, x]
    return result


_SPLINES = {0: _nearest, 1: _linear, 3: _cubic}


def cubic_weight(distance: Floats) -> Floats:
    """The cubic B-spline at a distance in voxels."""
    d = np.abs(distance)
    return np.asarray(
        np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, np.maximum(2 - d, 0) ** 3 / 6, 0.0))
    )


def spline_system(length: int) -> Floats:
    """(n, n): B-spline coefficients → samples, mirrored about the outermost voxels."""
    system = np.diag(np.full(length, 2 / 3))
    for i in range(length):
        for neighbour in (i - 1, i + 1):
            mirrored = abs(neighbour) if neighbour < length else 2 * (length - 1) - neighbour
            system[i, mirrored] += 1 / 6
    return system
