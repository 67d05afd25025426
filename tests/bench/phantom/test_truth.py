"""Truth from construction, on tumours whose extent is known by hand."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npc_edge.bench.phantom import truth
from npc_edge.bench.phantom.anatomy import REGION, Anatomy, build_anatomy, side_mask
from npc_edge.bench.phantom.structures import PAIRED, Structure
from npc_edge.bench.phantom.truth import categories, criteria
from npc_edge.bench.phantom.tumour import BEYOND, CATEGORY, Tumour


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return build_anatomy(12, REGION, healthy=False)


def filling(anatomy: Anatomy, *structures: Structure, side: str | None = None) -> Tumour:
    """A tumour that is exactly these structures."""
    mask = np.isin(anatomy.structure, structures)
    if side is not None:
        mask &= side_mask(anatomy, side)
    return Tumour("T1", mask.astype(np.float32), ())


def test_a_healthy_head_has_no_category(anatomy: Anatomy) -> None:
    assert categories(anatomy, None) == (None, None)
    assert all(c.overlap_mm3 == 0 and not c.invaded for c in criteria(anatomy, None))


def test_every_criterion_once_a_side(anatomy: Anatomy) -> None:
    found = [(c.structure, c.side) for c in criteria(anatomy, None)]
    assert len(found) == len(set(found))
    for name in CATEGORY:
        sides = {side for structure, side in found if structure == name}
        paired = name == BEYOND or Structure[name.upper()] in PAIRED
        assert sides == ({"left", "right"} if paired else {"midline"})


@pytest.mark.parametrize(
    ("structure", "category"),
    [
        (Structure.NASAL_CAVITY, "T1"),
        (Structure.MEDIAL_PTERYGOID, "T2"),
        (Structure.CLIVUS, "T3"),
        (Structure.PETROUS_APEX, "T3"),
        (Structure.CAVERNOUS_SINUS, "T4"),
        (Structure.PAROTID, "T4"),
    ],
)
def test_the_highest_structure_decides(anatomy: Anatomy, structure: Structure, category: str) -> None:
    tumour = filling(anatomy, Structure.NASOPHARYNX, structure)
    assert categories(anatomy, tumour) == (category, category)


def test_one_side_is_told_from_the_other(anatomy: Anatomy) -> None:
    tumour = filling(anatomy, Structure.LATERAL_PTERYGOID, side="left")
    found = {(c.structure, c.side): c for c in criteria(anatomy, tumour)}
    left, right = found["lateral_pterygoid", "left"], found["lateral_pterygoid", "right"]
    assert left.invaded
    assert not right.invaded
    assert right.overlap_mm3 == 0
    expected = tumour.fraction.sum(dtype=np.float64) * REGION.voxel_mm3
    assert left.overlap_mm3 == pytest.approx(expected, rel=1e-3)


def test_the_fissure_is_named_by_version_9_alone(anatomy: Anatomy) -> None:
    mask = anatomy.structure == Structure.INFERIOR_ORBITAL_FISSURE
    roomy = anatomy.structure.copy()
    # The fissure is narrow: a wide one shows the rule without leaning on this head's size of it.
    low, high = np.argwhere(mask).min(0), np.argwhere(mask).max(0) + 1
    roomy[low[0] : high[0], low[1] : high[1], low[2] : low[2] + 12] = Structure.INFERIOR_ORBITAL_FISSURE
    wide = replace(anatomy, structure=roomy)
    tumour = filling(wide, Structure.NASOPHARYNX, Structure.INFERIOR_ORBITAL_FISSURE)
    assert categories(wide, tumour) == ("T1", "T4")


def test_a_touch_is_no_invasion(anatomy: Anatomy) -> None:
    layer = np.zeros_like(anatomy.structure, dtype=np.float32)
    clivus = anatomy.structure == Structure.CLIVUS
    z = int(np.argwhere(clivus)[:, 0].mean())
    layer[z] = clivus[z]  # one slice of 2 mm
    nasopharynx = (anatomy.structure == Structure.NASOPHARYNX).astype(np.float32)
    assert categories(anatomy, Tumour("T1", np.maximum(layer, nasopharynx), ())) == ("T1", "T1")


def test_truth_imports_nothing_of_the_engine() -> None:
    assert truth.__file__ is not None
    folder = Path(truth.__file__).parent
    for name in ("truth.py", "tumour.py", "anatomy.py", "canvas.py"):
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        assert not [m for m in modules if "engine" in m]
