"""What the monitor keeps of a run, what it is told of the truth, and what it concludes: frozen values.

A record is pseudonymous, not anonymous: keys are salted hashes, and whoever holds the salt and an accession
number can find its record. No name, date of birth, patient id or UID is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["quiet", "watch", "act"]
Source = Literal["biopsy", "radiologist"]


@dataclass(frozen=True)
class Acquired:
    """How the series in one role was acquired; None or "unknown" where the headers say nothing.

    model_key, station_key: salted hashes of ManufacturerModelName and StationName, "" without one.
    spacing_mm: (z, y, x).
    """

    role: str
    vendor: str
    model_key: str = ""
    station_key: str = ""
    field_strength_t: float | None = None
    fat_suppression: Literal["yes", "no", "unknown"] = "unknown"
    repetition_time_ms: float | None = None
    echo_time_ms: float | None = None
    inversion_time_ms: float | None = None
    spacing_mm: tuple[float, float, float] | None = None
    slices: int | None = None


@dataclass(frozen=True)
class CaseRecord:
    """One run. at: UTC, milliseconds since 1970. score: raw logit. features: name → value, e.g. "t1.median".

    evidence: "structure.side" → "unequivocal", "equivocal" or "not_assessable" (without ".side" when neither
    side is). quality: check → passed. reasons: codes only. case_key: of its own for each run that could read
    nothing. accession_key: "" without an accession number. quality_control: its headers say so.
    operating_point: what the bundle declares: threshold, sensitivity, specificity.
    """

    case_key: str
    accession_key: str
    at: int
    version: str
    bundle: str
    bundle_sha256: str
    artefact: str
    backend: str
    precision: str
    outcome: Literal["result", "no-result"]
    reasons: tuple[str, ...] = ()
    acquired: tuple[Acquired, ...] = ()
    features: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    probability: float | None = None
    finding: str | None = None
    volume_ml: float | None = None
    category_ajcc8: str | None = None
    category_ajcc9: str | None = None
    distribution: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, bool | None] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    peak_rss_mb: float | None = None
    quality_control: bool = False
    operating_point: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Truth:
    """What became known of a case. None: this label does not speak of it.

    criteria: structure (or "structure.side") → involved. review: what was done with our mask; dice: of the
    corrected mask against ours. on: the date of the finding, ISO. at: when it was entered, as above.
    """

    case_key: str
    at: int
    source: Source
    on: str
    npc: bool | None = None
    category: str | None = None
    edition: Literal["ajcc8", "ajcc9"] = "ajcc8"
    criteria: Mapping[str, bool] = field(default_factory=dict)
    review: Literal["accept", "reject", "corrected"] | None = None
    dice: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What one watcher concludes. watcher: e.g. "score.cusum"; group: "all" or e.g. "vendor=ge".

    cases: how many it is made from. since: index of the estimated change in the series it was given, None
    without one. reason: one sentence. check_first: where to look. power: what it could have seen by now.
    alarmed: index of the case at which the limit was passed, None within it.
    """

    watcher: str
    group: str
    level: Level
    statistic: float
    limit: float
    cases: int
    reason: str
    check_first: str
    power: str
    since: int | None = None
    alarmed: int | None = None
