"""Charts without labels: CUSUM and EWMA of measurements, CUSUM of the share of every acquisition fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.columns import OTHER, Columns, Fact
from npc_edge.calibration.watch.limits import (
    Design,
    Limits,
    by_case,
    family_limits,
    indicator_limits,
    indicator_scale,
    indicator_scores,
    null_peaks,
    spans,
)
from npc_edge.calibration.watch.power import cusum_shift
from npc_edge.calibration.watch.ranks import Scoring, full_scores, sequential_scores
from npc_edge.calibration.watch.sequential import cusum, ewma
from npc_edge.calibration.watch.settings import Settings, share_of

Floats = NDArray[np.float64]
Kind = Literal["measure", "fact", "calibration"]

DESIGN = Design()
TOGETHER = "all features"
OUTCOME = "outcome"
UNWATCHED = ("reason",)
"""Facts without charts: the outcome has one, and reasons explain it."""
_LEVELS = 6  # the commonest levels of a fact have a chart each
_DISTINCT = 10  # different values a measurement has in the baseline, at least


@dataclass(frozen=True, eq=False)
class Chart:
    """One chart. path (N,): its statistic, 0 in the baseline; above 0: the series rises, below: it falls.

    scores (N,): what is added up. act_limits, watch_limits (N,): what it must pass at each case. crossed:
    index of the first case of this stay beyond the limit, None when it is within, in the last `horizon`
    cases. detectable: the shift it would have found by now with 90 % power, in deviations (measure,
    calibration) or in share (fact).
    """

    watcher: str
    stream: str
    kind: Kind
    path: Floats = field(repr=False)
    scores: Floats = field(repr=False)
    act_limits: Floats = field(repr=False)
    watch_limits: Floats = field(repr=False)
    crossed: int | None
    watch_crossed: int | None
    detectable: float

    @property
    def name(self) -> str:
        """For example "score.cusum"."""
        return f"{self.stream}.{self.watcher}"

    @property
    def limit(self) -> float:
        """Of the level it has reached, at the crossing; of act, now, while it is quiet."""
        if self.crossed is None and self.watch_crossed is not None:
            return float(self.watch_limits[self.watch_crossed])
        return float(self.act_limits[-1 if self.crossed is None else self.crossed])

    @property
    def statistic(self) -> float:
        """The largest distance from 0 since the crossing, or now."""
        start = self.watch_crossed if self.crossed is None else self.crossed
        if start is None:
            return float(abs(self.path[-1])) if len(self.path) else 0.0
        return float(np.abs(self.path[start:]).max())

    @property
    def rises(self) -> bool:
        """The direction in which it left its limit, or leans now."""
        start = self.watch_crossed if self.crossed is None else self.crossed
        return bool(self.path[-1 if start is None else start] > 0)


def chart_of(
    names: tuple[str, str, Kind],
    path: Floats,
    scores: Floats,
    limits: tuple[Floats, Floats],
    detectable: float,
    settings: Settings,
) -> Chart:
    """A chart with its crossings; names: watcher, stream, kind; limits: act, watch, of each case, (N,)."""
    act, watch = (_crossing(np.abs(path) > limit, settings.horizon) for limit in limits)
    watcher, stream, kind = names
    return Chart(watcher, stream, kind, path, scores, *limits, act, watch, detectable)


def _crossing(beyond: NDArray[np.bool_], horizon: int) -> int | None:
    """Where the first stay beyond a limit began that reaches into the last `horizon` cases."""
    start = max(0, len(beyond) - horizon)
    if not beyond[start:].any():
        return None
    first = start + int(beyond[start:].argmax())
    within = np.flatnonzero(~beyond[:first])
    return int(within[-1]) + 1 if len(within) else 0


def two_sided(scores: Floats, allowance: float, silent: int) -> Floats:
    """The larger of the upward and the downward CUSUM, the downward as negative; 0 in the first `silent`."""
    up, down = cusum(scores[silent:], allowance)
    return np.concatenate([np.zeros(silent), np.where(up >= down, up, -down)])


def measure_charts(columns: Columns, settings: Settings, share: float) -> list[Chart]:
    """CUSUM of every measurement, EWMA of the outputs; the limits hold for all of them together."""
    baseline = settings.baseline
    streams, pools = _streams(columns, baseline)
    if not streams or len(columns) <= baseline:
        return []
    names = list(streams)
    pool = np.stack([pools[name] for name in names], axis=1)
    fading = [index for index, name in enumerate(names) if name not in columns.features]
    rates = [share_of(rate, share) for rate in (settings.false_alarm_rate, settings.watch_rate)]
    found = _family(pool, fading, (rates[0], rates[1]), settings, len(columns))
    charts = []
    for index, (watcher, name) in enumerate(
        [("cusum", name) for name in names] + [("ewma", names[i]) for i in fading]
    ):
        scores = streams[name]
        act, watch = (
            by_case([float(limit[index]) for limit in limits], len(columns), settings.horizon)
            for limits in ([one.act for one in found], [one.watch for one in found])
        )
        if watcher == "cusum":
            path = two_sided(scores, DESIGN.allowance, baseline)
            seen = cusum_shift(float(act[-1]), DESIGN.allowance, len(columns) - baseline, baseline)
        else:
            path = np.concatenate([np.zeros(baseline), ewma(scores[baseline:], DESIGN.weight)])
            seen = _ewma_shift(float(act[-1]), len(columns) - baseline, baseline)
        charts.append(chart_of((watcher, name, "measure"), path, scores, (act, watch), seen, settings))
    return charts


def _family(
    pool: Floats, fading: list[int], rates: tuple[float, float], settings: Settings, count: int
) -> list[Limits]:
    """Limits of the CUSUM of every stream, then of the EWMA of those `fading`: for the first cases and, in a
    series longer than the horizon, for the later ones."""
    found = []
    for span in spans(settings.monitored, settings.horizon, count > settings.horizon):
        peaks, peaks_ewma = null_peaks(pool, span, settings.null_runs, DESIGN, settings.seed)
        found.append(family_limits(np.concatenate([peaks, peaks_ewma[:, fading]], axis=1), *rates))
    return found


def _streams(columns: Columns, baseline: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Sequential scores of every usable measurement, and the baseline's scores among themselves."""
    wanted: list[tuple[str, Floats, Scoring]] = []
    for name, values in columns.outputs.items():
        wanted.append((name, values, "normal"))
        if name == "score":
            wanted.append(("high scores", values, "upper"))
    wanted += [(name, values, "normal") for name, values in columns.features.items()]
    streams, pools = {}, {}
    for name, values, scoring in wanted:
        if _usable(values[:baseline]):
            streams[name] = sequential_scores(values, scoring)
            pools[name] = full_scores(values[:baseline], scoring)
    features = [name for name in columns.features if name in streams]
    if len(features) > 1:
        common = np.asarray(sum(pools[name] for name in features))
        pools[TOGETHER] = common / (float(np.std(common)) or 1.0)
        streams[TOGETHER] = _standardised(np.asarray(sum(streams[name] for name in features)))
    return streams, pools


def _standardised(scores: Floats) -> Floats:
    """Scores (N,) of mean 0 over the deviation of all before each; of the first there is none."""
    seen = np.arange(len(scores))
    spread = np.sqrt((np.cumsum(scores**2) - scores**2) / np.maximum(seen, 1))
    return np.divide(scores, spread, out=np.zeros_like(scores), where=spread > 0)


def _usable(values: Floats) -> bool:
    known = values[np.isfinite(values)]
    return len(known) >= len(values) / 2 and len(np.unique(known)) >= _DISTINCT


def _ewma_shift(limit: float, cases: int, reference: int) -> float:
    """The shift that, begun a memory ago, brings the mean of an EWMA 1.28 deviations beyond its limit."""
    memory = min(cases, round(2 / DESIGN.weight))
    if memory < 1:
        return float("inf")
    deviation = float(np.sqrt(DESIGN.weight / (2 - DESIGN.weight)))
    reached = 1 - (1 - DESIGN.weight) ** memory
    return (limit + 1.28) * deviation / reached / (reference / (reference + memory))


def indicators(fact: Fact, baseline: int) -> Mapping[str, NDArray[np.bool_]]:
    """Level → (N,) bool, for the commonest levels of the baseline and "any other". Of a fact with two levels
    one is enough, and a fact that says the same throughout the baseline has "any other" alone."""
    first = fact.codes[:baseline]
    counts = np.bincount(first, minlength=len(fact.levels))
    common = [int(code) for code in np.argsort(-counts, kind="stable") if counts[code]][:_LEVELS]
    found = {fact.levels[code]: fact.codes == code for code in common[1:]}
    found[OTHER] = ~np.isin(fact.codes, common)
    if len(common) > 2:
        found = {fact.levels[common[0]]: fact.codes == common[0], **found}
    return found


def fact_charts(columns: Columns, settings: Settings, share: float) -> list[Chart]:
    """CUSUM of the share of every level of every fact, and EWMA of the share of refusals; the rate is divided
    evenly among them."""
    baseline = settings.baseline
    if len(columns) <= baseline:
        return []
    series = [
        (watcher, f"{name}={level}", yes)
        for name, fact in columns.facts.items()
        if name not in UNWATCHED
        for level, yes in indicators(fact, baseline).items()
        if name != OUTCOME or level != OTHER or len(np.unique(fact.codes[:baseline])) == 1
        for watcher in (("cusum", "ewma") if name == OUTCOME else ("cusum",))
    ]
    rates = [
        share_of(rate, share) / max(1, len(series))
        for rate in (settings.false_alarm_rate, settings.watch_rate)
    ]
    return [_fact_chart(names, yes, (rates[0], rates[1]), settings) for *names, yes in series]


def _fact_chart(
    names: Sequence[str], yes: NDArray[np.bool_], rates: tuple[float, float], settings: Settings
) -> Chart:
    """names: watcher and stream; yes (N,): the cases at the level; rates: of act and watch."""
    watcher, stream = names
    baseline, count = settings.baseline, len(yes)
    hits = int(yes[:baseline].sum())
    over = spans(settings.monitored, settings.horizon, count > settings.horizon)
    place = ("cusum", "ewma").index(watcher)
    act, watch = (
        by_case(
            [indicator_limits(hits, baseline, span, rate, DESIGN, settings.seed)[place] for span in over],
            count,
            settings.horizon,
        )
        for rate in rates
    )
    scores = indicator_scores(yes, baseline)
    if watcher == "cusum":
        path = two_sided(scores, DESIGN.allowance, baseline)
        seen = cusum_shift(float(act[-1]), DESIGN.allowance, count - baseline, baseline)
    else:
        path = np.concatenate([np.zeros(baseline), ewma(scores[baseline:], DESIGN.weight)])
        seen = _ewma_shift(float(act[-1]), count - baseline, baseline)
    seen *= indicator_scale(hits, baseline)
    return chart_of((watcher, stream, "fact"), path, scores, (act, watch), seen, settings)
