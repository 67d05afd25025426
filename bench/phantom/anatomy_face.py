"""Spine and neck, jaws, tongue, glands, and the muscles of mastication."""

from __future__ import annotations

import numpy as np

from npc_edge.bench.phantom.anatomy_person import SIDES, Brush
from npc_edge.bench.phantom.structures import Structure as S
from npc_edge.bench.phantom.structures import Tissue as T


def neck(b: Brush) -> None:
    """Cervical spine with its canal, prevertebral and lateral neck muscles."""
    c, bulk = b.c, b.p.bulk
    for side in SIDES:
        mastoid_to_sternum = c.capsule(
            b.at(side * 54, 32, -6), b.at(side * 34, 8, -110), 6.5 * bulk, (0.8, 1.5, 1)
        )
        b.muscle(mastoid_to_sternum)
        b.muscle(c.capsule(b.at(side * 14, 72, 0), b.at(side * 12, 78, -110), 10 * bulk, (1.1, 0.8, 1)))
        b.muscle(c.capsule(b.at(side * 34, 56, -4), b.at(side * 30, 62, -110), 8 * bulk, (1.2, 1, 1)))
    for k, z in enumerate((-34.0, -50.0, -66.0, -82.0, -98.0, -114.0)):
        vertebra = c.slab(b.at(0, 33 + 0.5 * k, z), (9.5, 8.5, 6.8), 0.1, 3)
        b.bone(vertebra, 1.3, S.CERVICAL_VERTEBRA)
        for side in SIDES:
            b.bone(c.ellipsoid(b.at(side * 18, 42, z), (6, 8, 6)), 1.2, S.CERVICAL_VERTEBRA)
        b.bone(c.capsule((0, 60, z), (0, 74, z - 3), 2.6, (1, 1, 1.6)), 1.0)
    b.bone(c.capsule((0, 32, -26), (0, 29, -8), 5.5), 1.2, S.CERVICAL_VERTEBRA)
    b.bone(c.capsule((-12, 24, -14), (12, 24, -14), 3.6), 1.1, S.CERVICAL_VERTEBRA)
    for side in SIDES:
        mass = c.ellipsoid(b.at(side * 19, 32, -13), b.size(8, 9, 8.5))
        b.bone(mass, 1.3, S.CERVICAL_VERTEBRA)
        condyle = c.ellipsoid(b.at(side * 17, 31, 2), b.size(6.5, 9, 5.5))
        b.bone(condyle, 1.2)
    canal = c.capsule((0, 47, -12), (0, 52, -190), 8.5, (1.15, 1, 1))
    c.paint_where(canal, [t for t in T if t not in (T.WHITE_MATTER, T.GREY_MATTER)], T.CSF, S.BACKGROUND)
    c.paint(c.capsule((0, 44, -2), (0, 51, -190), 5, (1.25, 0.9, 1)), T.WHITE_MATTER)
    for side in SIDES:
        top, bottom = b.at(side * 8, 16.5, 1, 0.6), b.at(side * 8.5, 20, -95, 0.8)
        longus = c.capsule(top, bottom, 5.4 * bulk, (1.25, 0.85, 1))
        b.muscle(longus, S.PREVERTEBRAL_MUSCLE, 0.6)


def face(b: Brush) -> None:
    """Maxilla and palate with teeth, mandible, tongue, glands."""
    c = b.c
    b.bone(c.slab((0, -42, -17), (24, 27, 3), 0, 2), 1.0)
    b.bone(c.ellipsoid((0, -58, -24), (26, 18, 10)), 1.3)
    tongue = c.ellipsoid(b.at(0, -34, -40), b.size(22, 30, 19))
    c.paint(tongue, T.MUSCLE, S.BACKGROUND)
    c.paint(c.ellipsoid((0, -34, -40), (1.2, 24, 14)), T.FAT)
    floor = c.slab((0, -38, -56), (20, 22, 3), 0, 2)
    c.paint_where(floor, [T.FAT, T.MUSCLE], T.MUSCLE, S.BACKGROUND)
    soft = c.capsule((0, -14, -17), (0, 0, -27), 3.5, (3.4, 1, 1))
    c.paint(soft, T.MUCOSA, S.BACKGROUND)
    c.paint(soft, T.MUSCLE, inset=1.6)
    for side in SIDES:
        ramus = c.capsule(b.at(side * 47, 8, 6), b.at(side * 43, 0, -42), 3.6, (1, 3.4, 1))
        b.bone(ramus, 1.4)
        b.bone(c.capsule((side * 42, -4, -44), (side * 12, -66, -50), 5.5, (0.9, 1, 2.0)), 1.6)
        b.bone(c.ellipsoid((side * 48, 12, 13), (9, 5, 6)), 1.4)
        b.bone(c.capsule((side * 50, -44, 8), (side * 62, -6, 8), 3.0, (1, 1, 1.6)), 1.2)
        submandibular = c.ellipsoid(b.at(side * 31, -18, -54), b.size(8, 13, 10))
        c.paint_where(submandibular, [T.FAT, T.MUSCLE], T.GLAND, S.BACKGROUND)
    _teeth(b)


def _teeth(b: Brush) -> None:
    """Two arches of teeth."""
    for z, reach in ((-27.0, -33.0), (-44.0, -37.0)):
        for turn in np.linspace(-1.25, 1.25, 13):
            x, y = 25 * float(np.sin(turn)), -36 - 34 * float(np.cos(turn))
            b.c.paint(b.c.capsule((x, y, z), (x, y, reach), 3.0), T.CORTICAL_BONE, S.BACKGROUND)


def mastication(b: Brush) -> None:
    """Masseter, temporalis, pterygoid muscles, buccal fat; then the parotids round the ramus."""
    c, bulk = b.c, b.p.bulk
    for side in SIDES:
        buccal = c.ellipsoid(b.at(side * 41, -28, -4), b.size(8, 11, 17))
        c.paint_where(buccal, [T.FAT, T.MUSCLE], T.FAT, S.BACKGROUND)
        b.muscle(c.ellipsoid(b.at(side * 55, -6, -20), b.size(8 * bulk, 18, 27)))
        b.muscle(c.ellipsoid(b.at(side * 55, -18, 24), b.size(8.5 * bulk, 24, 26)))
        tendon = c.capsule(b.at(side * 47, -14, 0), (side * 54, -18, 22), 5.0 * bulk, (0.8, 1.6, 1))
        b.muscle(tendon)
        from_plate, to_condyle = b.at(side * 24, -9, 6, 0.8), b.at(side * 43, 9, 9, 0.8)
        lateral = c.capsule(from_plate, to_condyle, 6.9 * bulk, (1, 1, 1.35))
        medial = c.capsule(
            b.at(side * 21, -8, -1, 0.8), b.at(side * 37, 1, -39, 1.0), 6.2 * bulk, (0.9, 1.4, 1)
        )
        b.muscle(lateral, S.LATERAL_PTERYGOID, 1.2)
        b.muscle(medial, S.MEDIAL_PTERYGOID, 1.2)
        parotid = c.ellipsoid(b.at(side * 52, 21, -14), b.size(11, 13, 21))
        c.paint_where(parotid, [T.FAT, T.MUSCLE], T.GLAND, S.PAROTID)
        vein = c.capsule((side * 50, 16, 6), (side * 50, 18, -34), 2.2)
        c.paint_where(vein, [T.GLAND], T.VENOUS_BLOOD, S.PAROTID)
