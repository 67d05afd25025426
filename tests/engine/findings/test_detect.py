"""Score, calibration and the finding, also where score and mask disagree."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.engine.certainty import Interval
from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.findings.detect import calibrated, detect, raw_score
from npc_edge.engine.types import Predictions

FILE = "artefacts/npc.fp32.onnx"
SPEC = {
    "threshold": 0.5,
    "indeterminate_low": 0.4,
    "indeterminate_high": 0.6,
    "mask_min_ml": 0.5,
    "operating_point": {"sensitivity": 0.9, "specificity": 0.9, "on": "phantoms"},
}
CALIBRATOR = {"temperature": 2.0, "bias": 1.0, "cases": 9, "prevalence": 0.5, "population": "phantoms"}


@pytest.fixture(scope="module")
def bundle(cases):
    return cases.manifest(detection=SPEC, calibrators={FILE: CALIBRATOR | {"method": "platt"}})


@pytest.fixture(scope="module")
def segmentation(cases, bundle):
    return cases.Head().on_the_wall().segmentation(bundle)


def of_ml(segmentation, volume_ml):
    return dataclasses.replace(segmentation, volume_ml=volume_ml)


def logit(p):
    return 2 * math.log(p / (1 - p)) - 1  # undoes CALIBRATOR


@pytest.mark.parametrize(
    ("probability", "volume_ml", "finding"),
    [
        (0.9, 5.0, "suspicious"),
        (0.61, 0.5, "suspicious"),
        (0.9, 0.0, "indeterminate"),
        (0.9, 0.4, "indeterminate"),
        (0.1, 0.0, "not_suspicious"),
        (0.1, 0.4, "not_suspicious"),
        (0.1, 5.0, "indeterminate"),
        (0.55, 5.0, "indeterminate"),
        (0.45, 0.0, "indeterminate"),
    ],
)
def test_the_finding_needs_score_and_mask_to_agree(bundle, segmentation, probability, volume_ml, finding):
    detection = detect(logit(probability), of_ml(segmentation, volume_ml), bundle, FILE)
    assert detection.finding == finding
    assert detection.probability == pytest.approx(probability)
    assert detection.raw_score == logit(probability)
    assert detection.threshold == 0.5
    assert f"{probability:.2f}" in detection.why
    assert "calibrator" not in detection.why


def test_an_artefact_without_a_calibrator_says_so(bundle, segmentation):
    detection = detect(3.0, segmentation, bundle, "artefacts/npc.fp16.onnx")
    assert detection.probability == pytest.approx(1 / (1 + math.exp(-3)))
    assert "no calibrator" in detection.why


def test_a_bundle_without_detection_has_none(cases, bundle, segmentation):
    assert detect(None, segmentation, bundle, FILE) is None
    assert detect(1.0, segmentation, cases.manifest(), FILE) is None


@given(score=st.floats(-1e6, 1e6), more=st.floats(0, 1e6))
def test_the_probability_rises_with_the_score_and_stays_one(bundle, score, more):
    low, high = calibrated(score, bundle, FILE), calibrated(score + more, bundle, FILE)
    assert 0 <= low <= high <= 1


def test_the_score_is_the_detection_output(cases, bundle):
    def predictions(**outputs):
        return Predictions({k: np.asarray(v, np.float32) for k, v in outputs.items()}, cases.grid)

    assert raw_score(predictions(score=[[1.5]]), bundle) == 1.5
    assert raw_score(predictions(**{"npc.score": [[-2.0]]}), bundle) == -2.0
    assert raw_score(predictions(tumour=[[0.0]]), bundle) is None
    with pytest.raises(BundleError, match="not one number"):
        raw_score(predictions(score=[[1.0, 2.0]]), bundle)
    with pytest.raises(BackendError, match="not finite"):
        raw_score(predictions(score=[[np.nan]]), bundle)


STEPS = {"cases": 200, "prevalence": 0.5, "scores": [0.0], "lower": [0.1, 0.8], "upper": [0.85, 0.95]}


def with_table(cases, table, **changes):
    calibrator = {**CALIBRATOR, "method": "platt", "venn_abers": table, **changes}
    return cases.manifest(detection=SPEC, calibrators={FILE: calibrator})


def test_the_interval_is_looked_up_at_the_raw_score(cases, segmentation):
    manifest = with_table(cases, STEPS)
    assert detect(-0.1, segmentation, manifest, FILE).interval == Interval(0.1, 0.85, 200, 0.5)
    assert detect(0.0, segmentation, manifest, FILE).interval == Interval(0.8, 0.85, 200, 0.5)
    assert detect(0.1, segmentation, manifest, FILE).interval == Interval(0.8, 0.95, 200, 0.5)
    assert detect(0.1, segmentation, manifest, FILE).interval_not_given == ""


def test_no_interval_has_a_reason(cases, bundle, segmentation):
    few = with_table(cases, {"cases": 40, "prevalence": 0.5})
    assert detect(0.1, segmentation, few, FILE).interval is None
    why = detect(0.1, segmentation, few, FILE).interval_not_given
    assert why == "not allowed: 40 calibration cases; 100 are needed"
    one_kind = with_table(cases, {"cases": 400, "prevalence": 1.0})
    assert "one kind" in detect(0.1, segmentation, one_kind, FILE).interval_not_given
    for manifest, artefact in ((bundle, FILE), (few, "artefacts/npc.fp16.onnx")):
        why = detect(0.1, segmentation, manifest, artefact).interval_not_given
        assert why == "the bundle has no Venn-Abers table for this artefact"


@settings(deadline=None)
@given(score=st.floats(-20, 20), given_prevalence=st.floats(0.001, 0.999))
def test_the_operator_s_prevalence_moves_a_second_probability_and_nothing_else(
    bundle, segmentation, score, given_prevalence
):
    plain = detect(score, segmentation, bundle, FILE)
    moved = detect(score, segmentation, bundle, FILE, given_prevalence)
    assert plain.moved is None
    assert plain.moved_not_given == ""
    assert dataclasses.replace(moved, moved=None) == plain
    odds = plain.probability / max(1 - plain.probability, 1e-300)
    odds *= given_prevalence / (1 - given_prevalence)  # fitted at even odds
    assert moved.moved.probability == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert moved.moved.offset == pytest.approx(math.log(given_prevalence / (1 - given_prevalence)))
    assert (moved.moved.given, moved.moved.fitted) == (given_prevalence, 0.5)


def test_an_uncalibrated_probability_is_not_moved(cases, segmentation):
    for manifest in (cases.manifest(detection=SPEC), with_table(cases, None, method="none")):
        found = detect(0.1, segmentation, manifest, FILE, 0.05)
        assert found.moved is None
        assert found.moved_not_given.startswith(
            ("the bundle has no calibrator", "the score of this artefact is not calibrated")
        )
