"""What the operations on a device are given, how a launch is described, and the checks before it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npc_edge.kernels.cuda import arguments
from npc_edge.kernels.cuda.arguments import OUTSIDE
from npc_edge.kernels.launch import DeviceArray
from npc_edge.kernels.sampling import Interpolation, Shape

Method = Literal["percentile", "zscore", "zscore-nonzero"]
Starts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

SUFFIX = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}
"""How the kernels of a dtype are called."""


@dataclass(frozen=True)
class Grids:
    """From which grid to which: affines 4x4, the target's shape (Z, Y, X)."""

    affine: NDArray[np.float64]
    target_affine: NDArray[np.float64]
    target_shape: Shape


@dataclass(frozen=True)
class Rule:
    """How intensities are normalised; see `intensity.normalise`."""

    method: Method = "percentile"
    lower: float = 0.5
    upper: float = 99.5
    foreground: float = 0.1


@dataclass(frozen=True)
class Sampling:
    """How a volume is resampled; see `reference.resample`. fill_bits: float32 bits of what lies outside."""

    interpolation: Interpolation = "linear"
    anti_alias: bool = True
    fill_bits: int = 0


MARKED = Sampling(fill_bits=OUTSIDE)
"""Voxels outside are marked, so that statistics and normalisation leave them aside."""


def lines(target: DeviceArray) -> dict[str, Any]:
    """The fields that say how a target is cut into rows."""
    return {"rows": rows(target), "width": target.shape[-1], "height": target.shape[-2]}


def rows(target: DeviceArray) -> int:
    """How many rows a target has; ValueError from 2^30 on."""
    count = prod(target.shape[:-1])
    if count >= 2**30:
        raise ValueError(f"an array of {target.shape} has too many rows")
    return count


def predictions(logits: DeviceArray, grids: Grids, target: DeviceArray) -> dict[str, Any]:
    """The fields that labels and thresholds have in common."""
    return {
        **arguments.fixed(grids.affine, grids.target_affine, grids.target_shape),
        **lines(target),
        "logits": logits.pointer,
        "size": logits.shape[:0:-1],
        "classes": logits.shape[0],
    }


def shaped(array: DeviceArray, axes: int, dtype: DTypeLike) -> None:
    """ValueError unless the array has that many axes, none empty, and a dtype the kernels know."""
    if len(array.shape) != axes or 0 in array.shape:
        raise ValueError(f"an array with {axes} axes, none of them empty, is wanted, not {array.shape}")
    if array.dtype != dtype or array.dtype not in SUFFIX:
        raise ValueError(f"{array.dtype} voxels are not taken here")


def covering(low: int, length: int, starts: tuple[int, ...], window: int) -> None:
    """ValueError unless windows with these starts leave no voxel of low..low+length uncovered."""
    covered = np.zeros(length, dtype=np.bool_)
    for start in starts:
        covered[max(start - low, 0) : max(start + window - low, 0)] = True
    if not covered.all():
        raise ValueError("the windows leave part of the volume uncovered")
