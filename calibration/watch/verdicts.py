"""From charts to verdicts: the level, a reason in a sentence, what to check first, and the power."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from npc_edge.calibration.record import Level, Verdict
from npc_edge.calibration.watch.change import change_point
from npc_edge.calibration.watch.charts import Chart
from npc_edge.calibration.watch.columns import Columns
from npc_edge.calibration.watch.diagnose import check_first, day
from npc_edge.calibration.watch.settings import Settings

ORDER: dict[Level, int] = {"quiet": 0, "watch": 1, "act": 2}

_WORDS = {
    "score": "the score",
    "high scores": "the share of high scores",
    "volume_ml": "the tumour volume",
    "latency_ms": "the time a run takes",
    "all features": "the intensity features together",
    "calibration level": "the share of NPC found, against the probabilities,",
    "outcome=no-result": "the share of refused studies",
    "outcome=any other": "the share of refused studies",
}


def named(stream: str) -> str:
    """A stream in words: "the share of vendor "ge"", "t2.median"."""
    if stream in _WORDS:
        return _WORDS[stream]
    fact, _, level = stream.partition("=")
    if not level:
        return fact
    return f'the share of {fact} "{level}"' if level != "any other" else f"the share of any other {fact}"


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
        reason = f"No change of {named(chart.stream)} seen."
    else:
        window = max(0, crossed - settings.horizon)
        found = change_point(
            chart.scores[window:], max(0, first - window), crossed - window, chart.kind == "calibration"
        )
        since = crossed if found is None else found + window
        check = check_first(columns, chart.stream, since)
        reason = (
            f"{_direction(chart)} since about {day(columns, since)} (case {since + 1}); "
            f"{chart.watcher.upper()} passed its limit on {day(columns, crossed)} (case {crossed + 1})."
        )
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


def _direction(chart: Chart) -> str:
    if chart.stream == "calibration slope":
        return (
            "The probabilities are too timid, their slope lies above 1,"
            if chart.rises
            else "The probabilities are too sure, their slope lies below 1,"
        )
    words = named(chart.stream)
    return f"{words[0].upper()}{words[1:]} {'rises' if chart.rises else 'falls'}"


def _power(chart: Chart) -> str:
    """What the chart would have found by now with 90 % power."""
    size = chart.detectable
    if not isfinite(size) or (chart.kind == "fact" and size >= 1):
        return "Too few cases yet to see any change with 90 % power."
    if chart.stream == "calibration slope":
        what = f"a change of the slope by {size:.2f}"
    elif chart.kind == "measure":
        what = f"a shift of {size:.2f} SD"
    else:
        what = f"a change of the share by {100 * size:.1f} percentage points"
    return f"Would by now have seen {what}, there from the start of watching, with 90 % power."
