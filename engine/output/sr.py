"""sr.dcm: a TID 1500 measurement report with what was concluded, for a PACS to show and a person to judge.

Unverified, preliminary, "research use only". The T category is a private concept, once per edition, with the
staging system as modifier; the score is a probability only where it was calibrated on patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from npc_edge.engine.errors import OutputError
from npc_edge.engine.output import dicom, seg, wording
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.types import TCategory

SERIES_NUMBER = 9003
_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"  # Comprehensive SR: read by more viewers than the 3D one
COMMENT = (
    "RESEARCH USE ONLY. Automatic, unreviewed output of a research engine; not for diagnosis or treatment."
)

_MODEL_SCORE = Code("MODEL_SCORE", dicom.PRIVATE_SCHEME, "Model score")
_CONCLUSION = Code("CONCLUSION", dicom.PRIVATE_SCHEME, "Algorithm conclusion on detection")
_T_CATEGORY = Code("AI_IMAGING_T", dicom.PRIVATE_SCHEME, "Algorithm-suggested imaging T category")
_STAGING_SYSTEM = Code("STAGING_SYSTEM", dicom.PRIVATE_SCHEME, "Staging system")
_AJCC8 = Code("897275008", "SCT", "AJCC Cancer Staging Manual, 8th edition")
_AJCC9 = Code("AJCC_V9_NPC", dicom.PRIVATE_SCHEME, "AJCC Version 9 nasopharynx cancer staging")
_PROBABILITY = Code("111047", "DCM", "Probability of cancer")
_PER_CENT = Code("%", "UCUM", "Percent")
_UNITY = Code("1", "UCUM", "no units")
_MILLILITRE = Code("ml", "UCUM", "Milliliter")
_VOLUME = Code("118565006", "SCT", "Volume")
_FINDINGS = {
    "suspicious": Code("SUSPICIOUS", dicom.PRIVATE_SCHEME, "Suspicious finding"),
    "not_suspicious": Code(
        "NOT_SUSPICIOUS", dicom.PRIVATE_SCHEME, "No suspicious lesion above operating point; NPC not excluded"
    ),
    "indeterminate": Code("INDETERMINATE", dicom.PRIVATE_SCHEME, "Indeterminate"),
}


def write(outcome: Outcome, path: Path, previous: Path | None) -> None:
    """Build and save sr.dcm. previous: the sr.dcm of the run that this one replaces, if there is one."""
    dicom.save(build(outcome, predecessor(outcome, previous)), path, outcome.facts.version)


@dicom.odd_character_sets_allowed()
def predecessor(outcome: Outcome, previous: Path | None) -> Dataset | None:
    """The SR this run supersedes: of the same study, and not this very run's own.

    An earlier SR of the same run passes on the predecessor it named, so that a repeated run writes the same.
    """
    if previous is None or not previous.is_file():
        return None
    try:
        old = dicom.load(previous)
    except (OSError, ValueError, KeyError, EOFError, AttributeError):
        return None
    study_uid = dicom.study_of(outcome).study_instance_uid
    if str(old.get("StudyInstanceUID", "")) != study_uid or "SOPInstanceUID" not in old:
        return None
    if str(old.get("SeriesInstanceUID", "")) != dicom.uids_of(outcome).uid("sr.series"):
        return _identity(study_uid, str(old.SeriesInstanceUID), str(old.SOPInstanceUID))
    for item in old.get("PredecessorDocumentsSequence", []):
        series = item.ReferencedSeriesSequence[0]
        instance = series.ReferencedSOPSequence[0]
        return _identity(study_uid, str(series.SeriesInstanceUID), str(instance.ReferencedSOPInstanceUID))
    return None


def _identity(study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.SeriesInstanceUID = study_uid, series_uid
    item.SOPClassUID, item.SOPInstanceUID = _SOP_CLASS, sop_uid
    return item


def sop_uid(outcome: Outcome, old: Dataset | None) -> str:
    """The predecessor is part of the content, hence of the UID: one UID never has two contents."""
    after = "" if old is None else f".after.{old.SOPInstanceUID}"
    return dicom.uids_of(outcome).uid(f"sr.sop{after}")


def build(outcome: Outcome, old: Dataset | None) -> Dataset:
    """The Comprehensive SR document."""
    study, uids = dicom.study_of(outcome), dicom.uids_of(outcome)
    images = dicom.source_images(outcome)
    report = sr.MeasurementReport(
        observation_context=_observer(outcome),
        procedure_reported=Code("MR_NASOPHARYNX", dicom.PRIVATE_SCHEME, "MR of nasopharynx"),
        imaging_measurements=[_group(outcome)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.append(_text(COMMENT))
    for line in wording.report_lines(outcome):
        report[0].ContentSequence.append(_text(line))
    dataset: Dataset = sr.ComprehensiveSR(
        evidence=[*images, *_segmentation_header(outcome)],
        content=report,
        series_instance_uid=uids.uid("sr.series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=sop_uid(outcome, old),
        instance_number=1,
        manufacturer=dicom.MANUFACTURER,
        manufacturer_model_name=dicom.ascii_text(outcome.facts.bundle_name),
        software_versions=outcome.facts.version,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=None if old is None else [old],
        series_description=dicom.series_description(outcome, "SR"),
    )
    dicom.true_references(dataset, outcome.reference_volume.slices)
    dataset.CodingSchemeIdentificationSequence = [seg.private_scheme()]
    dicom.fix_moment(dataset, study)
    dicom.adopt_patient(dataset, study)
    return dataset


def _text(line: str) -> sr.TextContentItem:
    return sr.TextContentItem(
        name=codes.DCM.Comment,
        value=dicom.ascii_text(line),
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )


def _observer(outcome: Outcome) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=dicom.uids_of(outcome).uid("device"),
        name="npc-edge",
        manufacturer_name=dicom.MANUFACTURER,
        model_name=dicom.ascii_text(outcome.facts.bundle_name),
        serial_number=outcome.facts.bundle_sha256[:16],
    )
    context = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return sr.ObservationContext(observer_device_context=context)


def _algorithm(outcome: Outcome) -> sr.AlgorithmIdentification:
    facts, runner = outcome.facts, outcome.facts.runner
    parameters = [f"bundle sha256 {facts.bundle_sha256}", f"evidence {facts.evidence}"]
    if runner is not None:
        parameters.append(
            f"{runner.backend} {runner.version} {runner.device} {runner.precision} {runner.isa}"
        )
    parameters.append(f"fingerprint {facts.fingerprint}")
    return sr.AlgorithmIdentification(
        name=dicom.ascii_text(f"npc-edge {facts.bundle_name}"),
        version=dicom.ascii_text(facts.version),
        parameters=[dicom.ascii_text(p) for p in parameters],
        family=codes.cid7162.ArtificialIntelligence,
        manufacturer=dicom.MANUFACTURER,
    )


def _group(
    outcome: Outcome,
) -> sr.MeasurementsAndQualitativeEvaluations | sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """One measurement group: with the tumour's segment where there is one, without a region otherwise."""
    name = "GTVp^AI"
    common: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=dicom.uids_of(outcome).uid(f"track.{name}"), identifier=seg.tracking_id(outcome, name)
        ),
        "finding_type": seg.LESION if outcome.segmentation.tumour_slices else None,
        "algorithm_id": _algorithm(outcome),
        "finding_sites": [sr.FindingSite(anatomic_location=seg.NASOPHARYNX)],
        "measurements": _measurements(outcome),
        "qualitative_evaluations": _evaluations(outcome),
    }
    if not outcome.segmentation.tumour_slices:
        return sr.MeasurementsAndQualitativeEvaluations(**common)
    segment = sr.ReferencedSegment(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        sop_instance_uid=dicom.uids_of(outcome).uid("seg.sop"),
        segment_number=seg.TUMOUR_SEGMENT,
        source_series=sr.SourceSeriesForSegmentation(dicom.reference_series(outcome).series_instance_uid),
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)


def _measurements(outcome: Outcome) -> list[sr.Measurement]:
    made = []
    detection = outcome.concluded.detection
    if detection is not None and wording.calibrated_on_patients(outcome):
        made.append(sr.Measurement(_PROBABILITY, round(detection.probability * 100, 2), _PER_CENT))
    elif detection is not None:
        made.append(sr.Measurement(_MODEL_SCORE, round(detection.probability, 4), _UNITY))
    if outcome.segmentation.tumour_slices:
        made.append(sr.Measurement(_VOLUME, round(outcome.segmentation.volume_ml, 3), _MILLILITRE))
    return made


def _evaluations(outcome: Outcome) -> list[sr.QualitativeEvaluation]:
    findings = outcome.concluded
    made = []
    if findings.detection is not None:
        made.append(sr.QualitativeEvaluation(_CONCLUSION, _FINDINGS[findings.detection.finding]))
    if findings.staging is not None:
        for category, system in ((findings.staging.ajcc8, _AJCC8), (findings.staging.ajcc9, _AJCC9)):
            if category is not None:
                made.append(_t_category(category, system))
    return made


def _t_category(category: TCategory, system: Code) -> sr.QualitativeEvaluation:
    """The category as a code of its own ('at least' is another code), the edition below it."""
    at_least = category.bound == "at_least"
    value = Code(
        f"{category.t}{'_AT_LEAST' if at_least else ''}",
        dicom.PRIVATE_SCHEME,
        f"{'At least ' if at_least else ''}imaging {category.t} category",
    )
    evaluation = sr.QualitativeEvaluation(_T_CATEGORY, value)
    modifier = sr.CodeContentItem(
        name=_STAGING_SYSTEM, value=system, relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD
    )
    evaluation[0].ContentSequence = sr.ContentSequence([modifier])
    return evaluation


def _segmentation_header(outcome: Outcome) -> Sequence[Dataset]:
    """What the evidence list needs to know of seg.dcm."""
    if not outcome.segmentation.tumour_slices:
        return []
    uids = dicom.uids_of(outcome)
    header = dicom.empty_patient(dicom.study_of(outcome).study_instance_uid)
    header.SeriesInstanceUID, header.SOPInstanceUID = uids.uid("seg.series"), uids.uid("seg.sop")
    header.SOPClassUID, header.Modality = "1.2.840.10008.5.1.4.1.1.66.4", "SEG"
    return [header]


@dicom.odd_character_sets_allowed()
def check(outcome: Outcome, path: Path) -> None:
    """Read sr.dcm back; OutputError unless it carries the patient, the flags and every finding."""
    dataset = dicom.load(path)
    dicom.check_patient(dataset, dicom.study_of(outcome), path.name)
    numbers, values = _said(dataset)
    meant_numbers = [float(m[0].value) for m in _measurements(outcome)]
    meant_values = [str(e[0].value.value) for e in _evaluations(outcome)]
    flags = (dataset.VerificationFlag, dataset.PreliminaryFlag)
    if flags != ("UNVERIFIED", "PRELIMINARY") or COMMENT not in values:
        raise OutputError("sr.dcm does not say that it is preliminary research output")
    if not set(meant_numbers) <= set(numbers) or not set(meant_values) <= set(values):
        raise OutputError("sr.dcm does not hold the findings that were meant")


def _said(item: Dataset) -> tuple[list[float], list[str]]:
    """Every number, and every code value and text, of a content tree."""
    numbers: list[float] = []
    values: list[str] = []
    if "MeasuredValueSequence" in item:
        numbers.append(float(item.MeasuredValueSequence[0].NumericValue))
    if "ConceptCodeSequence" in item:
        values.append(str(item.ConceptCodeSequence[0].CodeValue))
    if "TextValue" in item:
        values.append(str(item.TextValue))
    for child in item.get("ContentSequence", []):
        more_numbers, more_values = _said(child)
        numbers += more_numbers
        values += more_values
    return numbers, values
