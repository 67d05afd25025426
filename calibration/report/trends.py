"""Which quantities the report draws over time, and what of a watcher's chart goes with each."""

from __future__ import annotations

import numpy as np

from npc_edge.calibration.record import Level, Verdict
from npc_edge.calibration.report.values import Floats, Trend, Watch
from npc_edge.calibration.watch import Chart, Settings, Watched
from npc_edge.calibration.watch.charts import indicators
from npc_edge.calibration.watch.columns import Columns
from npc_edge.calibration.watch.label_verdicts import scored
from npc_edge.calibration.watch.phrases import heading

ALWAYS = ("score", "volume_ml", "outcome=no-result", "latency_ms", "calibration level", "calibration slope")
_MOST = 12
_SEVERITY: dict[Level, int] = {"act": 2, "watch": 1, "quiet": 0}
_UNITS = {"score": "logit", "volume_ml": "ml", "latency_ms": "s"}


def trends_of(watched: Watched, settings: Settings) -> tuple[Trend, ...]:
    """Alarming quantities first, then the outputs, then what is left of the features; twelve at most."""
    columns = watched.columns
    if not len(columns):
        return ()
    verdicts = {(v.watcher, v.group): v for v in watched.verdicts}
    known = scored(columns, watched.npc)
    best: dict[str, Chart] = {}
    for chart in (*watched.charts, *watched.labelled_charts):
        current = best.get(chart.stream)
        if current is None or _SEVERITY[level_of(chart)] > _SEVERITY[level_of(current)]:
            best[chart.stream] = chart
    chosen = sorted(best.values(), key=lambda chart: (-_SEVERITY[level_of(chart)], _place(chart.stream)))
    watching = [
        _trend(chart, watched, known, verdicts.get((chart.name, "all")), settings)
        for chart in chosen
        if _shown(chart)
    ]
    return tuple(watching[:_MOST]) or _unwatched(columns)


def level_of(chart: Chart) -> Level:
    """What a chart says."""
    if chart.crossed is not None:
        return "act"
    return "quiet" if chart.watch_crossed is None else "watch"


def _place(stream: str) -> tuple[int, str]:
    return ALWAYS.index(stream) if stream in ALWAYS else len(ALWAYS), stream


def _shown(chart: Chart) -> bool:
    """A quiet chart of an acquisition fact, or of features that the others show, says nothing to anybody."""
    if level_of(chart) != "quiet" or chart.stream in ALWAYS:
        return True
    return chart.kind == "measure" and chart.stream not in ("high scores", "all features")


def _trend(
    chart: Chart, watched: Watched, known: np.ndarray, verdict: Verdict | None, settings: Settings
) -> Trend:
    columns = watched.columns
    since = verdict.since if verdict is not None else None
    if chart.kind == "calibration":
        values = _calibration_values(chart, columns, watched.npc, known)
        since = None if since is None else int(np.searchsorted(known, since))
        at, reference = columns.at[known], 0
    else:
        values, at, reference = _values(chart, columns, settings), columns.at, settings.baseline
    watch = Watch(
        chart.watcher.upper(),
        chart.path / chart.act_limits,
        float(chart.watch_limits[-1] / chart.act_limits[-1]),
        level_of(chart),
        since,
    )
    title = heading(chart.stream)
    unit = _UNITS.get(chart.stream, "SD" if chart.stream in ("all features", "calibration slope") else "")
    share = chart.kind == "fact"
    return Trend(title, unit, at, values, reference, watch, "" if since is None else _reason(verdict), share)


def _reason(verdict: Verdict | None) -> str:
    return "" if verdict is None else verdict.reason


def _values(chart: Chart, columns: Columns, settings: Settings) -> Floats:
    """What the chart watches, in its own unit where it has one, (N,)."""
    if chart.kind == "fact":
        name, _, level = chart.stream.partition("=")
        yes = indicators(columns.facts[name], settings.baseline)[level]
        return yes.astype(np.float64)
    if chart.stream == "high scores":
        return columns.outputs["score"]
    values = {**columns.outputs, **columns.features}.get(chart.stream)
    if values is None:
        return chart.scores
    return values / 1000 if chart.stream == "latency_ms" else values


def _calibration_values(chart: Chart, columns: Columns, npc: Floats, known: np.ndarray) -> Floats:
    """Found less foretold for the level; for the slope what its chart adds up."""
    if chart.stream == "calibration level":
        return np.asarray(npc[known] - columns.probability[known])
    return chart.scores


def _unwatched(columns: Columns) -> tuple[Trend, ...]:
    """While the baseline is collected: the outputs as they are."""
    found = []
    for name, unit in _UNITS.items():
        if name in columns.outputs:
            values = columns.outputs[name] / (1000 if name == "latency_ms" else 1)
            found.append(Trend(heading(name), unit, columns.at, values))
    return tuple(found)
