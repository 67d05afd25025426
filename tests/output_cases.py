"""A made-up run to write out: volumes, study, masks and findings that agree with each other."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import (
    Artefact,
    Calibrator,
    Code,
    DetectionSpec,
    LabelSpec,
    Manifest,
    NetworkSpec,
    Normalisation,
    OperatingPoint,
    OutputSpec,
    Provenance,
    SequenceSpec,
    StagingSpec,
    TumourSpec,
)
from npc_edge.engine.output.result import Outcome, RunFacts
from npc_edge.engine.types import (
    Acquisition,
    Detection,
    Finding,
    Findings,
    Frame,
    NotAssessable,
    QualityCheck,
    RunnerInfo,
    Segmentation,
    Selection,
    Series,
    SeriesVerdict,
    SourceSlice,
    Staging,
    StructureEvidence,
    Study,
    TCategory,
    Volume,
)

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
STUDY_UID = "1.2.826.0.1.3680043.8.498.11"
FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.12"
ARTEFACT = "artefacts/npc.fp32.onnx"
NAMES = ("nasopharynx", "clivus", "parapharyngeal_left", "parapharyngeal_right", "prevertebral_muscles")


@dataclass(frozen=True)
class Shape:
    """What a case looks like. tumour_mm: radius of the ball; 0 for none."""

    shape: tuple[int, int, int] = (14, 64, 72)
    spacing: tuple[float, float, float] = (0.9, 0.9, 4.0)
    tilt_deg: float = 0.0
    tumour_mm: float = 9.0
    enhanced: bool = False
    reversed_instances: bool = False
    structures: int = 5


def geometry(shape: Shape) -> Geometry:
    """An axial grid around the nasopharynx, tilted about the left-right axis."""
    angle = np.radians(shape.tilt_deg)
    direction = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]], dtype=np.float64
    )
    z, y, x = shape.shape
    half = np.array([(x - 1) / 2, (y - 1) / 2, (z - 1) / 2]) * shape.spacing
    origin = np.array([1.3, -12.7, -35.2]) - direction @ half
    return Geometry.from_parts(shape.shape, shape.spacing, origin.tolist(), direction, FRAME_OF_REFERENCE)


def source_slices(grid: Geometry, series: str, shape: Shape) -> tuple[SourceSlice, ...]:
    count = grid.shape[0]
    positions = grid.to_world([[0, 0, z] for z in range(count)])
    made = []
    for z, (px, py, pz) in enumerate(positions.tolist()):
        number = count - z if shape.reversed_instances else z + 1
        made.append(
            SourceSlice(
                sop_class_uid=ENHANCED_MR if shape.enhanced else MR,
                sop_instance_uid=f"{series}.1" if shape.enhanced else f"{series}.{number}",
                frame_number=number if shape.enhanced else 1,
                instance_number=1 if shape.enhanced else number,
                position=(px, py, pz),
            )
        )
    return tuple(made)


def head(grid: Geometry, seed: int) -> NDArray[np.float32]:
    """A bright ellipse with noise and a one-sided (left) bright spot, so that sides can be told."""
    rng = np.random.default_rng(seed)
    z, y, x = grid.shape
    _, yy, xx = np.meshgrid(np.arange(z), np.arange(y), np.arange(x), indexing="ij")
    inside = ((yy - y / 2) / (y * 0.45)) ** 2 + ((xx - x / 2) / (x * 0.42)) ** 2 < 1
    voxels = inside * (320.0 + 60 * np.sin(xx / 5 + seed) + 40 * np.cos(yy / 6))
    voxels = voxels + rng.normal(0, 12, grid.shape)
    spot = ((yy - y * 0.35) / (y * 0.05)) ** 2 + ((xx - x * 0.72) / (x * 0.05)) ** 2 < 1
    return np.asarray(np.where(spot, 600, voxels), dtype=np.float32)


def ball(grid: Geometry, centre_xyz: tuple[float, float, float], radius_mm: float) -> NDArray[np.uint8]:
    z, y, x = grid.shape
    zz, yy, xx = np.meshgrid(np.arange(z), np.arange(y), np.arange(x), indexing="ij")
    sx, sy, sz = grid.spacing
    cx, cy, cz = centre_xyz
    d2 = ((xx - cx) * sx) ** 2 + ((yy - cy) * sy) ** 2 + ((zz - cz) * sz) ** 2
    return np.asarray(d2 <= radius_mm**2, dtype=np.uint8)


def segmentation(grid: Geometry, shape: Shape) -> Segmentation:
    z, y, x = grid.shape
    tumour = ball(grid, (x * 0.55, y * 0.45, z * 0.5), shape.tumour_mm) if shape.tumour_mm else None
    tumour = np.zeros(grid.shape, np.uint8) if tumour is None else tumour
    structures = np.zeros(grid.shape, np.uint8)
    for code in range(1, shape.structures + 1):
        top = int(y * 0.15 + (code - 1) * y * 0.7 / shape.structures)
        bottom = top + max(2, int(y * 0.6 / shape.structures))
        structures[z // 4 : -max(1, z // 4), top:bottom, x // 3 : 2 * x // 3] = code
    at = np.argwhere(tumour)
    centroid = None
    if len(at):
        cx, cy, cz = grid.to_world(at.mean(axis=0)[::-1][None])[0].tolist()
        centroid = (cx, cy, cz)
    return Segmentation(
        tumour=tumour,
        tumour_probability=tumour.astype(np.float32) * 0.9,
        structures=structures,
        covered=np.ones(grid.shape, bool),
        geometry=grid,
        labels={code: name_of(code) for code in range(1, shape.structures + 1)},
        volume_ml=float(tumour.sum()) * grid.voxel_mm3 / 1000,
        centroid_lps_mm=centroid,
        components=int(bool(len(at))),
    )


def name_of(code: int) -> str:
    return NAMES[code - 1] if code <= len(NAMES) else f"structure_{code}"


def manifest(structures: int = 5, calibrated: bool = True) -> Manifest:
    labels = tuple(
        LabelSpec(
            code=code,
            name=name_of(code),
            structure=name_of(code).removesuffix("_left").removesuffix("_right"),
            side="left" if "_left" in name_of(code) else "right" if "_right" in name_of(code) else "midline",
            colour=(20 * code % 255, 255 - 20 * code % 255, 120),
            concept=Code(value="360955006", scheme="SCT", meaning="Nasopharynx") if code == 1 else None,
        )
        for code in range(1, structures + 1)
    )
    network = NetworkSpec(
        name="npc",
        region="whole",
        inputs=("t1", "t2"),
        spacing=(4.0, 1.0, 1.0),
        window=(32, 144, 144),
        normalisation=Normalisation(method="percentile"),
        outputs=(OutputSpec(name="tumour", kind="tumour"),),
        artefacts=(Artefact(precision="fp32", file=ARTEFACT),),
    )
    calibrator = Calibrator(
        method="temperature",
        temperature=1.4,
        cases=400,
        prevalence=0.5,
        population="synthetic phantoms of the demo recipe",
    )
    return Manifest(
        name="npc-demo",
        version="1",
        licence="Apache-2.0",
        intended_use="research",
        evidence="synthetic",
        task="npc",
        sequences=(SequenceSpec(name="t1", roles=("T1",)), SequenceSpec(name="t2", roles=("T2FS", "T2"))),
        reference_sequence="t1",
        networks=(network,),
        labels=labels,
        tumour=TumourSpec(threshold=0.5),
        calibrators={ARTEFACT: calibrator} if calibrated else {},
        detection=DetectionSpec(
            threshold=0.5,
            indeterminate_low=0.4,
            indeterminate_high=0.6,
            mask_min_ml=0.2,
            operating_point=OperatingPoint(sensitivity=0.95, specificity=0.9, on="held-out phantoms"),
        ),
        staging=StagingSpec(rules="2026.1", thresholds=(0.3, 0.5, 0.7)),
        provenance=Provenance(training_data="synthetic", commit="0" * 40, recipe="bench/demo", tools={}),
        files={ARTEFACT: "0" * 64},
    )


def patient_module(charset: bytes | None = b"ISO_IR 100", name: bytes = b"Phantom^Test") -> bytes:
    """Explicit VR little endian, by hand where pydicom would recode: the name's bytes go in as they are."""
    dataset = Dataset()
    dataset.StudyDate = "20260102"
    dataset.StudyTime = "101112"
    dataset.AccessionNumber = "A1"
    dataset.ReferringPhysicianName = ""
    dataset.PatientID = "PID-0042"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = STUDY_UID
    dataset.StudyID = "S1"
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    body = bytes(buffer.getvalue())
    named = element(0x0010, 0x0010, b"PN", name)
    cut = body.index(b"\x10\x00\x20\x00LO")
    charset_bytes = b"" if charset is None else element(0x0008, 0x0005, b"CS", charset)
    return charset_bytes + body[:cut] + named + body[cut:]


def element(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    head_bytes = group.to_bytes(2, "little") + element.to_bytes(2, "little") + vr
    return head_bytes + len(value).to_bytes(2, "little") + value


def study(grid: Geometry, slices: Mapping[str, tuple[SourceSlice, ...]], shape: Shape, marked: bool) -> Study:
    series = []
    for index, (name, pieces) in enumerate(slices.items()):
        row, column = (tuple(v) for v in grid.direction.T[:2].tolist())
        frames = tuple(
            Frame(
                sop_instance_uid=piece.sop_instance_uid,
                source=index * 100 + i,
                number=piece.frame_number - 1,
                instance_number=piece.instance_number,
                shape=grid.shape[1:],
                position=piece.position,
                row=row,
                column=column,
                pixel_spacing=(grid.spacing[1], grid.spacing[0]),
            )
            for i, piece in enumerate(pieces)
        )
        series.append(
            Series(
                series_instance_uid=f"{STUDY_UID}.{index + 3}",
                number=index + 3,
                modality="MR",
                sop_class_uid=ENHANCED_MR if shape.enhanced else MR,
                frame_of_reference=FRAME_OF_REFERENCE,
                acquisition=Acquisition(
                    description=f"{name} <script>alert(1)</script>", slice_thickness_mm=3.5
                ),
                frames=frames,
            )
        )
    return Study(STUDY_UID, tuple(series), patient_module(), marked, 50.0)


def findings(masks: Segmentation, finding: Finding = "suspicious") -> Findings:
    probability = {"suspicious": 0.93, "not_suspicious": 0.04, "indeterminate": 0.52}[finding]
    z = masks.geometry.shape[0] // 2
    staging = Staging(
        context="unknown",
        cranial_nerves="not supplied",
        ajcc8=TCategory("T2", "at_least", "T4", {"T1": 0.05, "T2": 0.31, "T3": 0.59, "T4": 0.05}),
        ajcc9=TCategory("T2", "exact", None, {"T1": 0.05, "T2": 0.8, "T3": 0.1, "T4": 0.05}),
        evidence=(
            StructureEvidence(
                "parapharyngeal", "left", "unequivocal", 412.0, 0.2, 5.1, 3, 0.97, "T2", z, "3 slices"
            ),
            StructureEvidence("clivus", "midline", "equivocal", 60.0, 0.01, 1.2, 1, 0.7, "T3", z + 1),
        ),
        not_assessable=(NotAssessable("hypopharynx", None, "outside the field of view", "T4"),),
        rules_version="2026.1",
    )
    if finding != "suspicious":
        staging = dataclasses.replace(staging, ajcc8=None, ajcc9=None, evidence=())
    quality = (
        QualityCheck("field_of_view", True, "nasopharynx inside every sequence"),
        QualityCheck("age", None, "the bundle declares no age range"),
        QualityCheck("alignment", False, "T2 moved by 1.2 mm"),
    )
    return Findings(Detection(finding, probability, 0.5, 2.7), masks, staging, quality)


def outcome(
    shape: Shape | None = None,
    finding: Finding = "suspicious",
    evidence: Literal["synthetic", "retrospective", "prospective"] = "synthetic",
    marked: bool = True,
) -> Outcome:
    """A whole run. marked: the study says Quality Control Subject."""
    shape = Shape() if shape is None else shape
    if finding == "not_suspicious":
        shape = dataclasses.replace(shape, tumour_mm=0.0)
    grid = geometry(shape)
    slices = {name: source_slices(grid, f"{STUDY_UID}.{i + 3}", shape) for i, name in enumerate(("t1", "t2"))}
    volumes = {
        name: Volume(head(grid, i), grid, "no", i, slices[name]) for i, name in enumerate(("t1", "t2"))
    }
    verdicts = (
        SeriesVerdict(0, "T1", "T1", "pre", "no", "axial", 0.95, True, "T1 turbo spin echo, axial"),
        SeriesVerdict(1, "T2", "T2", "unknown", "no", "axial", 0.9, True, "T2 <b>turbo</b> spin echo"),
    )
    return Outcome(
        outcome="result",
        reasons=(),
        study=study(grid, slices, shape, marked),
        selection=Selection({"t1": 0, "t2": 1}, verdicts),
        volumes=volumes,
        reference="t1",
        findings=findings(segmentation(grid, shape), finding),
        manifest=manifest(shape.structures).model_copy(update={"evidence": evidence}),
        facts=facts(evidence),
        key_for=lambda uid: hashlib.sha256(b"salt" + uid.encode()).hexdigest()[:32],
    )


def facts(evidence: Literal["synthetic", "retrospective", "prospective"] = "synthetic") -> RunFacts:
    return RunFacts(
        version="0.1.0",
        bundle_name="npc-demo 1",
        bundle_sha256="ab" * 32,
        evidence=evidence,
        fingerprint="cd" * 32,
        runner=RunnerInfo("onnxruntime", "cpu", "fp32", ARTEFACT, "1.23", "avx2", 2),
        fallback=None,
        timings_ms={"read": 800.0, "infer": 2100.5, "total": 4200.0},
        peak_rss_mb=612.3,
        correlation="job-7",
    )


def refusal(code: str = "NO_T2", message: str = "no T2-weighted series; 3 series looked at") -> Outcome:
    """The same study, refused."""
    return dataclasses.replace(
        outcome(), outcome="no-result", reasons=((code, message),), findings=None, reference=None, volumes={}
    )


def read_elements(data: bytes) -> Dataset:
    """A patient module as a data set."""
    from pydicom.filereader import read_dataset

    return read_dataset(BytesIO(data), is_implicit_VR=False, is_little_endian=True)
