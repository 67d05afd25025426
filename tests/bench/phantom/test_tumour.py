"""A tumour enters what its category asks for, deep enough to be seen, and no more."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from npc_edge.bench.phantom.anatomy import REGION, Anatomy, HeadGrid, build_anatomy, side_mask
from npc_edge.bench.phantom.structures import Structure
from npc_edge.bench.phantom.truth import categories, criteria
from npc_edge.bench.phantom.tumour import (
    BEYOND,
    CATEGORY,
    STAGES,
    Tumour,
    beyond_lateral,
    grow_tumour,
    penetration,
)

SEEDS = (2, 9, 30, 57)
SLICE_MM = 5.0
VOLUME_ML = {"T1": (0.5, 20.0), "T2": (2.0, 30.0), "T3": (4.0, 50.0), "T4": (8.0, 90.0)}
CASES = [(seed, stage) for seed in SEEDS for stage in STAGES]


@lru_cache(maxsize=len(SEEDS))
def head(seed: int) -> Anatomy:
    return build_anatomy(seed, REGION, healthy=False)


@lru_cache(maxsize=len(CASES))
def case(seed: int, stage: str) -> tuple[Anatomy, Tumour]:
    return head(seed), grow_tumour(head(seed), stage, seed, SLICE_MM)


@pytest.mark.parametrize(("seed", "stage"), CASES)
def test_its_category_comes_back(seed: int, stage: str) -> None:
    anatomy, tumour = case(seed, stage)
    assert categories(anatomy, tumour) == (stage, stage)
    low, high = VOLUME_ML[stage]
    assert low < tumour.fraction.sum(dtype=np.float64) * REGION.voxel_mm3 / 1000 < high


@pytest.mark.parametrize(("seed", "stage"), CASES)
def test_its_trigger_is_deep_and_what_is_higher_stays_free(seed: int, stage: str) -> None:
    anatomy, tumour = case(seed, stage)
    found = {(c.structure, c.side): c for c in criteria(anatomy, tumour)}
    for trigger in tumour.trigger:
        assert CATEGORY[trigger[0]] == stage
        assert found[trigger].depth_mm >= 3.0
        assert found[trigger].invaded
        name, side = trigger
        where = beyond_lateral(anatomy) if name == BEYOND else anatomy.structure == Structure[name.upper()]
        if side != "midline":
            where = where & side_mask(anatomy, side)
        assert penetration(where & (tumour.fraction >= 0.5), REGION)[1] >= 1.5 * SLICE_MM
    higher = [c for c in found.values() if STAGES.index(c.category) > STAGES.index(stage)]
    assert all(c.depth_mm <= 1.0 for c in higher)


@pytest.mark.parametrize(("seed", "stage"), CASES)
def test_it_is_one_piece_on_the_nasopharyngeal_wall(seed: int, stage: str) -> None:
    anatomy, tumour = case(seed, stage)
    solid = tumour.fraction >= 0.5
    assert ndimage.label(solid)[1] == 1
    assert (solid & (anatomy.structure == Structure.NASOPHARYNX)).sum() * REGION.voxel_mm3 > 100
    soft = (tumour.fraction > 0.02) & (tumour.fraction < 0.98)
    assert soft.sum() > 0.1 * solid.sum()
    assert float(tumour.fraction.min()) >= 0.0
    assert float(tumour.fraction.max()) <= 1.0


def test_the_head_underneath_is_not_touched_and_growth_repeats() -> None:
    anatomy = build_anatomy(2, REGION, healthy=False)
    tissue, structure = anatomy.tissue.copy(), anatomy.structure.copy()
    first, again = grow_tumour(anatomy, "T3", 7), grow_tumour(anatomy, "T3", 7)
    assert np.array_equal(first.fraction, again.fraction)
    assert first.trigger == again.trigger
    assert np.array_equal(anatomy.tissue, tissue)
    assert np.array_equal(anatomy.structure, structure)


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="stage must be one of"):
        grow_tumour(head(2), "T5", 1)


def test_penetration_of_a_known_block() -> None:
    grid = HeadGrid((0.0, 0.0, 0.0), (1.0, 1.0, 2.0), (10, 30, 30))
    inside = np.zeros(grid.shape, dtype=bool)
    inside[2:6, 5:14, 5:25] = True
    depth, tall = penetration(inside, grid)
    assert depth == pytest.approx(9.0, abs=1.0)
    assert tall == 8.0
    assert penetration(np.zeros(grid.shape, dtype=bool), grid) == (0.0, 0.0)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), stage=st.sampled_from(STAGES))
def test_never_a_higher_category_than_asked_for(seed: int, stage: str) -> None:
    grid = HeadGrid((-80.0, -80.0, -74.0), (2.0, 2.0, 2.0), (75, 80, 80))
    anatomy = build_anatomy(seed, grid, healthy=False)
    assert categories(anatomy, grow_tumour(anatomy, stage, seed)) == (stage, stage)
