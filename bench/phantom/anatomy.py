"""A synthetic head and neck from a seed: what every voxel is made of, and which structure it belongs to.

The person (sizes, findings) and the deformation are drawn from the seed alone, so one seed is one person on
every grid. Nothing here imports the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.phantom import anatomy_airway, anatomy_cranium, anatomy_face
from npc_edge.bench.phantom.anatomy_person import Brush, Person
from npc_edge.bench.phantom.canvas import Canvas, HeadGrid, Warp

__all__ = ["REGION", "WHOLE_HEAD", "Anatomy", "HeadGrid", "build_anatomy", "side_mask"]

WHOLE_HEAD = HeadGrid((-100.0, -122.0, -97.0), (1.0, 1.0, 1.5), (150, 254, 201))
"""A whole head and upper neck, 1 x 1 x 1.5 mm (x, y, z)."""

REGION = HeadGrid((-88.0, -88.0, -74.0), (1.0, 1.0, 2.0), (75, 177, 177))
"""The region a network sees, with a margin, 1 x 1 x 2 mm (x, y, z), about the origin."""

_DEFORMATION_MM = 3.2
_FROM_THE_OUTSIDE_IN = (
    anatomy_cranium.body,
    anatomy_cranium.skull,
    anatomy_face.neck,
    anatomy_face.face,
    anatomy_face.mastication,
    anatomy_cranium.base,
    anatomy_airway.spaces,
    anatomy_airway.sinuses,
    anatomy_airway.orbits,
    anatomy_airway.airway,
)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A head without tumour.

    tissue, structure: (Z, Y, X) uint8, `Tissue` and unsided `Structure` codes. ideal: x, y, z, each
    (Z, Y, X) float32: where a voxel lies in the ideal frame (mm); the midplane is x = 0 there. wall_mm:
    thickness of the nasopharyngeal wall, lymphoid tissue included. findings: what a radiologist would
    mention.
    """

    seed: int
    grid: HeadGrid
    tissue: NDArray[np.uint8]
    structure: NDArray[np.uint8]
    ideal: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    wall_mm: float
    findings: tuple[str, ...]


def build_anatomy(seed: int, grid: HeadGrid, *, healthy: bool = True) -> Anatomy:
    """Build the person of a seed on a grid.

    healthy: may have lymphoid hyperplasia or mucosal thickening, the mimics; with False neither. Nodes, sinus
    fluid and marrow change are drawn for all.
    """
    rng = np.random.default_rng([20_260, seed])
    warp = Warp.draw(rng, _DEFORMATION_MM)
    person, findings = _draw_person(rng, healthy)
    canvas = Canvas(grid, warp)
    brush = Brush(canvas, person, np.random.default_rng([20_261, seed]))
    for paint in _FROM_THE_OUTSIDE_IN:
        paint(brush)
    thickness = person.wall + (1.6 * person.adenoid if person.adenoid > 0.5 else 0.0)
    return Anatomy(
        seed,
        grid,
        canvas.tissue,
        canvas.structure,
        (canvas.x, canvas.y, canvas.z),
        round(thickness, 3),
        findings,
    )


def side_mask(anatomy: Anatomy, side: str) -> NDArray[np.bool_]:
    """(Z, Y, X) bool: the voxels on one side of the person's own midplane; 'left' is +x."""
    x = anatomy.ideal[0]
    return np.asarray(x > 0 if side == "left" else x <= 0)


def _draw_person(rng: np.random.Generator, healthy: bool) -> tuple[Person, tuple[str, ...]]:
    """Every number is drawn whether used or not, so that `healthy` changes only the mimics."""
    chance = rng.uniform(size=5)
    hyperplasia, swelling = float(rng.uniform(1.5, 4.5)), float(rng.uniform(0.8, 2.5))
    radii = (float(rng.uniform(2.2, 3.0)), float(rng.uniform(2.2, 3.0)))
    enlarged = float(rng.uniform(3.6, 6.0))
    marrow = str(rng.choice(["red", "sclerotic"]))
    fluid = tuple(
        rng.choice(["sphenoid", "maxillary", "ethmoid"], size=int(rng.integers(1, 3)), replace=False)
    )
    findings = []
    adenoid = mucosa = 0.0
    if healthy and chance[0] < 0.3:
        adenoid = hyperplasia
        findings.append("lymphoid_hyperplasia")
    if healthy and chance[1] < 0.3:
        mucosa = swelling
        findings.append("mucosal_thickening")
    if chance[2] < 0.3:
        radii = (enlarged, radii[1]) if chance[2] < 0.15 else (enlarged * 0.9, enlarged)
        findings.append("retropharyngeal_nodes")
    if chance[3] < 0.25:
        findings.append("sinus_fluid")
    if chance[4] < 0.25:
        findings.append("marrow_change")
    person = Person(
        wall=float(np.clip(rng.normal(2.9, 0.6), 1.8, 4.5)) + 0.5 * mucosa,
        adenoid=adenoid,
        mucosal_swelling=mucosa,
        node=radii,
        fluid=tuple(str(f) for f in fluid) if "sinus_fluid" in findings else (),
        marrow=marrow if "marrow_change" in findings else "fatty",
        pneumatisation=float(rng.beta(2.5, 1.5)),
        fat=float(np.clip(rng.normal(4.5, 1.8), 1.5, 10)),
        bulk=float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.2)),
        lumen=float(np.clip(rng.normal(0.95, 0.14), 0.62, 1.2)),
    )
    return person, tuple(findings)
