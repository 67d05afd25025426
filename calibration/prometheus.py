"""The monitor's state in the Prometheus text format 0.0.4, for a node exporter's textfile collector.

Numbers about the model and the scanners only: no case, no key, no date of a case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from npc_edge.calibration.alarms import SEVERITY, Alarm, worst
from npc_edge.calibration.record import Verdict
from npc_edge.calibration.report.values import Groups, Measure, Overview

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "npc_edge_monitor"


@dataclass(frozen=True)
class Sample:
    """One line: a value and its labels."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()


def exposition(
    overview: Overview,
    verdicts: Sequence[Verdict],
    alarms: Sequence[Alarm],
    measures: Sequence[Measure] = (),
    groups: Groups | None = None,
) -> str:
    """The whole text, ending with a line feed."""
    families = [*_counts(overview), *_watchers(verdicts, alarms), *_estimates(measures), *_groups(groups)]
    return "".join(families)


def _counts(overview: Overview) -> Iterable[str]:
    given = overview.runs - overview.refused
    yield _family(
        "runs",
        "gauge",
        "Runs the monitor holds, by outcome; old ones leave by retention.",
        [Sample(given, (("outcome", "result"),)), Sample(overview.refused, (("outcome", "no-result"),))],
    )
    yield _family(
        "refusals",
        "gauge",
        "Runs held that were refused, by reason code; a run may have several.",
        [Sample(count, (("reason", code),)) for code, count in overview.reasons],
    )
    if overview.recorded is not None:
        yield _family(
            "runs_recorded_total",
            "counter",
            "Runs ever recorded, those removed since included.",
            [Sample(overview.recorded)],
        )
    kinds = (("npc", overview.npc), ("not_npc", overview.not_npc))
    yield _family(
        "cases_with_truth",
        "gauge",
        "Cases whose truth is known, by kind.",
        [Sample(count, (("truth", kind),)) for kind, count in kinds],
    )
    if overview.last_at is not None:
        yield _family(
            "last_run_timestamp_seconds",
            "gauge",
            "When the latest run was recorded, seconds since 1970.",
            [Sample(overview.last_at / 1000)],
        )
    yield _family(
        "made_timestamp_seconds",
        "gauge",
        "When these numbers were made, seconds since 1970.",
        [Sample(overview.made_at / 1000)],
    )


def _watchers(verdicts: Sequence[Verdict], alarms: Sequence[Alarm]) -> Iterable[str]:
    acknowledged = {alarm.key for alarm in alarms if alarm.acknowledged is not None}
    named = [((("watcher", v.watcher), ("group", v.group)), v) for v in verdicts]
    yield _family(
        "level",
        "gauge",
        "The worst level nobody acknowledged: 0 quiet, 1 watch, 2 act.",
        [Sample(SEVERITY[worst(alarms)])],
    )
    yield _family(
        "watcher_level",
        "gauge",
        "Level of each watcher, acknowledged or not: 0 quiet, 1 watch, 2 act.",
        [Sample(SEVERITY[v.level], labels) for labels, v in named],
    )
    yield _family(
        "watcher_acknowledged",
        "gauge",
        "1 while a person's acknowledgement keeps the watcher quiet.",
        [Sample((v.watcher, v.group) in acknowledged, labels) for labels, v in named],
    )
    yield _family(
        "watcher_statistic",
        "gauge",
        "What each watcher measures.",
        [Sample(v.statistic, labels) for labels, v in named],
    )
    yield _family(
        "watcher_limit",
        "gauge",
        "The limit of each watcher's statistic.",
        [Sample(v.limit, labels) for labels, v in named],
    )
    yield _family(
        "watcher_cases",
        "gauge",
        "Cases each watcher concluded from.",
        [Sample(v.cases, labels) for labels, v in named],
    )


def _estimates(measures: Sequence[Measure]) -> Iterable[str]:
    samples = []
    for measure in measures:
        if measure.estimate is None:
            continue
        bounds = {
            "value": measure.estimate.value,
            "low": measure.estimate.low,
            "high": measure.estimate.high,
        }
        labels = (("measure", measure.name),)
        samples += [Sample(bounds[name], (*labels, ("bound", name))) for name in bounds]
    yield _family(
        "measure",
        "gauge",
        "Measures on cases with a known truth, with their 95 % interval.",
        samples,
    )


def _groups(groups: Groups | None) -> Iterable[str]:
    if groups is None:
        return
    named = [
        ((("by", grouping.title), ("name", row.name)), row)
        for grouping in groups.groupings
        for row in grouping.rows
    ]
    yield _family(
        "group_runs", "gauge", "Runs held, by site, vendor and so on.", [Sample(r.runs, n) for n, r in named]
    )
    yield _family(
        "group_refused", "gauge", "Those of them that were refused.", [Sample(r.refused, n) for n, r in named]
    )


def _family(name: str, kind: str, words: str, samples: Sequence[Sample]) -> str:
    """HELP, TYPE and the samples; nothing at all without a sample. A counter's name ends in _total."""
    if not samples:
        return ""
    full = f"{_PREFIX}_{name}"
    escaped = words.replace("\\", "\\\\").replace("\n", "\\n")
    lines = [f"# HELP {full} {escaped}", f"# TYPE {full} {kind}"]
    lines += [f"{full}{_labels(dict(sample.labels))} {_number(sample.value)}" for sample in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
