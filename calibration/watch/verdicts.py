"""From charts to verdicts: the level, a reason in a sentence, what to check first, and the power."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from npc_edge.calibration.record import Level, Verdict
from npc_edge.calibration.watch.change import change_point
from npc_edge.calibration.watch.charts import Chart, indicators
from npc_edge.calibration.watch.columns import Columns
from npc_edge.calibration.watch.diagnose import check_first
from npc_edge.calibration.watch.phrases import day, from_to, moved, named, plainly
from npc_edge.calibration.watch.settings import Settings

ORDER: dict[Level, int] = {"quiet": 0, "watch": 1, "act": 2}


def headline(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict to show first, None of none."""
    return max(verdicts, key=urgency, default=None)


def urgency(verdict: Verdict) -> tuple[int, bool, float]:
    """The highest level first; there the charts, which know when it began; there the furthest beyond its
    limit."""
    chart = verdict.watcher.endswith((".cusum", ".ewma"))
    return ORDER[verdict.level], chart, verdict.statistic / verdict.limit if verdict.limit > 0 else 0.0


def chart_verdict(chart: Chart, columns: Columns, settings: Settings) -> Verdict:
    """The verdict of one chart over these cases; `limit` is that of the level it has reached, or of act."""
    level, crossed = _level(chart)
    first = 0 if chart.kind == "calibration" else settings.baseline
    cases = len(columns) if chart.kind == "calibration" else max(0, len(columns) - settings.baseline)
    since, check = None, ""
    if crossed is None:
        reason = f"No change seen in {named(chart.stream).removesuffix(',')}."
    else:
        window = max(0, crossed - settings.horizon)
        found = change_point(
            chart.scores[window:], max(0, first - window), crossed - window, chart.kind == "calibration"
        )
        since = crossed if found is None else found + window
        check = check_first(columns, chart.stream, since)
        reason = _reason(chart, columns, settings, since, crossed)
    return Verdict(
        watcher=chart.name,
        group="all",
        level=level,
        statistic=chart.statistic,
        limit=chart.limit,
        cases=cases,
        reason=reason,
        check_first=check,
        power=_power(chart),
        since=since,
        alarmed=crossed,
    )


def _level(chart: Chart) -> tuple[Level, int | None]:
    if chart.crossed is not None:
        return "act", chart.crossed
    if chart.watch_crossed is not None:
        return "watch", chart.watch_crossed
    return "quiet", None


def _reason(chart: Chart, columns: Columns, settings: Settings, since: int, crossed: int) -> str:
    """What moved, from where to where, since when, and when it was noticed."""
    fact, _, level = chart.stream.partition("=")
    yes, stream = None, chart.stream
    if chart.kind == "fact":
        yes = indicators(columns.facts[fact], settings.baseline)[level]
        stream = f"{fact}={plainly(columns.facts[fact], level, yes, since)}"
    case = "labelled case" if chart.kind == "calibration" else "case"
    waited = crossed - since + 1
    return (
        f"{moved(stream, chart.rises, chart.crossed is not None)}"
        f"{from_to(columns, chart.stream, yes, since, chart.rises)}"
        f" since about {day(columns, since)} ({case} {since + 1});"
        f" it was noticed on {day(columns, crossed)}, {waited} {case}{'s' * (waited > 1)} later."
    )


def _power(chart: Chart) -> str:
    """What the chart would have found by now with 90 % power."""
    size = chart.detectable
    if not isfinite(size) or (chart.kind == "fact" and size >= 1):
        return "Too few cases yet to see any change with 90 % power."
    if chart.stream == "calibration slope":
        what = f"A slope {size:.2f} away from 1"
    elif chart.stream == "calibration level":
        what = f"NPC in {100 * size:.1f} percentage points more or fewer cases than foretold"
    elif chart.kind == "measure":
        what = f"A shift of {size:.2f} SD"
    else:
        what = f"A change of the share by {100 * size:.1f} percentage points"
    return f"{what}, there since watching began, would have been seen by now with 90 % power."
