"""The person a seed draws, and the brush that paints that person's parts.

Positions and sizes in the `anatomy_*` files are those of an average adult in LPS mm about the centre of the
nasopharynx (the hard palate 16 mm below, the clivus behind and above, the skull base at about +20 mm),
rounded from anatomy atlases; each seed varies them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npc_edge.bench.phantom.canvas import Box, Canvas, Field
from npc_edge.bench.phantom.structures import Structure as S
from npc_edge.bench.phantom.structures import Tissue as T

Triple = tuple[float, float, float]
Shape = tuple[Box, Field]
SIDES = (-1, 1)
"""Right, left: the sign of x."""


@dataclass(frozen=True)
class Person:
    """What the seed drew about a person besides the deformation; mm unless said otherwise."""

    wall: float  # thickness of the nasopharyngeal mucosa
    adenoid: float  # extra lymphoid tissue in roof and posterior wall
    mucosal_swelling: float  # extra thickness of nasal and sinus mucosa
    node: tuple[float, float]  # radius of the retropharyngeal nodes, right and left
    fluid: tuple[str, ...]  # sinuses that hold fluid
    marrow: str  # "fatty", "red" or "sclerotic"
    pneumatisation: float  # 0..1, how much of the sphenoid body is air
    fat: float  # thickness of subcutaneous fat
    bulk: float  # muscle size, about 1
    lumen: float  # size of the nasopharyngeal lumen, about 1


class Brush:
    """Paints parts of one person; `rng` jitters them in a fixed order, so a seed is a person on any grid."""

    def __init__(self, canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
        self.c, self.p, self.rng = canvas, person, rng
        self.marrow = T.RED_MARROW if person.marrow == "red" else T.FATTY_MARROW

    def at(self, x: float, y: float, z: float, spread: float = 1.0) -> Triple:
        """A point moved by the person's own jitter (sd mm)."""
        d = self.rng.normal(0, spread, 3)
        return x + float(d[0]), y + float(d[1]), z + float(d[2])

    def size(self, *mm: float, spread: float = 0.07) -> Triple:
        """Radii varied by the person's own factor."""
        f = np.clip(self.rng.normal(1, spread, 3), 0.8, 1.2)
        return mm[0] * float(f[0]), mm[1] * float(f[1]), mm[2] * float(f[2])

    def bone(self, shape: Shape, cortex_mm: float, structure: S | None = None) -> None:
        """Cortex round the person's marrow; without a structure the label below stays."""
        self.c.paint(shape, T.CORTICAL_BONE, structure)
        self.c.paint(shape, self.marrow, inset=cortex_mm)

    def muscle(self, shape: Shape, structure: S = S.BACKGROUND, plane_mm: float = 1.0) -> None:
        """A muscle in its fat plane, over unnamed soft tissue only."""
        box, d = shape
        soft = np.isin(self.c.tissue[box], (T.FAT, T.MUSCLE)) & (self.c.structure[box] == S.BACKGROUND)
        self.c.tissue[box][soft & (d < plane_mm)] = T.FAT
        self.c.tissue[box][soft & (d < 0)] = T.MUSCLE
        self.c.structure[box][soft & (d < 0)] = structure
