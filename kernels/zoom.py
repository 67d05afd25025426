"""Resizing as nnU-Net does it, the fast path: one small matrix per axis. Same meaning as `reference`.

A spline is separable, so each axis is a matrix product of its own; what the reference does in float64 is
done in float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.kernels.cpu import apply_along, axis_matrix
from npc_edge.kernels.sampling import Floats, Order, Shape, centres, checked


def resize(voxels: ArrayLike, shape: Shape, order: Order) -> NDArray[np.float32]:
    """Voxels (Z, Y, X) in another number of voxels, (Z, Y, X) float32; see `reference.resize`."""
    checked(voxels, 3)
    source = np.asarray(voxels, dtype=np.float32)
    return np.clip(_sampled(source, shape, (order, order, order)), source.min(), source.max())


def resize_slices(
    voxels: ArrayLike, shape: Shape, axis: int, order: Order, order_along: Order
) -> NDArray[np.float32]:
    """Each slice across `axis` by itself, then along it; see `reference.resize_slices`."""
    checked(voxels, 3)
    source = np.asarray(voxels, dtype=np.float32)
    others = tuple(a for a in range(3) if a != axis)
    flat = list(shape)
    flat[axis] = source.shape[axis]
    orders: list[Order] = [order] * 3
    values = _sampled(source, (flat[0], flat[1], flat[2]), (orders[0], orders[1], orders[2]))
    low, high = source.min(axis=others, keepdims=True), source.max(axis=others, keepdims=True)
    orders[axis] = order_along
    return _sampled(np.clip(values, low, high), shape, (orders[0], orders[1], orders[2]))


def _sampled(
    source: NDArray[np.float32], shape: Shape, orders: tuple[Order, Order, Order]
) -> NDArray[np.float32]:
    """One axis after the other, the one that shrinks most first. An axis of the right length is left."""
    values = source
    for axis in sorted(range(3), key=lambda a: shape[a] / source.shape[a]):
        length, count = source.shape[axis], shape[axis]
        if length == count:
            continue
        if orders[axis] == 0:
            values = values.take(_nearest(length, count), axis=axis)
        else:
            values = apply_along(_matrix(length, count, orders[axis]), values, axis)
    return np.ascontiguousarray(values)


def _nearest(length: int, count: int) -> NDArray[np.int64]:
    """(count,) the voxel nearest to each new one, the higher one halfway."""
    return np.clip(np.floor(centres(length, count) + 0.5), 0, length - 1).astype(np.int64)


def _matrix(length: int, count: int, order: Order) -> NDArray[np.float32]:
    """(count, length): old voxels → new voxels."""
    matrix: Floats = axis_matrix(centres(length, count), length, 0.0, "linear" if order == 1 else "bspline")
    return matrix.astype(np.float32)
