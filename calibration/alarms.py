"""Which verdicts are alarms now, which of them a person has acknowledged, and what that means for cron.

Pure functions: whoever calls them keeps the acknowledgements. An acknowledged alarm stays quiet until it gets
worse (watch becomes act), until its time is over, or until it has fallen quiet by itself: when it comes back
after that, it is a new alarm. It never leaves the report.

Exit codes for cron, apart from those of the command line (0-7):

    quiet   0    nothing, or nothing that was not acknowledged
    watch  10    something moved: look when there is time
    act    11    look before the scores are relied on
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from npc_edge.calibration.record import Level, Verdict
from npc_edge.calibration.report.values import Overview
from npc_edge.calibration.report.wording import iso

EXIT_CODES: dict[Level, int] = {"quiet": 0, "watch": 10, "act": 11}
SEVERITY: dict[Level, int] = {"quiet": 0, "watch": 1, "act": 2}
DEFAULT_DAYS = 30
LONGEST_DAYS = 366
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Acknowledgement:
    """Someone has seen an alarm. level: how bad it was then. at, until: UTC, milliseconds since 1970."""

    watcher: str
    group: str
    level: Level
    at: int
    until: int
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.watcher, self.group


@dataclass(frozen=True)
class Alarm:
    """A verdict that is not quiet, and the acknowledgement that still holds, None without one."""

    verdict: Verdict
    acknowledged: Acknowledgement | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.verdict.watcher, self.verdict.group


def acknowledge(verdict: Verdict, now: int, days: float = DEFAULT_DAYS, note: str = "") -> Acknowledgement:
    """Take note of an alarm for so many days. ValueError for a quiet verdict or days out of (0, 366]."""
    if verdict.level == "quiet":
        raise ValueError(f"{verdict.watcher} of {verdict.group} is quiet: there is nothing to acknowledge")
    if not 0 < days <= LONGEST_DAYS:
        raise ValueError(f"an acknowledgement lasts more than 0 and at most {LONGEST_DAYS} days")
    until = now + round(days * _DAY_MS)
    return Acknowledgement(verdict.watcher, verdict.group, verdict.level, now, until, note)


def holds(item: Acknowledgement, verdict: Verdict, now: int) -> bool:
    """True while an acknowledgement keeps this verdict quiet."""
    same = item.key == (verdict.watcher, verdict.group)
    return same and now < item.until and SEVERITY[verdict.level] <= SEVERITY[item.level]


def open_alarms(
    verdicts: Iterable[Verdict], acknowledgements: Sequence[Acknowledgement], now: int
) -> tuple[Alarm, ...]:
    """Every verdict that is not quiet: those nobody acknowledged first, the worst first among them."""
    found = []
    for verdict in verdicts:
        if verdict.level == "quiet":
            continue
        holding = [item for item in acknowledgements if holds(item, verdict, now)]
        found.append(Alarm(verdict, max(holding, key=lambda item: item.at, default=None)))
    return tuple(sorted(found, key=_order))


def _order(alarm: Alarm) -> tuple[bool, int, str, str]:
    return alarm.acknowledged is not None, -SEVERITY[alarm.verdict.level], *alarm.key


def over(
    verdicts: Iterable[Verdict], acknowledgements: Iterable[Acknowledgement], now: int
) -> tuple[Acknowledgement, ...]:
    """The acknowledgements to forget: their time is over, or the watcher fell quiet, or it got worse.

    One whose watcher gave no verdict this time (too few cases, say) is kept.
    """
    current = {(v.watcher, v.group): v for v in verdicts}
    ended = []
    for item in acknowledgements:
        verdict = current.get(item.key)
        quiet = verdict is not None and verdict.level == "quiet"
        if now >= item.until or quiet or (verdict is not None and not holds(item, verdict, now)):
            ended.append(item)
    return tuple(ended)


def worst(alarms: Iterable[Alarm]) -> Level:
    """The level of the worst alarm that nobody acknowledged."""
    levels = [alarm.verdict.level for alarm in alarms if alarm.acknowledged is None]
    return max(levels, key=SEVERITY.__getitem__, default="quiet")


def exit_code(alarms: Iterable[Alarm]) -> int:
    """What `monitor status --exit-code` returns to cron."""
    return EXIT_CODES[worst(alarms)]


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
        else {"level": seen.level, "at": iso(seen.at), "until": iso(seen.until), "note": seen.note},
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if abs(value) < float("inf") else None
