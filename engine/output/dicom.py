"""What the three DICOM objects share: the source's patient module, references to source images, names, dates.

The outputs are a function of the fingerprint and the patient module alone, so that one SOP UID never has two
contents: content date and time are those of the source study, and no creation time is recorded.
ContentQualification (0018,9004) exists in none of the IODs SEG, RTSTRUCT and SR; SeriesDescription, the SR's
comment and the structure set's description say "research" instead.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.charset import default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import correct_ambiguous_vr, write_data_element
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian

from npc_edge.engine.errors import OutputError
from npc_edge.engine.output.fingerprint import Uids
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.types import Series, SourceSlice, Study

PRIVATE_SCHEME = "99NPCEDGE"
MANUFACTURER = "npc-edge"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
POSITION_TOLERANCE_MM = 0.05
_IMPLEMENTATION = UID("2.25.38503336774327049850583806240762165096")

# Group 0008 and 0020 elements that belong to the study or the patient; all of 0010 and 0012 (trial) do.
_STUDY_TAGS = frozenset(
    {
        0x00080005, 0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080090, 0x00080096, 0x0008009C,
        0x0008009D, 0x00080201, 0x00081030, 0x00081032, 0x00081048, 0x00081049, 0x00081060, 0x00081062,
        0x00081078, 0x00081080, 0x00081084, 0x00081110, 0x0020000D, 0x00200010, 0x00321033, 0x00321034,
        0x00380010, 0x00380014, 0x00380060, 0x00380062, 0x00380064,
    }
)  # fmt: skip
# Type 2 of those modules: present, empty where the source has none.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip


@contextmanager
def odd_character_sets_allowed() -> Iterator[None]:
    """The source's character set is copied, known to pydicom or not; our own text is ASCII."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def study_of(outcome: Outcome) -> Study:
    """The study of an outcome that writes DICOM; ValueError when it has none."""
    if outcome.study is None:
        raise ValueError("DICOM outputs need a DICOM study")
    return outcome.study


def reference_series(outcome: Outcome) -> Series:
    """The series behind the reference volume."""
    index = outcome.reference_volume.series
    if index is None:
        raise ValueError("the reference volume was not assembled from a series")
    return study_of(outcome).series[index]


def uids_of(outcome: Outcome) -> Uids:
    """The UIDs of this run's objects."""
    return Uids(outcome.facts.fingerprint, study_of(outcome).patient_module)


def frame_of_reference(outcome: Outcome) -> str:
    """The reference series' frame of reference; one of our own where the source has none."""
    found = (
        reference_series(outcome).frame_of_reference or outcome.reference_volume.geometry.frame_of_reference
    )
    return found or uids_of(outcome).uid("frame_of_reference")


def series_description(outcome: Outcome, kind: str) -> str:
    """At most 64 characters, ASCII: it must read the same under whatever character set the source has."""
    room = 64 - len(f"RESEARCH npc-edge  {kind}")
    return f"RESEARCH npc-edge {ascii_text(outcome.facts.bundle_name)[:room]} {kind}"


def ascii_text(text: str) -> str:
    """Printable ASCII without a backslash, which separates values."""
    kept = text.replace("≥", ">=").encode("ascii", "replace").decode().replace("\\", "/")
    return "".join(c if c.isprintable() else " " for c in kept)


def decimal(value: float, digits: int = 9) -> str:
    """A DS value in plain notation: at most 16 characters, `digits` decimals at most, never '-0'."""
    for places in range(digits, -1, -1):
        text = f"{round(float(value), places) + 0.0:.{places}f}"
        if len(text) <= 16:
            return text.rstrip("0").rstrip(".") if "." in text else text
    raise ValueError(f"{value} does not fit a DICOM decimal string")


def content_moment(module: bytes) -> tuple[str, str]:
    """(DA, TM) for the content: the study's own, or a fixed one where an anonymiser took it away."""
    source = _parse(module)
    date, time = _ascii_value(source, 0x00080020), _ascii_value(source, 0x00080030)
    if not re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", date):
        date = "19000101"
    if not re.fullmatch(r"([01]\d|2[0-3])[0-5]\d[0-5]\d(\.\d{1,6})?", time):
        time = "000000"
    return date, time


def _ascii_value(source: Dataset, tag: int) -> str:
    if tag not in source:
        return ""
    value = source.get_item(tag).value
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else str(value or "")


def _parse(module: bytes) -> Dataset:
    with odd_character_sets_allowed():
        return read_dataset(BytesIO(module), is_implicit_VR=False, is_little_endian=True)


def source_images(outcome: Outcome) -> list[Dataset]:
    """One header per slice of the reference volume, in its order, with what highdicom needs and no patient.

    A frame of an enhanced object is presented as an image of its own under a stand-in UID (`stand_in`);
    `true_references` puts the object and frame number back.
    """
    series, grid = reference_series(outcome), outcome.reference_volume.geometry
    orientation = [decimal(v) for v in grid.direction.T[:2].ravel()]
    thickness = series.acquisition.slice_thickness_mm or grid.spacing[2]
    made = []
    for index, piece in enumerate(outcome.reference_volume.slices):
        image = empty_patient(study_of(outcome).study_instance_uid)
        image.Modality = "MR"
        image.SeriesInstanceUID = series.series_instance_uid
        image.FrameOfReferenceUID = frame_of_reference(outcome)
        image.SOPClassUID = MR_IMAGE if is_frame(piece) else piece.sop_class_uid
        image.SOPInstanceUID = stand_in(index) if is_frame(piece) else piece.sop_instance_uid
        image.Rows, image.Columns = grid.shape[1:]
        image.PixelSpacing = [decimal(grid.spacing[1]), decimal(grid.spacing[0])]
        image.SliceThickness = decimal(thickness)
        image.ImageOrientationPatient = orientation
        image.ImagePositionPatient = [decimal(v) for v in piece.position]
        made.append(image)
    return made


def is_frame(piece: SourceSlice) -> bool:
    """True for a frame of a multi-frame object."""
    return piece.sop_class_uid != MR_IMAGE


def stand_in(index: int) -> str:
    return f"2.25.{index + 1}"


def true_references(dataset: Dataset, pieces: tuple[SourceSlice, ...]) -> None:
    """Turn every stand-in reference below `dataset` into object and frame, naming each object once a list."""
    known = {stand_in(i): piece for i, piece in enumerate(pieces) if is_frame(piece)}
    if known:
        _restore(dataset, known)


def _restore(dataset: Dataset, known: dict[str, SourceSlice]) -> None:
    for element in dataset:
        if element.VR != "SQ":
            continue
        kept: dict[str, Dataset] = {}
        for item in element.value:
            piece = known.get(str(item.get("ReferencedSOPInstanceUID", "")))
            if piece is None:
                _restore(item, known)
                kept[str(len(kept))] = item
                continue
            item.ReferencedSOPClassUID = piece.sop_class_uid
            item.ReferencedSOPInstanceUID = piece.sop_instance_uid
            if element.keyword == "SourceImageSequence" and len(element.value) == 1:
                item.ReferencedFrameNumber = piece.frame_number
            kept[piece.sop_instance_uid] = item
        element.value = list(kept.values())


def empty_patient(study_uid: str) -> Dataset:
    """A data set with the patient and study attributes that builders insist on, all empty."""
    dataset = Dataset()
    dataset.StudyInstanceUID = study_uid
    for keyword in _TYPE_2:
        setattr(dataset, keyword, "")
    return dataset


@odd_character_sets_allowed()
def adopt_patient(dataset: Dataset, study: Study) -> None:
    """Put the source's patient and study elements in, byte for byte, and nothing in their place."""
    for keyword in ("SpecificCharacterSet", "TimezoneOffsetFromUTC"):
        if keyword in dataset:
            del dataset[keyword]
    source = _parse(study.patient_module)
    for tag in list(source.keys()):
        if _belongs(tag):
            dataset[tag] = source.get_item(tag)
    dataset.StudyInstanceUID = study.study_instance_uid
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")


def _belongs(tag: int) -> bool:
    return tag >> 16 in (0x0010, 0x0012) or tag in _STUDY_TAGS


def check_patient(dataset: Dataset, study: Study, name: str) -> None:
    """OutputError unless every patient and study element of the source is in `dataset`, byte for byte."""
    source = _parse(study.patient_module)
    for tag in list(source.keys()):
        if not _belongs(tag):
            continue
        found = dataset.get_item(tag)
        if found is None or _bytes_of(found.value) != _bytes_of(source.get_item(tag).value):
            raise OutputError(f"{name} does not carry the source's patient module")


def _bytes_of(value: object) -> object:
    """A raw value; the character set, which a reader decodes at once, as the bytes it came from."""
    if isinstance(value, str):
        return value.rstrip(" \0").encode("ascii", "replace")
    if isinstance(value, MultiValue):
        return "\\".join(str(v) for v in value).encode("ascii", "replace")
    return value.rstrip(b" \0") if isinstance(value, bytes) else value


def encoded(dataset: Dataset, version: str) -> bytes:
    """A DICOM file in Explicit VR Little Endian, with a zero preamble. The data set is used up by it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = f"NPC-EDGE {ascii_text(version)}"[:16]
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for tag in sorted(dataset.keys()):
        file[tag] = dataset.get_item(tag)
    made = BytesIO()
    with odd_character_sets_allowed():
        _settle(file)
        _encode_once(file)
        file.save_as(made, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return made.getvalue()


def _settle(dataset: Dataset) -> None:
    """Settle once what pydicom settles again at every level of nesting: a third of its time. What is encoded
    already stays so."""
    correct_ambiguous_vr(dataset, is_little_endian=True)
    for nested in _nested(dataset):
        nested.set_original_encoding(False, True, default_encoding)
    # pydicom has no other name for the character set that it will write with.
    dataset.set_original_encoding(False, True, dataset._character_set)


def _encode_once(dataset: Dataset) -> None:
    """Frames of a slice have place and source in common, frames of a segment its name: encoded once."""
    known: dict[object, RawDataElement] = {}
    for frame in dataset.get("PerFrameFunctionalGroupsSequence", ()):
        if "PlanePositionSequence" not in frame or "SegmentIdentificationSequence" not in frame:
            return  # one slice, or one segment: all frames have it in common
        place = tuple(frame.PlanePositionSequence[0].ImagePositionPatient)
        segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for keyword, key in (
            ("PlanePositionSequence", place),
            ("DerivationImageSequence", place),
            ("SegmentIdentificationSequence", segment),
        ):
            if keyword in frame:
                element = frame[keyword]
                if (keyword, key) not in known:
                    known[keyword, key] = _as_bytes(element)
                frame[element.tag] = known[keyword, key]


def _as_bytes(element: DataElement) -> RawDataElement:
    """The same element, encoded."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_data_element(stream, element)
    value = stream.getvalue()[12:]  # behind tag, VR, two reserved bytes and the length
    return RawDataElement(element.tag, element.VR, len(value), value, 0, False, True)


def _nested(dataset: Dataset) -> Iterator[Dataset]:
    for element in dataset.values():
        if isinstance(element, DataElement) and element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _nested(item)


def load(path: Path) -> Dataset:
    """Read one of our own files back; values stay raw until they are asked for."""
    with odd_character_sets_allowed():
        return dcmread(path)


def fix_moment(dataset: Dataset, study: Study) -> None:
    """Replace every date that a library took from the clock."""
    dataset.ContentDate, dataset.ContentTime = content_moment(study.patient_module)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"):
        if keyword in dataset:
            del dataset[keyword]


def same_position(a: object, b: object) -> bool:
    """True when two LPS points agree within the round trip's tolerance."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return bool(np.abs(difference).max() <= POSITION_TOLERANCE_MM)
