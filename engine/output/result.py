"""result.json: from an `Outcome` to the document of `schema.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict

from npc_edge.engine.certainty import AtPrevalence, Interval
from npc_edge.engine.output.outcome import Outcome as Outcome
from npc_edge.engine.output.outcome import RunFacts as RunFacts
from npc_edge.engine.output.schema import (
    TIMINGS,
    CalibrationEntry,
    DetectionEntry,
    EvidenceEntry,
    IntervalEntry,
    NotAssessableEntry,
    OperatingPointEntry,
    PrevalenceEntry,
    QualityEntry,
    Reason,
    RuntimeEntry,
    SeriesEntry,
    StagingEntry,
    StudyEntry,
    TCategoryEntry,
    TumourEntry,
)
from npc_edge.engine.output.schema import ResultDocument as ResultDocument
from npc_edge.engine.types import (
    Detection,
    Segmentation,
    SeriesVerdict,
    Staging,
    StructureEvidence,
    TCategory,
)

__all__ = ["Outcome", "ResultDocument", "RunFacts", "document"]

# Texts come from other rooms and may quote a header: whatever looks like a UID is cut out here once more.
_UID_LIKE = re.compile(r"\b\d+(?:\.\d+){4,}\b")


def document(outcome: Outcome) -> ResultDocument:
    """The whole of result.json for one run; raises pydantic's ValidationError on findings that contradict."""
    findings = outcome.concluded if outcome.outcome == "result" else None
    return ResultDocument(
        correlation=outcome.facts.correlation,
        outcome=outcome.outcome,
        reasons=tuple(Reason(code=code, message=_clean(message)) for code, message in outcome.reasons),
        study=_study(outcome),
        detection=None if findings is None else _detection(outcome, findings.detection),
        tumour=None if findings is None else _tumour(findings.segmentation),
        staging=None if findings is None else _staging(outcome, findings.staging),
        quality=tuple(
            QualityEntry(check=q.check, passed=q.passed, detail=_clean(q.detail)) for q in outcome.quality
        ),
        labels={} if findings is None else _labels(findings.segmentation),
        runtime=_runtime(outcome.facts),
    )


def _clean(text: str) -> str:
    """One line of printable text without anything UID-like."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(_UID_LIKE.sub("[uid]", printable).split())


def _study(outcome: Outcome) -> StudyEntry | None:
    study, selection = outcome.study, outcome.selection
    if study is None:
        return None
    verdicts = selection.verdicts if selection is not None else ()
    series = tuple(
        _series(
            verdict,
            outcome.key_for(study.series[verdict.series].series_instance_uid),
            study.series[verdict.series].number,
        )
        for verdict in verdicts
    )
    return StudyEntry(key=outcome.key_for(study.study_instance_uid), series=series)


def _series(verdict: SeriesVerdict, key: str, number: int | None) -> SeriesEntry:
    return SeriesEntry(
        key=key,
        series_number=number,
        role=verdict.role,
        contrast=verdict.contrast,
        fat_suppression=verdict.fat_suppression,
        chosen=verdict.chosen,
        why=_clean(verdict.why),
        kind=_clean(verdict.kind),
        plane=_clean(verdict.plane),
        warnings=tuple(_clean(w) for w in verdict.warnings),
    )


def _detection(outcome: Outcome, detection: Detection | None) -> DetectionEntry | None:
    spec, runner = outcome.manifest.detection, outcome.facts.runner
    if detection is None or spec is None:
        return None
    artefact = runner.artefact if runner is not None else ""
    calibrator = outcome.manifest.calibrators.get(artefact)
    if calibrator is None:
        calibration = CalibrationEntry(method="none", artefact=artefact, cases=0, prevalence=0.5)
    else:
        calibration = CalibrationEntry(
            method=calibrator.method,
            artefact=artefact,
            cases=calibrator.cases,
            prevalence=calibrator.prevalence,
            population=_clean(calibrator.population),
        )
    return DetectionEntry(
        finding=detection.finding,
        probability=round(float(detection.probability), 6),
        threshold=float(detection.threshold),
        operating_point=OperatingPointEntry(**spec.operating_point.model_dump()),
        calibration=calibration,
        why=_clean(detection.why),
        interval=None if detection.interval is None else _interval(detection.interval),
        interval_not_given=detection.interval_not_given,
        prevalence=None if detection.moved is None else _at_prevalence(detection.moved),
        prevalence_not_given=detection.moved_not_given,
    )


def _interval(interval: Interval) -> IntervalEntry:
    return IntervalEntry(
        low=round(interval.low, 6),
        high=round(interval.high, 6),
        cases=interval.cases,
        prevalence=round(interval.prevalence, 6),
    )


def _at_prevalence(moved: AtPrevalence) -> PrevalenceEntry:
    return PrevalenceEntry(
        given=moved.given,
        fitted=moved.fitted,
        offset=round(moved.offset, 6),
        probability=round(moved.probability, 6),
    )


def _tumour(segmentation: Segmentation) -> TumourEntry:
    centroid = segmentation.centroid_lps_mm
    return TumourEntry(
        volume_ml=round(float(segmentation.volume_ml), 4),
        centroid_lps_mm=None if centroid is None else _rounded(centroid),
        components=int(segmentation.components),
    )


def _rounded(point: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 3) for value in point)
    return x, y, z


def _staging(outcome: Outcome, staging: Staging | None) -> StagingEntry | None:
    if staging is None:
        return None
    return StagingEntry(
        context=staging.context,
        cranial_nerves=staging.cranial_nerves,
        ajcc8=_category(staging.ajcc8),
        ajcc9=_category(staging.ajcc9),
        evidence=tuple(_evidence(outcome, item) for item in staging.evidence),
        not_assessable=tuple(
            NotAssessableEntry(structure=n.structure, why=_clean(n.why), side=n.side, category=n.category)
            for n in staging.not_assessable
        ),
        rules_version=staging.rules_version,
    )


def _category(category: TCategory | None) -> TCategoryEntry | None:
    if category is None:
        return None
    return TCategoryEntry.model_validate(
        {
            "t": category.t,
            "bound": category.bound,
            "could_be": category.could_be,
            "distribution": {t: round(float(p), 6) for t, p in sorted(category.distribution.items())},
            "set": None if category.set is None else asdict(category.set),
            "set_not_given": category.set_not_given,
        }
    )


def _evidence(outcome: Outcome, item: StructureEvidence) -> EvidenceEntry:
    source = outcome.source_slice(item.source_slice)
    return EvidenceEntry(
        structure=item.structure,
        side=item.side,
        status=item.status,
        overlap_mm3=round(float(item.overlap_mm3), 2),
        depth_mm=round(float(item.depth_mm), 2),
        slices=int(item.slices),
        series_number=outcome.series_number(outcome.reference_volume),
        instance_number=None if source is None else source.instance_number,
        source_slice=int(item.source_slice),
        category=item.category,
        overlap_fraction=round(float(item.overlap_fraction), 6),
        probability=round(float(item.probability), 6),
        note=_clean(item.note),
    )


def _labels(segmentation: Segmentation) -> dict[str, dict[str, str]]:
    structures = {str(code): name for code, name in sorted(segmentation.labels.items())}
    return {"tumour.nii.gz": {"1": "tumour"}, "structures.nii.gz": structures}


def _runtime(facts: RunFacts) -> RuntimeEntry:
    runner = facts.runner
    return RuntimeEntry(
        version=facts.version,
        bundle=facts.bundle_name,
        bundle_sha256=facts.bundle_sha256,
        evidence=facts.evidence,
        fingerprint=facts.fingerprint,
        backend=None if runner is None else runner.backend,
        device=None if runner is None else runner.device,
        precision=None if runner is None else runner.precision,
        isa=None if runner is None else runner.isa,
        fallback=facts.fallback,
        timings_ms=_timings(facts.timings_ms),
        peak_rss_mb=round(float(facts.peak_rss_mb), 1),
        artefact=None if runner is None else runner.artefact,
        backend_version=None if runner is None else runner.version,
        threads=None if runner is None else runner.threads,
        memory_plan=dict(facts.memory_plan),
        voxels=facts.voxels,
    )


def _timings(timings: Mapping[str, float]) -> dict[str, float]:
    """Every station in the pipeline's order (0 where it was not reached), then whatever else was timed."""
    names = [*TIMINGS, *sorted(set(timings) - set(TIMINGS))]
    return {name: round(float(timings.get(name, 0.0)), 1) for name in names}
