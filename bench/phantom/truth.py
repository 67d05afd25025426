"""The truth of a phantom, from how it was built; independent of the engine, of which nothing is imported.

A criterion counts as invaded from 2 mm in plane over at least 5 mm along z; a tumour is grown so that what is
meant is deeper (3 mm and 1.5 slices) and what is not meant of a higher category stays free. The editions
differ in one criterion here: the inferior orbital fissure is named by Version 9 alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.phantom.anatomy import Anatomy, side_mask
from npc_edge.bench.phantom.structures import PAIRED, Structure
from npc_edge.bench.phantom.tumour import BEYOND, CATEGORY, STAGES, Tumour, beyond_lateral, penetration

_DEPTH_MM, _TALL_MM = 2.0, 5.0


@dataclass(frozen=True)
class Criterion:
    """What the tumour did to one structure on one side. overlap_mm3: partial volume counted as fraction."""

    structure: str
    side: str
    category: str
    overlap_mm3: float
    depth_mm: float
    invaded: bool


def criteria(anatomy: Anatomy, tumour: Tumour | None) -> list[Criterion]:
    """Every criterion and side, touched or not."""
    fraction = np.zeros(anatomy.grid.shape, np.float32) if tumour is None else tumour.fraction
    box = _around(fraction)
    structure, fraction, beyond = anatomy.structure[box], fraction[box], beyond_lateral(anatomy)[box]
    solid, left = fraction >= 0.5, side_mask(anatomy, "left")[box]
    found = []
    for name, category in CATEGORY.items():
        where = beyond if name == BEYOND else structure == Structure[name.upper()]
        sides = {"midline": where}
        if name == BEYOND or Structure[name.upper()] in PAIRED:
            sides = {"left": where & left, "right": where & ~left}
        for side, part in sides.items():
            overlap = float(fraction[part].sum(dtype=np.float64)) * anatomy.grid.voxel_mm3
            depth, tall = penetration(part & solid, anatomy.grid)
            invaded = depth >= _DEPTH_MM and tall >= _TALL_MM
            found.append(Criterion(name, side, category, round(overlap, 1), round(depth, 2), invaded))
    return found


def _around(fraction: NDArray[np.float32]) -> tuple[slice, slice, slice]:
    """The smallest box that holds what is above 0; empty where nothing is."""
    touched = fraction > 0
    if not touched.any():
        return slice(0, 0), slice(0, 0), slice(0, 0)
    ends = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        where = np.flatnonzero(touched.any(axis=axes))
        ends.append(slice(int(where[0]), int(where[-1]) + 1))
    return ends[0], ends[1], ends[2]


def categories(anatomy: Anatomy, tumour: Tumour | None) -> tuple[str | None, str | None]:
    """T category under AJCC 8 and Version 9; None for a healthy head, which has none."""
    if tumour is None:
        return None, None
    invaded = {c.structure for c in criteria(anatomy, tumour) if c.invaded}
    ninth = max((STAGES.index(CATEGORY[name]) for name in invaded), default=0)
    eighth = max((STAGES.index(CATEGORY[n]) for n in invaded - {"inferior_orbital_fissure"}), default=0)
    return STAGES[eighth], STAGES[ninth]
