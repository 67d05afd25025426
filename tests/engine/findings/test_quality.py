"""Gates: each passes, refuses with its code, and says nothing where the bundle declares nothing."""

from __future__ import annotations

import numpy as np
import pytest

from npc_edge.engine.errors import BundleError, Refusal
from npc_edge.engine.findings.quality import (
    check_age,
    check_context,
    check_domain,
    check_field_of_view,
    check_locator,
    check_one_grid,
    intensity_features,
)
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.types import Region, Volume

FIELD = {"inferior": 30.0, "superior": 30.0, "anterior": 40.0, "posterior": 40.0, "lateral": 50.0}
HERE = Region(np.array([0.0, 0.0, 0.0]), 0.8)


def refused(call, *args):
    with pytest.raises(Refusal) as caught:
        call(*args)
    return caught.value


def test_enough_field_of_view_passes_and_says_how_much(cases):
    check = check_field_of_view(cases.Head().volumes(), HERE, cases.manifest(field_of_view=FIELD))
    assert (check.check, check.passed) == ("field_of_view", True)
    assert "10 mm to spare" in check.detail


@pytest.mark.parametrize(
    ("centre", "way"),
    [
        ((0, 0, -15), "inferior"),
        ((0, 0, 15), "superior"),
        ((0, -25, 0), "anterior"),
        ((0, 25, 0), "posterior"),
        ((25, 0, 0), "left"),
        ((-25, 0, 0), "right"),
        ((500, 0, 0), "left"),
    ],
)
def test_a_cut_off_side_is_named(cases, centre, way):
    region = Region(np.array(centre, dtype=float), 1.0)
    refusal = refused(
        check_field_of_view, cases.Head().volumes(), region, cases.manifest(field_of_view=FIELD)
    )
    assert refusal.code == "FOV_TRUNCATED"
    assert f"needed {way}" in refusal.message


def test_every_sequence_counts_also_an_oblique_one(cases):
    turn = np.radians(30)
    direction = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    shape, spacing = (16, 120, 140), np.array([1.0, 1.0, 5.0])
    origin = -direction @ (spacing * (np.array(shape[::-1]) - 1) / 2)
    small = Geometry.from_parts(shape, spacing, origin, direction)
    volumes = {"t1": Volume(np.ones(shape, np.float32), small)}
    ok = check_field_of_view(volumes, HERE, cases.manifest(field_of_view=FIELD))
    assert ok.passed
    # 40 mm from the middle to the first slice face, 46 mm along z.
    wide = FIELD | {"superior": 47.0}
    assert refused(check_field_of_view, volumes, HERE, cases.manifest(field_of_view=wide)).code == (
        "FOV_TRUNCATED"
    )


def test_an_unsure_locator_is_out_of_domain(cases):
    bundle = cases.manifest(domain={"locator_confidence_min": 0.5})
    assert check_locator(HERE, bundle).passed
    for confidence in (0.4, float("nan")):
        assert refused(check_locator, Region(HERE.centre, confidence), bundle).code == "OUT_OF_DOMAIN"


def test_features_do_not_depend_on_scale(cases):
    volumes = cases.Head().on_the_wall().volumes()
    louder = {k: Volume(v.voxels * 7, v.geometry) for k, v in volumes.items()}
    once, twice = intensity_features(volumes, HERE), intensity_features(louder, HERE)
    assert set(once) == {
        f"{s}.{f}" for s in ("t1", "t2") for f in ("foreground", "spread", "bright", "noise")
    } | {"t1-t2.correlation"}
    assert twice == pytest.approx(once)
    assert all(np.isfinite(value) for value in once.values())


def test_a_feature_outside_its_limits_is_out_of_domain(cases):
    volumes = cases.Head().volumes()
    value = intensity_features(volumes, HERE)["t1.spread"]

    def bundle(name, low, high):
        return cases.manifest(domain={"locator_confidence_min": 0.1, "features": {name: (low, high)}})

    assert check_domain(volumes, HERE, bundle("t1.spread", value - 0.1, value + 0.1)).passed
    refusal = refused(check_domain, volumes, HERE, bundle("t1.spread", value + 0.1, value + 1))
    assert refusal.code == "OUT_OF_DOMAIN"
    empty = {"t1": Volume(np.zeros_like(volumes["t1"].voxels), volumes["t1"].geometry)}
    assert refused(check_domain, empty, HERE, bundle("t1.spread", 0, 9)).code == "OUT_OF_DOMAIN"
    with pytest.raises(BundleError, match=r"t1\.colour"):
        check_domain(volumes, HERE, bundle("t1.colour", 0, 1))


@pytest.mark.parametrize(("age", "passed"), [(40.0, True), (18.0, True), (None, None)])
def test_age_within_range_or_unknown(cases, age, passed):
    assert check_age(age, cases.manifest(age_range_years=(18, 90))).passed is passed


@pytest.mark.parametrize("age", [5.0, 95.0])
def test_age_outside_range_is_a_population_mismatch(cases, age):
    refusal = refused(check_age, age, cases.manifest(age_range_years=(18, 90)))
    assert refusal.code == "POPULATION_MISMATCH"
    assert f"{age:g}" not in refusal.message, "a patient's age stays out of the result"


def test_a_treated_patient_needs_a_bundle_for_it(cases):
    assert check_context("untreated", cases.manifest()).passed
    assert refused(check_context, "treated", cases.manifest()).code == "CONTEXT_NOT_SUPPORTED"
    assert check_context("treated", cases.manifest(contexts=("treated",))).passed


def test_what_the_bundle_does_not_declare_is_not_judged(cases):
    bundle, volumes = cases.manifest(), cases.Head().volumes()
    checks = [
        check_field_of_view(volumes, HERE, bundle),
        check_locator(HERE, bundle),
        check_domain(volumes, HERE, bundle),
        check_age(5.0, bundle),
    ]
    assert [check.passed for check in checks] == [None] * 4


def test_a_sequence_that_was_resampled_onto_the_reference_is_named():
    grids = {"t1": (1.0, 1.0, 3.0), "t2": (1.0, 1.0, 3.0), "adc": (1.0, 1.0, 3.1)}
    volumes = {
        name: Volume(np.zeros((4, 5, 6), np.float32), Geometry.from_parts((4, 5, 6), spacing, (0, 0, 0)))
        for name, spacing in grids.items()
    }
    said = check_one_grid(volumes, "t1")
    assert (said.passed, said.detail.endswith("saw it: adc")) == (None, True)
    assert check_one_grid({"t1": volumes["t1"], "t2": volumes["t2"]}, "t1").passed
