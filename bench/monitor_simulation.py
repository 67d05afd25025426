"""Simulated deployments through the monitor: how often does it cry wolf, what does it find, and how soon?

    python -m npc_edge.bench monitor-simulation [--runs 500] [--change-runs 200] [--jobs 2] --out FILE

Stationary deployments give the realised false-alarm rate: of 1,000 cases, and of the last 1,000 of 10,000,
where whatever is a little off would have added up. The others change at case 500 (one at 5,000) and must be
found. A detection is an alarm ("act") at or after the change: alarms before it are counted apart.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.bench.deployments import Scenario, simulate
from npc_edge.bench.machine import describe
from npc_edge.calibration.watch import Settings, watch_columns
from npc_edge.calibration.watch.estimate import wilson

CHANGE = 500
LONG = 10_000
SCENARIOS = (
    Scenario("stationary, every case labelled", labels=True),
    Scenario("T2 fat suppressed in 30 % of cases", change=CHANGE, fat_suppressed=0.30),
    Scenario(
        "T2 fat suppressed in 30 % of cases, headers silent",
        change=CHANGE,
        fat_suppressed=0.30,
        header_tells=False,
    ),
    Scenario("intensity drifts by 0.3 SD within 50 cases", change=CHANGE, drift_sd=0.3, ramp=50),
    Scenario("prevalence 5 to 20 %", change=CHANGE, new_prevalence=0.20),
    Scenario(
        "slope 0.7 at 20 % prevalence, labels",
        cases=1500,
        change=CHANGE,
        prevalence=0.20,
        slope=0.7,
        labels=True,
    ),
    Scenario("stationary, no labels"),
    Scenario("stationary, every case labelled, 10,000 cases", cases=LONG, labels=True),
    Scenario("stationary, no labels, 10,000 cases", cases=LONG),
    Scenario(
        "intensity drifts by 0.3 SD within 50 cases, from case 5,000 on",
        cases=6000,
        change=5000,
        drift_sd=0.3,
        ramp=50,
    ),
)


@dataclass(frozen=True)
class Run:
    """One deployment. alarm: first case of an alarm at or after the change (from the start when there is
    none); error: of the change point that the most urgent such verdict estimates at the end of the series.
    named: what it tells to check first."""

    alarm: int | None
    early: bool
    watched: bool
    watcher: str = ""
    named: str = ""
    error: int | None = None


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=500, help="stationary deployments, of either kind")
    parser.add_argument("--long-runs", type=int, default=200, help="stationary ones of 10,000 cases")
    parser.add_argument("--change-runs", type=int, default=200, help="deployments of each kind of change")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=1, help="of the first deployment")
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--out", type=Path, help="where the table goes, as JSON")


def main(given: Namespace) -> int:
    """Simulate every scenario; prints a line each."""
    machine, started = describe(), time.perf_counter()
    rows = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for scenario in SCENARIOS:
            if given.only in scenario.name:
                usual = given.long_runs if scenario.cases == LONG else given.runs
                count = usual if scenario.change is None else given.change_runs
                seeds = range(given.seed, given.seed + count)
                runs = list(pool.map(_one, [(scenario, seed) for seed in seeds], chunksize=5))
                rows.append(summary(scenario, runs))
                print(json.dumps(rows[-1]), flush=True)
                report = {
                    "machine": machine,
                    "settings": asdict(Settings()),
                    "first_seed": given.seed,
                    "seconds": round(time.perf_counter() - started, 1),
                    "jobs": given.jobs,
                    "scenarios": rows,
                }
                if given.out is not None:  # after every scenario: an hour's work is not lost to the last
                    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _one(order: tuple[Scenario, int]) -> Run:
    return deployment(*order)


def deployment(scenario: Scenario, seed: int, settings: Settings | None = None) -> Run:
    """Simulates one deployment and watches it to its end."""
    given = simulate(scenario, seed)
    labels = given.npc if scenario.labels else np.full(len(given.npc), np.nan)
    verdicts = watch_columns(given.columns, labels, settings)
    acts = [verdict for verdict in verdicts if verdict.level == "act" and verdict.alarmed is not None]
    change = scenario.change or 0
    late = [verdict for verdict in acts if (verdict.alarmed or 0) >= change]
    early = len(late) < len(acts)
    watched = any(verdict.level != "quiet" for verdict in verdicts)
    if not late:
        return Run(None, early, watched)
    first = min(late, key=lambda verdict: verdict.alarmed or 0)
    alarm = first.alarmed or 0
    run = Run(alarm, early, watched, first.watcher, late[0].check_first)
    if scenario.change is None or late[0].since is None:
        return run
    return replace(run, error=late[0].since - change)


def summary(scenario: Scenario, runs: Sequence[Run]) -> dict[str, Any]:
    """The row of a scenario: rates with intervals, cases until detection, error of the change point."""
    alarms = [run.alarm for run in runs if run.alarm is not None]
    share = wilson(len(alarms), len(runs))
    row: dict[str, Any] = {
        "scenario": scenario.name,
        "runs": len(runs),
        "cases": scenario.cases,
        "share_with_alarm": round(share.value, 4),
        "interval": [round(share.low, 4), round(share.high, 4)],
        "share_with_watch": round(float(np.mean([run.watched for run in runs])), 4),
        "first_watchers": dict(Counter(run.watcher for run in runs if run.watcher).most_common(5)),
    }
    if scenario.change is None:
        chosen = Settings().false_alarm_rate
        half = 1.96 * sqrt(chosen * (1 - chosen) / len(runs))
        row["chosen"] = chosen
        row["chosen_interval"] = [round(chosen - half, 4), round(chosen + half, 4)]
        row["within"] = bool(abs(share.value - chosen) <= half)
        return row
    delays = np.array([alarm - scenario.change + 1 for alarm in alarms])
    errors = np.array([run.error for run in runs if run.error is not None])
    row["change"] = scenario.change
    row["share_within_500_cases"] = round(float((delays <= 500).sum()) / len(runs), 4)
    row["early_alarms"] = round(float(np.mean([run.early for run in runs])), 4)
    row["cases_until_alarm"] = _spread(delays)
    row["change_point_error"] = _spread(errors)
    row["change_point_absolute_error"] = _spread(np.abs(errors))
    row["check_first"] = Counter(run.named.split(" on ")[0].split(".")[0] for run in runs if run.named)
    row["check_first"] = dict(row["check_first"].most_common(4))
    return row


def _spread(values: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float] | None:
    """Median with the 10th and 90th percentile."""
    if len(values) == 0:
        return None
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"median": float(middle), "p10": float(low), "p90": float(high)}
