"""What the MR signal says about an overlap of masks: marrow replaced, sclerosis, secretion, air.

Everything is a ratio to the tumour's own signal outside bone and sinus, measured in the same study, so no
scanner's scale enters. Volumes are sampled at points in world coordinates; nothing is resampled whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.findings.rules import SignalRules
from npc_edge.engine.geometry import Floats, Geometry
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.types import State3, Volume

Marrow = Literal["replaced", "preserved", "sclerosis", "undecided"]
Sinus = Literal["tumour", "secretion", "air", "undecided"]

_MOST_POINTS = 3000  # a median needs no more


@dataclass(frozen=True, eq=False)
class Contrasts:
    """The volumes the rules can read, by what they show; None where the study has none."""

    t1: Volume | None
    t2: Volume | None
    enhanced: bool


@dataclass(frozen=True)
class Level:
    """Median T1 and T2 signal of a set of voxels; nan where there is no volume or are too few voxels."""

    t1: float
    t2: float


@dataclass(frozen=True)
class Bone:
    """T1 of a bone where it is uninvolved: the signal of its marrow, and the share of it that looks like
    tumour; beside it the same share of the overlap. nan where there is too little of it."""

    marrow_t1: float
    like: float
    like_in_overlap: float


def contrasts(volumes: Mapping[str, Volume], manifest: Manifest) -> Contrasts:
    """Which volume is a T1 without contrast, which a T2, and whether there is a contrast-enhanced one.

    A sequence that takes T1 as well as T1C is not known to be either, so it serves for neither.
    """
    t1 = t2 = None
    enhanced = False
    for spec in manifest.sequences:
        volume = volumes.get(spec.name)
        if volume is None:
            continue
        if "T1" in spec.roles and "T1C" not in spec.roles:
            t1 = t1 or volume
        elif "T1C" in spec.roles and "T1" not in spec.roles:
            enhanced = True
        elif {"T2", "T2FS"} & set(spec.roles):
            t2 = t2 or volume
    return Contrasts(t1, t2, enhanced)


def sample(volume: Volume, points: Floats) -> Floats:
    """(N, 3) LPS mm → (N,) signal, trilinear; nan outside the volume."""
    index = volume.geometry.to_index(points)
    inside = np.ones(len(points), dtype=np.bool_)
    # Of each axis, slices first: the weight of a point's two voxels, and how far into the array they lie.
    axes = []
    for axis, length in enumerate(volume.voxels.shape):
        at, apart = index[:, 2 - axis], int(np.prod(volume.voxels.shape[axis + 1 :]))
        inside &= (at >= -0.5) & (at <= length - 0.5)
        at = np.clip(at, 0, length - 1)
        low = np.minimum(at.astype(np.int64), max(length - 2, 0))
        part = at - low
        axes.append(((1 - part, low * apart), (part, np.minimum(low + 1, length - 1) * apart)))
    flat, total = np.ascontiguousarray(volume.voxels).reshape(-1), np.zeros(len(points))
    for (wz, z), (wy, y), (wx, x) in itertools.product(*axes):
        total += wx * wy * wz * flat[z + y + x]
    return np.where(inside, total, np.nan)


def points_of(mask: NDArray[np.bool_], geometry: Geometry) -> Floats:
    """(N, 3) LPS mm of a mask's voxels (Z, Y, X), evenly thinned to a few thousand."""
    flat = np.flatnonzero(mask)
    flat = flat[:: max(1, len(flat) // _MOST_POINTS)]
    z, y, x = np.unravel_index(flat, mask.shape)
    return geometry.to_world(np.stack([x, y, z], axis=1))


def level(volume: Volume | None, points: Floats, percentile: float, enough: int) -> float:
    """A percentile of the signal at points; nan with fewer than `enough` points inside the volume."""
    if volume is None or len(points) < enough:
        return float("nan")
    values = sample(volume, points)
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percentile)) if len(values) >= enough else float("nan")


def share_like(volume: Volume | None, points: Floats, signal: float, rules: SignalRules) -> float:
    """Share of the points whose signal lies within like_width of `signal`; nan with too few points."""
    if volume is None or len(points) < rules.enough_voxels or not np.isfinite(signal):
        return float("nan")
    values = sample(volume, points)
    values = values[np.isfinite(values)]
    if len(values) < rules.enough_voxels:
        return float("nan")
    return float((np.abs(values - signal) <= rules.like_width * signal).mean())


def marrow(overlap: Level, tumour: Level, bone: Bone, rules: SignalRules) -> Marrow:
    """Whether tumour has replaced marrow where the masks overlap, on a T1 without fat suppression.

    Where uninvolved marrow is clearly brighter than tumour, by how far the overlap has come from the one to
    the other; else by pattern: bone is a mixture of bright and dark, tumour is even.
    """
    if not np.isfinite([overlap.t1, tumour.t1]).all() or tumour.t1 <= 0:
        return "undecided"
    dark_t1 = overlap.t1 < rules.sclerosis_t1 * tumour.t1
    if dark_t1 and not overlap.t2 >= rules.sclerosis_t2 * tumour.t2:  # also when T2 is not there to ask
        return "sclerosis" if np.isfinite(overlap.t2) and np.isfinite(tumour.t2) else "undecided"
    if bone.marrow_t1 >= (1 + rules.marrow_contrast) * tumour.t1:
        gone = (bone.marrow_t1 - overlap.t1) / (bone.marrow_t1 - tumour.t1)
        return "replaced" if gone >= rules.replaced else "preserved"
    even = bone.like_in_overlap >= rules.like_share
    return "replaced" if even and bone.like_in_overlap - bone.like >= rules.like_gain else "undecided"


def sinus(overlap: Level, tumour: Level, rules: SignalRules) -> Sinus:
    """Whether what fills a sinus where the masks overlap has the tumour's signal."""
    if not np.isfinite([overlap.t2, tumour.t2]).all() or tumour.t2 <= 0:
        return "undecided"
    ratio_t2 = overlap.t2 / tumour.t2
    ratio_t1 = overlap.t1 / tumour.t1 if np.isfinite([overlap.t1, tumour.t1]).all() else float("nan")
    if ratio_t2 < rules.air and not ratio_t1 >= rules.air:
        return "air"
    if ratio_t2 > rules.fluid_t2 and not ratio_t1 > rules.fluid_t1:
        return "secretion"
    return "tumour"


def fat_suppressed(declared: State3, fat_t1: float, muscle_t1: float, rules: SignalRules) -> State3:
    """What the headers declare; where they are silent, what fat and muscle show: fat that outshines muscle
    was not suppressed."""
    if declared != "unknown" or not np.isfinite([fat_t1, muscle_t1]).all() or muscle_t1 <= 0:
        return declared
    return "no" if fat_t1 / muscle_t1 >= rules.fat_over_muscle else "unknown"
