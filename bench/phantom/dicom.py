"""Writes acquired series as classic MR Image Storage, with each vendor's habits (`enhanced`: multi-frame).

Everything is marked Quality Control Subject and named PHANTOM. UIDs are hashes of the spec (2.25.…), so a
phantom written twice is the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from npc_edge.bench.phantom.protocol import PhantomSpec, Protocol, SeriesPlan
from npc_edge.engine.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Acquired:
    """A series as acquired: its plan, and one stack (localizer: three) of (Z, Y, X) float32 magnitudes."""

    plan: SeriesPlan
    stacks: tuple[tuple[Geometry, NDArray[np.float32]], ...]


@dataclass(frozen=True, eq=False)
class StoredSlice:
    """One image as stored: pixels (Y, X) uint16; real = pixels * slope + intercept. position: LPS mm."""

    geometry: Geometry
    index: int  # along z of its stack, ascending
    pixels: NDArray[np.uint16]
    slope: float
    intercept: float
    rescaled: bool  # whether the vendor writes the rescale tags

    @property
    def position(self) -> tuple[float, float, float]:
        """LPS mm of the first pixel's centre."""
        x, y, z = self.geometry.to_world([[0, 0, self.index]])[0]
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Identity:
    """Names and UIDs of a phantom examination, all from its spec."""

    spec: PhantomSpec
    key: str = field(init=False)

    def __post_init__(self) -> None:
        """The key leaves out the defect: a damaged study keeps the UIDs of the sound one."""
        object.__setattr__(self, "key", repr(replace(self.spec, defect=None)))

    def uid(self, *parts: object) -> UID:
        """A 2.25 UID for a thing of this examination."""
        digest = hashlib.sha256("|".join([self.key, *map(str, parts)]).encode()).digest()
        return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")

    @property
    def date(self) -> str:
        """StudyDate."""
        return f"202601{1 + self.spec.seed % 28:02d}"

    @property
    def age(self) -> int:
        """Years."""
        return 25 + (self.spec.seed * 7) % 50


def stored_slices(acquired: Acquired, vendor: str) -> list[StoredSlice]:
    """Quantise a series as the vendor does; Philips scales each slice on its own."""
    out: list[StoredSlice] = []
    top = float(max(np.percentile(voxels, 99.8) for _, voxels in acquired.stacks)) or 1.0
    level = {"siemens": 1100.0, "ge": 5200.0, "philips": 900.0, "uih": 1900.0}[vendor]
    for geometry, voxels in acquired.stacks:
        for index, plane in enumerate(voxels * np.float32(level / top)):
            if vendor == "philips":
                out.append(_philips_slice(geometry, index, plane))
                continue
            limit = 32767 if vendor == "ge" else 4095
            pixels = np.clip(np.rint(plane), 0, limit).astype(np.uint16)
            out.append(StoredSlice(geometry, index, pixels, 1.0, 0.0, vendor == "uih"))
    return out


def _philips_slice(geometry: Geometry, index: int, plane: NDArray[np.float32]) -> StoredSlice:
    """Stored values fill the 12 bits of every slice, so slope and intercept differ from slice to slice."""
    low = -2.0 - 0.5 * (index % 3)
    slope = float(f"{max(1.0, float(plane.max()) - low) / 4095:.10f}")
    pixels = np.clip(np.rint((plane - np.float32(low)) / np.float32(slope)), 0, 4095).astype(np.uint16)
    return StoredSlice(geometry, index, pixels, slope, low, True)


def in_written_order(slices: list[StoredSlice], spec: PhantomSpec) -> list[StoredSlice]:
    """Instance order: from feet to head; GE from head to feet; the other way round with `reversed`."""
    descending = (spec.vendor == "ge") != spec.reversed
    return slices[::-1] if descending else slices


def write_series(folder: Path, identity: Identity, protocol: Protocol, acquired: Acquired) -> list[Path]:
    """Write a series as classic MR into its own sub-folder of `folder`; returns the files in order."""
    spec, plan = identity.spec, acquired.plan
    slices = in_written_order(stored_slices(acquired, spec.vendor), spec)
    paths: list[Path] = []
    for instance, stored in enumerate(slices, start=1):
        data = common_attributes(identity, protocol, plan)
        data.SOPClassUID = MRImageStorage
        data.SOPInstanceUID = identity.uid("image", plan.role, instance)
        _image_attributes(data, plan, stored, instance, len(slices))
        path = folder / series_folder(spec, plan) / file_name(spec, plan, instance)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(data, path)
        paths.append(path)
    return paths


def save(data: Dataset, path: Path) -> None:
    """Write Explicit VR Little Endian with preamble and file meta information."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)


def series_folder(spec: PhantomSpec, plan: SeriesPlan) -> str:
    """The sub-folder a vendor's export would use."""
    word = "".join(c if c.isalnum() else "_" for c in plan.description).upper()
    styles = {
        "siemens": f"{word}_{plan.number:04d}",
        "ge": f"S{plan.number:03d}",
        "philips": f"DICOM_{plan.number}01",
        "uih": f"{plan.number}01_{word.lower()}",
    }
    return styles[spec.vendor]


def file_name(spec: PhantomSpec, plan: SeriesPlan, instance: int) -> str:
    """The name of a file in a vendor's export; Philips' have no extension."""
    styles = {
        "siemens": f"PHANTOM.MR.HEAD_NPC.{plan.number:04d}.{instance:04d}.IMA",
        "ge": f"i{instance:04d}.MRDC.{instance}",
        "philips": f"IM_{instance:04d}",
        "uih": f"{instance:08d}.dcm",
    }
    return styles[spec.vendor]


def common_attributes(identity: Identity, protocol: Protocol, plan: SeriesPlan) -> Dataset:
    """Patient, study, series, frame of reference and equipment: shared by classic and enhanced images."""
    spec = identity.spec
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192" if spec.vendor == "uih" else "ISO_IR 100"
    data.InstanceCreationDate = data.StudyDate = data.SeriesDate = identity.date
    data.AcquisitionDate = data.ContentDate = identity.date
    data.StudyTime = clock(protocol.series[0].start_s)
    data.SeriesTime = data.AcquisitionTime = data.ContentTime = clock(plan.start_s)
    data.InstanceCreationTime = data.SeriesTime
    data.AccessionNumber = ""
    data.Modality = "MR"
    data.Manufacturer = protocol.manufacturer
    data.InstitutionName = "npc-edge synthetic studies"
    data.ReferringPhysicianName = ""
    data.StudyDescription = "MR NASOPHARYNX (PHANTOM)"
    data.SeriesDescription = plan.description
    data.ManufacturerModelName = protocol.model
    data.DeviceSerialNumber = f"{10000 + spec.seed % 90000}"
    data.SoftwareVersions = protocol.software.split("\\")
    data.PatientName = f"PHANTOM^SEED{spec.seed}"
    data.PatientID = f"PHANTOM-{spec.seed}"
    data.PatientBirthDate = f"{2026 - identity.age}0101"
    data.PatientSex = "FM"[spec.seed % 2]
    data.PatientAge = f"{identity.age:03d}Y"
    data.PatientWeight = "65"
    data.QualityControlSubject = "YES"
    data.BodyPartExamined = "HEAD"
    data.PatientPosition = "HFS"
    data.ProtocolName = plan.description
    data.StudyInstanceUID = identity.uid("study")
    data.SeriesInstanceUID = identity.uid("series", plan.role)
    data.StudyID = f"{spec.seed % 100000}"
    data.SeriesNumber = plan.number * (100 if spec.vendor in ("philips", "uih") else 1) + (
        1 if spec.vendor in ("philips", "uih") else 0
    )
    data.FrameOfReferenceUID = identity.uid("frame of reference")
    data.PositionReferenceIndicator = ""
    data.BurnedInAnnotation = "NO"
    return data


def _image_attributes(
    data: Dataset, plan: SeriesPlan, stored: StoredSlice, instance: int, count: int
) -> None:
    """Image plane, pixels and the MR image module of one slice."""
    geometry = stored.geometry
    sx, sy, sz = geometry.spacing
    data.ImageType = list(plan.image_type)
    data.AcquisitionNumber = 1
    data.InstanceNumber = instance
    data.ImagesInAcquisition = count
    data.ImagePositionPatient = numbers(stored.position)
    data.ImageOrientationPatient = numbers([*geometry.direction[:, 0], *geometry.direction[:, 1]])
    data.PixelSpacing = numbers([sy, sx])
    data.SliceThickness = numbers([plan.thickness_mm])[0]
    if plan.role != "LOCALIZER":
        data.SpacingBetweenSlices = numbers([sz])[0]
    data.SliceLocation = numbers([float(np.dot(geometry.normal, stored.position))])[0]
    _sequence_attributes(data, plan, geometry)
    if plan.role == "T1C":
        data.update(contrast_attributes(plan))
    pixel_attributes(data, stored.pixels, signed=data.Manufacturer.startswith("GE"))
    if stored.rescaled:
        data.RescaleIntercept = numbers([stored.intercept])[0]
        data.RescaleSlope = numbers([stored.slope])[0]
        data.RescaleType = "US"
    top = float(np.percentile(stored.pixels, 99.5)) * stored.slope + stored.intercept
    data.WindowCenter, data.WindowWidth = numbers([top / 2]), numbers([max(1.0, top)])


def _sequence_attributes(data: Dataset, plan: SeriesPlan, geometry: Geometry) -> None:
    parameters = plan.parameters
    data.ScanningSequence = list(plan.scanning_sequence)
    data.SequenceVariant = list(plan.variant)
    data.ScanOptions = list(plan.options) or ""
    data.MRAcquisitionType = "2D"
    if plan.sequence_name:
        data.SequenceName = plan.sequence_name
    data.RepetitionTime = numbers([parameters.tr_ms])[0]
    data.EchoTime = numbers([parameters.te_ms])[0]
    if parameters.ti_ms is not None:
        data.InversionTime = numbers([parameters.ti_ms])[0]
    data.NumberOfAverages = "2"
    data.ImagedNucleus = "1H"
    data.ImagingFrequency = numbers([42.577 * parameters.field_t])[0]
    data.MagneticFieldStrength = numbers([parameters.field_t])[0]
    data.EchoNumbers = 1
    data.EchoTrainLength = plan.echo_train
    data.PercentSampling = "100"
    data.PercentPhaseFieldOfView = "100"
    data.PixelBandwidth = "200"
    data.FlipAngle = "90" if "SE" in plan.scanning_sequence else "25"
    rows_phase = plan.flaws.phase_axis == 0
    data.InPlanePhaseEncodingDirection = "COL" if rows_phase else "ROW"
    _, y, x = geometry.shape
    data.AcquisitionMatrix = [0, x, y, 0] if rows_phase else [y, 0, 0, x]


def contrast_attributes(plan: SeriesPlan) -> Dataset:
    """The contrast/bolus module: injected a minute and a half before the series began."""
    data = Dataset()
    data.ContrastBolusAgent = "Gadobutrol"
    data.ContrastBolusRoute = "IV"
    data.ContrastBolusVolume = "6.5"
    data.ContrastBolusStartTime = clock(plan.start_s - 90)
    data.ContrastBolusIngredient = "GADOLINIUM"
    return data


def pixel_attributes(data: Dataset, pixels: NDArray[np.uint16], *, signed: bool = False) -> None:
    """Image pixel module for (Y, X) or (frames, Y, X) values."""
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape[-2:]
    data.BitsAllocated = 16
    data.BitsStored = 16 if signed else 12
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(signed)
    data.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()
    data["PixelData"].VR = "OW"


def numbers(values: object) -> list[str]:
    """Decimal strings of at most 16 characters."""
    return list(_decimal_strings(values))


def _decimal_strings(values: object) -> Iterator[str]:
    for value in np.asarray(values, dtype=np.float64).ravel():
        rounded = 0.0 if abs(value) < 1e-9 else float(value)
        text = repr(round(rounded, 10))
        yield text if len(text) <= 16 and "e" not in text else f"{rounded:.9f}"[:16]


def clock(seconds: float) -> str:
    """Seconds since midnight → DICOM time."""
    whole = int(seconds)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{round((seconds - whole) * 1e6):06d}"
