"""The monitor's state as one line of JSON, for programs and logs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from npc_edge.calibration.alarms import EXIT_CODES, Alarm, worst
from npc_edge.calibration.report.values import Overview
from npc_edge.calibration.report.wording import iso


def json_line(overview: Overview, alarms: Sequence[Alarm]) -> str:
    """The state as one JSON object on one line, without the line's end. schema_version counts its changes."""
    level = worst(alarms)
    document = {
        "schema_version": "1",
        "research_use_only": True,
        "at": iso(overview.made_at),
        "level": level,
        "exit_code": EXIT_CODES[level],
        "runs": overview.runs,
        "refused": overview.refused,
        "with_truth": overview.with_truth,
        "first_run": iso(overview.first_at),
        "last_run": iso(overview.last_at),
        "watchers": overview.watchers,
        "alarms": [_described(alarm) for alarm in alarms],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def _described(alarm: Alarm) -> dict[str, object]:
    verdict, seen = alarm.verdict, alarm.acknowledged
    return {
        "watcher": verdict.watcher,
        "group": verdict.group,
        "level": verdict.level,
        "statistic": _finite(verdict.statistic),
        "limit": _finite(verdict.limit),
        "cases": verdict.cases,
        "reason": verdict.reason,
        "check_first": verdict.check_first,
        "power": verdict.power,
        "acknowledged": None
        if seen is None
        else {
            "level": seen.level,
            "at": iso(seen.at),
            "until": iso(seen.until),
            "by": seen.by,
            "note": seen.note,
        },
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if abs(value) < float("inf") else None
