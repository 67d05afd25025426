"""Which class wins between voxels, without interpolating where the corners of a cell already say it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npc_edge.kernels.sampling import EDGE, Floats, Shape, thin_index

_CHUNK = 8192
"""Voxels labelled at a time: 25 classes of float32 stay in a core's cache."""


class Cells:
    """The cells between logit voxels: which are decided by their corners, and the logits of the rest."""

    def __init__(self, classes: NDArray[np.float32]) -> None:
        # One more layer at the far end makes every axis at least two long, so each voxel starts a cell.
        winner = np.pad(_winner(classes), (0, 1), mode="edge")
        self.size = winner.shape
        self.winner = winner.ravel()
        mixed = np.zeros(self.size, dtype=np.bool_)
        asked = np.zeros(self.size, dtype=np.bool_)
        first = winner[:-1, :-1, :-1]
        inner = mixed[:-1, :-1, :-1]
        corners = [
            tuple(slice(1, None) if corner >> bit & 1 else slice(None, -1) for bit in (2, 1, 0))
            for corner in range(8)
        ]
        for corner in corners:
            inner |= winner[corner] != first
        for corner in corners:
            asked[corner] |= inner
        self.mixed = mixed.ravel()
        # Only corners of mixed cells are ever interpolated: a row of logits for each, the rest left out.
        places = np.minimum(np.argwhere(asked), np.array(classes.shape[1:]) - 1)
        flat = np.ravel_multi_index(tuple(places.T), classes.shape[1:])
        self.rows = np.empty((flat.size, classes.shape[0]), dtype=np.float32)
        for number, logits in enumerate(classes):
            self.rows[:, number] = logits.ravel()[flat]
        self.row_of = np.cumsum(asked.ravel(), dtype=np.int32)
        self.row_of -= 1

    def labels(self, mapping: Floats, shape: Shape) -> NDArray[np.uint8]:
        """(Z, Y, X) uint8 for the target voxels of one slab; 0 outside."""
        within = np.ones(shape, dtype=np.bool_)
        cell = np.zeros(shape, dtype=np.int32)
        fractions = []
        for row, length in zip(mapping[[2, 1, 0]], self.size, strict=True):
            index = thin_index(row, shape)
            within &= (index >= -0.5 - EDGE) & (index <= length - 1.5 + EDGE)
            index = np.clip(index, 0, length - 2)
            floor = index.astype(np.int32)
            fractions.append(np.broadcast_to((index - floor).astype(np.float32), shape))
            cell *= length
            cell += floor
        labels = np.where(within, self.winner[cell], np.uint8(0))
        wanted = np.flatnonzero(self.mixed[cell] & within)
        flat, cells, points = labels.reshape(-1), cell.reshape(-1), [f.reshape(-1) for f in fractions]
        for start in range(0, wanted.size, _CHUNK):
            some = wanted[start : start + _CHUNK]
            flat[some] = self._interpolate(cells[some], [p[some] for p in points])
        return labels

    def _interpolate(self, cell: NDArray[np.int32], fractions: list[NDArray[np.float32]]) -> NDArray[np.intp]:
        """The winning class at points given by their cell and the (z, y, x) fraction within it."""
        _, ny, nx = self.size
        z, y, x = fractions
        planes = []
        for step in (0, ny * nx):
            lines = []
            for far in (0, nx):
                lines.append(self._blend(cell + (step + far), x))
            planes.append(_mix(lines[0], lines[1], y))
        return np.asarray(np.argmax(_mix(planes[0], planes[1], z), axis=1))

    def _blend(self, cell: NDArray[np.int32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        near, far = self.row_of[cell], self.row_of[cell + 1]
        return _mix(self.rows.take(near, axis=0), self.rows.take(far, axis=0), x)


def _mix(
    near: NDArray[np.float32], far: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """near + (far - near) * weight, in place of far."""
    far -= near
    far *= weight[:, None]
    far += near
    return far


def _winner(classes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(K, Z, Y, X) → (Z, Y, X) uint8: the lowest class with the largest logit."""
    best = classes[0].copy()
    winner = np.zeros(best.shape, dtype=np.uint8)
    for k in range(1, classes.shape[0]):
        winner[classes[k] > best] = k
        np.maximum(best, classes[k], out=best)
    return winner
