"""What the pipeline hands to this room: one value that every file of a run is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.types import (
    Evidence,
    Findings,
    QualityCheck,
    RunnerInfo,
    Segmentation,
    Selection,
    SourceSlice,
    Study,
    Volume,
)

DEMO_DICOM_CHECK = "demo_dicom"


@dataclass(frozen=True)
class RunFacts:
    """How the run went, beside what it found. fingerprint: see `fingerprint.py`. timings_ms: station → ms.
    memory_plan: network → how its windows went through memory, in words. voxels: where the voxel operations
    ran."""

    version: str
    bundle_name: str
    bundle_sha256: str
    evidence: Evidence
    fingerprint: str
    runner: RunnerInfo | None
    fallback: str | None
    timings_ms: Mapping[str, float]
    peak_rss_mb: float
    correlation: str | None
    memory_plan: Mapping[str, str] = field(default_factory=dict)
    voxels: str = "cpu"


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything the output room needs.

    reasons: (code, message), empty on a result. study, selection: None for NIfTI input. reference: the key in
    `volumes` whose source grid the masks live on. key_for: UID → salted hash. demo_dicom: the operator's
    consent to DICOM from a bundle with synthetic evidence (`--allow-demo-dicom`). gates: the quality lines
    known when a study was refused. window: the grid the network answered on, None when it was not asked.
    """

    outcome: Literal["result", "no-result"]
    reasons: tuple[tuple[str, str], ...]
    study: Study | None
    selection: Selection | None
    volumes: Mapping[str, Volume]
    reference: str | None
    findings: Findings | None
    manifest: Manifest
    facts: RunFacts
    key_for: Callable[[str], str]
    demo_dicom: bool = False
    gates: tuple[QualityCheck, ...] = ()
    window: Geometry | None = None

    @property
    def concluded(self) -> Findings:
        """The findings of a result. ValueError on a no-result, which has none."""
        if self.outcome != "result" or self.findings is None:
            raise ValueError("a no-result has no findings")
        return self.findings

    @property
    def segmentation(self) -> Segmentation:
        """The masks of a result."""
        return self.concluded.segmentation

    @property
    def reference_volume(self) -> Volume:
        """The volume whose grid the masks are on."""
        if self.reference is None:
            raise ValueError("a result needs a reference sequence")
        return self.volumes[self.reference]

    @property
    def synthetic(self) -> bool:
        """True when the bundle has only ever seen synthetic data."""
        return self.facts.evidence == "synthetic"

    @property
    def contoured(self) -> bool:
        """True when there is a suspicious finding (or no detection head to ask) and a mask to draw."""
        if self.outcome != "result":
            return False
        detection = self.concluded.detection
        return (detection is None or detection.finding == "suspicious") and bool(
            self.segmentation.tumour_slices
        )

    @property
    def writes_dicom(self) -> bool:
        """A demo contour must never reach a PACS by accident; NIfTI input has no DICOM to refer to."""
        if self.outcome != "result" or self.study is None or not self.reference_volume.slices:
            return False
        return not self.synthetic or self.demo_dicom or self.study.quality_control_subject

    def for_dicom(self) -> Outcome:
        """The same without what no DICOM object needs, and no other process should be sent: voxels,
        probabilities, the other sequences, keys. ValueError on a no-result."""
        masks, volume = self.segmentation, self.reference_volume
        nothing = np.zeros((0, 0, 0), dtype=np.float32)
        drawn = replace(masks, tumour_probability=nothing, covered=nothing.astype(bool))
        return replace(
            self,
            volumes={self.reference or "": replace(volume, voxels=nothing)},
            findings=replace(self.concluded, segmentation=drawn),
            key_for=_no_keys,
        )

    @property
    def quality(self) -> tuple[QualityCheck, ...]:
        """The quality lines of the findings, and one that says why DICOM was withheld."""
        lines = self.findings.quality if self.findings is not None else self.gates
        if self.outcome == "result" and self.study is not None and not self.writes_dicom:
            detail = (
                "no DICOM written: the bundle's evidence is synthetic and the study is not marked "
                "Quality Control Subject (0010,0200); --allow-demo-dicom overrides"
            )
            lines = (*lines, QualityCheck(DEMO_DICOM_CHECK, None, detail))
        return lines

    def series_number(self, volume: Volume) -> int | None:
        """SeriesNumber of the series a volume was assembled from."""
        if self.study is None or volume.series is None:
            return None
        return self.study.series[volume.series].number

    def source_slice(self, index: int) -> SourceSlice | None:
        """The source image behind slice `index` of the reference volume; None for NIfTI input."""
        slices = self.reference_volume.slices
        return slices[index] if 0 <= index < len(slices) else None


def _no_keys(uid: str) -> str:
    raise ValueError("an outcome on its way to DICOM has no keys")
