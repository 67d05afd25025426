"""rtstruct.dcm: the tumour as contours on the source slices, for a planning system to start from.

No interpolation between slices, no margin, no island dropped. Written with pydicom: highdicom has no class
for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from npc_edge.engine.errors import OutputError
from npc_edge.engine.output import dicom
from npc_edge.engine.output.contours import outlines
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.types import SourceSlice

SERIES_NUMBER = 9002
_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
_COLOUR = [230, 60, 60]
_DIGITS = 4  # 0.1 micrometre
DESCRIPTION = (
    "RESEARCH USE ONLY. MR frame of reference; not registered to planning CT; "
    "no CTV/PTV margin; no nodal GTV; unreviewed"
)


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed outline on source slice z: points (N, 3) LPS mm."""

    z: int
    points: NDArray[np.float64]


def roi_name(outcome: Outcome) -> str:
    """Never the physician's GTVp; a name that sorts last and says so for a bundle of synthetic evidence."""
    return "zDEMO_GTVp" if outcome.synthetic else "GTVp^AI"


def contours(outcome: Outcome) -> list[Contour]:
    """Every outline of the tumour mask, slice by slice."""
    masks, grid = outcome.segmentation, outcome.reference_volume.geometry
    made = []
    for z in masks.tumour_slices:
        for loop in outlines(masks.tumour[z]):
            index = np.column_stack([loop, np.full(len(loop), float(z))])
            made.append(Contour(z, grid.to_world(index)))
    return made


def write(outcome: Outcome, path: Path) -> None:
    """Build and save rtstruct.dcm; the mask must not be empty."""
    path.write_bytes(dicom.encoded(build(outcome), outcome.facts.version))


def build(outcome: Outcome) -> Dataset:
    """The RT Structure Set with one ROI."""
    study, uids = dicom.study_of(outcome), dicom.uids_of(outcome)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = _SOP_CLASS, uids.uid("rtstruct.sop")
    dataset.SeriesInstanceUID, dataset.SeriesNumber = uids.uid("rtstruct.series"), SERIES_NUMBER
    dataset.Modality, dataset.InstanceNumber = "RTSTRUCT", 1
    dataset.SeriesDescription = dicom.series_description(outcome, "RTSTRUCT")
    dataset.Manufacturer = dicom.MANUFACTURER
    dataset.ManufacturerModelName = dicom.ascii_text(outcome.facts.bundle_name)
    dataset.SoftwareVersions = outcome.facts.version
    dataset.OperatorsName = ""
    dataset.FrameOfReferenceUID = dicom.frame_of_reference(outcome)
    dataset.PositionReferenceIndicator = ""
    dataset.StructureSetLabel = "RESEARCH AI DEMO" if outcome.synthetic else "RESEARCH AI"
    dataset.StructureSetName = "npc-edge research, unreviewed"
    dataset.StructureSetDescription = DESCRIPTION
    dataset.StructureSetDate, dataset.StructureSetTime = dicom.content_moment(study.patient_module)
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(outcome)]
    dataset.StructureSetROISequence = [_roi(outcome)]
    dataset.ROIContourSequence = [_roi_contour(outcome)]
    dataset.RTROIObservationsSequence = [_observation(outcome)]
    dicom.adopt_patient(dataset, study)
    return dataset


def _image(piece: SourceSlice) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = piece.sop_class_uid, piece.sop_instance_uid
    if dicom.is_frame(piece):
        item.ReferencedFrameNumber = piece.frame_number
    return item


def _referenced_frame(outcome: Outcome) -> Dataset:
    """Study, series and every image of the series the contours were drawn on."""
    study, pieces = dicom.study_of(outcome), outcome.reference_volume.slices
    by_object: dict[str, list[SourceSlice]] = {}
    for piece in pieces:
        by_object.setdefault(piece.sop_instance_uid, []).append(piece)
    images = []
    for group in by_object.values():
        item = _image(group[0])
        if dicom.is_frame(group[0]):
            item.ReferencedFrameNumber = [piece.frame_number for piece in group]
        images.append(item)
    series = Dataset()
    series.SeriesInstanceUID = dicom.reference_series(outcome).series_instance_uid
    series.ContourImageSequence = images
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = _DETACHED_STUDY
    referenced.ReferencedSOPInstanceUID = study.study_instance_uid
    referenced.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = dicom.frame_of_reference(outcome)
    frame.RTReferencedStudySequence = [referenced]
    return frame


def _roi(outcome: Outcome) -> Dataset:
    roi = Dataset()
    roi.ROINumber = 1
    roi.ReferencedFrameOfReferenceUID = dicom.frame_of_reference(outcome)
    roi.ROIName = roi_name(outcome)
    roi.ROIDescription = "RESEARCH USE ONLY; unreviewed"
    roi.ROIVolume = dicom.decimal(outcome.segmentation.volume_ml)
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = dicom.ascii_text(f"npc-edge {outcome.facts.bundle_name}")[:64]
    return roi


def _roi_contour(outcome: Outcome) -> Dataset:
    pieces, items = outcome.reference_volume.slices, []
    for number, contour in enumerate(contours(outcome), 1):
        item = Dataset()
        item.ContourImageSequence = [_image(pieces[contour.z])]
        item.ContourGeometricType = "CLOSED_PLANAR"
        item.NumberOfContourPoints = len(contour.points)
        item.ContourNumber = number
        item.ContourData = [dicom.decimal(value, _DIGITS) for value in contour.points.ravel()]
        items.append(item)
    roi = Dataset()
    roi.ROIDisplayColor = _COLOUR
    roi.ContourSequence = items
    roi.ReferencedROINumber = 1
    return roi


def _observation(outcome: Outcome) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = 1
    observation.ReferencedROINumber = 1
    observation.ROIObservationLabel = roi_name(outcome)
    observation.RTROIInterpretedType = "" if outcome.synthetic else "GTV"
    observation.ROIInterpreter = ""
    return observation


@dicom.odd_character_sets_allowed()
def check(outcome: Outcome, path: Path) -> None:
    """Read rtstruct.dcm back: filling its contours on the source grid must give the tumour mask again."""
    dataset = dicom.load(path)
    dicom.check_patient(dataset, dicom.study_of(outcome), path.name)
    masks, grid = outcome.segmentation, outcome.reference_volume.geometry
    slices = {(p.sop_instance_uid, p.frame_number): z for z, p in enumerate(outcome.reference_volume.slices)}
    filled = np.zeros(masks.tumour.shape, dtype=bool)
    for item in dataset.ROIContourSequence[0].ContourSequence:
        image = item.ContourImageSequence[0]
        z = slices[(image.ReferencedSOPInstanceUID, int(image.get("ReferencedFrameNumber", 1)))]
        index = grid.to_index(np.array(item.ContourData, dtype=np.float64).reshape(-1, 3))
        if np.abs(index[:, 2] - z).max() * grid.spacing[2] > dicom.POSITION_TOLERANCE_MM:
            raise OutputError("rtstruct.dcm has a contour off its slice")
        filled[z] ^= fill(index[:, :2], masks.tumour.shape[1:])
    if not np.array_equal(filled, masks.tumour > 0):
        raise OutputError("rtstruct.dcm does not hold the contours that were meant")


def fill(loop: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(N, 2) polygon in (x, y) indices → (Y, X) mask of the pixel centres inside, by the even-odd rule."""
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    for (x0, y0), (x1, y1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
        low, high = int(np.ceil(min(y0, y1))), int(np.ceil(max(y0, y1)))
        rows = np.arange(max(low, 0), min(high, shape[0]))
        if len(rows):
            at = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
            # From the first pixel centre right of the crossing on, this edge changes inside to outside.
            np.add.at(crossings, (rows, np.clip(np.ceil(at), 0, shape[1]).astype(int)), 1)
    return np.asarray(np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1)
