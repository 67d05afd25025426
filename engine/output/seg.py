"""seg.dcm: one BINARY segment per structure, tumour first, on the reference series' own frames."""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from npc_edge.engine.output import dicom
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.output.segments import Segment, segments

SERIES_NUMBER = 9001
TUMOUR_SEGMENT = 1

_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LESION = Code("52988006", "SCT", "Lesion")
_ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
NASOPHARYNX = Code("360955006", "SCT", "Nasopharynx")
_TUMOUR_COLOUR = (230, 60, 60)


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


class _Stack(np.ndarray[Any, np.dtype[np.bool_]]):
    """True or False for each segment along the last axis, whose sum fits into a byte.

    highdicom asks for that sum to see whether segments overlap. numpy would make it of 64-bit numbers: eight
    times the memory, and half the time of the whole object.
    """

    def sum(self, axis: Any = None, **options: Any) -> Any:  # type: ignore[override]
        if axis == -1 and self.ndim == 4 and self.shape[-1] < 256:
            return self.view(np.uint8).view(np.ndarray).sum(axis=-1, dtype=np.uint8)
        return super().sum(axis=axis, **options)


def _stack(outcome: Outcome, wanted: list[Segment]) -> NDArray[np.bool_]:
    """(Z, Y, X, S) bool with the segments outermost in memory: pages without a voxel are not touched."""
    shape = outcome.segmentation.tumour.shape
    stack = _untouched_zeros(shape, wanted)
    for index, segment in enumerate(wanted):
        for z in segment.planes:
            plane = segment.plane(outcome, z)
            rows = np.flatnonzero(plane.any(axis=1))
            used = slice(rows[0], rows[-1] + 1)
            stack[index, z, used] = plane[used]
    return np.moveaxis(stack, 0, -1).view(_Stack)


def _untouched_zeros(shape: tuple[int, ...], wanted: list[Segment]) -> NDArray[np.bool_]:
    """(S, Z, Y, X) zeros that take memory only where they are written.

    numpy's own take it by pages of 2 MB, eight slices at once. These do so, and are read faster for it, only
    where nothing will be written.
    """
    everything = (len(wanted), *shape)
    if sys.platform == "win32":
        return np.zeros(everything, dtype=np.bool_)
    block = mmap.mmap(-1, math.prod(everything), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        depth, plane = shape[0], shape[1] * shape[2]
        with contextlib.suppress(OSError):  # a kernel may know no large pages
            block.madvise(mmap.MADV_HUGEPAGE)
            for index, segment in enumerate(wanted):
                start = (index * depth + segment.planes[0]) * plane // mmap.PAGESIZE * mmap.PAGESIZE
                end = (index * depth + segment.planes[-1] + 1) * plane
                block.madvise(mmap.MADV_NOHUGEPAGE, start, end - start)
    return np.frombuffer(block, dtype=np.bool_).reshape(everything)


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
