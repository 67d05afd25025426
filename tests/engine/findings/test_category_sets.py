"""The set of T categories beside the category: from the table of the artefact that ran, or the reason."""

from __future__ import annotations

import dataclasses

import pytest

from npc_edge.calibration.conformal import CATEGORIES
from npc_edge.engine.certainty import CategorySet
from npc_edge.engine.findings.category_sets import with_sets
from npc_edge.engine.types import NotAssessable, Staging, TCategory

FILE = "artefacts/npc.fp32.onnx"
DISTRIBUTION = {"T1": 0.05, "T2": 0.10, "T3": 0.60, "T4": 0.25}
STAGED = Staging(
    context="unknown",
    cranial_nerves="not supplied",
    ajcc8=TCategory("T3", "exact", None, DISTRIBUTION),
    ajcc9=TCategory("T4", "exact", None, {"T4": 1.0}),
    evidence=(),
    not_assessable=(),
    rules_version="1",
)
ENOUGH = dict.fromkeys(CATEGORIES, 150)


def sets(thresholds, **cases):
    return {"level": 0.9, "cases": {**ENOUGH, **cases}, "thresholds": thresholds}


@pytest.fixture
def bundle(cases):
    def build(**tables):
        plain = {"method": "none", "temperature": 1, "cases": 9, "prevalence": 0.5, "population": "x"}
        return cases.manifest(calibrators={FILE: {**plain, "sets": tables}})

    return build


def test_categories_that_reach_their_threshold_are_in_the_set(bundle) -> None:
    table = bundle(ajcc8=sets({"T4": 0.25, "T3": 0.3, "T2": 0.11, "T1": 0.2}))
    found = with_sets(STAGED, table, FILE)
    assert found.ajcc8.set == CategorySet(0.9, ("T3", "T4"))
    assert dataclasses.replace(found.ajcc8, set=None) == STAGED.ajcc8
    assert found.ajcc9.set is None
    assert found.ajcc9.set_not_given == "the bundle has no sets of T categories for this artefact"


def test_a_lower_bound_for_what_was_not_seen_gets_no_set(bundle) -> None:
    table = bundle(ajcc8=sets({"T4": 0.25, "T3": 0.3, "T2": 0.11, "T1": 0.2}))
    bound = dataclasses.replace(STAGED.ajcc8, bound="at_least", could_be="T4")
    unseen = NotAssessable("orbit", "left", "outside the field of view", "T4")
    staged = dataclasses.replace(STAGED, ajcc8=bound, not_assessable=(unseen,))
    found = with_sets(staged, table, FILE).ajcc8
    assert (found.set, found.set_not_given) == (
        None,
        "what a higher category rests on could not be assessed here",
    )
    lower = dataclasses.replace(staged, not_assessable=(dataclasses.replace(unseen, category="T2"),))
    assert with_sets(lower, table, FILE).ajcc8.set == CategorySet(0.9, ("T3", "T4"))


def test_a_set_may_be_empty(bundle) -> None:
    found = with_sets(STAGED, bundle(ajcc8=sets(dict.fromkeys(CATEGORIES, 0.7))), FILE)
    assert found.ajcc8.set == CategorySet(0.9, ())


def test_what_the_calibration_set_does_not_allow_is_said(bundle) -> None:
    found = with_sets(STAGED, bundle(ajcc8=sets(None, T1=12), ajcc9=sets(None, T1=12, T4=0)), FILE)
    assert found.ajcc8.set is None
    assert found.ajcc8.set_not_given == "not allowed: 12 cases of T1 in the calibration set; 100 are needed"
    assert "12 cases of T1, 0 of T4 in the calibration set" in found.ajcc9.set_not_given


def test_another_artefact_s_sets_are_never_borrowed(bundle) -> None:
    table = bundle(ajcc8=sets(dict.fromkeys(CATEGORIES, 0.1)))
    found = with_sets(STAGED, table, "artefacts/npc.int8-u8s8.onnx")
    assert found.ajcc8.set is None
    assert "for this artefact" in found.ajcc8.set_not_given


def test_without_a_category_there_is_no_set(bundle) -> None:
    none = dataclasses.replace(STAGED, ajcc8=None, ajcc9=None)
    assert with_sets(none, bundle(), FILE) == none
    assert with_sets(None, bundle(), FILE) is None
