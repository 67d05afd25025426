"""result.json: the schema, what may never be said, and the identity of a run."""

import dataclasses
import json

import jsonschema
import numpy as np
import output_cases as cases
import pytest
from pydantic import ValidationError

from npc_edge.engine.output.fingerprint import Ran, Uids, fingerprint
from npc_edge.engine.output.result import Outcome, ResultDocument, document
from npc_edge.engine.types import Finding, Findings, Options, RunnerInfo, Volume

KEYS = [
    "schema_version",
    "research_use_only",
    "correlation",
    "outcome",
    "reasons",
    "study",
    "detection",
    "tumour",
    "staging",
    "quality",
    "labels",
    "runtime",
]


def runs() -> list[Outcome]:
    findings: tuple[Finding, ...] = ("suspicious", "not_suspicious", "indeterminate")
    return [*(cases.outcome(finding=f) for f in findings), cases.refusal(), without_head(), from_nifti()]


def without_head() -> Outcome:
    run = cases.outcome()
    assert run.findings is not None
    return dataclasses.replace(run, findings=dataclasses.replace(run.findings, detection=None, staging=None))


def from_nifti() -> Outcome:
    run = cases.outcome()
    volumes = {k: dataclasses.replace(v, slices=(), series=None) for k, v in run.volumes.items()}
    return dataclasses.replace(run, study=None, selection=None, volumes=volumes)


@pytest.mark.parametrize("run", runs(), ids=lambda run: run.outcome)
def test_the_schema_accepts_what_is_written(run: Outcome) -> None:
    text = document(run).to_json()
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json"))
    jsonschema.Draft202012Validator(ResultDocument.model_json_schema()).validate(written)
    assert list(written) == KEYS
    assert ResultDocument.model_validate_json(text) == document(run)


def test_a_refusal_has_reasons_and_nothing_else() -> None:
    written = json.loads(document(cases.refusal()).to_json())
    assert written["reasons"] == [{"code": "NO_T2", "message": "no T2-weighted series; 3 series looked at"}]
    assert written["detection"] is written["tumour"] is written["staging"] is None
    assert [s["series_number"] for s in written["study"]["series"]] == [3, 4]


def test_evidence_points_at_the_image_a_person_can_open() -> None:
    run = cases.outcome(cases.Shape(reversed_instances=True))
    staging = document(run).staging
    assert staging is not None
    assert (staging.n, staging.m, staging.stage_group) == (None, None, None)
    first = staging.evidence[0]
    slices = run.reference_volume.slices
    assert (first.series_number, first.instance_number) == (3, slices[first.source_slice].instance_number)
    assert first.instance_number != first.source_slice + 1


def broken(**changes: object) -> Outcome:
    """A suspicious run whose finding was changed behind the back of mask and category."""
    run = cases.outcome()
    assert run.findings is not None
    assert run.findings.detection is not None
    detection = dataclasses.replace(run.findings.detection, **changes)  # type: ignore[arg-type]
    findings: Findings = dataclasses.replace(run.findings, detection=detection)
    return dataclasses.replace(run, findings=findings)


@pytest.mark.parametrize(
    "changes",
    [
        {"finding": "not_suspicious"},
        {"finding": "indeterminate"},
        {"probability": float("nan")},
        {"probability": 1.2},
    ],
)
def test_findings_that_contradict_each_other_are_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        document(broken(**changes))


def test_no_uid_name_or_date_is_in_it() -> None:
    run = cases.outcome()
    assert run.selection is not None
    first = dataclasses.replace(run.selection.verdicts[0], why=f"same frame as {cases.FRAME_OF_REFERENCE}")
    verdicts = (first, *run.selection.verdicts[1:])
    run = dataclasses.replace(run, selection=dataclasses.replace(run.selection, verdicts=verdicts))
    text = document(run).to_json()
    for secret in ("1.2.826", "Phantom^Test", "PID-0042", "19700101", "20260102"):
        assert secret not in text
    assert "same frame as [uid]" in text


def test_withheld_dicom_is_said() -> None:
    checks = {q.check: q.detail for q in document(cases.outcome(marked=False)).quality}
    assert "Quality Control Subject" in checks["demo_dicom"]
    assert "demo_dicom" not in {q.check for q in document(cases.outcome(marked=True)).quality}


RUNNER = RunnerInfo("onnxruntime", "cpu", "fp32", cases.ARTEFACT, "1.23", "avx2", 2)


IN_OPTIONS = ("context", "correlation", "prevalence")


def identity(run: Outcome, volumes: dict[str, Volume] | None = None, **changes: object) -> str:
    options = Options(**{k: v for k, v in changes.items() if k in IN_OPTIONS})  # type: ignore[arg-type]
    runner = dataclasses.replace(RUNNER, **{k: v for k, v in changes.items() if k == "precision"})  # type: ignore[arg-type]
    bundle = str(changes.get("bundle", "ab"))
    locator = dataclasses.replace(RUNNER, backend=str(changes.get("locator", "openvino")))
    ran = Ran((locator, runner), str(changes.get("voxels", "cpu")), {"npc": changes.get("together", 1)})  # type: ignore[dict-item]
    return fingerprint(run.study, volumes or dict(run.volumes), options, bundle, ran)


def test_the_fingerprint_changes_with_everything_that_changes_a_number_and_nothing_else() -> None:
    run = cases.outcome()
    same = identity(run)
    assert identity(cases.outcome()) == same
    assert identity(run, correlation="other job") == same
    changed = [
        identity(run, context="untreated"),
        identity(run, precision="int8"),
        identity(run, prevalence=0.05),
        identity(run, bundle="cd"),
        identity(run, locator="onnxruntime"),
        identity(run, voxels="NVIDIA"),
        identity(run, together=4),
        identity(cases.outcome(cases.Shape(reversed_instances=True))),
    ]
    assert len({same, *changed}) == 9


def test_nifti_input_is_identified_by_its_voxels() -> None:
    run = from_nifti()
    same = identity(run)
    voxels = np.array(run.volumes["t1"].voxels)
    voxels[0, 0, 0] += 1
    volumes = {**run.volumes, "t1": dataclasses.replace(run.volumes["t1"], voxels=voxels)}
    assert identity(run, volumes) != same


def test_a_corrected_name_gives_new_uids_but_the_same_fingerprint() -> None:
    before = Uids("ab" * 32, cases.patient_module())
    after = Uids("ab" * 32, cases.patient_module(name=b"Corrected^Name"))
    assert before.uid("seg.sop") == Uids("ab" * 32, cases.patient_module()).uid("seg.sop")
    assert len({before.uid("seg.sop"), before.uid("sr.sop"), after.uid("seg.sop")}) == 3
    assert all(len(u.uid("x")) <= 64 and u.uid("x").startswith("2.25.") for u in (before, after))


def test_to_json_is_the_same_text_twice() -> None:
    assert document(cases.outcome()).to_json() == document(cases.outcome()).to_json()
