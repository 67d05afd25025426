"""The fast CPU path of the voxel operations. Same functions, same meaning as `reference`, in float32.

Grids whose axes run along each other (most studies) are resampled one axis at a time: smoothing and
interpolation are one small matrix per axis, and a matrix product is what a CPU does best. Tilted grids are
smoothed the same way and interpolated by SimpleITK. Only the part of either grid that the other reaches is
touched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.kernels.cells import Cells
from npc_edge.kernels.reference import cubic_weight, spline_system
from npc_edge.kernels.sampling import (
    SPLINE_PAD,
    Floats,
    Interpolation,
    Shape,
    checked,
    gaussian,
    gaussian_radius,
    index_map,
    inside,
    reached,
    shifted,
    smoothing_sigmas,
)
from npc_edge.kernels.threads import on_cores, one_blas_thread, slabs

_STRAIGHT = 1e-4
"""Source voxels that a grid may drift sideways over its whole length and still count as aligned."""

_BLOCK = 64
"""Voxels smoothed at a time along an axis."""

_ROWS = 32
"""Rows of a band matrix multiplied at a time."""

_ONE_GO = 256
"""A BLAS adds up products of longer rows in parts, whose bounds then are others for a piece of the row."""


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
    """Source voxels (Z, Y, X) on another grid, (Z, Y, X) float32; see `reference.resample`."""
    checked(voxels, 3)
    source = np.asarray(voxels, dtype=np.float32)
    shape = (source.shape[0], source.shape[1], source.shape[2])
    mapping = index_map(affine, target_affine)
    result = np.full(target_shape, fill, dtype=np.float32)
    box = reached(mapping, shape, target_shape)
    if box is None:
        return result
    here = shifted(mapping, box)
    part = result[box]
    sigmas = smoothing_sigmas(affine, target_affine) if anti_alias else (0.0, 0.0, 0.0)
    axes = _aligned(here, part.shape)
    with one_blas_thread():
        if axes is None:
            values = _tilted(source, here, part.shape, sigmas, interpolation)
        else:
            values = _straight(source, here, part.shape, (axes, sigmas), interpolation)
    if interpolation == "bspline":
        np.clip(values, source.min(), source.max(), out=values)
    np.copyto(part, values, where=inside(here, shape, (part.shape[0], part.shape[1], part.shape[2])))
    return result


def percentiles(voxels: ArrayLike, lower: float, upper: float, foreground: float) -> tuple[float, float]:
    """The lower and upper percentile of the foreground of voxels; see `reference.percentiles`."""
    values = np.asarray(voxels, dtype=np.float32).ravel()
    if not np.isfinite(values).all():
        raise ValueError("the array holds values that are not finite")
    positive = values > 0
    count = int(np.count_nonzero(positive))
    if count == 0:
        return 0.0, 0.0
    mean = float(np.sum(values, where=positive, dtype=np.float64)) / count
    chosen = values[values > np.float32(foreground * mean)]
    if chosen.size == 0:
        return 0.0, 0.0
    place = np.array([lower, upper]) / 100 * (chosen.size - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, chosen.size - 1)
    chosen.partition(sorted({*below.tolist(), *above.tolist()}))
    start, end = chosen[below].astype(np.float64), chosen[above].astype(np.float64)
    low, high = start + (end - start) * (place - below)
    return float(low), float(high)


def labels_on_grid(
    logits: ArrayLike, affine: ArrayLike, target_affine: ArrayLike, target_shape: Shape, slab: int = 4
) -> NDArray[np.uint8]:
    """logits (K, Z, Y, X) → (Z, Y, X) uint8 labels on another grid; see `reference.labels_on_grid`.

    A class that wins at all eight corners of a cell wins everywhere in it, because the weights of linear
    interpolation are positive and sum to 1. So only cells with mixed corners are interpolated.
    """
    checked(logits, 4)
    classes = np.asarray(logits, dtype=np.float32)
    if classes.shape[0] > 256:
        raise ValueError(f"{classes.shape[0]} classes do not fit in uint8")
    shape = (classes.shape[1], classes.shape[2], classes.shape[3])
    result = np.zeros(target_shape, dtype=np.uint8)
    mapping = index_map(affine, target_affine)
    box = reached(mapping, shape, target_shape)
    if box is None:
        return result
    cells, (along, *across) = Cells(classes), box

    def fill(levels: slice) -> None:
        part = (levels, across[0], across[1])
        view = result[part]
        view[...] = cells.labels(shifted(mapping, part), (view.shape[0], view.shape[1], view.shape[2]))

    on_cores(fill, slabs(along.stop - along.start, slab, along.start))
    return result


def _aligned(mapping: Floats, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """For source axes x, y, z the target axis (0 x, 1 y, 2 z) that runs along each; None when tilted."""
    drift = np.abs(mapping[:3, :3]) * (np.array(shape[::-1]) - 1)
    axes = np.abs(mapping[:3, :3]).argmax(axis=1)
    if len(set(axes.tolist())) != 3:
        return None
    sideways = drift.copy()
    sideways[np.arange(3), axes] = 0
    if sideways.sum(axis=1).max() > _STRAIGHT:
        return None
    x, y, z = axes.tolist()
    return x, y, z


def _straight(
    source: NDArray[np.float32],
    mapping: Floats,
    shape: tuple[int, ...],
    plan: tuple[tuple[int, int, int], tuple[float, float, float]],
    interpolation: Interpolation,
) -> NDArray[np.float32]:
    """Aligned grids: one matrix per axis. plan: the target axis and the sigma of source x, y, z."""
    axes, sigmas = plan
    matrices: dict[int, Floats] = {}
    crop: list[slice] = [slice(None)] * 3
    for axis in range(3):  # array axis: 0 z, 1 y, 2 x
        world = 2 - axis
        row, along = mapping[world], axes[world]
        positions = row[along] * np.arange(shape[2 - along]) + row[3]
        matrix = axis_matrix(positions, source.shape[axis], sigmas[world], interpolation)
        used = np.flatnonzero(np.abs(matrix).max(axis=0) > 1e-9)
        crop[axis] = slice(int(used[0]), int(used[-1]) + 1)
        matrices[axis] = matrix[:, crop[axis]]
    values = source[tuple(crop)]
    # The axis that shrinks most goes first: less is left for the others.
    for axis in sorted(range(3), key=lambda a: matrices[a].shape[0] / matrices[a].shape[1]):
        values = apply_along(matrices[axis].astype(np.float32), values, axis)
    order = [2 - axes.index(2 - target) for target in range(3)]
    return np.ascontiguousarray(values.transpose(order))


def apply_along(matrix: NDArray[np.float32], values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """matrix (m, n) along one axis of length n.

    Of a matrix that is a narrow band only the band is multiplied, some rows at a time: what is left out is
    zero, so each result is the same sum, and the same bits as long as the BLAS adds up n numbers in one go.
    """
    bands = _bands(matrix) if matrix.shape[1] <= _ONE_GO else []
    if not bands:
        return _product(matrix, values, axis)
    before = (slice(None),) * axis
    shape = (*values.shape[:axis], len(matrix), *values.shape[axis + 1 :])
    result = np.empty(shape, dtype=np.float32)
    for rows, columns in bands:
        result[(*before, rows)] = _product(matrix[rows, columns], values[(*before, columns)], axis)
    return result


def _bands(matrix: NDArray[np.float32]) -> list[tuple[slice, slice]]:
    """Some rows of a matrix at a time, and the columns that they use; none when that saves little."""
    bands = []
    for rows in slabs(len(matrix), _ROWS):
        used = np.flatnonzero(matrix[rows].any(axis=0))
        if not used.size:
            return []
        bands.append((rows, slice(int(used[0]), int(used[-1]) + 1)))
    area = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in bands)
    return bands if area <= matrix.size / 3 else []


def _product(matrix: NDArray[np.float32], values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    if axis == 2:
        return np.asarray(np.ascontiguousarray(values) @ matrix.T)
    if axis == 1:
        return np.asarray(np.matmul(matrix, values))
    flat = np.ascontiguousarray(values).reshape(values.shape[0], -1)
    return np.asarray(matrix @ flat).reshape(matrix.shape[0], *values.shape[1:])


def axis_matrix(positions: Floats, length: int, sigma: float, interpolation: Interpolation) -> Floats:
    """(m, n): n source voxels → samples at m fractional positions, smoothed first; edge voxels repeated."""
    rows = np.arange(len(positions))
    if interpolation == "linear":
        sampling = np.zeros((len(positions), length))
        clamped = np.clip(positions, 0, length - 1)
        floor = np.minimum(np.floor(clamped), max(length - 2, 0)).astype(int)
        np.add.at(sampling, (rows, floor), 1 - (clamped - floor))
        np.add.at(sampling, (rows, np.minimum(floor + 1, length - 1)), clamped - floor)
    else:
        padded = length + 2 * SPLINE_PAD
        basis: Floats = np.zeros((len(positions), padded))
        place = np.clip(positions, -0.5, length - 0.5) + SPLINE_PAD
        floor = np.floor(place).astype(int)
        for step in (-1, 0, 1, 2):
            basis[rows, floor + step] += cubic_weight(place - floor - step)
        spline = np.asarray(np.linalg.solve(spline_system(padded).T, basis.T), dtype=np.float64).T
        sampling = spline[:, SPLINE_PAD:-SPLINE_PAD].copy()
        sampling[:, 0] += spline[:, :SPLINE_PAD].sum(axis=1)
        sampling[:, -1] += spline[:, -SPLINE_PAD:].sum(axis=1)
    return sampling if sigma == 0 else sampling @ _smoothing_matrix(length, sigma)


def _smooth(values: NDArray[np.float32], axis: int, sigma: float) -> NDArray[np.float32]:
    """A Gaussian along one axis, in blocks: its matrix is a narrow band, and most of it zero."""
    matrix = _smoothing_matrix(values.shape[axis], sigma).astype(np.float32)
    length, radius = len(matrix), gaussian_radius(sigma)
    result = np.empty(values.shape, dtype=np.float32)
    for start in range(0, length, _BLOCK):
        rows = slice(start, min(start + _BLOCK, length))
        columns = slice(max(start - radius, 0), min(rows.stop + radius, length))
        taken = values[(slice(None),) * axis + (columns,)]
        result[(slice(None),) * axis + (rows,)] = apply_along(matrix[rows, columns], taken, axis)
    return result


def _smoothing_matrix(length: int, sigma: float) -> Floats:
    """(n, n): a Gaussian with edge voxels repeated."""
    weights, radius = gaussian(sigma), gaussian_radius(sigma)
    matrix = np.zeros((length, length))
    rows = np.arange(length)
    for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
        np.add.at(matrix, (rows, np.clip(rows + offset, 0, length - 1)), weight)
    return matrix


def _tilted(
    source: NDArray[np.float32],
    mapping: Floats,
    shape: tuple[int, ...],
    sigmas: tuple[float, float, float],
    interpolation: Interpolation,
) -> NDArray[np.float32]:
    """Any affine: smooth the part of the source that matters, then let SimpleITK interpolate."""
    import SimpleITK as sitk

    ends = np.array(np.meshgrid(*[(0, n - 1) for n in reversed(shape)], indexing="ij")).reshape(3, -1)
    index = mapping[:3, :3] @ ends + mapping[:3, 3:]
    reach = 2 if interpolation == "linear" else SPLINE_PAD + 2
    crop, pad, start = [], [], []
    for world in (2, 1, 0):
        length = source.shape[2 - world]
        margin = reach + gaussian_radius(sigmas[world])
        low, high = int(np.floor(index[world].min())) - margin, int(np.ceil(index[world].max())) + margin + 1
        # Repeated edge voxels stand in for what lies beyond: two beside a point are all that linear needs.
        low, high = min(max(low, -reach), length - 1), max(min(high, length + reach), 1)
        crop.append(slice(max(low, 0), min(high, length)))
        pad.append((max(-low, 0), max(high - length, 0)))
        start.append(low)
    values = source[tuple(crop)]
    for axis, sigma in zip((2, 1, 0), sigmas, strict=True):
        if sigma > 0:
            values = _smooth(values, axis, sigma)
    image = sitk.GetImageFromArray(np.pad(values, pad, mode="edge"))
    transform = sitk.AffineTransform(3)  # type: ignore[no-untyped-call]
    transform.SetMatrix(mapping[:3, :3].ravel().tolist())  # type: ignore[no-untyped-call]
    transform.SetTranslation((mapping[:3, 3] - start[::-1]).tolist())  # type: ignore[no-untyped-call]
    kind = sitk.sitkLinear if interpolation == "linear" else sitk.sitkBSpline
    size = [int(n) for n in reversed(shape)]
    moved = sitk.Resample(
        image,
        size,
        transform,
        kind,
        (0.0,) * 3,
        (1.0,) * 3,
        np.eye(3).ravel().tolist(),
        0.0,
        sitk.sitkFloat32,
    )
    return np.asarray(sitk.GetArrayFromImage(moved), dtype=np.float32)
