"""A department's runs as the monitor keeps them, drawn at random from a seed: same seed, same records.

Two scanners of two vendors. From `changed` of the cases on, scanner B's T2 is fat-suppressed and darker, and
the scores of its cases drop. Probabilities are sigmoid(score), and the truths are drawn from the probability
that held before the change: afterwards the model says too little on scanner B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npc_edge.calibration.record import Acquired, CaseRecord, Truth

START = 1_767_225_600_000  # 1 January 2026, UTC
DAY = 86_400_000
STATION_A, STATION_B = "a1" * 16, "b2" * 16
CATEGORIES = ("T1", "T2", "T3", "T4")
CHECKS = {"field_of_view": True, "geometry": True, "domain": None}


@dataclass(frozen=True)
class Department:
    """cases: runs, one a case. days: over which they spread. changed: share of the cases before the change,
    1 for none. labelled: share of the cases whose truth becomes known. refused: share without a result."""

    cases: int
    seed: int = 1
    days: int = 330
    changed: float = 1.0
    labelled: float = 0.2
    refused: float = 0.02
    artefact: str = "detector.int8-u8s8"
    phantoms: bool = False


def records(of: Department) -> Iterator[CaseRecord]:
    """The runs in order of time."""
    rng = np.random.default_rng(of.seed)
    at = START + np.sort(rng.random(of.cases) * of.days * DAY).astype(np.int64)
    on_b = rng.random(of.cases) < 0.4
    after = np.arange(of.cases) >= of.changed * of.cases
    suppressed = on_b & after
    score = rng.normal(-1.2, 2.0, of.cases) - 1.6 * suppressed
    noise = rng.standard_normal((of.cases, 7))
    refused = rng.random(of.cases) < of.refused
    seconds = rng.lognormal(1.4, 0.12, of.cases)
    kind = rng.integers(4, size=of.cases)
    acquired = {(b, s): _acquired(bool(b), bool(s)) for b in (False, True) for s in (False, True)}
    for i in range(of.cases):
        series = acquired[bool(on_b[i]), bool(suppressed[i])]
        common = {
            "case_key": case_key(of, i),
            "accession_key": f"{of.seed:08x}{i:08x}".rjust(32, "a"),
            "at": int(at[i]),
            "version": "0.2.0",
            "bundle": "npc 3",
            "bundle_sha256": "c3" * 32,
            "artefact": of.artefact,
            "backend": "onnxruntime",
            "precision": "int8",
            "acquired": series,
            "quality": CHECKS,
            "timings_ms": {
                "read": 300.0,
                "infer": float(seconds[i]) * 700,
                "total": float(seconds[i]) * 1000,
            },
            "peak_rss_mb": 900.0 + float(noise[i, 5]) * 20,
            "quality_control": of.phantoms,
        }
        if refused[i]:
            yield CaseRecord(**common, outcome="no-result", reasons=(("FOV_TRUNCATED", "NO_T2")[i % 2],))
            continue
        probability = 1 / (1 + np.exp(-score[i]))
        suspicious = probability >= 0.5
        category = CATEGORIES[int(kind[i])] if suspicious else None
        yield CaseRecord(
            **common,
            outcome="result",
            features=_features(noise[i], bool(suppressed[i])),
            score=float(score[i]),
            probability=float(probability),
            finding="suspicious" if suspicious else "not_suspicious",
            volume_ml=float(np.exp(2 + 0.8 * noise[i, 4])) if suspicious else 0.0,
            category_ajcc8=category,
            category_ajcc9=category,
            evidence={"clivus.midline": "unequivocal"} if category in ("T3", "T4") else {},
        )


def _acquired(on_b: bool, suppressed: bool) -> tuple[Acquired, ...]:
    vendor, station, tesla = ("ge", STATION_B, 3.0) if on_b else ("siemens", STATION_A, 1.5)
    shared = {"vendor": vendor, "model_key": station[::-1], "station_key": station, "field_strength_t": tesla}
    spacing = (3.5, 0.47, 0.47) if on_b else (4.0, 0.5, 0.5)
    return (
        Acquired(
            "T1", **shared, fat_suppression="no", repetition_time_ms=600, echo_time_ms=11, spacing_mm=spacing
        ),  # type: ignore[arg-type]
        Acquired(  # type: ignore[arg-type]
            "T2",
            **shared,
            fat_suppression="yes" if suppressed else "no",
            repetition_time_ms=4200.0,
            echo_time_ms=95.0 if suppressed else 88.0,
            spacing_mm=spacing,
            slices=32,
        ),
    )


def _features(noise: np.ndarray, suppressed: bool) -> dict[str, float]:
    t2 = 310 + 40 * noise[1] - (70 if suppressed else 0)
    return {
        "t1.median": float(420 + 30 * noise[0]),
        "t1.iqr": float(120 + 12 * noise[2]),
        "t2.median": float(t2),
        "t2.iqr": float(150 + 15 * noise[3]),
        "t2.bright": float(2.4 + 0.2 * noise[6]),
    }


def case_key(of: Department, index: int) -> str:
    """The key of a case; a department has its own by its seed."""
    return f"{of.seed:08x}{index:08x}".rjust(32, "0")


def truths(of: Department) -> Iterator[Truth]:
    """What became known of some of the cases, a fortnight after each."""
    rng = np.random.default_rng(of.seed + 1_000_003)
    for i, record in enumerate(records(of)):
        known, chance, corrected = rng.random() < of.labelled, rng.random(), rng.random()
        if not known or record.score is None:
            continue
        on_b = record.acquired[0].station_key == STATION_B
        before = record.score + (1.6 if on_b and i >= of.changed * of.cases else 0.0)
        npc = bool(chance < 1 / (1 + np.exp(-before)))
        category = record.category_ajcc8 if npc else None
        if category is not None and corrected < 0.25:
            category = CATEGORIES[(CATEGORIES.index(category) + 1) % 4]
        marked = npc and record.finding == "suspicious"
        review = None if not marked else "corrected" if corrected < 0.3 else "accept"
        yield Truth(
            record.case_key,
            record.at + 14 * DAY,
            "biopsy" if npc else "radiologist",
            "2026-02-01",
            npc,
            category,
            "ajcc8",
            {"clivus": category in ("T3", "T4")} if category is not None else {},
            review,  # type: ignore[arg-type]
            0.75 + 0.2 * corrected if review == "corrected" else None,
        )
