"""What goes wrong in headers: slices, geometry, identity, text. Each function edits a written study.

All take the study folder and a random generator, and leave every file not named untouched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from npc_edge.bench.phantom.dicom import numbers
from npc_edge.engine.errors import UsageError

Rng = np.random.Generator
Edit = Callable[[FileDataset, int], None]

_TILT = (1.0, 0.0, 0.0, 0.0, 0.9612616959, 0.2756373558)  # 16 degrees about x


@contextmanager
def unchecked() -> Iterator[None]:
    """pydicom without its validation: damage is meant to be invalid."""
    settings = config.settings
    reading, writing = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = config.IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = reading, writing


def new_uid(*parts: object) -> UID:
    """A deterministic UID for something the damage adds."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def files(study: Path) -> list[Path]:
    """Every file of a study, sorted by path."""
    return sorted(p for p in study.rglob("*") if p.is_file())


def series(study: Path, role: str) -> list[Path]:
    """The files of the T1, T2 or LOCALIZER series of a sound classic study, ascending along the normal."""
    found: list[tuple[float, Path]] = []
    for path in files(study):
        header = dcmread(path, stop_before_pixels=True)
        if "ImagePositionPatient" not in header:
            raise UsageError("this defect needs classic images", "leave out --enhanced")
        if _role(header) == role:
            row, column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
            height = float(np.cross(row, column) @ np.array(header.ImagePositionPatient, dtype=float))
            found.append((height, path))
    return [path for _, path in sorted(found)]


def _role(header: Dataset) -> str:
    if "GR" in header.ScanningSequence:
        return "LOCALIZER"
    if "ContrastBolusAgent" in header:
        return "T1C"
    return "T2" if float(header.EchoTime) > 40 else "T1"


def edit(paths: Sequence[Path], change: Edit) -> None:
    """Apply `change(dataset, index)` to each file, in place."""
    with unchecked():
        for index, path in enumerate(paths):
            data = dcmread(path)
            change(data, index)
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
            data.save_as(path, enforce_file_format=True)


def put(data: Dataset, tag: int, vr: str, value: object) -> None:
    """Set an element to a value that its VR may forbid."""
    data.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))


def middle(paths: Sequence[Path]) -> int:
    """Index of the slice in the middle."""
    return len(paths) // 2


# --- slices -----------------------------------------------------------------------------------------------


def missing_slice(study: Path, rng: Rng) -> None:
    paths = series(study, "T1")
    paths[middle(paths)].unlink()


def duplicate_slice(study: Path, rng: Rng) -> None:
    """The same position twice, as another image: a repeated slice with its own noise."""
    paths = series(study, "T1")
    source = paths[middle(paths)]
    copy = source.with_name("again_" + source.name)
    copy.write_bytes(source.read_bytes())

    def change(data: FileDataset, _: int) -> None:
        data.SOPInstanceUID = new_uid("again", data.SOPInstanceUID)
        data.InstanceNumber = len(paths) + 1
        pixels = data.pixel_array.copy()
        pixels[:: 2 + int(rng.integers(3))] += 1
        data.PixelData = pixels.tobytes()

    edit([copy], change)


def copied_file(study: Path, rng: Rng) -> None:
    source = series(study, "T1")[0]
    folder = study / "copy"
    folder.mkdir()
    (folder / source.name).write_bytes(source.read_bytes())


def false_duplicate_instance_number(study: Path, rng: Rng) -> None:
    edit(series(study, "T1"), lambda data, _: setattr(data, "InstanceNumber", 1))


def too_few_slices(study: Path, rng: Rng) -> None:
    for role in ("T1", "T2"):
        paths = series(study, role)
        start = middle(paths) - 2
        for path in paths[:start] + paths[start + 4 :]:
            path.unlink()


def fov_truncated(study: Path, rng: Rng) -> None:
    """The lower half of every stack was not sent: it ends within the nasopharynx."""
    for role in ("T1", "T2"):
        paths = series(study, role)
        for path in paths[: middle(paths)]:
            path.unlink()


def non_uniform_spacing(study: Path, rng: Rng) -> None:
    """Distances between slices grow steadily by up to half, no single one missing."""
    paths = series(study, "T1")

    def change(data: FileDataset, index: int) -> None:
        row, column = np.array(data.ImageOrientationPatient, dtype=float).reshape(2, 3)
        extra = 0.01 * index * index * float(data.SpacingBetweenSlices)
        position = np.array(data.ImagePositionPatient, dtype=float) + extra * np.cross(row, column)
        data.ImagePositionPatient = numbers(position)

    edit(paths, change)


# --- geometry ---------------------------------------------------------------------------------------------


def mixed_orientation(study: Path, rng: Rng) -> None:
    paths = series(study, "T1")
    edit([paths[middle(paths)]], lambda data, _: setattr(data, "ImageOrientationPatient", numbers(_TILT)))


def localizer_in_series(study: Path, rng: Rng) -> None:
    target = dcmread(series(study, "T1")[0], stop_before_pixels=True).SeriesInstanceUID
    edit(series(study, "LOCALIZER"), lambda data, _: setattr(data, "SeriesInstanceUID", target))


def thickness_not_spacing(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        data.SliceThickness = "1.5"
        data.SpacingBetweenSlices = "2"
        data.SliceLocation = "0"

    edit(series(study, "T1") + series(study, "T2"), change)


def empty_orientation(study: Path, rng: Rng) -> None:
    edit(series(study, "T1"), lambda data, _: setattr(data, "ImageOrientationPatient", None))


def flipped_axes(study: Path, rng: Rng) -> None:
    """Rows stored from the other end, with the headers that say so: the same anatomy in the same place."""

    def change(data: FileDataset, _: int) -> None:
        column = np.array(data.ImageOrientationPatient[3:], dtype=float)
        length = (int(data.Rows) - 1) * float(data.PixelSpacing[0])
        position = np.array(data.ImagePositionPatient, dtype=float) + length * column
        data.ImagePositionPatient = numbers(position)
        data.ImageOrientationPatient = [*data.ImageOrientationPatient[:3], *numbers(-column)]
        data.PixelData = np.ascontiguousarray(data.pixel_array[::-1]).tobytes()

    edit(series(study, "T1"), change)


def different_frame_of_reference(study: Path, rng: Rng) -> None:
    edit(
        series(study, "T2"),
        lambda data, _: setattr(data, "FrameOfReferenceUID", new_uid(study.name, "other")),
    )


def moved_between_series(study: Path, rng: Rng) -> None:
    _move_t2(study, (9.0, -6.0, 4.0))


def moved_far(study: Path, rng: Rng) -> None:
    _move_t2(study, (0.0, 0.0, 400.0))


def _move_t2(study: Path, shift: tuple[float, float, float]) -> None:
    def change(data: FileDataset, _: int) -> None:
        data.ImagePositionPatient = numbers(np.array(data.ImagePositionPatient, dtype=float) + shift)

    edit(series(study, "T2"), change)


# --- values -----------------------------------------------------------------------------------------------


def rescale_absent(study: Path, rng: Rng) -> None:
    """Values as shown, without the tags: the vendor's rescale is applied and left out."""

    def change(data: FileDataset, _: int) -> None:
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        real = np.clip(np.rint(data.pixel_array * slope + intercept), 0, 4095)
        data.PixelData = real.astype("<u2").tobytes()
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            if keyword in data:
                delattr(data, keyword)

    edit(series(study, "T1") + series(study, "T2"), change)


def rescale_per_slice(study: Path, rng: Rng) -> None:
    """Stored values of every slice scaled differently, undone by its slope."""

    def change(data: FileDataset, index: int) -> None:
        slope = float(data.get("RescaleSlope", 1)) * (1.0 + index % 4)
        intercept = float(data.get("RescaleIntercept", 0))
        data.PixelData = (data.pixel_array // (1 + index % 4)).astype("<u2").tobytes()
        data.RescaleSlope, data.RescaleIntercept = numbers([slope])[0], numbers([intercept])[0]
        data.RescaleType = "US"

    edit(series(study, "T1"), change)


# --- identity and text ------------------------------------------------------------------------------------


def two_patients(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        data.PatientID, data.PatientName = "PHANTOM-OTHER", "PHANTOM^OTHER"
        data.StudyInstanceUID = new_uid(data.StudyInstanceUID, "other patient")

    edit(series(study, "T2"), change)


def two_studies(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        data.StudyInstanceUID = new_uid(data.StudyInstanceUID, "later")
        data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = "20260309"

    edit(series(study, "T2"), change)


def gbk_name(study: Path, rng: Rng) -> None:
    """Bytes of GBK where no character set is named."""
    name = "张^三".encode("gbk")

    def change(data: FileDataset, _: int) -> None:
        data.pop("SpecificCharacterSet", None)
        data.PatientName = "X" * len(name)

    edit(files(study), change)
    element = b"\x10\x00\x10\x00PN" + (len(name) + len(name) % 2).to_bytes(2, "little")
    for path in files(study):
        raw = path.read_bytes()
        start = raw.index(element) + len(element)
        path.write_bytes(raw[:start] + name + raw[start + len(name) :])


def anonymised_dates(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate"):
            put(data, data[keyword].tag, "DA", "anonymized")
        for keyword in ("StudyTime", "SeriesTime"):
            put(data, data[keyword].tag, "TM", "")
        data.PatientAge = ""

    edit(files(study), change)


def path_patient_id(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        put(data, 0x00100020, "LO", "../../../../tmp/phantom-escaped\0" + "A" * 10_000)
        put(data, 0x00200010, "SH", "../x")
        put(data, 0x0008103E, "LO", str(data.SeriesDescription) + "/../../phantom-escaped")

    edit(files(study), change)


def path_uids(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        put(data, 0x0020000D, "UI", "../../../phantom-escaped")
        put(data, 0x0020000E, "UI", f"../../{data.SeriesNumber}/\0" + "9" * 2000)

    edit(files(study), change)


def script_in_text(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        put(data, 0x00100010, "PN", "<script>alert(1)</script>^<img src=x onerror=alert(2)>")
        put(data, 0x0008103E, "LO", f"{data.SeriesDescription}<script>alert(3)</script>")
        put(data, 0x00081030, "LO", '"><script src="http://localhost/x.js"></script>')

    edit(files(study), change)


def child(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        data.PatientAge, data.PatientBirthDate = "006Y", "20200101"

    edit(files(study), change)
