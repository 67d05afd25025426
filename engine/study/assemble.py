"""A series → a Volume: slices by position, per-frame rescale first, float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.study.read import Reader
from npc_edge.engine.study.stack import arrange
from npc_edge.engine.types import Series, SourceSlice, State3, Volume, Watch


def assemble(
    series: Series, index: int, reader: Reader, fat_suppression: State3, watch: Watch | None = None
) -> Volume:
    """Assemble one series into voxels (Z, Y, X) float32, slices ascending along row x column.

    index: of the series within its study. Raises Refusal: MISSING_SLICES, DUPLICATE_SLICES,
    MIXED_ORIENTATION, MIXED_MATRIX, NON_UNIFORM_SPACING, TOO_FEW_SLICES, TOO_LARGE, MOSAIC, UNREADABLE,
    HOSTILE_FILE.
    """
    stack = arrange(series)
    frames = [series.frames[i] for i in stack.order]
    voxels = reader.pixels(series, frames, watch, np.float32)
    slope = np.array([f.slope for f in frames], dtype=np.float32)
    intercept = np.array([f.intercept for f in frames], dtype=np.float32)
    if (slope != 1).any() or (intercept != 0).any():
        voxels *= slope[:, None, None]
        voxels += intercept[:, None, None]
    _check_values(voxels)
    thickness = series.acquisition.slice_thickness_mm
    z, y, x = voxels.shape
    slices = tuple(
        SourceSlice(
            series.sop_class_uid,
            f.sop_instance_uid,
            f.number + 1,
            f.instance_number,
            f.position or (0.0, 0.0, 0.0),
        )
        for f in frames
    )
    return Volume(
        voxels=voxels,
        geometry=Geometry((z, y, x), stack.affine, series.frame_of_reference),
        fat_suppression=fat_suppression,
        series=index,
        slices=slices,
        gap_mm=stack.spacing[2] - thickness if thickness else 0.0,
    )


def _check_values(voxels: NDArray[np.float32]) -> None:
    """Finite, not blank, and no picture twice: noise makes two real slices differ."""
    # Slice by slice, each in the cache for both.
    ends = np.array([(picture.min(), picture.max()) for picture in voxels])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Refusal("UNREADABLE", "the series holds values that are not numbers")
    if low == high:
        raise Refusal("UNREADABLE", "the series is blank")
    seen: dict[bytes, int] = {}
    for number, picture in enumerate(voxels):
        coarse = picture[::7, ::7].tobytes()
        twin = seen.setdefault(coarse, number)
        if twin != number and picture.any() and np.ptp(picture) > 0 and np.array_equal(voxels[twin], picture):
            raise Refusal("DUPLICATE_SLICES", "the same picture appears at two places of the series")
