"""result.json as closed pydantic models (schema_version "1"): what other programs read.

`npc-edge schema result` prints the JSON Schema made from `ResultDocument`. No name, date, patient id or UID
ever enters it. World coordinates LPS mm.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from npc_edge.engine.types import Context, Contrast, CranialNerves, Evidence, Finding, Side, State3, Status

Probability = Annotated[float, Field(ge=0, le=1)]
T = Literal["T1", "T2", "T3", "T4"]
TIMINGS = ("read", "select", "assemble", "align", "locate", "prepare", "infer", "findings", "output", "total")


class Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reason(Closed):
    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    message: str


class SeriesEntry(Closed):
    """One series: what it was taken for. key: salted hash of its UID."""

    key: str
    series_number: int | None
    role: str | None
    contrast: Contrast
    fat_suppression: State3
    chosen: bool
    why: str
    kind: str = ""
    plane: str = ""
    warnings: tuple[str, ...] = ()


class StudyEntry(Closed):
    """key: salted hash of the StudyInstanceUID, or 'nifti' for input that has none."""

    key: str
    series: tuple[SeriesEntry, ...]


class OperatingPointEntry(Closed):
    sensitivity: float
    specificity: float
    on: str


class CalibrationEntry(Closed):
    method: str
    artefact: str
    cases: int
    prevalence: float
    population: str = ""


class IntervalEntry(Closed):
    """Venn-Abers' p0 and p1, from so many calibration cases of the artefact that ran: one of the two is
    calibrated, at the prevalence of these cases, which `--prevalence` does not move. By a method of its own,
    so `probability` may lie outside."""

    method: Literal["venn-abers"] = "venn-abers"
    low: Probability
    high: Probability
    cases: int
    prevalence: Probability


class PrevalenceEntry(Closed):
    """The operator's prevalence (`--prevalence`): probability = sigmoid(calibrated logit + offset). The
    finding and its threshold go by `detection.probability`, at the fitted prevalence. Label shift only."""

    given: Probability
    fitted: Probability
    offset: float
    probability: Probability


class DetectionEntry(Closed):
    """interval, prevalence null: for the reason beside it; prevalence without one: nobody gave any."""

    finding: Finding
    probability: Probability
    threshold: Probability
    operating_point: OperatingPointEntry
    calibration: CalibrationEntry
    why: str = ""
    interval: IntervalEntry | None = None
    interval_not_given: str = ""
    prevalence: PrevalenceEntry | None = None
    prevalence_not_given: str = ""


class TumourEntry(Closed):
    volume_ml: Annotated[float, Field(ge=0)]
    centroid_lps_mm: tuple[float, float, float] | None
    components: Annotated[int, Field(ge=0)]


class CategorySetEntry(Closed):
    """T categories that hold the true one in `level` of cases, of every category alike. Empty: none fits, the
    case is unlike the calibration cases."""

    level: Probability
    categories: tuple[T, ...]


class TCategoryEntry(Closed):
    """bound at_least: a structure of a higher category is equivocal or not assessable, up to could_be. set
    null: for the reason beside it."""

    t: T
    bound: Literal["exact", "at_least"]
    could_be: T | None
    distribution: dict[T, Probability]
    set: CategorySetEntry | None = None
    set_not_given: str = ""


class EvidenceEntry(Closed):
    """source_slice: index into the reference sequence's slices, ascending along row x column."""

    structure: str
    side: Side
    status: Status
    overlap_mm3: float
    depth_mm: float
    slices: int
    series_number: int | None
    instance_number: int | None
    source_slice: int
    category: str = ""
    overlap_fraction: float = 0.0
    probability: Probability = 0.0
    note: str = ""


class NotAssessableEntry(Closed):
    structure: str
    why: str
    side: Side | None = None
    category: str = ""


class StagingEntry(Closed):
    """The T category only: n, m and stage_group are never inferred and always null."""

    context: Context
    cranial_nerves: CranialNerves
    n: None = None
    m: None = None
    stage_group: None = None
    ajcc8: TCategoryEntry | None
    ajcc9: TCategoryEntry | None
    evidence: tuple[EvidenceEntry, ...]
    not_assessable: tuple[NotAssessableEntry, ...]
    rules_version: str = ""


class QualityEntry(Closed):
    """passed null: the bundle declares no reference for this check."""

    check: str
    passed: bool | None
    detail: str


class RuntimeEntry(Closed):
    version: str
    bundle: str
    bundle_sha256: str
    evidence: Evidence
    fingerprint: str
    backend: str | None
    device: str | None
    precision: str | None
    isa: str | None
    fallback: str | None
    timings_ms: dict[str, float]
    peak_rss_mb: float
    artefact: str | None = None
    backend_version: str | None = None
    threads: int | None = None
    memory_plan: dict[str, str] = {}
    voxels: str = "cpu"


class ResultDocument(Closed):
    """The whole of result.json."""

    schema_version: Literal["1"] = "1"
    research_use_only: Literal[True] = True
    correlation: str | None
    outcome: Literal["result", "no-result"]
    reasons: tuple[Reason, ...]
    study: StudyEntry | None
    detection: DetectionEntry | None
    tumour: TumourEntry | None
    staging: StagingEntry | None
    quality: tuple[QualityEntry, ...]
    labels: dict[str, dict[str, str]]
    runtime: RuntimeEntry

    @model_validator(mode="after")
    def _consistent(self) -> ResultDocument:
        """The semantics that a schema cannot say."""
        if self.outcome == "no-result":
            if self.detection or self.tumour or self.staging or not self.reasons:
                raise ValueError("a no-result has reasons and nothing else")
        elif self.tumour is None or self.reasons:
            raise ValueError("a result has a tumour entry and no reasons")
        staged = self.staging is not None and (self.staging.ajcc8 or self.staging.ajcc9)
        if self.detection is not None and self.detection.finding != "suspicious" and staged:
            raise ValueError("only a suspicious finding has a T category")
        cleared = self.detection is not None and self.detection.finding == "not_suspicious"
        if cleared and self.tumour is not None and self.tumour.volume_ml > 0:
            raise ValueError("a finding that is not suspicious has an empty mask")
        return self

    def to_json(self, *, one_line: bool = False) -> str:
        """Indented UTF-8 text in the schema's order, mappings sorted; the same document, the same text."""
        return self.model_dump_json(indent=None if one_line else 2) + ("" if one_line else "\n")
