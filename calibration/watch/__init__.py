"""The monitor's watchers: pure functions from records and truths to verdicts.

`watch` is the whole of it. The parts, for tables and diagrams: `columns` (records as columns), `charts` (what
is plotted over time), `groups` (measures by site and vendor), `curve` (the reliability diagram), `paired`
(two artefacts on the same cases). No module here reads a file or prints, and none needs more than NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.record import CaseRecord, Truth, Verdict
from npc_edge.calibration.watch.charts import Chart, fact_charts, measure_charts
from npc_edge.calibration.watch.columns import Columns, columns_of, last_run_of_each
from npc_edge.calibration.watch.groups import Row, measured
from npc_edge.calibration.watch.label_verdicts import (
    calibration_verdicts,
    charts_with_labels,
    measure_verdicts,
    review_verdict,
    scored,
)
from npc_edge.calibration.watch.paired import artefacts_in_both, paired, paired_verdict
from npc_edge.calibration.watch.pairs import Pair, labels, pairs_of
from npc_edge.calibration.watch.settings import WITH_LABELS, WITHOUT_LABELS, Settings, Shares
from npc_edge.calibration.watch.verdicts import ORDER, chart_verdict, headline, urgency
from npc_edge.calibration.watch.window_verdicts import window_verdicts

__all__ = [
    "ORDER", "Chart", "Columns", "Settings", "Watched", "charts", "columns_of", "headline",
    "monitored_records", "watch", "watch_columns", "watched",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Watched:
    """What was watched and concluded. records: `monitored_records`, N of them; columns and npc (N,) are
    theirs, and indices in verdicts count them. pairs: what is known of them. rows: the measures of every
    group. charts: over all cases; labelled_charts: over the labelled cases alone. verdicts: the most urgent
    first.
    """

    records: list[CaseRecord]
    columns: Columns
    pairs: tuple[Pair, ...]
    npc: NDArray[np.float64]
    rows: tuple[Row, ...]
    charts: tuple[Chart, ...]
    labelled_charts: tuple[Chart, ...]
    verdicts: tuple[Verdict, ...]


def watch(
    records: Iterable[CaseRecord],
    truths: Iterable[Truth] = (),
    settings: Settings | None = None,
    aliases: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Every watcher's verdict, the most urgent first. Indices in a verdict count `monitored_records`.

    aliases: salted station hash → name. "act" on anything within `horizon` cases has the chance
    `settings.false_alarm_rate` while nothing changes.
    """
    return watched(records, truths, settings, aliases).verdicts


def watched(
    records: Iterable[CaseRecord],
    truths: Iterable[Truth] = (),
    settings: Settings | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Watched:
    """As `watch`, with what it was concluded from: for a report."""
    given, chosen = list(records), settings or Settings()
    kept = monitored_records(given, chosen)
    columns = columns_of(kept, aliases)
    pairs = pairs_of(kept, truths)
    npc = labels(len(kept), pairs)
    every, labelled = charts(columns, npc, chosen)
    found = _concluded(columns, npc, chosen, every, labelled)
    rows = tuple(measured(columns, npc, chosen.threshold))
    if len(scored(columns, npc)) >= chosen.labelled_minimum:
        found += measure_verdicts(rows, chosen)
    reviews = review_verdict(pairs, chosen)
    found += [] if reviews is None else [reviews]
    found += [paired_verdict(paired(given, *names)) for names in artefacts_in_both(given)]
    return Watched(kept, columns, pairs, npc, rows, tuple(every), tuple(labelled), _by_urgency(found))


def monitored_records(records: Iterable[CaseRecord], settings: Settings | None = None) -> list[CaseRecord]:
    """What is watched, in order of time: the last run of every case since `settings.start` under the newest
    bundle. Another bundle's scores are another measurement: its cases are no baseline."""
    start = (settings or Settings()).start
    kept = last_run_of_each(record for record in records if record.at >= start)
    return [record for record in kept if record.bundle_sha256 == kept[-1].bundle_sha256]


def watch_columns(
    columns: Columns, npc: NDArray[np.float64], settings: Settings | None = None
) -> tuple[Verdict, ...]:
    """The verdicts that may reach "act", the most urgent first; npc (N,): 1, 0 or NaN where unknown."""
    chosen = settings or Settings()
    return _by_urgency(_concluded(columns, npc, chosen, *charts(columns, npc, chosen)))


def _concluded(
    columns: Columns,
    npc: NDArray[np.float64],
    settings: Settings,
    every: Sequence[Chart],
    labelled: Sequence[Chart],
) -> list[Verdict]:
    """The verdicts of these charts, and of what needs none."""
    found = [chart_verdict(chart, columns, settings) for chart in every]
    found += window_verdicts(columns, settings)
    found += calibration_verdicts(columns, npc, labelled, settings)
    if len(columns) <= settings.baseline:
        found.append(_collecting(columns, settings))
    return found


def charts(
    columns: Columns, npc: NDArray[np.float64], settings: Settings | None = None
) -> tuple[list[Chart], list[Chart]]:
    """For diagrams: the charts over all cases, and those over the labelled cases alone."""
    chosen = settings or Settings()
    shares = _shares(columns, npc, chosen)
    every = measure_charts(columns, chosen, shares.charts) + fact_charts(columns, chosen, shares.facts)
    return every, charts_with_labels(columns, npc, chosen, shares.labels) if shares.labels else []


def _shares(columns: Columns, npc: NDArray[np.float64], settings: Settings) -> Shares:
    return WITH_LABELS if len(scored(columns, npc)) >= settings.labelled_minimum else WITHOUT_LABELS


def _by_urgency(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    return tuple(sorted(verdicts, key=urgency, reverse=True))


def _collecting(columns: Columns, settings: Settings) -> Verdict:
    return Verdict(
        watcher="baseline",
        group="all",
        level="quiet",
        statistic=float(len(columns)),
        limit=float(settings.baseline),
        cases=len(columns),
        reason=f"The baseline is being collected: {len(columns)} of {settings.baseline} cases.",
        check_first="",
        power="Nothing could have been seen yet without labels.",
    )
