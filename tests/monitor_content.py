"""What a report is drawn from in tests: one department with a drift, made without the statistics."""

from typing import Any

import numpy as np

from npc_edge.calibration.record import Level, Verdict
from npc_edge.calibration.report import values as page
from npc_edge.calibration.watch.estimate import Estimate

DAY = 86_400_000
START = 1_767_225_600_000  # 1 January 2026, UTC
NOW = START + 328 * DAY

OVERVIEW = page.Overview(
    made_at=NOW,
    runs=2_431,
    refused=58,
    with_truth=412,
    npc=96,
    not_npc=316,
    watchers=6,
    first_at=START,
    last_at=NOW - 3_600_000,
    bundles=("npc 3",),
    artefacts=("detector.int8-u8s8",),
    reasons=(("FOV_TRUNCATED", 31), ("NO_T2", 18), ("MISSING_SLICES", 9)),
    recorded=2_431,
)


def trend(title: str, unit: str, shift: float = 0.0, level: Level = "quiet", **options: Any) -> page.Trend:
    """A year of cases whose values move by `shift` deviations after 40 % of them."""
    rng = np.random.default_rng(sum(map(ord, title)))
    n, baseline = OVERVIEW.runs, 250
    at = np.sort(START + (rng.random(n) * 328 * DAY).astype(np.int64))
    scores = rng.standard_normal(n)
    scores[int(n * 0.4) :] += shift
    values = scores * options.pop("scale", 1.0) + options.pop("middle", 0.0)
    if options.get("share"):
        values = (scores > 1.98).astype(np.float64)
    up, down, path = 0.0, 0.0, np.zeros(n)
    for i in range(baseline, n):
        up, down = max(0.0, up + scores[i] - 0.25), max(0.0, down - scores[i] - 0.25)
        path[i] = (up if up >= down else -down) / 11
    change = int(n * 0.4) if level != "quiet" else None
    return page.Trend(
        title, unit, at, values, baseline, page.Watch("CUSUM", path, 0.8, level, change), **options
    )


TRENDS = (
    trend("T2 median intensity", "", 1.3, "act", scale=40, middle=310),
    trend("Score", "logit", -0.4, "watch", scale=1.8),
    trend("Tumour volume", "ml", scale=3, middle=14),
    trend("Refused runs", "", share=True),
    trend("Time a run takes", "s", scale=0.4, middle=4.1),
    trend("T1 median intensity", "", scale=30, middle=420),
)

VERDICTS = (
    Verdict(
        "t2.median.cusum",
        "station=scanner B",
        "act",
        11.2,
        5.1,
        612,
        "T2 fat suppression changed on scanner B about 12 May: the median intensity rose by 1.3 deviations.",
        "Ask for the T2 protocol of scanner B and what changed in May; compare fat suppression.",
        "By now it could have seen a shift of 0.3 deviations in nine of ten cases.",
        972,
    ),
    Verdict(
        "score.ewma",
        "all",
        "watch",
        -0.61,
        0.42,
        2_373,
        "The score fell by 0.6 on average from June on.",
        "Ask for the T2 protocol of scanner B and what changed in May; compare fat suppression.",
        "By now it could have seen a shift of 0.2 deviations in nine of ten cases.",
        1_010,
    ),
    Verdict(
        "latency.ewma",
        "all",
        "watch",
        0.91,
        0.8,
        2_431,
        "Runs take 0.9 s longer than in the reference period.",
        "See what else runs on the workstation.",
        "By now it could have seen 0.3 s in nine of ten cases.",
    ),
    Verdict(
        "volume.cusum",
        "all",
        "quiet",
        1.9,
        5.1,
        822,
        "Tumour volumes are as they were.",
        "",
        "By now it could have seen a shift of 0.35 deviations in nine of ten cases.",
    ),
    Verdict(
        "refusals.cusum",
        "all",
        "quiet",
        0.7,
        4.2,
        2_431,
        "As many runs are refused as before.",
        "",
        "By now it could have seen 2.4 % becoming 5 %.",
    ),
    Verdict(
        "calibration.slope",
        "all",
        "quiet",
        -0.4,
        1.96,
        412,
        "The slope is 0.93 (0.74 to 1.12).",
        "",
        "With 96 cases of NPC it could have seen a slope below 0.74.",
    ),
)


def _estimate(value: float, half: float, cases: int) -> Estimate:
    return Estimate(value, value - half, value + half, cases)


def _reliability() -> page.Reliability:
    x = np.linspace(0.01, 0.98, 60)
    y = np.clip(x**1.18, 0, 1)
    half = 0.04 + 0.11 * np.sqrt(x * (1 - x)) * 2
    rng = np.random.default_rng(5)
    return page.Reliability(
        "detector.int8-u8s8",
        x,
        y,
        np.clip(y - half, 0, 1),
        np.clip(y + half, 0, 1),
        np.histogram(rng.beta(5, 1.4, 96), 20, (0, 1))[0],
        np.histogram(rng.beta(1.1, 7, 316), 20, (0, 1))[0],
        (
            page.Measure(
                "AUC", _estimate(0.93, 0.03, 412), "Cases with NPC score higher than those without.", 1
            ),
            page.Measure(
                "Brier score", _estimate(0.082, 0.016, 412), "Mean squared error; lower is better.", 0
            ),
            page.Measure("Calibration slope", _estimate(0.93, 0.19, 412), "Below 1: too extreme.", 1),
            page.Measure("Calibration in the large", _estimate(-0.21, 0.3, 412), "Below 0: too high.", 0),
            page.Measure("ECE, debiased", _estimate(0.031, 0.022, 412), "Mean distance from the truth.", 0),
        ),
        "96 cases with NPC: the slope is known to ± 0.19 only; about 400 cases with NPC would halve that.",
    )


def _row(name: str, runs: int, refused: int, npc: int, other: int, auc: float | None) -> page.GroupRow:
    if auc is None:
        return page.GroupRow(
            name, runs, refused, npc, other, (None, None, None), "5 cases with NPC: too few to say"
        )
    half = 0.3 / npc**0.5
    estimates = (
        Estimate(auc, auc - half, min(auc + half, 0.999), npc + other),
        _estimate(0.08, 0.03, npc + other),
        _estimate(0.95, half * 4, npc + other),
    )
    return page.GroupRow(name, runs, refused, npc, other, estimates)


GROUPS = page.Groups(
    ("AUC", "Brier score", "Slope"),
    _row("All cases", 2431, 58, 96, 316, 0.93),
    (
        page.Grouping(
            "Scanner",
            (
                _row("scanner A", 1301, 21, 61, 201, 0.95),
                _row("scanner B", 918, 30, 30, 97, 0.88),
                _row("station 3fa9c1", 212, 7, 5, 18, None),
            ),
        ),
        page.Grouping(
            "Vendor", (_row("siemens", 1513, 28, 66, 219, 0.94), _row("ge", 918, 30, 30, 97, 0.88))
        ),
        page.Grouping(
            "T2 fat suppression", (_row("yes", 701, 19, 22, 81, 0.87), _row("no", 1730, 39, 74, 235, 0.95))
        ),
    ),
)

CONTENT = page.Content(
    OVERVIEW,
    (
        page.Measure("AUC", _estimate(0.93, 0.03, 412), "1 is perfect, 0.5 is chance."),
        page.Measure("Calibration slope", _estimate(0.93, 0.19, 412), "1 is right; below 1 too extreme."),
        page.Measure("Effect of quantisation", None, "No case ran through two artefacts."),
    ),
    TRENDS,
    (_reliability(),),
    GROUPS,
    page.Agreement(
        (
            page.Confusion(
                "AJCC 8th edition",
                ("T1", "T2", "T3", "T4"),
                ("T1", "T2", "T3", "T4"),
                np.array([[14, 3, 1, 0], [4, 11, 2, 0], [1, 2, 17, 3], [0, 0, 2, 9]]),
            ),
        ),
        (
            page.Measure("clivus", _estimate(0.91, 0.07, 69)),
            page.Measure("left parapharyngeal space", _estimate(0.84, 0.09, 69)),
            page.Measure("hypopharynx", None, "seen in 3 cases only"),
        ),
        (("accept", 71), ("corrected", 18), ("reject", 4)),
        page.Measure("Dice", _estimate(0.83, 0.05, 18)),
    ),
    (
        "Sensitivity of the T4 criteria: only 11 cases with T4 have a known truth.",
        "Cases the engine was never given, and patients who were never referred.",
        "N and M category and stage group.",
    ),
)
