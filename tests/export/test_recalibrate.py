"""Each artefact's tables come from its own answers, or say how many cases there were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_bundle

from npc_edge.calibration.conformal import CATEGORIES
from npc_edge.calibration.venn_abers import VennAbers
from npc_edge.engine.findings.category_sets import with_sets
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.manifest import Calibrator, Manifest
from npc_edge.engine.model.parity import CaseParity, Limits, judge
from npc_edge.engine.types import Staging, TCategory
from npc_edge.export.pack import pack
from npc_edge.export.parity_report import Tried
from npc_edge.export.recalibrate import calibrators

FP32, INT8 = "artefacts/npc.fp32.onnx", "artefacts/npc.int8-u8s8.onnx"
KNOWN: dict[str, Any] = {
    "method": "temperature",
    "temperature": 2.0,
    "cases": 9,
    "prevalence": 0.5,
    "population": "tests",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tiny_bundle.write_parts(tmp_path_factory.mktemp("recalibrate") / "bundle")
    staging = {"rules": "1", "thresholds": [0.5]}
    pack(root, tiny_bundle.manifest(calibrators={FP32: KNOWN}, staging=staging), None)
    return load(root, allow_unsigned=True)


def distribution(random: np.random.Generator, true: str, sharp: float) -> dict[str, float]:
    votes = random.multinomial(9, [(1 - sharp) / 4 + sharp * (t == true) for t in CATEGORIES])
    return {t: (int(n) + 0.5) / 11 for t, n in zip(CATEGORIES, votes, strict=True)}


def cohort(each: int, seed: int, healthy: int | None = None) -> tuple[CaseParity, ...]:
    """Cases of every category and as many healthy ones; the candidate sees another score and other votes."""
    random = np.random.default_rng(seed)
    sick = [t for t in CATEGORIES for _ in range(each)]
    truths = [*sick, *[None] * (len(sick) if healthy is None else healthy)]
    made = []
    for number, true in enumerate(truths):
        score = float(random.normal(1.5 if true else -1.5, 1.5))
        told = {} if true is None else {"ajcc8": true, "ajcc9": true}
        made.append(
            CaseParity(
                **{"case": f"c{number}", "npc": true is not None, "relative_error": {}, "dice": 1.0},
                **{"hd95_mm": 0.0, "assd_mm": 0.0},
                score_reference=score,
                score_candidate=0.5 * score + 3,
                categories=told,
                distribution_reference={"ajcc8": distribution(random, true or "T1", 0.6)},
                distribution_candidate={"ajcc8": distribution(random, true or "T1", 0.4)},
            )
        )
    return tuple(made)


def tried(artefact: str, cases: tuple[CaseParity, ...], limits: Limits | None = None) -> Tried:
    loose = Limits(delta_probability=1.0) if limits is None else limits
    verdict = judge(cases, loose, 2.0)
    return Tried("npc", artefact, "onnxruntime", "fp32", "avx2", verdict, cases)


def interval(calibrator: Calibrator, at: Any) -> Any:
    table = calibrator.venn_abers
    assert table is not None
    fitted = VennAbers(table.scores, table.lower, table.upper, table.cases, table.prevalence)
    return np.array(fitted.interval(at))


def test_every_artefact_is_fitted_on_its_own_answers(bundle: Bundle) -> None:
    found = calibrators(bundle, [tried(INT8, cohort(100, 1))], frozenset())
    assert set(found) == {FP32, INT8}
    # The candidate's score s is the reference's (s - 3) / 0.5: the same case, the same interval.
    at = np.array([-2.0, -0.3, 0.1, 1.7])
    assert np.array_equal(interval(found[FP32], at), interval(found[INT8], 0.5 * at + 3))
    assert found[INT8].sets["ajcc8"].thresholds != found[FP32].sets["ajcc8"].thresholds
    assert found[INT8].sets["ajcc8"].cases == dict.fromkeys(CATEGORIES, 100)
    assert found[INT8].sets["ajcc9"].thresholds is None  # no category of that edition was given
    assert found[FP32].temperature == 2.0
    assert found[INT8].temperature != 2.0
    Manifest.model_validate(bundle.manifest.model_copy(update={"calibrators": found}).model_dump())


def test_cases_an_artefact_was_made_with_are_left_out_of_its_tables(bundle: Bundle) -> None:
    found = calibrators(bundle, [tried(INT8, cohort(100, 2))], {"c0", "c1", "c799"})
    assert found[INT8].sets["ajcc8"].cases["T1"] == 98
    assert found[INT8].sets["ajcc8"].thresholds is None
    table = found[INT8].venn_abers
    assert table is not None
    assert table.cases == 797
    assert found[FP32].sets["ajcc8"].cases["T1"] == 100


def test_too_few_cases_are_counted_and_nothing_is_fitted_or_inherited(bundle: Bundle) -> None:
    full = calibrators(bundle, [tried(FP32, cohort(100, 3))], frozenset())
    rich = Bundle(
        bundle.root, bundle.manifest.model_copy(update={"calibrators": full}), bundle.manifest_sha256, True
    )
    found = calibrators(rich, [tried(INT8, cohort(5, 4))], frozenset())
    table = found[INT8].venn_abers
    assert table is not None
    assert (table.cases, table.lower) == (40, ())
    assert found[INT8].sets["ajcc8"].thresholds is None
    assert found[INT8].sets["ajcc8"].cases == dict.fromkeys(CATEGORIES, 5)
    assert found[FP32] == full[FP32]  # from more cases than these


def test_more_cases_replace_the_original_s_tables(bundle: Bundle) -> None:
    few = calibrators(bundle, [tried(FP32, cohort(5, 5))], frozenset())
    poor = Bundle(
        bundle.root, bundle.manifest.model_copy(update={"calibrators": few}), bundle.manifest_sha256, True
    )
    found = calibrators(poor, [tried(FP32, cohort(100, 6))], frozenset())
    assert few[FP32].sets["ajcc8"].thresholds is None
    assert found[FP32].sets["ajcc8"].thresholds is not None
    assert found[FP32].venn_abers is not None
    assert found[FP32].venn_abers.cases == 800


def test_what_fails_the_gate_gets_no_calibrator(bundle: Bundle) -> None:
    refused = tried(INT8, cohort(5, 7), Limits(delta_dice=-1.0))
    assert not refused.verdict
    assert set(calibrators(bundle, [refused], frozenset())) == {FP32}


def test_what_is_fitted_here_and_applied_by_the_engine_covers_every_category(bundle: Bundle) -> None:
    """20 calibration sets of 100 a category, 100 new cases of each: through manifest and engine, as run."""
    hits = dict.fromkeys(CATEGORIES, 0)
    sizes = []
    for seed in range(20):
        fitted = calibrators(bundle, [tried(INT8, cohort(100, 100 + seed, 1))], frozenset())
        manifest = bundle.manifest.model_copy(update={"calibrators": fitted})
        for case in cohort(100, 500 + seed, 0):
            true = case.categories["ajcc8"]
            t = TCategory(true, "exact", None, case.distribution_candidate["ajcc8"])
            staged = with_sets(Staging("unknown", "none", t, None, (), (), "1"), manifest, INT8)
            assert staged is not None
            assert staged.ajcc8 is not None
            assert staged.ajcc8.set is not None
            hits[true] += true in staged.ajcc8.set.categories
            sizes.append(len(staged.ajcc8.set.categories))
    assert all(0.88 <= count / 2000 <= 0.99 for count in hits.values()), hits
    assert 1 < np.mean(sizes) < 3
