"""The parts of the synthetic head, painted from the outside in.

Positions and sizes are those of an average adult in LPS mm about the centre of the nasopharynx (the hard
palate 16 mm below, the clivus behind and above, the skull base at about +20 mm), rounded from anatomy
atlases; each seed varies them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npc_edge.bench.phantom.canvas import Canvas, smooth_noise
from npc_edge.bench.phantom.structures import Structure as S
from npc_edge.bench.phantom.structures import Tissue as T

Triple = tuple[float, float, float]


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


class Painter:
    """Paints one person; `rng` jitters every part in a fixed order, so that a seed is a person on any grid."""

    def __init__(self, canvas: Canvas, person: Person, rng: np.random.Generator) -> None:
        self.c, self.p, self.rng = canvas, person, rng
        self.marrow = {"fatty": T.FATTY_MARROW, "red": T.RED_MARROW, "sclerotic": T.FATTY_MARROW}[
            person.marrow
        ]

    def at(self, x: float, y: float, z: float, spread: float = 1.0) -> Triple:
        """A point moved by the person's own jitter (sd mm)."""
        d = self.rng.normal(0, spread, 3)
        return x + float(d[0]), y + float(d[1]), z + float(d[2])

    def size(self, *mm: float, spread: float = 0.07) -> Triple:
        """Radii varied by the person's own factor."""
        f = np.clip(self.rng.normal(1, spread, 3), 0.8, 1.2)
        return mm[0] * float(f[0]), mm[1] * float(f[1]), mm[2] * float(f[2])

    def paint_all(self) -> None:
        self.body()
        self.skull()
        self.neck()
        self.face()
        self.masticator()
        self.base()
        self.spaces()
        self.sinuses()
        self.orbits()
        self.airway()
        self.nodes()

    # --- from the outside in ---

    def body(self) -> None:
        """Skin, subcutaneous fat and a filling of muscle and fat planes."""
        c, rng = self.c, self.rng
        shapes = [
            c.ellipsoid((0, 6, 52), self.size(76, 97, 84, spread=0.02), 8),
            c.ellipsoid((0, -26, -14), self.size(62, 66, 72, spread=0.03), 8),
            c.capsule(
                (0, 22, -30),
                (0, 34, -190),
                56 * float(np.clip(rng.normal(1, 0.06), 0.85, 1.15)),
                (1, 1.05, 1),
                8,
            ),
            c.ellipsoid((0, -88, 8), self.size(15, 20, 22), 8),
        ]
        distance = np.full(c.tissue.shape, 40.0, dtype=np.float32)
        for box, d in shapes:  # smooth union: skin has no creases between the parts
            k = np.float32(14.0)
            h = np.clip(0.5 + 0.5 * (distance[box] - d) / k, 0, 1)
            distance[box] = distance[box] * (1 - h) + d * h - k * h * (1 - h)
        c.tissue[distance < 0] = T.SKIN
        c.tissue[distance < -2.0] = T.FAT
        planes = smooth_noise(c.grid, rng, 9.0)
        inner = distance < -2.0 - self.p.fat
        c.tissue[inner & (planes < 0.55)] = T.MUSCLE
        # The deep face is mostly fat between named muscles.
        deep = c.ellipsoid((0, -22, -8), (52, 42, 34))
        box, d = deep
        c.tissue[box][(d < 0) & inner[box] & (planes[box] > -0.15)] = T.FAT

    def skull(self) -> None:
        """Vault, brain and CSF."""
        c = self.c
        parts = [
            c.ellipsoid((0, 8, 74), self.size(66, 83, 60, spread=0.02), 9),
            c.ellipsoid((0, 50, 20), self.size(50, 38, 30, spread=0.03), 9),
            c.ellipsoid((-38, 2, 40), self.size(22, 32, 18), 9),
            c.ellipsoid((38, 2, 40), self.size(22, 32, 18), 9),
        ]
        distance = np.full(c.tissue.shape, 40.0, dtype=np.float32)
        for box, d in parts:
            np.minimum(distance[box], d, out=distance[box])
        vault = float(np.clip(self.rng.normal(7, 1), 5, 9))
        c.tissue[distance < vault] = T.CORTICAL_BONE
        c.tissue[distance < vault - 1.8] = self.marrow
        c.tissue[distance < 1.8] = T.CORTICAL_BONE
        brain = distance < 0
        c.structure[brain] = S.INTRACRANIAL
        c.tissue[brain] = T.CSF
        folds = smooth_noise(c.grid, self.rng, 7.0)
        depth = distance + 1.6 * folds
        c.tissue[brain & (depth < -3.0)] = T.GREY_MATTER
        c.tissue[brain & (depth < -7.0)] = T.WHITE_MATTER
        for side in (-1, 1):
            c.paint_where(
                c.ellipsoid((side * 9, 10, 78), self.size(6, 26, 9)),
                [T.WHITE_MATTER, T.GREY_MATTER],
                T.CSF,
                S.INTRACRANIAL,
            )
        stem = c.capsule((0, 34, 34), (0, 40, -4), 11)
        c.paint(stem, T.CSF, S.INTRACRANIAL)
        c.paint(stem, T.WHITE_MATTER, inset=3)

    def neck(self) -> None:
        """Cervical spine with its canal, prevertebral muscles, hyoid level vessels."""
        c, bulk = self.c, self.p.bulk
        for k, z in enumerate((-34.0, -50.0, -66.0, -82.0, -98.0, -114.0)):
            body = c.slab(self.at(0, 33 + 0.5 * k, z), (9.5, 8.5, 6.8), 0.1, 3)
            c.bone(body, self.marrow, T.CORTICAL_BONE, 1.3, S.CERVICAL_VERTEBRA)
            for side in (-1, 1):
                c.bone(
                    c.ellipsoid(self.at(side * 18, 42, z), (6, 8, 6)),
                    self.marrow,
                    T.CORTICAL_BONE,
                    1.2,
                    S.CERVICAL_VERTEBRA,
                )
        c.bone(
            c.capsule((0, 32, -26), (0, 29, -8), 5.5), self.marrow, T.CORTICAL_BONE, 1.2, S.CERVICAL_VERTEBRA
        )
        c.bone(
            c.capsule((-12, 24, -14), (12, 24, -14), 3.6),
            self.marrow,
            T.CORTICAL_BONE,
            1.1,
            S.CERVICAL_VERTEBRA,
        )
        for side in (-1, 1):
            mass = c.ellipsoid(self.at(side * 19, 32, -13), self.size(8, 9, 8.5))
            c.bone(mass, self.marrow, T.CORTICAL_BONE, 1.3, S.CERVICAL_VERTEBRA)
            condyle = c.ellipsoid(self.at(side * 17, 31, 2), self.size(6.5, 9, 5.5))
            c.bone(condyle, self.marrow, T.CORTICAL_BONE, 1.2, None)
        canal = c.capsule((0, 47, -12), (0, 52, -190), 8.5, (1.15, 1, 1))
        c.paint_where(canal, [t for t in T if t not in (T.WHITE_MATTER, T.GREY_MATTER)], T.CSF, S.BACKGROUND)
        c.paint(c.capsule((0, 44, -2), (0, 51, -190), 5, (1.25, 0.9, 1)), T.WHITE_MATTER)
        for side in (-1, 1):
            muscle = c.capsule(
                self.at(side * 8, 16.5, 1, 0.6),
                self.at(side * 8.5, 20, -95, 0.8),
                5.2 * bulk,
                (1.25, 0.85, 1),
            )
            c.paint_where(muscle, [T.FAT, T.MUSCLE], T.MUSCLE, S.PREVERTEBRAL_MUSCLE)

    def face(self) -> None:
        """Maxilla, palate, mandible, tongue, parotids."""
        c, bulk = self.c, self.p.bulk
        c.bone(c.slab((0, -42, -17), (24, 27, 3), 0, 2), self.marrow, T.CORTICAL_BONE, 1.0, None)
        c.bone(c.ellipsoid((0, -58, -24), (26, 18, 10)), self.marrow, T.CORTICAL_BONE, 1.3, None)
        tongue = c.ellipsoid(self.at(0, -34, -40), self.size(22, 30, 19))
        c.paint(tongue, T.MUSCLE, 0)
        c.paint(c.ellipsoid((0, -34, -40), (1.2, 24, 14)), T.FAT)
        soft = c.capsule((0, -14, -17), (0, 0, -27), 3.5, (3.4, 1, 1))
        c.paint(soft, T.MUCOSA, 0)
        c.paint(soft, T.MUSCLE, inset=1.6)
        for side in (-1, 1):
            ramus = c.capsule(self.at(side * 47, 8, 6), self.at(side * 43, 0, -42), 3.6, (1, 3.4, 1))
            c.bone(ramus, self.marrow, T.CORTICAL_BONE, 1.4, None)
            jaw = c.capsule((side * 42, -4, -44), (side * 12, -66, -50), 5.5, (0.9, 1, 2.0))
            c.bone(jaw, self.marrow, T.CORTICAL_BONE, 1.6, None)
            c.bone(c.ellipsoid((side * 48, 12, 13), (9, 5, 6)), self.marrow, T.CORTICAL_BONE, 1.4, None)
            masseter = c.ellipsoid(self.at(side * 54.5, -6, -20), self.size(6.5 * bulk, 15, 23))
            c.paint_where(masseter, [T.FAT, T.MUSCLE], T.MUSCLE, S.BACKGROUND)
            temporalis = c.ellipsoid(self.at(side * 55, -18, 24), self.size(7 * bulk, 22, 24))
            c.paint_where(temporalis, [T.FAT, T.MUSCLE], T.MUSCLE, S.BACKGROUND)
            parotid = c.ellipsoid(self.at(side * 51, 22, -14), self.size(10, 12, 20))
            c.paint_where(parotid, [T.FAT, T.MUSCLE], T.GLAND, S.PAROTID)
            cheek = c.capsule((side * 50, -44, 8), (side * 62, -6, 8), 3.0, (1, 1, 1.6))
            c.bone(cheek, self.marrow, T.CORTICAL_BONE, 1.2, None)

    def masticator(self) -> None:
        """Pterygoid muscles and the fat between them."""
        c, bulk = self.c, self.p.bulk
        for side in (-1, 1):
            lateral = c.capsule(
                self.at(side * 24, -9, 7, 0.8), self.at(side * 43, 9, 9, 0.8), 6.3 * bulk, (1, 1, 1.25)
            )
            medial = c.capsule(
                self.at(side * 20, -7, -1, 0.8), self.at(side * 36, 1, -38, 1.0), 5.3 * bulk, (0.95, 1.35, 1)
            )
            c.paint(lateral, T.MUSCLE, S.LATERAL_PTERYGOID)
            c.paint(medial, T.MUSCLE, S.MEDIAL_PTERYGOID)

    def base(self) -> None:
        """Clivus and sphenoid, petrous bones, pterygoid processes, foramina, cavernous sinuses."""
        c = self.c
        for side in (-1, 1):
            petrous = c.capsule(self.at(side * 15, 17, 22), (side * 52, 34, 20), 8, (1, 1, 0.95))
            c.bone(petrous, T.FATTY_MARROW, T.CORTICAL_BONE, 2.6, None)
            apex = c.capsule(self.at(side * 15, 17, 22), (side * 25, 22, 21.5), 7.2)
            c.bone(apex, self.marrow, T.CORTICAL_BONE, 1.3, S.PETROUS_APEX)
            c.paint(c.ellipsoid((side * 53, 36, 10), self.size(9, 11, 14)), T.CORTICAL_BONE, 0)
            c.paint(c.ellipsoid((side * 54, 37, 9), (6.5, 8, 11)), T.AIR)
            wing = c.capsule((side * 14, -10, 22), (side * 40, -16, 24), 4, (1, 2.4, 1))
            c.bone(wing, self.marrow, T.CORTICAL_BONE, 1.3, None)
        clivus = c.capsule((0, 11, 31), (0, 24.5, -1), 6.5, (1.75, 1, 1))
        c.bone(clivus, self.marrow, T.CORTICAL_BONE, 1.2, S.CLIVUS)
        body = c.slab((0, -4, 27.5), (15, 16, 10.5), -0.15, 3)
        c.bone(body, self.marrow, T.CORTICAL_BONE, 1.2, S.CLIVUS)
        if self.p.marrow == "sclerotic":
            patch = c.ellipsoid(self.at(0, 14, 20, 4.0), (6, 5, 6))
            c.paint_where(patch, [T.FATTY_MARROW, T.RED_MARROW], T.SCLEROSIS, S.CLIVUS)
        for side in (-1, 1):
            process = c.capsule(
                self.at(side * 14, -13, 17, 0.6), self.at(side * 14.5, -13, -9, 0.6), 3.4, (1, 1.5, 1)
            )
            c.bone(process, self.marrow, T.CORTICAL_BONE, 0.9, S.PTERYGOID_PROCESS)
            plate = c.capsule((side * 19, -8, 12), (side * 22, -3, -7), 1.5, (1, 2.2, 1))
            c.bone(plate, self.marrow, T.CORTICAL_BONE, 0.9, S.PTERYGOID_PROCESS)
            cavernous = c.ellipsoid(self.at(side * 13.5, 5, 40, 0.8), self.size(5.5, 11, 7))
            c.paint(cavernous, T.VENOUS_BLOOD, S.CAVERNOUS_SINUS)
            c.paint(c.capsule((side * 12.5, -2, 40), (side * 13, 11, 38), 2.5), T.FLOWING_BLOOD)
            for centre, radii in (
                ((23, 3, 19), (3, 3.4, 4)),
                ((17, -10, 24), (2.6, 4, 2.6)),
                ((11.5, 12.5, 13), (3.4, 3.6, 3.2)),
            ):
                x, y, z = centre
                hole = c.ellipsoid(self.at(side * x, y, z, 0.5), self.size(*radii))
                c.paint(hole, T.FAT, S.FORAMINA)
                c.paint(hole, T.NERVE, inset=1.6)

    def spaces(self) -> None:
        """Parapharyngeal fat, carotid sheath, pterygopalatine fossa and inferior orbital fissure."""
        c = self.c
        for side in (-1, 1):
            sheath = c.capsule(
                self.at(side * 26, 18, 8, 0.8), self.at(side * 27, 21, -85, 1.0), 7.0, (1.2, 1, 1)
            )
            c.paint_where(sheath, [T.FAT, T.MUSCLE], T.FAT, S.CAROTID_SPACE)
            c.paint(c.capsule((side * 23, 16, 12), (side * 24, 19, -90), 2.9), T.FLOWING_BLOOD)
            c.paint(
                c.capsule((side * 30, 20, 8), (side * 30, 22, -90), 4.2),
                T.FLOWING_BLOOD if side < 0 else T.VENOUS_BLOOD,
            )
            fat = c.capsule(
                self.at(side * 23.5, 4, 8, 0.6), self.at(side * 25, 6, -26, 0.8), 4.2, (0.95, 1.9, 1)
            )
            c.paint_where(fat, [T.FAT, T.MUSCLE], T.FAT, S.PARAPHARYNGEAL_SPACE)
            # Styloid muscles and pterygoid veins cross the fat.
            veins = c.capsule((side * 27, -2, 8), (side * 29, 4, -6), 1.4)
            c.paint_where(veins, [T.FAT], T.VENOUS_BLOOD, S.PARAPHARYNGEAL_SPACE)
            fossa = c.ellipsoid(self.at(side * 16, -22, 10, 0.6), self.size(3.4, 3.6, 9))
            c.paint(fossa, T.FAT, S.PTERYGOPALATINE_FOSSA)

    def sinuses(self) -> None:
        """Sphenoid, ethmoid and maxillary sinuses: air, mucosa, sometimes fluid."""
        c, p = self.c, self.p
        lining = 0.8 + p.mucosal_swelling
        sphenoid = c.slab(
            (float(self.rng.normal(0, 1.5)), -5, 28.5),
            (6 + 6 * p.pneumatisation, 6 + 7.5 * p.pneumatisation, 4 + 4 * p.pneumatisation),
            -0.15,
            3,
        )
        self._sinus(sphenoid, S.SPHENOID_SINUS, "sphenoid", lining)
        c.paint(c.slab((float(self.rng.normal(0, 2)), -5, 28.5), (0.7, 11, 6), 0, 0.5), T.CORTICAL_BONE)
        for side in (-1, 1):
            wall = c.ellipsoid(self.at(side * 27, -44, 2), self.size(16, 19, 18))
            c.paint(wall, T.CORTICAL_BONE, 0)
            self._sinus((wall[0], wall[1] + 1.2), S.MAXILLARY_SINUS, "maxillary", lining)
        block = c.slab((0, -44, 29), (12, 22, 12), 0.1, 3)
        c.paint(block, T.CORTICAL_BONE, 0)
        self._sinus((block[0], block[1] + 0.9), S.ETHMOID_SINUS, "ethmoid", 0.4 * lining)
        cells = smooth_noise(c.grid, self.rng, 7.0, block[0])
        box, d = block
        septa = (d < -0.9) & (np.abs(cells) < 0.13)
        c.tissue[box][septa] = T.MUCOSA

    def _sinus(
        self, shape: tuple[tuple[slice, slice, slice], np.ndarray], structure: int, name: str, lining: float
    ) -> None:
        c = self.c
        c.paint(shape, T.MUCOSA, structure)
        c.paint(shape, T.AIR, inset=lining)
        if name in self.p.fluid:
            box, d = shape
            low = c.y[box] > float(np.median(c.y[box]))  # supine: fluid lies posteriorly
            c.tissue[box][(d < -lining) & low] = T.FLUID

    def orbits(self) -> None:
        """Orbital fat, globe, optic nerve, muscles, and the inferior orbital fissure."""
        c = self.c
        for side in (-1, 1):
            wall = c.ellipsoid(self.at(side * 31, -50, 35), self.size(18.5, 24, 18))
            c.paint(wall, T.CORTICAL_BONE, 0)
            c.paint((wall[0], wall[1] + 1.5), T.FAT, S.ORBIT)
            for dx, dz in ((0, 9), (0, -9), (9, 0), (-9, 0)):
                muscle = c.capsule((side * 31 + dx, -56, 35 + dz), (side * 19, -24, 34), 1.8)
                c.paint_where(muscle, [T.FAT], T.MUSCLE, S.ORBIT)
            c.paint(c.capsule((side * 30, -50, 35), (side * 16, -16, 36), 2), T.NERVE, S.ORBIT)
            globe = c.ellipsoid(self.at(side * 31, -60, 35, 0.6), (11.5, 11.5, 11.5))
            c.paint(globe, T.SKIN, S.ORBIT)
            c.paint(globe, T.VITREOUS, inset=1.3)
            fissure = c.capsule(self.at(side * 20, -26, 17, 0.5), (side * 30, -40, 19), 2.7, (1, 1, 1.1))
            c.paint(fissure, T.FAT, S.INFERIOR_ORBITAL_FISSURE)

    def airway(self) -> None:
        """Nasal cavity, nasopharynx, oropharynx, hypopharynx: lumen and mucosa."""
        c, p = self.c, self.p
        self._nose()
        oro = c.capsule((0, 0, -24), (0, 7, -50), 8.0 + p.wall, (1.45, 0.75, 1))
        c.paint(oro, T.MUCOSA, S.OROPHARYNX)
        hypo = c.capsule((0, 6, -58), (0, 8, -92), 6.5 + p.wall, (1.7, 0.8, 1))
        c.paint(hypo, T.MUCOSA, S.HYPOPHARYNX)
        larynx = c.ellipsoid((0, -10, -84), (16, 14, 18))
        c.paint_where(larynx, [T.FAT, T.MUSCLE], T.CARTILAGE, S.BACKGROUND)
        c.paint(c.ellipsoid((0, -8, -84), (6, 9, 17)), T.AIR, S.HYPOPHARYNX)
        c.paint(c.capsule((0, 0, -22), (0, 7, -52), 8.0, (1.3, 0.62, 1)), T.AIR)
        c.paint(c.capsule((0, 6, -56), (0, 8, -90), 5.0, (1.7, 0.5, 1)), T.AIR)
        self._nasopharynx()

    def _nose(self) -> None:
        c, p = self.c, self.p
        lining = 1.2 + p.mucosal_swelling
        for side in (-1, 1):
            cavity = c.slab((side * 8.0, -38, 2), (7.6, 30, 17.5), 0, 4)
            c.paint(cavity, T.MUCOSA, S.NASAL_CAVITY)
            c.paint(cavity, T.AIR, inset=lining)
            for z, r in ((-9.0, 4.2), (3.0, 3.6), (13.0, 2.4)):
                swell = r * float(np.clip(self.rng.normal(1, 0.2), 0.6, 1.4)) + 0.4 * p.mucosal_swelling
                turbinate = c.capsule((side * 10.5, -16, z), (side * 10, -58, z), swell, (0.75, 1, 1))
                c.paint(turbinate, T.MUCOSA, S.NASAL_CAVITY)
        septum = c.slab((float(self.rng.normal(0, 0.8)), -40, 2), (1.5, 30, 17.5), 0, 0.7)
        c.paint(septum, T.MUCOSA, S.NASAL_CAVITY)
        c.paint(septum, T.CARTILAGE, inset=0.8)

    def _nasopharynx(self) -> None:
        c, p = self.c, self.p
        f = p.lumen
        lumen = [
            c.ellipsoid((0, 0, 0), (10.5 * f, 8.0 * f, 14.0), 9),
            c.capsule((0, -10, 0), (0, -2, -1), 8.0 * f, (1.15, 1, 1.2), 9),
            c.capsule((0, 0, -8), (0, 2, -24), 6.2 * f, (1.5, 0.85, 1), 9),
        ]
        for side in (-1, 1):
            tip = self.at(side * 16.5 * min(1.0, f + 0.05), 9.5, 2, 0.7)
            lumen.append(c.capsule((side * 7, 4, 2), tip, 2.0, (1, 1, 3.0), 7))
        wall = [(box, d - np.float32(p.wall)) for box, d in lumen]
        bulge = c.ellipsoid((0, 5, 9), (11 + p.adenoid, 5.5 + p.adenoid, 7 + p.adenoid))
        for shape in wall:
            c.paint(shape, T.MUCOSA, S.NASOPHARYNX)
        for side in (-1, 1):
            # Levator and tensor veli palatini lie in the lateral wall.
            levator = c.capsule((side * 15, 3, 10), (side * 12, -4, -16), 2.6)
            c.paint_where(levator, [T.MUCOSA, T.FAT, T.MUSCLE], T.MUSCLE, S.NASOPHARYNX)
        if p.adenoid > 0.5:
            c.paint_where(bulge, [T.MUCOSA, T.AIR, T.FAT, T.MUSCLE], T.LYMPHOID, S.NASOPHARYNX)
        for box, d in lumen:
            inside = d < 0
            if p.adenoid > 0.5:
                inside &= c.tissue[box] != T.LYMPHOID
            c.tissue[box][inside] = T.AIR
            c.structure[box][inside] = S.NASOPHARYNX
        for side in (-1, 1):
            torus = c.ellipsoid(self.at(side * 12.0 * f, 1.5, 1, 0.5), (3.0, 3.4, 5.5))
            c.paint(torus, T.MUCOSA, S.NASOPHARYNX)
            c.paint(torus, T.CARTILAGE, inset=1.9)

    def nodes(self) -> None:
        """Retropharyngeal nodes, medial to the carotid, in front of the prevertebral muscle."""
        for side, radius in zip((-1, 1), self.p.node, strict=True):
            node = self.c.ellipsoid(self.at(side * 17.5, 15.5, -8, 1.0), (radius, radius * 0.9, radius * 1.5))
            self.c.paint(node, T.NODE, S.RETROPHARYNGEAL_NODE)
