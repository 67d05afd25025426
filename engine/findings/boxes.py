"""Boxes around masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.geometry import Geometry

Box = tuple[slice, slice, slice]


def bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> Box | None:
    """The smallest box (slices along Z, Y, X) around a mask, widened by `margin` voxels but never past the
    array; None of an empty mask."""
    in_z = np.flatnonzero(mask.any(axis=(1, 2)))
    if in_z.size == 0:
        return None
    # Only within the slices found: cheap on a large, mostly empty volume.
    flat: NDArray[np.bool_] = np.any(mask[in_z[0] : in_z[-1] + 1], axis=0)
    hits = (in_z, np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0)))
    z, y, x = (
        slice(max(0, int(hit[0]) - margin), min(length, int(hit[-1]) + 1 + margin))
        for hit, length in zip(hits, mask.shape, strict=True)
    )
    return z, y, x


def crop_geometry(geometry: Geometry, box: Box) -> Geometry:
    """The grid of `voxels[box]`."""
    affine = np.array(geometry.affine)
    affine[:3, 3] = geometry.to_world([[s.start for s in reversed(box)]])[0]
    z, y, x = (s.stop - s.start for s in box)
    return Geometry((z, y, x), affine, geometry.frame_of_reference)
