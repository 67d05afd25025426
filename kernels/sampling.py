"""What every resampling path must agree on: which voxels are inside, and how much to smooth before shrinking.

Shared by the reference and the fast paths, so that they can differ in arithmetic only. Affines map index
(x, y, z, 1) to LPS mm; arrays are (Z, Y, X).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Shape = tuple[int, int, int]
Interpolation = Literal["linear", "bspline"]
Order = Literal[0, 1, 3]
"""Of a spline: nearest voxel, linear, cubic."""

EDGE = 1e-6
"""Voxels: rounding allowed when deciding whether a point is inside a grid."""

SPLINE_PAD = 12
"""Edge voxels repeated around a volume before its B-spline coefficients are taken: the influence of what lies
beyond decays by 0.268 a voxel, to 1e-7 here. scipy.ndimage's mode 'nearest' pads the same."""

_FWHM = 2 * math.sqrt(2 * math.log(2))


def index_map(affine: ArrayLike, target_affine: ArrayLike) -> Floats:
    """(4, 4): target index (x, y, z, 1) → source index (x, y, z, 1). ValueError for a singular affine."""
    source, target = np.asarray(affine, dtype=np.float64), np.asarray(target_affine, dtype=np.float64)
    if source.shape != (4, 4) or target.shape != (4, 4):
        raise ValueError("affines must be 4x4")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("affines must be finite")
    if min(abs(np.linalg.det(source[:3, :3])), abs(np.linalg.det(target[:3, :3]))) < 1e-12:
        raise ValueError("affine is singular")
    return np.asarray(np.linalg.inv(source) @ target)


def smoothing_sigmas(affine: ArrayLike, target_affine: ArrayLike) -> tuple[float, float, float]:
    """Gaussian sigma in source voxels along source x, y, z; 0 where the target is not coarser.

    A voxel of extent w is taken as a point spread of full width w at half maximum. The target's spread along
    a source axis u is sqrt(sum_b (w_b u·v_b)²) over the target's axes v_b; the Gaussian makes up the
    difference in quadrature (Cardoso et al., MICCAI 2015, doi:10.1007/978-3-319-24571-3_81).
    """
    source = np.asarray(affine, dtype=np.float64)[:3, :3]
    target = np.asarray(target_affine, dtype=np.float64)[:3, :3]
    spacing = np.linalg.norm(source, axis=0)
    extent2 = (((source / spacing).T @ target) ** 2).sum(axis=1)
    sigmas = np.sqrt(np.maximum(extent2 / spacing**2 - 1, 0)) / _FWHM
    # A hair of difference between two spacings is rounding in a header, not a change of resolution.
    x, y, z = (float(s) if s > 0.05 else 0.0 for s in sigmas)
    return x, y, z


def gaussian(sigma: float) -> Floats:
    """(2r+1,) weights of a sampled Gaussian cut at r = ceil(4 sigma), summing to 1; [1.0] for sigma 0."""
    radius = gaussian_radius(sigma)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def gaussian_radius(sigma: float) -> int:
    """Voxels the Gaussian reaches to each side."""
    return math.ceil(4 * sigma)


def centres(length: int, count: int) -> Floats:
    """(count,) positions in voxels of `length` of the centres of `count` that fill the same span."""
    return np.asarray(length / count * (np.arange(count) + 0.5) - 0.5)


def axis_index(row: Floats, shape: Shape) -> Floats:
    """One source coordinate of every target voxel: row (4,) of an index map → (Z, Y, X) float64."""
    z, y, x = (np.arange(n, dtype=np.float64) for n in shape)
    return np.asarray(((row[2] * z + row[3])[:, None, None] + (row[1] * y)[:, None]) + row[0] * x)


def thin_index(row: Floats, shape: Shape) -> Floats:
    """`axis_index`, the same to the bit, as an array that broadcasts to (Z, Y, X): of length 1 along an axis
    that the coordinate does not depend on, as grids that run along each other have two of three."""
    z, y, x = (np.arange(n, dtype=np.float64) for n in shape)
    index = np.full((1, 1, 1), row[3]) if row[2] == 0 else (row[2] * z + row[3])[:, None, None]
    if row[1] != 0:
        index = index + (row[1] * y)[:, None]
    return index if row[0] == 0 else np.asarray(index + row[0] * x)


def inside(mapping: Floats, source_shape: Shape, shape: Shape) -> NDArray[np.bool_]:
    """(Z, Y, X) bool: target voxel centres within the source's voxels, half a voxel beyond their centres."""
    result = np.ones(shape, dtype=np.bool_)
    for row, length in zip(mapping[:3], reversed(source_shape), strict=True):
        index = thin_index(row, shape)
        leave_out(result, (index < -0.5 - EDGE) | (index > length - 0.5 + EDGE))
    return result


def leave_out(mask: NDArray[np.bool_], outside: NDArray[np.bool_]) -> None:
    """Make False what is `outside`, which broadcasts to the mask (Z, Y, X). Where grids run along each other
    it lies along one axis: then only the planes concerned are touched."""
    axis = int(np.argmax(outside.shape))
    if outside.shape[axis] == outside.size > 1:
        np.moveaxis(mask, axis, 0)[outside.ravel()] = False
    else:
        mask &= ~outside


def reached(mapping: Floats, source_shape: Shape, shape: Shape) -> tuple[slice, slice, slice] | None:
    """The (z, y, x) box of target voxels the source can reach, None where there are none."""
    back = np.linalg.inv(mapping)
    ends = [(-0.5 - EDGE, n - 0.5 + EDGE) for n in reversed(source_shape)]
    corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    index = (back[:3, :3] @ corners + back[:3, 3:])[::-1]
    low = np.maximum(np.ceil(index.min(axis=1) - EDGE), 0).astype(int)
    high = np.minimum(np.floor(index.max(axis=1) + EDGE) + 1, shape).astype(int)
    if (high <= low).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def shifted(mapping: Floats, box: tuple[slice, slice, slice]) -> Floats:
    """The index map of the part of the target that lies in a (z, y, x) box."""
    offset = np.eye(4)
    offset[:3, 3] = [part.start for part in reversed(box)]
    return np.asarray(mapping @ offset)


def checked(voxels: ArrayLike, axes: int) -> None:
    """ValueError unless the array has that many axes, none empty, and only finite values.

    The policy on NaN and infinity everywhere in this package: refused, never spread or replaced.
    """
    array = np.asarray(voxels)
    if array.ndim != axes or 0 in array.shape:
        raise ValueError(f"an array with {axes} axes, none of them empty, is wanted, not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("the array holds values that are not finite")
