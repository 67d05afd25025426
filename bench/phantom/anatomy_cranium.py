"""Skin and filling, skull and brain, and the skull base."""

from __future__ import annotations

import numpy as np

from npc_edge.bench.phantom.anatomy_person import SIDES, Brush
from npc_edge.bench.phantom.canvas import Field, smooth_noise
from npc_edge.bench.phantom.structures import Structure as S
from npc_edge.bench.phantom.structures import Tissue as T


def body(b: Brush) -> None:
    """Skin, ears, subcutaneous fat, and a filling of muscle with planes of fat."""
    c, rng = b.c, b.rng
    girth = 56 * float(np.clip(rng.normal(1, 0.06), 0.85, 1.15))
    shapes = [
        c.ellipsoid((0, 6, 52), b.size(77, 97, 84, spread=0.02), 8),
        c.ellipsoid((0, -26, -14), b.size(66, 66, 72, spread=0.03), 8),
        c.capsule((0, 22, -30), (0, 34, -190), girth, (1, 1.05, 1), 8),
        c.ellipsoid((0, -88, 8), b.size(15, 20, 22), 8),
    ]
    for side in SIDES:
        pinna = c.ellipsoid(b.at(side * 77, 32, 14), b.size(6, 15, 27))
        c.paint(pinna, T.SKIN)
        c.paint(pinna, T.CARTILAGE, inset=2.0)
    distance = np.full(c.tissue.shape, 40.0, dtype=np.float32)
    for box, d in shapes:  # smooth union: skin has no creases between the parts
        k = np.float32(14.0)
        h = np.clip(0.5 + 0.5 * (distance[box] - d) / k, 0, 1)
        distance[box] = distance[box] * (1 - h) + d * h - k * h * (1 - h)
    c.tissue[distance < 0] = T.SKIN
    c.tissue[distance < -2.0] = T.FAT
    planes = smooth_noise(c.grid, rng, 11.0)
    inner = distance < -2.0 - b.p.fat
    c.tissue[inner & (np.abs(planes) > 0.11)] = T.MUSCLE
    # The deep face is mostly fat between named muscles.
    box, d = c.ellipsoid((0, -22, -8), (54, 42, 34))
    c.tissue[box][(d < 0) & inner[box] & (planes[box] > -0.2)] = T.FAT


def skull(b: Brush) -> None:
    """Vault and posterior fossa with the brain in them."""
    c = b.c
    parts = [
        c.ellipsoid((0, 8, 74), b.size(67, 84, 60, spread=0.02), 9),
        c.ellipsoid((0, 50, 20), b.size(50, 38, 30, spread=0.03), 9),
        c.ellipsoid((-38, 2, 40), b.size(22, 32, 18), 9),
        c.ellipsoid((38, 2, 40), b.size(22, 32, 18), 9),
    ]
    distance = np.full(c.tissue.shape, 40.0, dtype=np.float32)
    for box, d in parts:
        np.minimum(distance[box], d, out=distance[box])
    vault = float(np.clip(b.rng.normal(6.5, 1), 4.5, 9))
    # Little marrow in the base: the tables are thicker there.
    table = np.where(c.z > 36, np.float32(1.7), np.float32(2.7))
    c.tissue[distance < vault] = T.CORTICAL_BONE
    c.tissue[distance < vault - table] = b.marrow
    c.tissue[distance < table] = T.CORTICAL_BONE
    brain(b, distance)


def brain(b: Brush, distance: Field) -> None:
    """Cortex, white matter, sulci, ventricles, cerebellum and brain stem where distance < 0."""
    c = b.c
    inside = distance < 0
    c.structure[inside] = S.INTRACRANIAL
    folds = smooth_noise(c.grid, b.rng, 8.0)
    flat = np.abs(folds)
    cerebellum = (c.z < 33) & (c.y > 30)
    ribbon = np.where(cerebellum, np.float32(9.0), np.float32(3.5))
    grey = (distance > -1.2 - ribbon) | ((flat < 0.42) & (distance > -19))
    sulci = (distance > -1.5) | ((flat < 0.12) & (distance > -14) & ~cerebellum)
    c.tissue[inside] = T.WHITE_MATTER
    c.tissue[inside & grey] = T.GREY_MATTER
    c.tissue[inside & sulci] = T.CSF
    folia = cerebellum & (np.sin(1.6 * c.z + 0.5 * c.y + 2.5 * folds) > 0.75)
    c.tissue[inside & folia & grey] = T.CSF
    for side in SIDES:
        ventricle = c.ellipsoid((side * 9, 10, 78), b.size(6, 26, 9))
        c.paint(ventricle, T.CSF, S.INTRACRANIAL)
        nucleus = c.ellipsoid((side * 17, 6, 66), b.size(8, 16, 10))
        c.paint_where(nucleus, [T.WHITE_MATTER], T.GREY_MATTER, S.INTRACRANIAL)
    b.c.paint(c.ellipsoid((0, 6, 52), (15, 13, 8)), T.CSF, S.INTRACRANIAL)
    for start, end, radius in (((0, 34, 52), (0, 35, 16), 13.5), ((0, 36, 20), (0, 41, -4), 10.5)):
        stem = c.capsule(start, end, radius)
        c.paint_where(stem, [T.WHITE_MATTER, T.GREY_MATTER, T.CSF], T.CSF, S.INTRACRANIAL)
    pons = c.ellipsoid((0, 36, 25), b.size(15.5, 10.5, 12.5))
    medulla = c.capsule((0, 36, 46), (0, 41, -6), 6.5, (1.15, 1, 1))
    for part in (pons, medulla):
        c.paint_where(part, [T.WHITE_MATTER, T.GREY_MATTER, T.CSF], T.WHITE_MATTER, S.INTRACRANIAL)
    c.paint(c.ellipsoid((0, 48, 20), b.size(5, 3.5, 9)), T.CSF, S.INTRACRANIAL)


def base(b: Brush) -> None:
    """Petrous bones with ears, greater wings, clivus and sphenoid, pterygoid processes, cavernous sinuses."""
    c = b.c
    for side in SIDES:
        _temporal(b, side)
        wing = c.capsule((side * 14, -10, 22), (side * 40, -16, 24), 4, (1, 2.4, 1))
        b.bone(wing, 1.6)
    clivus = c.capsule((0, 11, 31), (0, 24.5, -1), 6.5, (1.75, 1, 1))
    b.bone(clivus, 1.2, S.CLIVUS)
    sphenoid = c.slab((0, -4, 27.5), (15, 16, 10.5), -0.15, 6)
    b.bone(sphenoid, 1.2, S.CLIVUS)
    if b.p.marrow == "sclerotic":
        patch = c.ellipsoid(b.at(0, 14, 20, 4.0), (6, 5, 6))
        c.paint_where(patch, [T.FATTY_MARROW, T.RED_MARROW], T.SCLEROSIS, S.CLIVUS)
    for side in SIDES:
        process = c.capsule(b.at(side * 14, -13, 17, 0.6), b.at(side * 14.5, -13, -9, 0.6), 3.4, (1, 1.5, 1))
        b.bone(process, 0.9, S.PTERYGOID_PROCESS)
        plate = c.capsule((side * 19, -8, 12), (side * 22, -3, -7), 1.5, (1, 2.2, 1))
        b.bone(plate, 0.9, S.PTERYGOID_PROCESS)
        cavernous = c.ellipsoid(b.at(side * 13.5, 5, 40, 0.8), b.size(5.5, 11, 7))
        c.paint(cavernous, T.VENOUS_BLOOD, S.CAVERNOUS_SINUS)
        c.paint(c.capsule((side * 12.5, -2, 40), (side * 13, 11, 38), 2.5), T.FLOWING_BLOOD)
        _foramina(b, side)


def _temporal(b: Brush, side: int) -> None:
    """Petrous pyramid with apex and labyrinth, mastoid with its cells, ear canal."""
    c = b.c
    petrous = c.capsule(b.at(side * 15, 17, 22), (side * 52, 34, 20), 8, (1, 1, 0.95))
    b.bone(petrous, 4.6)
    apex = c.capsule(b.at(side * 15, 17, 22), (side * 25, 22, 21.5), 7.2)
    b.bone(apex, 1.3, S.PETROUS_APEX)
    for x, y, r in ((30, 25, 2.0), (35, 29, 2.2)):
        labyrinth = c.ellipsoid((side * x, y, 22), (r * 1.3, r, r))
        c.paint_where(labyrinth, [T.CORTICAL_BONE, T.FATTY_MARROW, T.RED_MARROW], T.FLUID, S.BACKGROUND)
    mastoid = c.ellipsoid((side * 53, 36, 10), b.size(9, 11, 16))
    c.paint(mastoid, T.CORTICAL_BONE, S.BACKGROUND)
    cells = smooth_noise(c.grid, b.rng, 5.0, mastoid[0])
    box, d = mastoid
    c.tissue[box][(d < -1.5) & (cells > -0.25)] = T.AIR
    canal = c.capsule((side * 50, 25, 13), (side * 84, 24, 13), 3.0)
    c.paint(canal, T.AIR, S.BACKGROUND)


def _foramina(b: Brush, side: int) -> None:
    """Ovale, rotundum, lacerum."""
    for centre, radii in (
        ((23.0, 3.0, 19.0), (3.0, 3.4, 4.0)),
        ((17.0, -10.0, 24.0), (2.6, 4.0, 2.6)),
        ((11.5, 12.5, 13.0), (3.4, 3.6, 3.2)),
    ):
        hole = b.c.ellipsoid(b.at(side * centre[0], centre[1], centre[2], 0.5), b.size(*radii))
        b.c.paint(hole, T.FAT, S.FORAMINA)
        b.c.paint(hole, T.NERVE, inset=1.6)
