"""The real-head bench: what it asks, and how it judges. The head itself is Debian's mricron-data."""

from dataclasses import replace

import numpy as np
import outside
import pytest

from npc_edge.bench.colin27 import CH2, MUSCLE_T1, Contrasts, read_head
from npc_edge.bench.real_heads import MIDDLE_LPS, Mass, mass_fraction, summarise, table, variants, with_mass
from npc_edge.engine.geometry import Geometry


@pytest.fixture(scope="module")
def head() -> Contrasts:
    return read_head(outside.material(str(CH2)))


def test_at_least_twenty_variants_half_of_them_healthy() -> None:
    asked = variants()
    assert len(asked) >= 20
    assert sum(variant.mass is None for variant in asked) * 2 == len(asked)
    assert {variant.plane for variant in asked} == {"axial", "oblique", "coronal", "sagittal"}
    assert len({variant.name for variant in asked}) == len(asked)
    assert any(variant.reversed for variant in asked)
    assert any(variant.enhanced for variant in asked)


def test_the_mass_has_its_size_and_lies_where_it_should() -> None:
    grid = Geometry.centred(MIDDLE_LPS, (1.0, 1.0, 1.0), (70, 80, 80))
    fraction = mass_fraction(Mass((12.0, 6.0, 0.0), 11.0), grid, 3)
    assert fraction.sum() == pytest.approx(4 / 3 * np.pi * 11**3, rel=0.1)
    z, y, x = np.argwhere(fraction > 0.5).mean(axis=0)
    middle = grid.to_world(np.array([[x, y, z]]))[0]
    assert np.linalg.norm(middle - MIDDLE_LPS - (12.0, 6.0, 0.0)) < 9.0


def test_the_simulated_t2_looks_like_one(head: Contrasts) -> None:
    """Eyes bright, air black, muscle dark, the turbinates between; the mass dark on T1, bright on T2."""
    eye, air, pterygoid, turbinate = (30, 185, 55), (0, 133, 90), (8, 140, 120), (0, 149, 82)
    assert head.t2[eye] > 0.8
    assert head.t2[air] < 0.1
    assert head.t2[pterygoid] < 0.2
    assert 0.25 < head.t2[turbinate] < 0.8
    fraction = mass_fraction(Mass((11.0, 9.0, 0.0), 11.0), head.geometry, 1)
    inside = fraction > 0.95
    changed = with_mass(head, fraction)
    assert 0.8 * MUSCLE_T1 < changed.t1[inside].mean() < 1.1 * MUSCLE_T1
    assert changed.t2[inside].mean() > 1.5 * head.muscle_t2
    np.testing.assert_array_equal(changed.t1[fraction == 0], head.t1[fraction == 0])


def test_counting_keeps_refused_unsure_and_misjudged_apart() -> None:
    row = {"variant": {"name": "plain"}, "finding": None, "reason": "NO_T2", "probability": None}
    row |= {"mass_ml": 0.0, "found_ml": None, "centroid_apart_mm": None}
    rows = [{**row, "verdict": verdict} for verdict in ("right", "right", "unsure", "refused", "misjudged")]
    counted = summarise(rows)
    assert (counted["answered"], counted["right"], counted["misjudged"]) == (4, 2, 1)
    printed = table(counted, rows)
    assert "In-sample" in printed
    assert "5 variants: 4 answered, 2 right, 1 unsure, 1 refused, 1 misjudged." in printed


def test_a_mass_is_what_a_variant_differs_in() -> None:
    asked = variants()
    healthy, ill = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert [replace(v, mass=None, name=h.name) for v, h in zip(ill, healthy, strict=True)] == healthy
