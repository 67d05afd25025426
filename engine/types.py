"""The frozen values that pass from room to room.

Path → Study → Selection → Volume ×n → Region → ModelInput → Predictions → Findings → files.
Arrays: (Z, Y, X) unless said otherwise; world coordinates LPS mm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.certainty import AtPrevalence, CategorySet, Interval
from npc_edge.engine.errors import Cancelled, DeadlineExceeded
from npc_edge.engine.geometry import Geometry
from npc_edge.kernels.launch import DeviceArray

Array = NDArray[Any] | DeviceArray
"""Voxels on the host, or on the device of a launcher (`kernels.launch`); both have `shape` and `dtype`."""

State3 = Literal["yes", "no", "unknown"]
Contrast = Literal["pre", "post", "unknown"]
Side = Literal["left", "right", "midline"]
Context = Literal["untreated", "treated", "unknown"]
CranialNerves = Literal["none", "palsy", "not supplied"]
Finding = Literal["suspicious", "not_suspicious", "indeterminate"]
Status = Literal["unequivocal", "equivocal"]
Evidence = Literal["synthetic", "retrospective", "prospective"]
Station = Literal["read", "select", "assemble", "align", "locate", "prepare", "infer", "findings", "output"]


# --- study/ -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """One 2D image: where it lies and how its stored values become real ones.

    position, row, column: LPS mm, None where the header has none. pixel_spacing: (row spacing, column
    spacing) mm as in DICOM (0028,0030). real = stored * slope + intercept.
    """

    sop_instance_uid: str
    source: int  # which source file, an index into the reading child's list; never a path
    number: int  # frame number within the object, 0-based
    instance_number: int | None
    shape: tuple[int, int]  # rows, columns
    position: tuple[float, float, float] | None
    row: tuple[float, float, float] | None
    column: tuple[float, float, float] | None
    pixel_spacing: tuple[float, float] | None
    slope: float = 1.0
    intercept: float = 0.0
    time_s: float | None = None  # AcquisitionTime as seconds since midnight
    b_value: float | None = None
    temporal_position: int | None = None
    echo_time_ms: float | None = None


@dataclass(frozen=True)
class Acquisition:
    """What the headers say of how a series was acquired; None or '' where they say nothing.

    model, station: names of a scanner; only their salted hashes go further than this value.
    """

    description: str = ""
    protocol: str = ""
    image_type: tuple[str, ...] = ()
    sequence: tuple[str, ...] = ()  # ScanningSequence: SE IR GR EP RM
    variant: tuple[str, ...] = ()  # SequenceVariant
    scan_options: tuple[str, ...] = ()
    sequence_name: str = ""
    acquisition_type: str = ""  # 2D | 3D
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    inversion_time_ms: float | None = None
    flip_angle_deg: float | None = None
    echo_train: int | None = None
    field_strength_t: float | None = None
    slice_thickness_mm: float | None = None
    contrast_agent: str = ""
    contrast_start_s: float | None = None
    time_s: float | None = None
    enhanced_contrast: str = ""  # AcquisitionContrast (0008,9209)
    body_part: str = ""
    vendor: Literal["siemens", "ge", "philips", "uih", "canon", "other"] = "other"
    model: str = field(default="", repr=False)
    station: str = field(default="", repr=False)


@dataclass(frozen=True)
class Series:
    """One DICOM series of images that share SOP class and series UID."""

    series_instance_uid: str
    number: int | None
    modality: str
    sop_class_uid: str
    frame_of_reference: str
    acquisition: Acquisition
    frames: tuple[Frame, ...]
    transfer_syntax: str = ""


@dataclass(frozen=True)
class Study:
    """A study as read: headers only, pixels on demand from the reading child.

    patient_module: the source's patient and study module elements as an Explicit VR Little Endian data
    set without preamble, byte for byte, for the DICOM outputs only; never logged, never in result.json.
    accession_number: of all its images, "" when they name none or several; only its salted hash is kept.
    """

    study_instance_uid: str
    series: tuple[Series, ...]
    patient_module: bytes
    quality_control_subject: bool  # (0010,0200) is YES on every object
    patient_age_years: float | None
    skipped: Mapping[str, int] = field(default_factory=dict)  # why → how many files
    problems: tuple[tuple[str, str], ...] = ()  # (reason code, message): why no result may be made of it
    accession_number: str = field(default="", repr=False)


@dataclass(frozen=True)
class SeriesVerdict:
    """What one series was taken for, and why it was chosen or not."""

    series: int  # index into Study.series
    role: str | None  # T1 T2 T2FS T1C ADC … or None
    kind: str  # "T1", "localizer", "DWI" … in words
    contrast: Contrast
    fat_suppression: State3
    plane: str
    confidence: float  # 0..1
    chosen: bool
    why: str
    evidence: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """sequence name of the bundle (e.g. 't1') → index into Study.series, and a verdict on every series."""

    chosen: Mapping[str, int]
    verdicts: tuple[SeriesVerdict, ...]


@dataclass(frozen=True)
class SourceSlice:
    """The source image behind one slice of an assembled volume (same order as its Z axis)."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int  # 1-based
    instance_number: int | None
    position: tuple[float, float, float]


@dataclass(frozen=True)
class Stored:
    """How a NIfTI file held its image. spacing: of its header, (z, y, x) mm. turned: its slices descend along
    row x column, so reading turned their order round."""

    spacing: tuple[float, float, float]
    turned: bool


@dataclass(frozen=True, eq=False)
class Volume:
    """voxels (Z, Y, X) float32, real values after rescale; slices ascend along row x column."""

    voxels: NDArray[np.float32]
    geometry: Geometry
    fat_suppression: State3 = "unknown"
    series: int | None = None  # index into Study.series; None for NIfTI input
    slices: tuple[SourceSlice, ...] = ()  # empty for NIfTI input
    gap_mm: float = 0.0  # distance between slices minus slice thickness, 0 when unknown
    stored: Stored | None = None  # None for DICOM input


# --- model/ -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Region:
    """Where a network looks: the centre in LPS mm, with the locator's confidence 0..1 (1 for `whole`)."""

    centre: NDArray[np.float64]
    confidence: float


@dataclass(frozen=True, eq=False)
class ModelInput:
    """array (1, C, Z, Y, X) float32 on `geometry` (the bundle's grid, axial LPS), where voxels.py put it."""

    array: Array
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Predictions:
    """Raw outputs on the model's grid: name → (1, K, Z, Y, X) or (1, K), before any activation. float32 on
    the host, or float16: nnU-Net's, and maps that stay on a device. Scores (1, K) are always on the host."""

    outputs: Mapping[str, Array]
    geometry: Geometry


@dataclass(frozen=True)
class RunnerInfo:
    """What really runs: the truth, not what was asked for."""

    backend: str
    device: str
    precision: str
    artefact: str  # file name within the bundle
    version: str  # of the runtime
    isa: str = "unknown"
    threads: int = 0


# --- findings/ --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QualityCheck:
    """One line of `quality`. passed None: the bundle declares no reference for this check."""

    check: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Detection:
    """Calibrated probability that NPC is in the study, and what was concluded from it. interval, moved: None
    for the reason beside it; moved is what the operator's prevalence makes of the probability."""

    finding: Finding
    probability: float
    threshold: float
    raw_score: float
    why: str = ""
    interval: Interval | None = None
    interval_not_given: str = ""
    moved: AtPrevalence | None = None
    moved_not_given: str = ""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Masks on the reference sequence's source grid.

    tumour (Z, Y, X) uint8 0/1. tumour_probability (Z, Y, X) float32 0..1 (0 outside the model's window).
    structures (Z, Y, X) uint8 label codes of the bundle, as the anatomy is under the tumour.
    covered (Z, Y, X) bool: inside the model's window.
    """

    tumour: NDArray[np.uint8]
    tumour_probability: NDArray[np.float32]
    structures: NDArray[np.uint8]
    covered: NDArray[np.bool_]
    geometry: Geometry
    labels: Mapping[int, str]  # code → name in structures
    volume_ml: float
    centroid_lps_mm: tuple[float, float, float] | None
    components: int

    @cached_property
    def tumour_slices(self) -> tuple[int, ...]:
        """Slices with tumour on them; empty without a tumour. Asked often, so looked for once."""
        return tuple(np.flatnonzero(self.tumour.any(axis=(1, 2))).tolist())


@dataclass(frozen=True)
class StructureEvidence:
    """Why a criterion fires, or nearly does. source_slice: index into the reference volume's Z axis."""

    structure: str
    side: Side
    status: Status
    overlap_mm3: float
    overlap_fraction: float
    depth_mm: float
    slices: int
    probability: float
    category: str  # the T category this structure stands for
    source_slice: int
    note: str = ""


@dataclass(frozen=True)
class NotAssessable:
    structure: str
    side: Side | None
    why: str
    category: str


@dataclass(frozen=True)
class TCategory:
    """One edition's T category. could_be: the highest category still possible when bound is at_least. set:
    None for the reason beside it."""

    t: str
    bound: Literal["exact", "at_least"]
    could_be: str | None
    distribution: Mapping[str, float]
    set: CategorySet | None = None
    set_not_given: str = ""


@dataclass(frozen=True)
class Staging:
    context: Context
    cranial_nerves: CranialNerves
    ajcc8: TCategory | None
    ajcc9: TCategory | None
    evidence: tuple[StructureEvidence, ...]
    not_assessable: tuple[NotAssessable, ...]
    rules_version: str


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything concluded; detection None for a bundle without a detection head."""

    detection: Detection | None
    segmentation: Segmentation
    staging: Staging | None
    quality: tuple[QualityCheck, ...]


# --- the run ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What the caller may choose. Everything here that changes a number is in the fingerprint."""

    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt"] = "auto"
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    context: Context = "unknown"
    cranial_nerves: CranialNerves = "not supplied"
    prevalence: float | None = None  # share of NPC where the study comes from, within 0..1
    allow_unsigned: bool = False
    allow_demo_dicom: bool = False
    replace: bool = False
    state: Path | None = None
    correlation: str | None = None
    threads: int = 0  # 0: all cores this process may use
    record: bool = True  # keep a record of the run for the monitor


@dataclass(frozen=True)
class Progress:
    """A step of a run: the station entered, and how far the run is, 0..1."""

    station: Station
    fraction: float


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Watch:
    """Deadline (monotonic seconds) and cancellation, asked between steps."""

    deadline: float | None = None
    cancel: Event | None = None

    def check(self) -> None:
        """Raise DeadlineExceeded or Cancelled when it is time to stop."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("cancelled")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineExceeded("the deadline passed", "allow more time with --deadline")
