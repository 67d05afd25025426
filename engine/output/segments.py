"""Which segments seg.dcm has, and the proof that it holds them: without highdicom, which makes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from npc_edge.engine.errors import OutputError
from npc_edge.engine.findings.boxes import bounding_box
from npc_edge.engine.model.manifest import LabelSpec
from npc_edge.engine.output import dicom
from npc_edge.engine.output.outcome import Outcome


@dataclass(frozen=True)
class Segment:
    """One segment: its number, and where its voxels are. code None: the tumour. planes: its slices."""

    number: int
    code: int | None
    label: LabelSpec | None
    planes: tuple[int, ...]

    def plane(self, outcome: Outcome, z: int) -> NDArray[np.bool_]:
        """(Y, X) bool of slice z."""
        masks = outcome.segmentation
        if self.code is None:
            return np.asarray(masks.tumour[z] > 0)
        return np.asarray(masks.structures[z] == self.code)


def segments(outcome: Outcome) -> list[Segment]:
    """The non-empty segments of a run, numbered from 1. Empty when there is nothing to show."""
    masks = outcome.segmentation
    labels = {label.code: label for label in outcome.manifest.labels}
    on_slice = _voxels_by_slice(masks.structures)
    made = []
    if masks.tumour_slices:
        made.append(Segment(1, None, None, masks.tumour_slices))
    for code in np.flatnonzero(on_slice.any(axis=0)).tolist():
        if code in masks.labels:
            planes = tuple(np.flatnonzero(on_slice[:, code]).tolist())
            made.append(Segment(len(made) + 1, code, labels.get(code), planes))
    return made


def _voxels_by_slice(structures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(Z, 256) how many voxels of each code every slice has; those of code 0 only near the others."""
    counts = np.zeros((len(structures), 256), dtype=np.int64)
    box = bounding_box(structures > 0)
    if box is not None:
        for z, plane in enumerate(structures[box], box[0].start):
            counts[z] = np.bincount(plane.ravel(), minlength=256)
    return counts


@dicom.odd_character_sets_allowed()
def check(outcome: Outcome, path: Path) -> None:
    """Read seg.dcm back frame by frame; OutputError unless voxels, places and patient are what was meant."""
    dataset = dicom.load(path)
    dicom.check_patient(dataset, dicom.study_of(outcome), path.name)
    by_number = {segment.number: segment for segment in segments(outcome)}
    expected = {(n, z) for n, segment in by_number.items() for z in segment.planes}
    positions = np.array([piece.position for piece in outcome.reference_volume.slices])
    rows, columns, pixels = int(dataset.Rows), int(dataset.Columns), dataset.PixelData
    seen = set()
    for index, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        number = int(_of(dataset, item, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        place = _of(dataset, item, "PlanePositionSequence").ImagePositionPatient
        position = np.array(place, dtype=np.float64)
        z = int(np.argmin(np.abs(positions - position).sum(axis=1)))
        plane = _unpack(pixels, index, rows * columns).reshape(rows, columns)
        if not dicom.same_position(positions[z], position) or number not in by_number:
            raise OutputError("seg.dcm does not lie where it was meant")
        if not np.array_equal(plane, by_number[number].plane(outcome, z)):
            raise OutputError("seg.dcm does not hold the voxels that were meant")
        seen.add((number, z))
    if seen != expected:
        raise OutputError("seg.dcm lacks frames")


def _of(dataset: Dataset, frame: Dataset, group: str) -> Dataset:
    """A functional group of a frame; one that all frames have in common (a single segment) is shared."""
    held = frame if group in frame else dataset.SharedFunctionalGroupsSequence[0]
    found: Dataset = held[group].value[0]
    return found


def _unpack(pixels: bytes, frame: int, size: int) -> NDArray[np.bool_]:
    """Bits of one frame; frames are packed without padding, least significant bit first."""
    begin, end = frame * size, (frame + 1) * size
    packed = np.frombuffer(pixels, np.uint8, (end + 7) // 8 - begin // 8, begin // 8)
    bits = np.unpackbits(packed, bitorder="little")
    return np.asarray(bits[begin % 8 : begin % 8 + size], dtype=np.bool_)
