"""The synthetic head: one seed is one person, whatever the grid, and has every named structure."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.bench.phantom.anatomy import REGION, WHOLE_HEAD, Anatomy, HeadGrid, build_anatomy, side_mask
from npc_edge.bench.phantom.structures import PAIRED, Structure, Tissue

COARSE = HeadGrid((-100.0, -124.0, -96.0), (4.0, 4.0, 4.0), (56, 64, 51))
SEEDS = (1, 8, 21)


@lru_cache(maxsize=len(SEEDS))
def whole(seed: int) -> Anatomy:
    return build_anatomy(seed, WHOLE_HEAD)


def centre(anatomy: Anatomy, structure: Structure, side: str) -> np.ndarray:
    """x, y, z in mm."""
    index = np.argwhere((anatomy.structure == structure) & side_mask(anatomy, side)).mean(axis=0)
    return np.array(anatomy.grid.origin) + index[::-1] * np.array(anatomy.grid.spacing)


def test_a_seed_is_a_person() -> None:
    first, again = build_anatomy(4, REGION), build_anatomy(4, REGION)
    assert np.array_equal(first.tissue, again.tissue)
    assert np.array_equal(first.structure, again.structure)
    assert (first.wall_mm, first.findings) == (again.wall_mm, again.findings)
    assert (build_anatomy(5, REGION).tissue != first.tissue).mean() > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_grids_agree_where_they_share_voxel_centres(seed: int) -> None:
    shared = HeadGrid((-60.0, -60.0, -40.0), (3.0, 3.0, 6.0), (15, 40, 40))
    alone = build_anatomy(seed, shared)
    region = build_anatomy(seed, REGION)
    first = [round((a - b) / s) for a, b, s in zip(shared.origin, REGION.origin, REGION.spacing, strict=True)]
    there = tuple(slice(f, f + 3 * n, 3) for f, n in zip(first[::-1], shared.shape, strict=True))
    assert region.tissue[there].shape == alone.tissue.shape
    # Rounding of float32 may move a voxel that lies on a surface.
    assert (region.tissue[there] == alone.tissue).mean() > 0.999
    assert (region.structure[there] == alone.structure).mean() > 0.999


@pytest.mark.parametrize("seed", SEEDS)
def test_every_structure_and_tissue_side_by_side(seed: int) -> None:
    anatomy = whole(seed)
    # Which marrow a head has, and sclerosis, is a finding that comes and goes.
    always = set(Tissue) - {Tissue.SCLEROSIS, Tissue.RED_MARROW, Tissue.FATTY_MARROW}
    assert {int(t) for t in always} <= set(np.unique(anatomy.tissue).tolist())
    assert set(np.unique(anatomy.structure).tolist()) == {int(s) for s in Structure}
    for structure in PAIRED:
        mask = anatomy.structure == structure
        left, right = (int((mask & side_mask(anatomy, side)).sum()) for side in ("left", "right"))
        assert min(left, right) > 0.2 * max(left, right), structure.name


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_lie_as_in_a_head(seed: int) -> None:
    anatomy = whole(seed)
    at = {s: centre(anatomy, s, "left") for s in Structure if s}
    nasopharynx = at[Structure.NASOPHARYNX]
    assert np.abs(nasopharynx[1:]).max() < 12
    assert at[Structure.CLIVUS][1] > nasopharynx[1]
    assert at[Structure.CLIVUS][2] > nasopharynx[2] + 8
    assert at[Structure.PREVERTEBRAL_MUSCLE][1] > nasopharynx[1] + 8
    assert at[Structure.NASAL_CAVITY][1] < nasopharynx[1] - 20
    assert at[Structure.HYPOPHARYNX][2] < -55
    lateral = [
        Structure.PARAPHARYNGEAL_SPACE,
        Structure.MEDIAL_PTERYGOID,
        Structure.LATERAL_PTERYGOID,
        Structure.PAROTID,
    ]
    across = [at[s][0] for s in lateral]
    assert across[0] < min(across[1:])
    assert across[-1] == max(across)


def test_healthy_alone_has_the_mimics() -> None:
    mimics = {"lymphoid_hyperplasia", "mucosal_thickening"}
    # Findings are drawn from the seed alone: any grid will do.
    speck = HeadGrid((0.0, 0.0, 0.0), (4.0, 4.0, 4.0), (4, 4, 4))
    healthy = [set(build_anatomy(seed, speck).findings) for seed in range(16)]
    others = [set(build_anatomy(seed, speck, healthy=False).findings) for seed in range(16)]
    assert set.union(*healthy) >= mimics
    assert not set.union(*others) & mimics
    assert set.union(*others) == {"retropharyngeal_nodes", "sinus_fluid", "marrow_change"}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1))
def test_any_seed_is_a_head_with_air_round_it(seed: int) -> None:
    anatomy = build_anatomy(seed, COARSE)
    assert int(anatomy.tissue.max()) <= max(Tissue)
    assert int(anatomy.structure.max()) <= max(Structure)
    assert (anatomy.tissue[:, 0] == Tissue.AIR).all()
    brain_ml = (anatomy.structure == Structure.INTRACRANIAL).sum() * COARSE.voxel_mm3 / 1000
    assert 900 < brain_ml < 2300
    assert 1.0 < anatomy.wall_mm < 14.0
