"""Damage that changes which series a study has: roles missing, look-alikes added, objects of other kinds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage, RawDataStorage

from npc_edge.bench.phantom.damage import Rng, edit, files, new_uid, put, series
from npc_edge.bench.phantom.dicom import save

_SHARED_WITH_IMAGES = (
    "SpecificCharacterSet",
    "StudyDate",
    "SeriesDate",
    "StudyTime",
    "SeriesTime",
    "AccessionNumber",
    "Modality",
    "Manufacturer",
    "ReferringPhysicianName",
    "SeriesDescription",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "QualityControlSubject",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "StudyID",
    "SeriesNumber",
    "FrameOfReferenceUID",
)


def no_mr(study: Path, rng: Rng) -> None:
    def change(data: FileDataset, _: int) -> None:
        data.SOPClassUID, data.Modality = CTImageStorage, "CT"

    edit(files(study), change)


def no_t1(study: Path, rng: Rng) -> None:
    shutil.rmtree(series(study, "T1")[0].parent)


def no_t2(study: Path, rng: Rng) -> None:
    shutil.rmtree(series(study, "T2")[0].parent)


def contrast_only(study: Path, rng: Rng) -> None:
    """The only T1 was acquired after the injection."""

    def change(data: FileDataset, _: int) -> None:
        data.SeriesDescription = f"{data.SeriesDescription} +C"
        data.ProtocolName = data.SeriesDescription
        data.ContrastBolusAgent, data.ContrastBolusStartTime = "Gadobutrol", "000100"

    edit(series(study, "T1"), change)


def stale_contrast_tag(study: Path, rng: Rng) -> None:
    """An agent's name on the T1 that was acquired before it was given."""

    def change(data: FileDataset, _: int) -> None:
        data.ContrastBolusAgent, data.ContrastBolusStartTime = "Gadobutrol", "235900"

    edit(series(study, "T1"), change)


def subtraction_series(study: Path, rng: Rng) -> None:
    """A derived copy of T1, as post-processing leaves it, numbered before the others."""

    def change(data: FileDataset, _: int) -> None:
        data.ImageType = ["DERIVED", "SECONDARY", "SUBTRACTION", *list(data.ImageType)[3:]]
        data.SeriesDescription = f"{data.SeriesDescription} SUB"
        data.SeriesNumber = 0

    _copied_series(study, "T1", "derived", change)


def dwi_lookalike(study: Path, rng: Rng) -> None:
    """A turbo-spin-echo diffusion series, which has the echo and repetition time of a T2."""

    def change(data: FileDataset, _: int) -> None:
        data.SeriesDescription = data.ProtocolName = "TSE_DWI_b800"
        data.SeriesNumber = 0
        put(data, 0x00189087, "FD", 800.0)
        data.PixelData = (data.pixel_array // 4).astype("<u2").tobytes()

    _copied_series(study, "T2", "diffusion", change)


def _copied_series(study: Path, role: str, name: str, change: object) -> None:
    folder = study / name
    folder.mkdir()
    copies = []
    for path in series(study, role):
        copies.append(folder / path.name)
        copies[-1].write_bytes(path.read_bytes())

    def renamed(data: FileDataset, index: int) -> None:
        data.SeriesInstanceUID = new_uid(data.SeriesInstanceUID, name)
        data.SOPInstanceUID = new_uid(data.SOPInstanceUID, name)
        assert callable(change)
        change(data, index)

    edit(copies, renamed)


def non_image_object(study: Path, rng: Rng) -> None:
    """A raw-data object in the T1 series, sorted before its images."""
    first = series(study, "T1")[0]
    image = dcmread(first, stop_before_pixels=True)
    data = Dataset()
    for keyword in _SHARED_WITH_IMAGES:
        data[keyword] = image[keyword]
    data.SOPClassUID = RawDataStorage
    data.SOPInstanceUID = new_uid(image.SOPInstanceUID, "raw data")
    data.ContentDate, data.ContentTime = image.ContentDate, image.ContentTime
    data.InstanceNumber = 0
    data.CreatorVersionUID = new_uid("creator")
    save(data, first.with_name("0000_" + first.name))


def foreign_files(study: Path, rng: Rng) -> None:
    """What else lies on a disc: an empty file, notes, a viewer, a folder named like a file."""
    (study / "autorun.inf").write_text("[autorun]\nopen=viewer.exe\n")
    (study / "empty.dcm").touch()
    (study / "viewer.exe").write_bytes(b"MZ" + bytes(2046))
    (study / "notes.txt").write_text("not DICOM\n")
    (study / "a folder.dcm").mkdir()
    (study / "a folder.dcm" / "junk.dcm").write_bytes(rng.bytes(3000))


def mosaic(study: Path, rng: Rng) -> None:
    """The T1 as one tiled image, as functional series are stored."""
    _tiled(study, vendor_tag=False)


def uih_grid(study: Path, rng: Rng) -> None:
    """The T1 as one tiled image in United Imaging's way: the number of tiles in a private element."""
    _tiled(study, vendor_tag=True)


def _tiled(study: Path, *, vendor_tag: bool) -> None:
    paths = series(study, "T1")
    planes = np.stack([dcmread(path).pixel_array[::2, ::2] for path in paths])
    side = int(np.ceil(np.sqrt(len(planes))))
    rows, columns = planes.shape[1:]
    grid = np.zeros((side * rows, side * columns), dtype="<u2")
    for index, plane in enumerate(planes):
        y, x = divmod(index, side)
        grid[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] = plane

    def change(data: FileDataset, _: int) -> None:
        data.Rows, data.Columns = grid.shape
        data.PixelSpacing = [2 * float(v) for v in data.PixelSpacing]
        data.PixelData = grid.tobytes()
        if vendor_tag:
            block = data.private_block(0x0065, "Image Private Header", create=True)
            block.add_new(0x50, "DS", str(len(planes)))
            data.Manufacturer = "UIH"
        else:
            data.ImageType = [*data.ImageType, "MOSAIC"]

    edit(paths[:1], change)
    for path in paths[1:]:
        path.unlink()
