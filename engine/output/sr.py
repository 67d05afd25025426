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

from npc_edge.engine.output import dicom, seg, sr_content, wording
from npc_edge.engine.output.outcome import Outcome

SERIES_NUMBER = 9003
_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"  # Comprehensive SR: read by more viewers than the 3D one


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
    report[0].ContentSequence.append(_text(sr_content.COMMENT))
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
    return [sr.Measurement(name, value, unit) for name, value, unit in sr_content.numbers(outcome)]


def _evaluations(outcome: Outcome) -> list[sr.QualitativeEvaluation]:
    made = []
    concluded = sr_content.conclusion(outcome)
    if concluded is not None:
        made.append(sr.QualitativeEvaluation(sr_content.CONCLUSION, concluded))
    for category, system in sr_content.categories(outcome):
        made.append(_t_category(category, system))
    return made


def _t_category(category: Code, system: Code) -> sr.QualitativeEvaluation:
    """The category, with the edition below it."""
    evaluation = sr.QualitativeEvaluation(sr_content.T_CATEGORY, category)
    modifier = sr.CodeContentItem(
        name=sr_content.STAGING_SYSTEM,
        value=system,
        relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
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
