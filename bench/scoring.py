"""From the records of a regression to its numbers; `regression_table` prints them.

A refusal counts as probability 0.5, Dice 0 and a wrong category.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.bench.measures import Interval, auc, brier, mean, wilson

TITLE = "Engine regression on phantoms, not diagnostic performance"
STAGES = ("T1", "T2", "T3", "T4")
COLUMNS = (*STAGES, "not_suspicious", "indeterminate", "refused")
EDITIONS = ("ajcc8", "ajcc9")
Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """The finished cases of a JSON lines file; a last line cut short by an interruption is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Everything the table shows, as JSON values; None where nothing was measured.

    Intervals are [value, low, high, cases].
    """
    with_npc = [record for record in records if record["truth"]["npc"]]
    without = [record for record in records if not record["truth"]["npc"]]
    refused = [record for record in records if record["reason"] is not None]
    summary = {
        "title": TITLE,
        "tumour": len(with_npc),
        "healthy": len(without),
        "auc": _pack(auc(_probabilities(with_npc), _probabilities(without))),
        "brier": brier(_probabilities(records), [record["truth"]["npc"] for record in records]),
        "sensitivity": _pack(_share([r["finding"] == "suspicious" for r in with_npc])),
        "specificity": _pack(_share([r["finding"] == "not_suspicious" for r in without])),
        "indeterminate": sum(record["finding"] == "indeterminate" for record in records),
        "dice": _pack(mean([record["dice"] for record in with_npc])),
        "dice_by_stage": {
            stage: _pack(mean([r["dice"] for r in with_npc if r["truth"]["ajcc8"] == stage]))
            for stage in STAGES
        },
        "category": {edition: _categories(with_npc, edition) for edition in EDITIONS},
        "criteria": _criteria(with_npc),
        "refused": _pack(_share([record["reason"] is not None for record in records])),
        "refusals": dict(Counter(record["reason"] for record in refused).most_common()),
        "by_acquisition": _by_acquisition(records),
        "baseline": baseline(with_npc, without),
        "seconds_median": float(np.median([record["seconds"] for record in records])) if records else None,
    }
    return dict(_without_nan(summary))


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value


def _pack(interval: Interval) -> list[float | int]:
    return [interval.value, interval.low, interval.high, interval.n]


def _share(hits: Sequence[bool]) -> Interval:
    return wilson(sum(hits), len(hits))


def _probabilities(records: Sequence[Record]) -> list[float]:
    return [0.5 if record["probability"] is None else record["probability"] for record in records]


# --- T category -------------------------------------------------------------------------------------------


def _column(record: Record, edition: str) -> str:
    if record["reason"] is not None:
        return "refused"
    return str(record["predicted"][edition] or record["finding"])


def _distance(truth: str, got: str) -> int:
    return abs(STAGES.index(truth) - STAGES.index(got)) if got in STAGES else len(STAGES)


def _categories(with_npc: Sequence[Record], edition: str) -> dict[str, Any]:
    """Exact, within one, and the confusion matrix over phantoms that have a category."""
    pairs = [(record["truth"][edition], _column(record, edition)) for record in with_npc]
    apart = [_distance(truth, got) for truth, got in pairs]
    counts = Counter(pairs)
    return {
        "exact": _pack(_share([d == 0 for d in apart])),
        "within_one": _pack(_share([d <= 1 for d in apart])),
        "confusion": {t: {got: counts[t, got] for got in COLUMNS} for t in STAGES},
    }


def _criteria(with_npc: Sequence[Record]) -> dict[str, Any]:
    """Sensitivity and specificity of each criterion, over phantoms with a tumour: fired means unequivocal."""
    names = sorted({name for record in with_npc for name in record["truth"]["criteria"]} - {"nasopharynx"})
    found = {}
    for name in names:
        truly = [bool(record["truth"]["criteria"].get(name, False)) for record in with_npc]
        fired = [record["criteria"].get(name) == "unequivocal" for record in with_npc]
        hinted = [name in record["criteria"] for record in with_npc]
        found[name] = {
            "sensitivity": _pack(_share([f for t, f in zip(truly, fired, strict=True) if t])),
            "specificity": _pack(_share([not f for t, f in zip(truly, fired, strict=True) if not t])),
            "at_least_equivocal": _pack(_share([h for t, h in zip(truly, hinted, strict=True) if t])),
        }
    return found


def _by_acquisition(records: Sequence[Record]) -> dict[str, Any]:
    """The headline numbers for each way of acquiring, to show where the engine is weak."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        case = record["case"]["spec"]
        kinds = [
            name for name in ("oblique", "fat_sat", "enhanced", "reversed", "with_contrast") if case[name]
        ]
        for kind in (case["vendor"], *kinds):
            groups.setdefault(kind, []).append(record)
    return {kind: _brief(members) for kind, members in sorted(groups.items())}


def _brief(records: Sequence[Record]) -> dict[str, Any]:
    with_npc = [record for record in records if record["truth"]["npc"]]
    without = [record for record in records if not record["truth"]["npc"]]
    return {
        "cases": len(records),
        "auc": auc(_probabilities(with_npc), _probabilities(without)).value,
        "dice": mean([record["dice"] for record in with_npc]).value,
        "exact": _categories(with_npc, "ajcc8")["exact"][0],
        "refused": sum(record["reason"] is not None for record in records),
    }


def baseline(with_npc: Sequence[Record], without: Sequence[Record]) -> dict[str, Any]:
    """One feature, the thickness of the nasopharyngeal wall, in place of the engine.

    Its category is the one whose mean thickness, over the other half of the phantoms, is nearest.
    """
    apart = []
    for half in (0, 1):
        learnt = _mean_thickness([r for i, r in enumerate(with_npc) if i % 2 != half])
        for record in with_npc[half::2] if learnt else []:
            guess = _nearest(learnt, record["wall_mm"])
            apart.append(_distance(record["truth"]["ajcc8"], guess))
    return {
        "feature": "thickness of the nasopharyngeal wall",
        "auc": _pack(auc([r["wall_mm"] for r in with_npc], [r["wall_mm"] for r in without])),
        "exact": _pack(_share([d == 0 for d in apart])),
        "within_one": _pack(_share([d <= 1 for d in apart])),
    }


def _mean_thickness(records: Sequence[Record]) -> dict[str, float]:
    by_stage: dict[str, list[float]] = {}
    for record in records:
        by_stage.setdefault(record["truth"]["ajcc8"], []).append(record["wall_mm"])
    return {stage: float(np.mean(values)) for stage, values in by_stage.items()}


def _nearest(learnt: dict[str, float], wall_mm: float) -> str:
    return min(learnt, key=lambda stage: abs(learnt[stage] - wall_mm))
