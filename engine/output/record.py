"""The monitor's record of a run: pseudonyms and numbers, nothing that names a patient.

Each kind of key is hashed with a word of its own in front, so that keys of two kinds never match; the study's
key alone is that of result.json, for it is how a person finds a case.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping

import numpy as np

from npc_edge.calibration.record import Acquired, CaseRecord
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.output.schema import ResultDocument
from npc_edge.engine.output.summary import intensity_summary
from npc_edge.engine.types import QualityCheck, Series, Staging, State3, Volume

KeyFor = Callable[[str], str]
_SAMPLE = 32  # voxels along each axis that tell one NIfTI image from another


def accession_key(key_for: KeyFor, number: str) -> str:
    """The key of an accession number, "" for an empty one. Blanks around it do not count."""
    return _key(key_for, "accession", number)


def station_key(key_for: KeyFor, name: str) -> str:
    """The key of a StationName (0008,1010)."""
    return _key(key_for, "station", name)


def model_key(key_for: KeyFor, name: str) -> str:
    """The key of a ManufacturerModelName (0008,1090)."""
    return _key(key_for, "model", name)


def case_record(outcome: Outcome, document: ResultDocument, at: int) -> CaseRecord:
    """The record of a run, as published in `document`. at: UTC, milliseconds since 1970."""
    findings, facts, runtime = outcome.findings, outcome.facts, document.runtime
    detection = None if findings is None else findings.detection
    staging = None if findings is None else findings.staging
    eighth, ninth = (None, None) if staging is None else (staging.ajcc8, staging.ajcc9)
    masks = None if findings is None else findings.segmentation
    study = outcome.study
    return CaseRecord(
        case_key=_case_key(outcome),
        accession_key="" if study is None else accession_key(outcome.key_for, study.accession_number),
        at=at,
        version=facts.version,
        bundle=facts.bundle_name,
        bundle_sha256=facts.bundle_sha256,
        artefact=runtime.artefact or "",
        backend=runtime.backend or "",
        precision=runtime.precision or "",
        outcome=outcome.outcome,
        reasons=tuple(code for code, _ in outcome.reasons),
        acquired=_acquired(outcome),
        features={} if outcome.window is None else intensity_summary(outcome.volumes, outcome.window, masks),
        score=None if detection is None else float(detection.raw_score),
        probability=None if detection is None else float(detection.probability),
        finding=None if detection is None else detection.finding,
        volume_ml=None if masks is None else float(masks.volume_ml),
        category_ajcc8=None if eighth is None else eighth.t,
        category_ajcc9=None if ninth is None else ninth.t,
        distribution={} if eighth is None else {t: float(p) for t, p in eighth.distribution.items()},
        evidence={} if staging is None else _evidence(staging),
        quality=_quality(outcome.quality),
        timings_ms=dict(runtime.timings_ms),
        peak_rss_mb=runtime.peak_rss_mb,
        quality_control=study is not None and study.quality_control_subject,
        operating_point=_operating_point(document),
    )


def _operating_point(document: ResultDocument) -> dict[str, float]:
    detection = document.detection
    if detection is None:
        return {}
    point = detection.operating_point
    return {
        "threshold": detection.threshold,
        "sensitivity": point.sensitivity,
        "specificity": point.specificity,
    }


def _key(key_for: KeyFor, kind: str, text: str) -> str:
    return key_for(f"{kind}:{text.strip()}") if text.strip() else ""


def _case_key(outcome: Outcome) -> str:
    """The study's key; for NIfTI images one of a sample of their voxels; drawn when nothing was read, so that
    two unreadable studies are not taken for one."""
    if outcome.study is not None:
        return outcome.key_for(outcome.study.study_instance_uid)
    if not outcome.volumes:
        return secrets.token_hex(16)
    digest = hashlib.sha256()
    for name, volume in sorted(outcome.volumes.items()):
        step = tuple(slice(None, None, max(1, length // _SAMPLE)) for length in volume.voxels.shape)
        digest.update(f"{name}{volume.voxels.shape}".encode())
        digest.update(np.ascontiguousarray(volume.voxels[step]).data)
        digest.update(np.ascontiguousarray(volume.geometry.affine).data)
    return outcome.key_for(f"image:{digest.hexdigest()}")


def _acquired(outcome: Outcome) -> tuple[Acquired, ...]:
    """One entry a sequence. Of a refused study what came nearest: which scanner is refused matters too."""
    study, selection = outcome.study, outcome.selection
    if study is None or selection is None:
        return ()
    chosen = dict(selection.chosen)
    if not chosen:
        best = sorted(selection.verdicts, key=lambda verdict: verdict.confidence)
        roles = {verdict.role: verdict.series for verdict in best if verdict.role is not None}
        chosen = dict(sorted(roles.items()))
    if not chosen:
        return tuple(_series(outcome, study.series[0], "", "unknown", None) for _ in study.series[:1])
    verdicts = {verdict.series: verdict for verdict in selection.verdicts}
    found = []
    for name, index in chosen.items():
        volume = outcome.volumes.get(name)
        verdict = verdicts[index]
        found.append(
            _series(outcome, study.series[index], verdict.role or "", verdict.fat_suppression, volume)
        )
    return tuple(found)


def _series(
    outcome: Outcome, series: Series, role: str, fat_suppression: State3, volume: Volume | None
) -> Acquired:
    a = series.acquisition
    spacing = None
    if volume is not None:
        x, y, z = (round(length, 4) for length in volume.geometry.spacing)
        spacing = (z, y, x)
    return Acquired(
        role=role,
        vendor=a.vendor,
        model_key=model_key(outcome.key_for, a.model),
        station_key=station_key(outcome.key_for, a.station),
        field_strength_t=a.field_strength_t,
        fat_suppression=fat_suppression,
        repetition_time_ms=a.repetition_time_ms,
        echo_time_ms=a.echo_time_ms,
        inversion_time_ms=a.inversion_time_ms,
        spacing_mm=spacing,
        slices=len(series.frames) if volume is None else volume.geometry.shape[0],
    )


def _evidence(staging: Staging) -> Mapping[str, str]:
    """Every structure that was looked at and found wanting: involved, nearly so, or not assessable."""
    unseen = {
        item.structure if item.side is None else f"{item.structure}.{item.side}": "not_assessable"
        for item in staging.not_assessable
    }
    return unseen | {f"{item.structure}.{item.side}": item.status for item in staging.evidence}


def _quality(checks: tuple[QualityCheck, ...]) -> dict[str, bool | None]:
    """Of several lines of one check the worst counts."""
    found: dict[str, bool | None] = {}
    for line in checks:
        if found.get(line.check) is not False:
            found[line.check] = line.passed
    return found
