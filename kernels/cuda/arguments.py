"""The kernels' arguments as NumPy structs: the same layout as the structs of the .cuh files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from npc_edge.kernels.sampling import Shape, index_map

_MAP = [("step", "<i8", (3, 3)), ("start", "<i8", (3,))]
_SIZE = ("size", "<i4", (3,))
_TARGET = [("rows", "<i4"), ("width", "<i4"), ("height", "<i4")]

RESAMPLE = np.dtype(
    [
        *_MAP,
        *[(name, "<u8") for name in ("source", "target", "smoothing", "scale", "range")],
        *_TARGET,
        _SIZE,
        ("radius", "<i4", (3,)),
        ("outside", "<u4"),
        ("method", "<i4"),
    ],
    align=True,
)
FILTER = np.dtype(
    [
        *[(name, "<u8") for name in ("source", "target", "weights")],
        ("step", "<i8", (3,)),
        ("along", "<i8"),
        *_TARGET,
        *[(name, "<i4") for name in ("length", "axis", "radius", "edge")],
    ],
    align=True,
)
NORMALISE = np.dtype(
    [
        ("values", "<u8"),
        ("target", "<u8"),
        ("scale", "<u8"),
        ("count", "<i8"),
        ("method", "<i4"),
    ],
    align=True,
)
STATISTICS = np.dtype(
    [
        ("values", "<u8"),
        ("found", "<u8"),
        ("count", "<i8"),
        ("lower", "<u8"),
        ("upper", "<u8"),
        ("foreground", "<u8"),
        *[(name, "<i4") for name in ("counted", "method", "digit", "bits")],
    ],
    align=True,
)
GATHER = np.dtype(
    [
        *[(name, "<u8") for name in ("source", "target", "starts")],
        *_TARGET,
        ("depth", "<i4"),
        ("channels", "<i4"),
        _SIZE,
    ],
    align=True,
)
BLEND = np.dtype(
    [
        *[(name, "<u8") for name in ("windows", "target", "weights", "starts")],
        ("channel", "<i8"),
        *_TARGET,
        *[(name, "<i4") for name in ("depth", "first", "channels")],
        ("window", "<i4", (3,)),
        ("count", "<i4", (3,)),
    ],
    align=True,
)
LABELS = np.dtype(
    [
        *_MAP,
        *[(name, "<u8") for name in ("logits", "labels", "probability")],
        *_TARGET,
        _SIZE,
        ("classes", "<i4"),
        ("threshold", "<f4"),
    ],
    align=True,
)
MARGIN = np.dtype(
    [
        ("logits", "<u8"),
        ("target", "<u8"),
        ("count", "<i8"),
        ("classes", "<i4"),
        ("code", "<i4"),
    ],
    align=True,
)

FOUND = np.dtype(
    [
        ("low", "<f4"),
        ("high", "<f4"),
        ("width", "<f4"),
        ("flat", "<u4"),
        ("range", "<u4", (2,)),
        *[(name, "<u8") for name in ("bad", "sum", "counted", "squares", "chosen")],
        ("rank", "<u8", (4,)),
        ("prefix", "<u4", (4,)),
        ("part", "<f4", (2,)),
        ("threshold", "<f4"),
        ("mean", "<f4"),
        ("bins", "<u4", (4, 256)),
    ],
    align=True,
)
"""What the statistics leave on the device: `low`, `high`, `width`, `flat` are what normalising reads."""

RANGE_OFFSET = 16
"""Bytes to `range` within FOUND."""

OUTSIDE = 0x7FC0FFEE
"""Bits of the NaN that marks a voxel outside its source (see common.cuh)."""

STRUCTS = {
    "ResampleParams": RESAMPLE,
    "FilterParams": FILTER,
    "NormaliseParams": NORMALISE,
    "StatisticsParams": STATISTICS,
    "GatherParams": GATHER,
    "BlendParams": BLEND,
    "LabelParams": LABELS,
    "MarginParams": MARGIN,
    "Statistics": FOUND,
}
"""The name of each struct in the .cuh files."""

MEMBERS = {
    "Map": {"step": "map.step", "start": "map.start"},
    "FilterParams": {"step": "step"},
    "Statistics": {name: f"scale.{name}" for name in ("low", "high", "width", "flat")} | {"range": "low"},
}
"""What a field is called there, where not the same; those of a map wherever there is one."""

_ONE = 2.0**32
_FARTHEST = 2.0**30


def made(dtype: np.dtype[np.void], **values: Any) -> np.void:
    """A struct with these values, 0 where none is given."""
    result: np.void = np.zeros(1, dtype=dtype)[0]
    for name, value in values.items():
        result[name] = value
    return result


def fixed(affine: ArrayLike, target_affine: ArrayLike, shape: Shape) -> dict[str, object]:
    """The index map in fixed-point voxels, as `step` and `start` of a struct.

    Right to 1.2e-10 voxels a step, so within the border's allowance over thousands of steps. ValueError when
    a voxel of the target lies 2^30 voxels away or farther.
    """
    mapping = index_map(affine, target_affine)[:3]
    reach = np.abs(mapping) @ np.array([*reversed(shape), 1.0])
    if reach.max() > _FARTHEST:
        raise ValueError("the two grids lie too far apart")
    whole = np.rint(mapping * _ONE).astype(np.int64)
    return {"step": whole[:, :3], "start": whole[:, 3]}
