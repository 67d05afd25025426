"""Deep spaces, sinuses, orbits, and the airway from nose to hypopharynx."""

from __future__ import annotations

import numpy as np

from npc_edge.bench.phantom.anatomy_person import SIDES, Brush, Shape
from npc_edge.bench.phantom.canvas import smooth_noise
from npc_edge.bench.phantom.structures import Structure as S
from npc_edge.bench.phantom.structures import Tissue as T

_SOFT = [T.FAT, T.MUSCLE]


def spaces(b: Brush) -> None:
    """Parapharyngeal fat, carotid sheath, pterygopalatine fossa."""
    c = b.c
    for side in SIDES:
        top, bottom = b.at(side * 26, 18, 8, 0.8), b.at(side * 27, 21, -85, 1.0)
        sheath = c.capsule(top, bottom, 7.0, (1.2, 1, 1))
        c.paint_where(sheath, _SOFT, T.FAT, S.CAROTID_SPACE)
        c.paint(c.capsule((side * 23, 16, 12), (side * 24, 19, -90), 2.9), T.FLOWING_BLOOD)
        vein = c.capsule((side * 30, 20, 8), (side * 30, 22, -90), 4.2)
        c.paint(vein, T.FLOWING_BLOOD if side < 0 else T.VENOUS_BLOOD)
        top, bottom = b.at(side * 23.5, 4, 8, 0.6), b.at(side * 25, 6, -26, 0.8)
        fat = c.capsule(top, bottom, 4.2, (0.95, 1.9, 1))
        c.paint_where(fat, _SOFT, T.FAT, S.PARAPHARYNGEAL_SPACE)
        # Styloid muscles and pterygoid veins cross the fat.
        veins = c.capsule((side * 27, -2, 8), (side * 29, 4, -6), 1.4)
        c.paint_where(veins, [T.FAT], T.VENOUS_BLOOD, S.PARAPHARYNGEAL_SPACE)
        fossa = c.ellipsoid(b.at(side * 16, -22, 10, 0.6), b.size(3.4, 3.6, 9))
        c.paint(fossa, T.FAT, S.PTERYGOPALATINE_FOSSA)


def sinuses(b: Brush) -> None:
    """Sphenoid, ethmoid and maxillary sinuses: air, mucosa, sometimes fluid."""
    c, air = b.c, b.p.pneumatisation
    lining = 0.8 + b.p.mucosal_swelling
    half = (6 + 6 * air, 6 + 7.5 * air, 4 + 4 * air)
    sphenoid = c.slab((float(b.rng.normal(0, 1.5)), -5, 28.5), half, -0.15, 3.5)
    _sinus(b, sphenoid, S.SPHENOID_SINUS, lining, -5)
    septum = c.slab((float(b.rng.normal(0, 2)), -5, 28.5), (0.7, 11, 6), 0, 0.5)
    c.paint_where(septum, [T.AIR, T.MUCOSA, T.FLUID], T.CORTICAL_BONE, S.SPHENOID_SINUS)
    for side in SIDES:
        box, d = c.ellipsoid(b.at(side * 27, -44, 2), b.size(16, 19, 18))
        c.paint((box, d), T.CORTICAL_BONE, S.BACKGROUND)
        _sinus(b, (box, d + np.float32(1.2)), S.MAXILLARY_SINUS, lining, -44)
    box, d = c.slab((0, -44, 29), (12, 22, 12), 0.1, 3)
    c.paint((box, d), T.CORTICAL_BONE, S.BACKGROUND)
    _sinus(b, (box, d + np.float32(0.9)), S.ETHMOID_SINUS, 0.4 * lining, -44)
    cells = smooth_noise(c.grid, b.rng, 7.0, box)
    c.tissue[box][(d < -0.9) & (np.abs(cells) < 0.2)] = T.MUCOSA


def _sinus(b: Brush, shape: Shape, structure: S, lining: float, level: float) -> None:
    """level: where fluid begins, lying behind it in a supine head (y, mm)."""
    c = b.c
    c.paint(shape, T.MUCOSA, structure)
    c.paint(shape, T.AIR, inset=lining)
    if structure.name.split("_")[0].lower() in b.p.fluid:
        box, d = shape
        c.tissue[box][(d < -lining) & (c.y[box] > level)] = T.FLUID


def orbits(b: Brush) -> None:
    """Orbital fat, globe, optic nerve, muscles, and the inferior orbital fissure."""
    c = b.c
    for side in SIDES:
        box, d = c.ellipsoid(b.at(side * 31, -50, 35), b.size(18.5, 24, 18))
        c.paint((box, d), T.CORTICAL_BONE, S.BACKGROUND)
        c.paint((box, d + np.float32(1.5)), T.FAT, S.ORBIT)
        for dx, dz in ((0, 9), (0, -9), (9, 0), (-9, 0)):
            muscle = c.capsule((side * 31 + dx, -56, 35 + dz), (side * 19, -24, 34), 1.8)
            c.paint_where(muscle, [T.FAT], T.MUSCLE, S.ORBIT)
        c.paint(c.capsule((side * 30, -50, 35), (side * 16, -16, 36), 2), T.NERVE, S.ORBIT)
        globe = c.ellipsoid(b.at(side * 31, -60, 35, 0.6), (11.5, 11.5, 11.5))
        c.paint(globe, T.SKIN, S.ORBIT)
        c.paint(globe, T.VITREOUS, inset=1.3)
        fissure = c.capsule(b.at(side * 20, -26, 17, 0.5), (side * 30, -40, 19), 2.7, (1, 1, 1.1))
        c.paint(fissure, T.FAT, S.INFERIOR_ORBITAL_FISSURE)


def airway(b: Brush) -> None:
    """Nasal cavity, nasopharynx, oropharynx, hypopharynx: lumen and mucosa; retropharyngeal nodes."""
    c, wall = b.c, b.p.wall
    _nose(b)
    for side in SIDES:
        tonsil = c.ellipsoid(b.at(side * 16, -3, -31), b.size(5, 6.5, 9, spread=0.12))
        c.paint_where(tonsil, _SOFT, T.LYMPHOID, S.OROPHARYNX)
    oro = c.capsule((0, 0, -24), (0, 7, -50), 8.0 + wall, (1.45, 0.75, 1))
    c.paint_where(oro, [t for t in T if t != T.LYMPHOID], T.MUCOSA, S.OROPHARYNX)
    hypo = c.capsule((0, 6, -58), (0, 8, -92), 6.5 + wall, (1.7, 0.8, 1))
    c.paint(hypo, T.MUCOSA, S.HYPOPHARYNX)
    larynx = c.ellipsoid((0, -10, -84), (16, 14, 18))
    c.paint_where(larynx, _SOFT, T.CARTILAGE, S.BACKGROUND)
    c.paint(c.ellipsoid((0, -8, -84), (6, 9, 17)), T.AIR, S.HYPOPHARYNX)
    c.paint(c.capsule((0, 0, -22), (0, 7, -52), 8.0, (1.3, 0.62, 1)), T.AIR)
    c.paint(c.capsule((0, 6, -56), (0, 8, -90), 5.0, (1.7, 0.5, 1)), T.AIR)
    _nasopharynx(b)
    for side, radius in zip(SIDES, b.p.node, strict=True):
        node = c.ellipsoid(b.at(side * 17.5, 15.5, -8, 1.0), (radius, radius * 0.9, radius * 1.5))
        c.paint(node, T.NODE, S.RETROPHARYNGEAL_NODE)


def _nose(b: Brush) -> None:
    """Two cavities, narrow above, mostly filled by their turbinates."""
    c, swelling = b.c, b.p.mucosal_swelling
    lining = 1.2 + swelling
    for side in SIDES:
        box, d = c.slab((side * 8.0, -38, 2), (7.6, 30, 17.5), 0, 4)
        width = np.clip(15.5 - 0.62 * (c.z[box] + 1), 4.5, 15.5)
        cavity = box, np.maximum(d, np.abs(c.x[box]) - width)
        c.paint(cavity, T.MUCOSA, S.NASAL_CAVITY)
        c.paint(cavity, T.AIR, inset=lining)
        for x, z, r in ((10.0, -9.5, 5.0), (9.0, 2.0, 4.4), (6.5, 12.0, 2.6)):
            swell = r * float(np.clip(b.rng.normal(1, 0.2), 0.6, 1.4)) + 0.4 * swelling
            box, d = c.capsule((side * x, -14, z), (side * x, -58, z), swell, (0.75, 1, 1.25))
            inside = (d < 0) & (c.structure[box] == S.NASAL_CAVITY)
            c.tissue[box][inside] = T.MUCOSA
            c.tissue[box][inside & (d < 0.9 - swell)] = T.CORTICAL_BONE
    septum = c.slab((float(b.rng.normal(0, 0.8)), -40, 2), (1.5, 30, 17.5), 0, 0.7)
    c.paint(septum, T.MUCOSA, S.NASAL_CAVITY)
    c.paint(septum, T.CARTILAGE, inset=0.8)


def _nasopharynx(b: Brush) -> None:
    """Lumen with choanae and Rosenmueller's recesses, wall, levator, adenoid, torus."""
    c, p = b.c, b.p
    f = p.lumen
    deep = f * float(np.clip(b.rng.normal(1, 0.12), 0.7, 1.3))
    lumen = [
        c.ellipsoid((0, 0, 0), (10.5 * f, 8.0 * deep, 14.0), 9),
        c.capsule((0, -10, 0), (0, -2, -1), 7.5 * deep, (1.15, 1, 1.25), 9),
        c.capsule((0, 0, -8), (0, 2, -24), 6.0 * deep, (1.5, 0.85, 1), 9),
    ]
    for side in SIDES:
        tip = b.at(side * 16.5 * min(1.0, f + 0.05), 9.5, 2, 0.7)
        lumen.append(c.capsule((side * 7, 4, 2), tip, 2.0, (1, 1, 3.0), 7))
    for box, d in lumen:
        c.paint((box, d - np.float32(p.wall)), T.MUCOSA, S.NASOPHARYNX)
    for side in SIDES:
        # Levator and tensor veli palatini lie in the lateral wall.
        levator = c.capsule((side * 15, 3, 10), (side * 12, -4, -16), 2.6)
        c.paint_where(levator, [T.MUCOSA, T.FAT, T.MUSCLE], T.MUSCLE, S.NASOPHARYNX)
    if p.adenoid > 0.5:
        bulge = c.ellipsoid((0, 5, 9), (11 + p.adenoid, 5.5 + p.adenoid, 7 + p.adenoid))
        c.paint_where(bulge, [T.MUCOSA, T.AIR, T.FAT, T.MUSCLE], T.LYMPHOID, S.NASOPHARYNX)
    for box, d in lumen:
        inside = d < 0
        if p.adenoid > 0.5:
            inside &= c.tissue[box] != T.LYMPHOID
        c.tissue[box][inside] = T.AIR
        c.structure[box][inside] = S.NASOPHARYNX
    for side in SIDES:
        torus = c.ellipsoid(b.at(side * 12.0 * f, 1.5, 1, 0.5), (3.0, 3.4, 5.5))
        c.paint(torus, T.MUCOSA, S.NASOPHARYNX)
        c.paint(torus, T.CARTILAGE, inset=1.9)
