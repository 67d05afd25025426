"""Verdicts that need labels: is the probability still true, for whom, and do readers accept the masks?"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.record import Level, Verdict
from npc_edge.calibration.watch.charts import Chart
from npc_edge.calibration.watch.columns import Columns
from npc_edge.calibration.watch.estimate import Estimate
from npc_edge.calibration.watch.groups import Row
from npc_edge.calibration.watch.label_charts import calibration_charts
from npc_edge.calibration.watch.normal import Z95, two_sided
from npc_edge.calibration.watch.pairs import Pair
from npc_edge.calibration.watch.power import Z90, proportion_shift
from npc_edge.calibration.watch.settings import Settings
from npc_edge.calibration.watch.verdicts import chart_verdict

Floats = NDArray[np.float64]

STRICT = 0.001
"""p-value at which a single measure is worth watching: there are some dozens of them."""


def scored(columns: Columns, npc: Floats) -> NDArray[np.intp]:
    """Indices of the cases with a label and a probability; npc (N,) 1, 0 or NaN."""
    return np.flatnonzero(np.isfinite(npc) & np.isfinite(columns.probability))


def charts_with_labels(columns: Columns, npc: Floats, settings: Settings, share: float) -> list[Chart]:
    """The calibration charts, over the labelled and scored cases."""
    known = scored(columns, npc)
    return calibration_charts(columns.probability[known], npc[known], settings, share)


def calibration_verdicts(
    columns: Columns, npc: Floats, charts: Sequence[Chart], settings: Settings
) -> list[Verdict]:
    """Level and slope of the calibration; `since` and `alarmed` are indices of all cases again."""
    if not charts:
        return []
    known = scored(columns, npc)
    labelled = columns.chosen(known)
    found = []
    for chart in charts:
        verdict = chart_verdict(chart, labelled, settings)
        where = {
            name: None if index is None else int(known[index])
            for name, index in (("since", verdict.since), ("alarmed", verdict.alarmed))
        }
        found.append(Verdict(**{**verdict.__dict__, **where}))
    return found


def measure_verdicts(rows: Sequence[Row], settings: Settings) -> list[Verdict]:
    """Slope of every group, sensitivity and specificity against what was declared: at most "watch"."""
    verdicts = []
    for row in rows:
        if row.cases < settings.labelled_minimum:
            continue
        verdicts.append(_slope_verdict(row))
        if row.group == "all":
            verdicts += _declared(row, settings)
    return verdicts


def _slope_verdict(row: Row) -> Verdict:
    slope = row.measures["calibration_slope"]
    error = (slope.high - slope.low) / (2 * Z95)
    p = two_sided((slope.value - 1) / error) if error > 0 else 1.0
    level: Level = "watch" if p < STRICT else "quiet"
    away = 3.2905 + Z90  # of STRICT, two-sided
    return Verdict(
        watcher="calibration slope.interval",
        group=row.group,
        level=level,
        statistic=abs(slope.value - 1) / error if error > 0 else 0.0,
        limit=3.2905,
        cases=row.cases,
        reason=_slope_words(row, level),
        check_first="Have this group's disagreements read again, then refit the calibrator for it."
        if level == "watch"
        else "",
        power=f"A slope {away * error:.2f} away from 1 would have been seen with 90 % power."
        if error > 0
        else "No slope can be had from these cases.",
    )


def _slope_words(row: Row, level: Level) -> str:
    slope = row.measures["calibration_slope"]
    whose = "" if row.group == "all" else f" ({row.group.replace('=', ' ')})"
    how = ""
    if level == "watch":
        how = f": the probabilities are too {'sure of themselves' if slope.value < 1 else 'timid'}"
    words = (
        f"The calibration slope is {slope.text()} in {row.cases} labelled cases{whose}, 1 is perfect{how}."
    )
    return f"{words} {row.warning}".strip()


def _declared(row: Row, settings: Settings) -> list[Verdict]:
    """Sensitivity and specificity against the declared operating point, where one was given."""
    found = []
    positives = row.positives
    for name, declared, n in (
        ("sensitivity", settings.sensitivity, positives),
        ("specificity", settings.specificity, row.cases - positives),
    ):
        if declared is not None and n:
            found.append(_declared_verdict(name, row.measures[name], declared, n))
    return found


def _declared_verdict(name: str, measure: Estimate, declared: float, n: int) -> Verdict:
    spread = sqrt(max(declared * (1 - declared), 1e-6) / n)
    z = (declared - measure.value) / spread
    level: Level = "watch" if measure.high < declared and two_sided(z) < 2 * STRICT else "quiet"
    if name == "sensitivity":
        kind, check = "with", "Look at the missed cases: are they small, or from one scanner?"
    else:
        kind, check = "without", "Look at the cases called suspicious without NPC: what do they share?"
    return Verdict(
        watcher=f"{name}.declared",
        group="all",
        level=level,
        statistic=max(0.0, z),
        limit=3.0902,
        cases=n,
        reason=f"The {name} is {measure.text()} in {n} cases {kind} NPC; the bundle declares {declared:.2f}.",
        check_first=check if level == "watch" else "",
        power=f"A {name} of {max(0.0, declared - (3.0902 + Z90) * spread):.2f} would have been seen "
        "with 90 % power.",
    )


def review_verdict(pairs: Sequence[Pair], settings: Settings) -> Verdict | None:
    """Are masks rejected or corrected more often in the newest window of reviews than before? At most
    "watch"; None before there are two windows of reviews."""
    reviewed = [pair for pair in pairs if pair.truth.review is not None]
    if len(reviewed) < 2 * settings.window:
        return None
    refused = np.array([pair.truth.review != "accept" for pair in reviewed])
    before, after = refused[: -settings.window], refused[-settings.window :]
    pooled = float(refused.mean())
    spread = sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / len(before) + 1 / len(after)))
    z = float(after.mean() - before.mean()) / spread
    beyond = z > 0 and two_sided(z) < STRICT
    since = reviewed[-settings.window].index
    step = proportion_shift(float(before.mean()), len(before), len(after), STRICT)
    return Verdict(
        watcher="reviews.share",
        group="all",
        level="watch" if beyond else "quiet",
        statistic=abs(z),
        limit=3.2905,
        cases=len(reviewed),
        reason=f"Readers rejected or corrected {after.mean():.0%} of the newest {len(after)} masks, "
        f"{before.mean():.0%} before.",
        check_first="Look at the rejected and corrected masks: what do they share?" if beyond else "",
        power=f"A rise by {100 * step:.0f} percentage points would have been seen with 90 % power."
        if isfinite(step)
        else "Too few reviews yet to see any rise with 90 % power.",
        since=since if beyond else None,
        alarmed=reviewed[-1].index if beyond else None,
    )
