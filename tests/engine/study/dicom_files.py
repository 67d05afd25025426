"""Small DICOM studies for the tests of reading: written with pydicom, read with our own parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from npc_edge.engine.types import Acquisition, Frame, Series, Study

ROOT = "1.2.826.0.1.3680043.10.999"
T1 = {"SeriesDescription": "t1_tse_tra", "EchoTime": "12", "RepetitionTime": "600", "ScanningSequence": "SE"}
T2 = {"SeriesDescription": "t2_tse_tra", "EchoTime": "90", "RepetitionTime": "4000", "ScanningSequence": "SE"}


def write_stack(
    folder: Path,
    number: int = 1,
    count: int = 10,
    change: Callable[[Dataset, int], None] | None = None,
    size: tuple[int, int] = (16, 20),
    **attributes: Any,
) -> list[Path]:
    """`count` axial slices 4 mm apart of `size` (rows, columns) with their own noise; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        data = image(number, index, size)
        for keyword, value in attributes.items():
            setattr(data, keyword, value)
        if change is not None:
            change(data, index)
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        paths.append(folder / f"{number}_{index:03d}")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def image(number: int, index: int, size: tuple[int, int]) -> FileDataset:
    """One axial MR image."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = MRImageStorage
    data.SOPInstanceUID = UID(f"{ROOT}.{number}.{index + 1}")
    data.Modality, data.Manufacturer = "MR", "SIEMENS"
    data.PatientName, data.PatientID, data.PatientAge = "Phantom^One", "P1", "045Y"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}.0", f"{ROOT}.{number}"
    data.FrameOfReferenceUID = f"{ROOT}.9"
    data.SeriesNumber, data.InstanceNumber = number, index + 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    data.ImagePositionPatient = [-5.0, -4.0, -18.0 + 4.0 * index]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [0.5, 0.5], 3.5
    data.Rows, data.Columns = size
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = picture(number, index, size).tobytes()
    return data


def picture(number: int, index: int, size: tuple[int, int]) -> NDArray[np.uint16]:
    """The stored values of `image`."""
    return np.random.default_rng([number, index]).integers(0, 4096, size).astype("<u2")


def series(
    positions: NDArray[np.float64] | None = None,
    axes: NDArray[np.float64] | None = None,
    spacing: tuple[float, float] = (0.5, 0.5),
    uid: str = ROOT,
    number: int | None = 1,
    **acquisition: Any,
) -> Series:
    """A Series value without files: (N, 3) positions, (2, 3) row and column, acquisition fields."""
    where = np.array([[0.0, 0.0, 4.0 * i] for i in range(20)]) if positions is None else positions
    row, column = np.array([[1.0, 0, 0], [0, 1, 0]]) if axes is None else axes
    time = acquisition.get("time_s")
    frames = tuple(
        Frame(
            sop_instance_uid=f"{uid}.{i}",
            source=i,
            number=0,
            instance_number=i + 1,
            shape=(16, 20),
            position=tuple(map(float, position)),
            row=tuple(map(float, row)),
            column=tuple(map(float, column)),
            pixel_spacing=spacing,
            time_s=time,
        )
        for i, position in enumerate(where)
    )
    return Series(uid, number, "MR", str(MRImageStorage), "", Acquisition(**acquisition), frames)


def study(*members: Series, problems: tuple[tuple[str, str], ...] = ()) -> Study:
    """A Study value of these series."""
    return Study(f"{ROOT}.0", members, b"", False, None, {}, problems)


def summary(study: Study) -> list[tuple[int | None, int, str]]:
    return [(s.number, len(s.frames), s.acquisition.description) for s in study.series]


WHOLE = [(1, 10, "t1_tse_tra"), (2, 10, "t2_tse_tra")]
