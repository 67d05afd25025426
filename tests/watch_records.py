"""Records of a department that exists nowhere, for tests of the watchers."""

from dataclasses import replace

import numpy as np
from scipy.special import expit

from npc_edge.calibration.record import Acquired, CaseRecord, Truth

DAY = 86_400_000
START = 1_767_225_600_000  # 1 January 2026
STATIONS = ("aa11bb22cc33", "dd44ee55ff66")
ALIASES = {STATIONS[0]: "scanner A", STATIONS[1]: "scanner B"}


def record(index: int, random: np.random.Generator) -> CaseRecord:
    """One ordinary case, eight a day."""
    second = bool(random.random() < 0.4)
    score = float(random.normal(-2, 2))
    t2 = Acquired(
        role="T2",
        vendor="ge" if second else "siemens",
        station_key=STATIONS[second],
        field_strength_t=3.0,
        fat_suppression="yes" if random.random() < 0.02 else "no",
        repetition_time_ms=4000.0 + float(random.integers(0, 50)),
        echo_time_ms=90.0,
        spacing_mm=(4.0, 0.5, 0.5),
        slices=30,
    )
    return CaseRecord(
        case_key=f"case-{index}",
        accession_key="",
        at=START + index * DAY // 8,
        version="0.1.0",
        bundle="tiny 1",
        bundle_sha256="ab",
        artefact="net.fp32.onnx",
        backend="onnxruntime",
        precision="fp32",
        outcome="result",
        acquired=(replace(t2, role="T1"), t2),
        features={"t1.median": float(random.lognormal(5, 0.3)), "t2.median": float(random.lognormal(5, 0.3))},
        score=score,
        probability=float(expit(score)),
        finding="suspicious" if score > 0 else "not_suspicious",
        volume_ml=float(max(0.0, random.normal(score, 1))),
        category_ajcc8="T2" if score > 0 else None,
        evidence={"clivus.midline": "unequivocal"} if score > 2 else {},
        timings_ms={"total": float(random.lognormal(6, 0.2))},
    )


def records(count: int, seed: int = 0) -> list[CaseRecord]:
    random = np.random.default_rng(seed)
    return [record(index, random) for index in range(count)]


def fat_suppressed_from(given: list[CaseRecord], change: int, station: str) -> list[CaseRecord]:
    """The T2 of this station is fat suppressed from case `change` on, and darker."""
    found = []
    for index, case in enumerate(given):
        if index >= change and case.acquired[1].station_key == station:
            t2 = replace(case.acquired[1], fat_suppression="yes")
            features = {**case.features, "t2.median": case.features["t2.median"] * 0.6}
            case = replace(case, acquired=(case.acquired[0], t2), features=features)
        found.append(case)
    return found


def truths(given: list[CaseRecord], slope: float = 1.0, seed: int = 1) -> list[Truth]:
    """A biopsy of every scored case, drawn at slope x its logit."""
    random = np.random.default_rng(seed)
    return [
        Truth(
            case_key=case.case_key,
            at=case.at + 7 * DAY,
            source="biopsy",
            on="2026-06-01",
            npc=bool(random.random() < expit(slope * case.score)),
        )
        for case in given
        if case.score is not None
    ]
