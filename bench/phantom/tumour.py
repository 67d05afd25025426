"""A tumour as a layer over the anatomy: from the nasopharyngeal wall into what its category asks for.

What it may enter is decided by the structures of its category: a structure of a higher category stays free.
The anatomy underneath is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from npc_edge.bench.phantom.anatomy import Anatomy, side_mask
from npc_edge.bench.phantom.canvas import HeadGrid, smooth_noise
from npc_edge.bench.phantom.structures import PAIRED, Structure, Tissue

_itk: Any = sitk  # its functions carry no types

Point = tuple[float, float, float]
Field = NDArray[np.float32]

STAGES = ("T1", "T2", "T3", "T4")
BEYOND = "beyond_lateral_surface"
"""The T4 criterion that is no structure: soft tissue beyond the lateral surface of the lateral pterygoid."""

CATEGORY: dict[str, str] = {
    **dict.fromkeys(("nasopharynx", "oropharynx", "nasal_cavity"), "T1"),
    **dict.fromkeys(
        (
            "parapharyngeal_space",
            "carotid_space",
            "medial_pterygoid",
            "lateral_pterygoid",
            "prevertebral_muscle",
        ),
        "T2",
    ),
    **dict.fromkeys(
        (
            "clivus",
            "pterygoid_process",
            "pterygopalatine_fossa",
            "petrous_apex",
            "foramina",
            "cervical_vertebra",
            "sphenoid_sinus",
            "ethmoid_sinus",
            "maxillary_sinus",
        ),
        "T3",
    ),
    **dict.fromkeys(
        (
            "cavernous_sinus",
            "intracranial",
            "orbit",
            "inferior_orbital_fissure",
            "parotid",
            "hypopharynx",
            BEYOND,
        ),
        "T4",
    ),
}
"""The category of a tumour that enters a structure, both editions; `truth.py` says where they differ."""

# Where tumours start on the wall, for the left side (ideal frame, mm), with how often.
_ORIGINS: tuple[tuple[Point, float], ...] = (
    ((13.5, 7.5, 2), 0.5),
    ((12.5, 2, 0), 0.2),
    ((5, 3, 12.5), 0.15),
    ((5, 8, 1), 0.15),
)

# Ways a tumour grows: the criterion it is to fire, and the points it passes, for the left side.
_PATHS: dict[str, tuple[tuple[str, tuple[Point, ...], float], ...]] = {
    "T1": (
        ("nasopharynx", (), 0.5),
        ("nasal_cavity", ((5, -14, 2), (7, -24, 2)), 0.25),
        ("oropharynx", ((8, 2, -14), (8, 3, -30)), 0.25),
    ),
    "T2": (
        ("parapharyngeal_space", ((23, 4, 0), (24, 5, -8)), 0.4),
        ("medial_pterygoid", ((22, 0, -4), (25, -4, -14)), 0.2),
        ("lateral_pterygoid", ((23, 2, 4), (31, -2, 8)), 0.15),
        ("prevertebral_muscle", ((8, 13, -4), (8, 17, -14)), 0.25),
    ),
    "T3": (
        ("clivus", ((5, 12, 10), (3, 18, 15)), 0.35),
        ("pterygoid_process", ((13, -6, 4), (14, -13, 6)), 0.2),
        ("petrous_apex", ((13, 11, 12), (18, 18, 21)), 0.15),
        ("sphenoid_sinus", ((4, 0, 16), (3, -4, 27)), 0.15),
        ("pterygopalatine_fossa", ((11, -12, 5), (16, -22, 9)), 0.08),
        ("cervical_vertebra", ((8, 14, -6), (12, 27, -14)), 0.07),
    ),
    "T4": (
        ("intracranial", ((5, 14, 14), (5, 24, 20), (5, 36, 26)), 0.35),
        ("orbit", ((13, -12, 6), (17, -24, 13), (24, -36, 25)), 0.15),
        ("hypopharynx", ((9, 4, -16), (8, 6, -40), (7, 7, -66)), 0.15),
        ("parotid", ((23, 6, 0), (36, 17, -6), (50, 22, -12)), 0.15),
        (BEYOND, ((23, 2, 5), (36, -6, 11), (54, -14, 17)), 0.2),
    ),
}

_REACH: tuple[Point, Point] = ((-66.0, -62.0, -84.0), (66.0, 56.0, 56.0))
_ATTEMPTS = 6
_DEPTH_MM, _TALL_MM = 4.0, 6.0
_LATERAL_NORMAL = (0.69, -0.73)


@dataclass(frozen=True, eq=False)
class Tumour:
    """fraction: (Z, Y, X) float32 on the anatomy's grid, 0..1; tumour is where it is at least 0.5.

    trigger: the (criterion, side) it was grown into on purpose.
    """

    stage: str
    fraction: Field
    trigger: tuple[tuple[str, str], ...]


def grow_tumour(anatomy: Anatomy, stage: str, seed: int, slice_mm: float = 5.0) -> Tumour:
    """Grow a tumour of a category. slice_mm: the slice spacing it must be deep enough for.

    ValueError: an unknown stage, or an anatomy that leaves no room after several attempts.
    """
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {STAGES}, not {stage!r}")
    scene = _Scene(anatomy, stage, seed)
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([20_262, seed, STAGES.index(stage), attempt])
        side = "left" if rng.uniform() < 0.5 else "right"
        criterion, path = _draw_path(stage, rng)
        for growth in (1.0, 1.2, 1.45):
            fraction = scene.grow(path, side, growth * float(rng.uniform(0.9, 1.1)))
            if scene.deep_enough(fraction, criterion, side, slice_mm):
                whole = np.zeros(anatomy.tissue.shape, dtype=np.float32)
                whole[scene.box] = fraction
                return Tumour(stage, whole, ((criterion, _named_side(criterion, side)),))
    raise ValueError(f"no room for a {stage} tumour in anatomy {anatomy.seed}")


def beyond_lateral(anatomy: Anatomy) -> NDArray[np.bool_]:
    """(Z, Y, X) bool: unnamed tissue beyond the anterolateral surface of the lateral pterygoids."""
    x, y, z = anatomy.ideal
    lateral = (np.abs(x) - 33.5) * _LATERAL_NORMAL[0] + y * _LATERAL_NORMAL[1]
    region = (lateral > 9.0) & (np.abs(x) > 30) & (z > -8) & (z < 34) & (y < 14)
    return np.asarray(region & (anatomy.structure == Structure.BACKGROUND))


def _draw_path(stage: str, rng: np.random.Generator) -> tuple[str, list[tuple[Point, float]]]:
    """The criterion to fire and the growth as (point, radius), for the left side, origin first."""
    origins = [o for o, _ in _ORIGINS]
    start = origins[int(rng.choice(len(origins), p=[w for _, w in _ORIGINS]))]
    bulk = {"T1": (7.0, 11.5), "T2": (8.5, 13.0), "T3": (10.0, 16.0), "T4": (12.0, 19.0)}[stage]
    path = [(start, float(rng.uniform(*bulk)))]
    ways = _PATHS[stage]
    way = ways[int(rng.choice(len(ways), p=[w for _, _, w in ways]))]
    for lower in STAGES[1 : STAGES.index(stage)]:  # an advanced tumour has often taken what lies on the way
        if rng.uniform() < 0.6:
            extra = _PATHS[lower][int(rng.integers(0, min(3, len(_PATHS[lower]))))]
            path += [(p, float(rng.uniform(4.5, 7.5))) for p in extra[1]]
            path.append((start, 3.0))
    width = {"T1": (5.5, 8.5), "T2": (6.0, 9.0), "T3": (6.5, 10.0), "T4": (8.0, 12.0)}[stage]
    path += [(p, float(rng.uniform(*width))) for p in way[1]]
    return way[0], path


class _Scene:
    """The part of the head a tumour can reach, and where it may go."""

    def __init__(self, anatomy: Anatomy, stage: str, seed: int) -> None:
        self.anatomy = anatomy
        inside = np.ones(anatomy.tissue.shape, dtype=bool)
        for coordinate, low, high in zip(anatomy.ideal, *_REACH, strict=True):
            inside &= (coordinate > low) & (coordinate < high)
        self.box = bounding_box(inside)
        self.ideal = tuple(c[self.box] for c in anatomy.ideal)
        self.structure = anatomy.structure[self.box]
        self.beyond = beyond_lateral(anatomy)[self.box]
        self.left = side_mask(anatomy, "left")[self.box]
        self.allowed = self._allowed(stage)
        rng = np.random.default_rng([20_263, seed])
        coarse = smooth_noise(anatomy.grid, rng, 13.0, self.box)
        self.roughness = np.float32(1.5) * coarse
        self.roughness += np.float32(0.8) * smooth_noise(anatomy.grid, rng, 6.0, self.box)
        self.ramp = float(rng.uniform(0.8, 1.6))
        # A border of a voxel: the edge of what it may enter is no knife's cut.
        allowed: Any = sitk.GetImageFromArray(self.allowed.astype(np.float32))
        self.edge = np.asarray(sitk.GetArrayFromImage(_itk.Mean(allowed, [1, 1, 0])))

    def _allowed(self, stage: str) -> NDArray[np.bool_]:
        tissue = self.anatomy.tissue[self.box]
        level = STAGES.index(stage)
        names = [s for s in Structure if s.name.lower() in CATEGORY]
        allowed = np.isin(
            self.structure, [s for s in names if STAGES.index(CATEGORY[s.name.lower()]) <= level]
        )
        higher = (self.structure != Structure.BACKGROUND) & ~allowed
        if stage != "T4":
            higher |= self.beyond
        # About a millimetre stays clear, so that partial volume does not feign an invasion.
        clear = ~dilated(higher)
        if stage == "T1":
            return np.asarray(allowed & clear)
        x, y, _ = self.ideal
        soft = np.isin(tissue, [Tissue.FAT, Tissue.MUSCLE, Tissue.MUCOSA, Tissue.VENOUS_BLOOD])
        free = (self.structure == Structure.BACKGROUND) & soft
        if stage != "T4":
            free &= (np.abs(x) < 38) & (y > -26)
        return np.asarray((allowed | free) & clear)

    def grow(self, path: list[tuple[Point, float]], side: str, growth: float) -> Field:
        """Fraction (Z, Y, X) of the box: capsules along the path, roughened, within what is allowed."""
        mirror = np.float32(1.0 if side == "left" else -1.0)
        x, y, z = self.ideal
        distance: Field | None = None
        for (start, r0), (end, r1) in zip(path, path[1:] or path, strict=False):
            radius = growth * (r0 if len(path) == 1 else (r0 + r1) / 2)
            part = _segment((x * mirror, y, z), start, end) - np.float32(radius)
            distance = part if distance is None else _union(distance, part)
        assert distance is not None
        base = _segment((x * mirror, y, z), path[0][0], path[0][0]) - np.float32(growth * path[0][1])
        distance = _union(distance, base)
        distance += self.roughness
        fraction = np.minimum(np.clip(0.5 - distance / (2 * self.ramp), 0, 1), self.edge)
        fraction[~self.allowed & (fraction >= 0.5)] = 0.49
        return self._attached(np.asarray(fraction, dtype=np.float32))

    def _attached(self, fraction: Field) -> Field:
        """Only the component that holds most of the nasopharyngeal wall; its soft border is kept."""
        solid: Any = sitk.GetImageFromArray((fraction >= 0.5).astype(np.uint8))
        labels = np.asarray(sitk.GetArrayFromImage(_itk.ConnectedComponent(solid)))
        sizes = np.bincount(labels[self.structure == Structure.NASOPHARYNX])
        if sizes.size == 0:
            return np.zeros_like(fraction)
        sizes[0] = 0
        if sizes.max() == 0:
            return np.zeros_like(fraction)
        kept = dilated(dilated(labels == int(sizes.argmax())))
        return np.where(kept & ~((labels > 0) & (labels != int(sizes.argmax()))), fraction, np.float32(0))

    def deep_enough(self, fraction: Field, criterion: str, side: str, slice_mm: float) -> bool:
        """True when the criterion is entered by 4 mm in plane and 1.8 slices along z."""
        where = self.beyond if criterion == BEYOND else self.structure == Structure[criterion.upper()]
        if criterion == BEYOND or Structure[criterion.upper()] in PAIRED:
            where = where & (self.left if side == "left" else ~self.left)
        inside = where & (fraction >= 0.5)
        if not inside.any():
            return False
        depth, tall = penetration(inside, self.anatomy.grid)
        return depth >= _DEPTH_MM and tall >= max(_TALL_MM, 1.8 * slice_mm)


def penetration(inside: NDArray[np.bool_], grid: HeadGrid) -> tuple[float, float]:
    """(in-plane depth, extent along z) in mm of a mask.

    Depth: the diameter of the largest disc that fits into it in any slice. Extent: over the slices where a
    disc of at least 2 mm fits.
    """
    if not inside.any():
        return 0.0, 0.0
    box = bounding_box(inside)
    spacing = grid.spacing
    pixel = (spacing[0] + spacing[1]) / 2
    widths = [2 * _widest(plane, spacing[:2]) - pixel for plane in inside[box]]
    tall = sum(w >= 2.0 for w in widths) * spacing[2]
    return max(0.0, *widths), tall


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box (z, y, x) that holds every voxel of a mask that is not empty."""
    ends = []
    for axis in range(3):
        seen = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
        ends.append(slice(int(seen[0]), int(seen[-1]) + 1))
    return ends[0], ends[1], ends[2]


def dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask grown by one voxel along each axis."""
    image: Any = sitk.GetImageFromArray(mask.astype(np.uint8))
    return np.asarray(sitk.GetArrayFromImage(_itk.BinaryDilate(image, [1, 1, 1], sitk.sitkCross))) > 0


def _widest(plane: NDArray[np.bool_], spacing: tuple[float, float]) -> float:
    """Largest distance (mm) of a pixel of a mask (Y, X) to the nearest one outside; spacing (x, y)."""
    outside: Any = sitk.GetImageFromArray(np.pad(~plane, 1, constant_values=True).astype(np.uint8))
    outside.SetSpacing(spacing)
    distance: Any = _itk.SignedMaurerDistanceMap(outside, squaredDistance=False, useImageSpacing=True)
    return max(0.0, float(np.asarray(sitk.GetArrayFromImage(distance)).max()))


def _named_side(criterion: str, side: str) -> str:
    return side if criterion == BEYOND or Structure[criterion.upper()] in PAIRED else "midline"


def _segment(p: tuple[Field, Field, Field], start: Point, end: Point) -> Field:
    """Distance (mm) of every voxel to a line segment."""
    a, d = np.array(start, np.float32), np.array(end, np.float32) - np.array(start, np.float32)
    length = float(d @ d)
    q = [c - o for c, o in zip(p, a, strict=True)]
    if length < 1e-6:
        return np.asarray(np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2))
    t = np.clip((q[0] * d[0] + q[1] * d[1] + q[2] * d[2]) / np.float32(length), 0, 1)
    return np.asarray(np.sqrt(sum((c - t * v) ** 2 for c, v in zip(q, d, strict=True))), dtype=np.float32)


def _union(a: Field, b: Field) -> Field:
    """Smooth union of two distances, 4 mm."""
    h = np.clip(0.5 + 0.5 * (a - b) / np.float32(4.0), 0, 1)
    return np.asarray(a * (1 - h) + b * h - np.float32(4.0) * h * (1 - h), dtype=np.float32)
