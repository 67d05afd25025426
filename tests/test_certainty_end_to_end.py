"""How sure a run is, from the manifest to every file: where the calibration set allows it, and where not.

The study runs in a process that can import neither scipy nor scikit-learn nor anything that trains.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tiny_bundle

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.calibration.conformal import CATEGORIES
from npc_edge.engine.output.schema import ResultDocument
from npc_edge.export.pack import pack

FP32 = "artefacts/npc.fp32.onnx"
DETECTION = {
    **{"threshold": 0.5, "indeterminate_low": 0.5, "indeterminate_high": 0.5, "mask_min_ml": 0.1},
    "operating_point": {"sensitivity": 0.9, "specificity": 0.9, "on": "tests"},
}
PLAIN = {
    **{"method": "platt", "temperature": 0.5, "bias": 0.5, "cases": 500, "prevalence": 0.5},
    "population": "tests",
}
STEPS = {"scores": [-5.0, 0.9], "lower": [0.1, 0.62, 0.7], "upper": [0.65, 0.84, 0.9]}
ALLOWED = {
    "venn_abers": {"cases": 500, "prevalence": 0.5, **STEPS},
    "sets": {
        "ajcc8": {
            "level": 0.9,
            "cases": dict.fromkeys(CATEGORIES, 125),
            # Whatever the small network says: T2 and T3 always, T1 and T4 never.
            "thresholds": {"T1": 1.0, "T2": 0.0, "T3": 0.0, "T4": 1.0},
        }
    },
}
NOT_ALLOWED = {
    "venn_abers": {"cases": 40, "prevalence": 0.5},
    "sets": {"ajcc8": {"level": 0.9, "cases": {"T1": 12, "T2": 100, "T3": 130, "T4": 99}}},
}
RUN = """
import sys
for name in ("scipy", "sklearn", "torch", "onnx", "monai"):
    sys.modules[name] = None  # importing it fails
from npc_edge.engine.cli.app import main
sys.argv = ["npc-edge", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec("T2", seed=5, vendor="ge", matrix=96, slices=16)
    return write_phantom(spec, tmp_path_factory.mktemp("certainty") / "phantom") / "study"


def bundle(root: Path, tables: Mapping[str, Any] | None) -> Path:
    labels = [
        {"code": code, "name": name, "structure": name, "side": side, "colour": [9, 9, 9]}
        for code, name, side in ((1, "nasopharynx", "midline"), (2, "parapharyngeal_space", "paired"))
    ]
    calibrators = {} if tables is None else {FP32: {**PLAIN, **tables}}
    made = tiny_bundle.manifest(
        labels=labels,
        detection=DETECTION,
        staging={"rules": "1", "thresholds": [0.5], "smoothing": 0.5},
        calibrators=calibrators,
    )
    pack(tiny_bundle.write_parts(root), made, None)
    return root


Ran = tuple[dict[str, Any], str, str]


def run(study: Path, where: Path, tables: Mapping[str, Any] | None, *more: str) -> Ran:
    """result.json, report.html and what a person was told."""
    words = ["run", study, "--bundle", bundle(where / "bundle", tables), "--allow-unsigned"]
    words += ["--out", where / "out", "--state", where / "state", *more]
    command = [sys.executable, "-c", RUN, *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    written = json.loads((where / "out" / "result.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(ResultDocument.model_json_schema()).validate(written)
    return written, (where / "out" / "report.html").read_text(encoding="utf-8"), ran.stdout


@pytest.fixture(scope="module")
def allowed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(study, tmp_path_factory.mktemp("allowed"), ALLOWED)


def test_a_calibration_set_that_allows_it_gives_an_interval_and_a_set_where_all_was_seen(
    allowed: Ran,
) -> None:
    found, report, told = allowed
    detection, eighth = found["detection"], found["staging"]["ajcc8"]
    assert detection["finding"] == "suspicious"
    assert detection["interval"] == {
        **{"method": "venn-abers", "low": 0.62, "high": 0.84},
        **{"cases": 500, "prevalence": 0.5},
    }
    assert (detection["interval_not_given"], detection["prevalence"]) == ("", None)
    # This bundle's tumour reaches the edge of the window: a set that was fitted on whole ones says nothing.
    why = "what a higher category rests on could not be assessed here"
    assert (eighth["bound"], eighth["set"], eighth["set_not_given"]) == ("at_least", None, why)
    assert found["staging"]["ajcc9"]["set"] is None
    assert found["staging"]["ajcc9"]["set_not_given"]
    for text in (report, told):
        assert (
            "Venn-Abers interval 0.62 to 0.84, from 500 calibration cases (1000 are wanted), 50 % of them"
            in text
        )
        assert why in text


def test_a_calibration_set_that_does_not_is_counted(study: Path, tmp_path: Path) -> None:
    found, report, told = run(study, tmp_path, NOT_ALLOWED)
    detection, eighth = found["detection"], found["staging"]["ajcc8"]
    assert detection["interval"] is None
    assert detection["interval_not_given"] == "not allowed: 40 calibration cases; 100 are needed"
    assert eighth["set"] is None
    why = "not allowed: 12 cases of T1, 99 of T4 in the calibration set; 100 of each are needed"
    assert eighth["set_not_given"] == why
    for text in (report, told):
        assert "No interval: not allowed: 40 calibration cases; 100 are needed" in text
        assert why in text


@pytest.mark.parametrize("tables", [{}, None], ids=["from before", "no calibrators"])
def test_a_manifest_without_tables_says_null(
    study: Path, tmp_path: Path, tables: Mapping[str, Any] | None
) -> None:
    found, _, told = run(study, tmp_path, tables)
    assert found["detection"]["interval"] is None
    assert "no Venn-Abers table" in found["detection"]["interval_not_given"]
    assert found["staging"]["ajcc8"]["set"] is None
    assert "no sets of T categories" in found["staging"]["ajcc8"]["set_not_given"]
    assert "No interval" in told


def test_a_prevalence_gives_a_second_probability_and_moves_no_finding(
    study: Path, allowed: Ran, tmp_path: Path
) -> None:
    plain, _, _ = allowed
    moved, report, told = run(study, tmp_path, ALLOWED, "--prevalence", "0.01")
    added = moved["detection"]["prevalence"]
    assert (added["given"], added["fitted"]) == (0.01, 0.5)
    assert added["offset"] == pytest.approx(-4.59512, abs=1e-5)
    odds = plain["detection"]["probability"] / (1 - plain["detection"]["probability"]) / 99
    assert added["probability"] == pytest.approx(odds / (1 + odds), abs=1e-5)
    assert added["probability"] < moved["detection"]["threshold"] <= moved["detection"]["probability"]
    assert {**moved["detection"], "prevalence": None} == plain["detection"]
    assert moved["staging"] == plain["staging"]
    assert moved["runtime"]["fingerprint"] != plain["runtime"]["fingerprint"]
    for text in (report, told):
        assert f"At a prevalence of 1 %: {added['probability']:.2f}" in text
        assert "The finding does not go by this number" in text
