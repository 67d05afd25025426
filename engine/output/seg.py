"""seg.dcm: one BINARY segment per structure, tumour first, on the reference series' own frames."""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from npc_edge.engine.errors import OutputError
from npc_edge.engine.findings.masks import bounding_box
from npc_edge.engine.model.manifest import LabelSpec
from npc_edge.engine.output import dicom
from npc_edge.engine.output.outcome import Outcome

SERIES_NUMBER = 9001
TUMOUR_SEGMENT = 1

_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LESION = Code("52988006", "SCT", "Lesion")
_ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
NASOPHARYNX = Code("360955006", "SCT", "Nasopharynx")
_TUMOUR_COLOUR = (230, 60, 60)


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


def write(outcome: Outcome, path: Path) -> None:
    """Build and save seg.dcm. The caller asks `segments` first: there must be at least one."""
    dataset = build(outcome)
    dicom.save(dataset, path, outcome.facts.version)


def build(outcome: Outcome) -> Dataset:
    """The Segmentation object (BINARY, empty frames omitted)."""
    study, uids = dicom.study_of(outcome), dicom.uids_of(outcome)
    wanted = segments(outcome)
    description = dicom.series_description(outcome, "SEG")
    dataset: Dataset = hd.seg.Segmentation(
        source_images=dicom.source_images(outcome),
        pixel_array=_stack(outcome, wanted),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(outcome, segment) for segment in wanted],
        series_instance_uid=uids.uid("seg.series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.uid("seg.sop"),
        instance_number=1,
        manufacturer=dicom.MANUFACTURER,
        manufacturer_model_name=dicom.ascii_text(outcome.facts.bundle_name),
        software_versions=outcome.facts.version,
        device_serial_number=outcome.facts.bundle_sha256[:16],
        content_description="Research use only; unreviewed",
        content_creator_name="npc-edge^",
        content_label="NPC_EDGE_RESEARCH"[:16],
        series_description=description,
    )
    dicom.true_references(dataset, outcome.reference_volume.slices)
    organization = uids.uid("seg.dimensions")
    for item in [*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence]:
        item.DimensionOrganizationUID = organization
    dataset.CodingSchemeIdentificationSequence = [private_scheme()]
    dicom.fix_moment(dataset, study)
    dicom.adopt_patient(dataset, study)
    return dataset


def load_tables() -> None:
    """Have highdicom read what it keeps of the standard, 20 MB: it does for the first object it makes."""
    hd.SOPClass(
        study_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
        series_number=SERIES_NUMBER,
        sop_instance_uid="2.25.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        instance_number=1,
        modality="SEG",
    )


def private_scheme() -> Dataset:
    """Who stands behind the private codes."""
    item = Dataset()
    item.CodingSchemeDesignator = dicom.PRIVATE_SCHEME
    item.CodingSchemeName = "npc-edge private codes"
    item.CodingSchemeResponsibleOrganization = "npc-edge"
    return item


class _Stack(np.ndarray[Any, np.dtype[np.uint8]]):
    """0 or 1 for each segment along the last axis, whose sum fits into a byte.

    highdicom asks for that sum to see whether segments overlap. numpy would make it of 64-bit numbers: eight
    times the memory, and half the time of the whole object.
    """

    def sum(self, axis: Any = None, **options: Any) -> Any:  # type: ignore[override]
        if axis == -1 and self.ndim == 4 and self.shape[-1] < 256:
            options.setdefault("dtype", np.uint8)
        return super().sum(axis=axis, **options)


def _stack(outcome: Outcome, wanted: list[Segment]) -> NDArray[np.uint8]:
    """(Z, Y, X, S) uint8 with the segments outermost in memory: pages without a voxel are not touched."""
    shape = outcome.segmentation.tumour.shape
    stack = _untouched_zeros(shape, wanted)
    for index, segment in enumerate(wanted):
        for z in segment.planes:
            plane = segment.plane(outcome, z)
            rows = np.flatnonzero(plane.any(axis=1))
            used = slice(rows[0], rows[-1] + 1)
            stack[index, z, used] = plane[used]
    return np.moveaxis(stack, 0, -1).view(_Stack)


def _untouched_zeros(shape: tuple[int, ...], wanted: list[Segment]) -> NDArray[np.uint8]:
    """(S, Z, Y, X) zeros that take memory only where they are written.

    numpy's own take it by pages of 2 MB, eight slices at once. These do so, and are read faster for it, only
    where nothing will be written.
    """
    everything = (len(wanted), *shape)
    if sys.platform == "win32":
        return np.zeros(everything, dtype=np.uint8)
    block = mmap.mmap(-1, math.prod(everything), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        depth, plane = shape[0], shape[1] * shape[2]
        with contextlib.suppress(OSError):  # a kernel may know no large pages
            block.madvise(mmap.MADV_HUGEPAGE)
            for index, segment in enumerate(wanted):
                start = (index * depth + segment.planes[0]) * plane // mmap.PAGESIZE * mmap.PAGESIZE
                end = (index * depth + segment.planes[-1] + 1) * plane
                block.madvise(mmap.MADV_NOHUGEPAGE, start, end - start)
    return np.frombuffer(block, dtype=np.uint8).reshape(everything)


def _describe(outcome: Outcome, segment: Segment) -> hd.seg.SegmentDescription:
    facts, uids = outcome.facts, dicom.uids_of(outcome)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=dicom.ascii_text(f"npc-edge {facts.bundle_name}")[:64],
        family=codes.cid7162.ArtificialIntelligence,
        version=facts.version,
        source="npc-edge",
    )
    name, concept, colour = property_of(outcome, segment)
    tumour = segment.code is None
    return hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=f"RESEARCH {name}"[:64] if tumour else name[:64],
        segmented_property_category=_ABNORMAL if tumour else _ANATOMY,
        segmented_property_type=concept,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=uids.uid(f"track.{name}"),
        tracking_id=tracking_id(outcome, name),
        anatomic_regions=[NASOPHARYNX] if tumour else None,
        display_color=hd.color.CIELabColor.from_rgb(*colour),
    )


def tracking_id(outcome: Outcome, name: str) -> str:
    """Unique within this run: the same name in SEG and SR."""
    return f"npc-edge {outcome.facts.fingerprint[:12]} {name}"[:64]


def property_of(outcome: Outcome, segment: Segment) -> tuple[str, Code, tuple[int, int, int]]:
    """(name, coded type, colour) of a segment; a label without a standard code gets a private one."""
    if segment.code is None:
        return "GTVp^AI", LESION, _TUMOUR_COLOUR
    name = dicom.ascii_text(outcome.segmentation.labels[segment.code])
    label = segment.label
    colour = (160, 160, 160) if label is None else label.colour
    if label is not None and label.concept is not None:
        concept = label.concept
        return name, Code(concept.value, concept.scheme, dicom.ascii_text(concept.meaning)[:64]), colour
    return name, Code(name.upper()[:16], dicom.PRIVATE_SCHEME, name.replace("_", " ")[:64]), colour


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
