"""Which verdicts are alarms now, which of them a person has acknowledged, and what that means for cron.

Pure functions: whoever calls them keeps the acknowledgements. An acknowledged alarm stays quiet until it gets
worse (watch becomes act), until its time is over, or until it has fallen quiet by itself: when it comes back
after that, it is a new alarm. It never leaves the report. One change is often seen by many watchers: they
make one incident, and to acknowledge one of them is enough.

Exit codes for cron, apart from those of the command line (0-7):

    quiet   0    nothing, or nothing that was not acknowledged
    watch  10    something moved: look when there is time
    act    11    look before the scores are relied on
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from npc_edge.calibration.record import Level, Verdict

EXIT_CODES: dict[Level, int] = {"quiet": 0, "watch": 10, "act": 11}
SEVERITY: dict[Level, int] = {"quiet": 0, "watch": 1, "act": 2}
DEFAULT_DAYS = 30
LONGEST_DAYS = 366
NEAR_CASES, NEAR_SHARE = 100, 0.02
"""Change points up to so many cases apart, or this share of all, are taken for one change: they are not known
better than that."""
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Acknowledgement:
    """Someone has seen an alarm. level: how bad it was then. at, until: UTC, milliseconds since 1970.

    view: with which options it was raised, "" with none. Under other options other cases are compared, and an
    alarm of the same name is another alarm: it neither keeps that quiet nor is ended by it.
    """

    watcher: str
    group: str
    level: Level
    at: int
    until: int
    note: str = ""
    by: str = ""
    view: str = ""

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


def acknowledge(
    verdict: Verdict, now: int, days: float = DEFAULT_DAYS, note: str = "", by: str = ""
) -> Acknowledgement:
    """Take note of an alarm for so many days. ValueError for a quiet verdict or days out of (0, 366]."""
    if verdict.level == "quiet":
        raise ValueError(f"{verdict.watcher} of {verdict.group} is quiet: there is nothing to acknowledge")
    if not 0 < days <= LONGEST_DAYS:
        raise ValueError(f"an acknowledgement lasts more than 0 and at most {LONGEST_DAYS} days")
    until = now + round(days * _DAY_MS)
    return Acknowledgement(verdict.watcher, verdict.group, verdict.level, now, until, note, by)


def holds(item: Acknowledgement, verdict: Verdict, now: int) -> bool:
    """True while an acknowledgement keeps this verdict quiet."""
    same = item.key == (verdict.watcher, verdict.group)
    return same and now < item.until and SEVERITY[verdict.level] <= SEVERITY[item.level]


def open_alarms(
    verdicts: Iterable[Verdict], acknowledgements: Sequence[Acknowledgement], now: int
) -> tuple[Alarm, ...]:
    """Every verdict that is not quiet: those nobody acknowledged first, the worst first among them; else in
    the order given. An acknowledgement covers whatever else saw the same change, unless that is worse."""
    found = []
    for verdict in verdicts:
        if verdict.level != "quiet":
            holding = [item for item in acknowledgements if holds(item, verdict, now)]
            found.append(Alarm(verdict, max(holding, key=lambda item: item.at, default=None)))
    return tuple(sorted(_spread(found), key=_order))


def _spread(alarms: Sequence[Alarm]) -> list[Alarm]:
    """Acknowledgements taken over to what saw the same change: first to what has a change point of its own,
    then, from any of these, to what has none."""
    direct = [alarm for alarm in alarms if alarm.acknowledged is not None]
    dated = [a if a.verdict.since is None else _covered(a, direct) for a in alarms]
    known = [alarm for alarm in dated if alarm.acknowledged is not None]
    return [_covered(alarm, known) for alarm in dated]


def _covered(alarm: Alarm, known: Sequence[Alarm]) -> Alarm:
    if alarm.acknowledged is not None:
        return alarm
    for other in known:
        seen = other.acknowledged
        if seen is None or SEVERITY[alarm.verdict.level] > SEVERITY[seen.level]:
            continue
        if same_change(alarm.verdict, other.verdict):
            return Alarm(alarm.verdict, seen)
    return alarm


def same_change(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts see one change: their change points lie close; or, where one has none, they are
    of one quantity or ask for one check."""
    if one.since is None or other.since is None:
        same = one.group == other.group and bool(_quantity(one)) and _quantity(one) == _quantity(other)
        return same or (bool(one.check_first) and one.check_first == other.check_first)
    near = max(NEAR_CASES, NEAR_SHARE * max(one.cases, other.cases))
    return abs(one.since - other.since) <= near


def _quantity(verdict: Verdict) -> str:
    """What a watcher watches: its name without the method."""
    return verdict.watcher.rpartition(".")[0]


def incidents(alarms: Iterable[Alarm]) -> tuple[tuple[Alarm, ...], ...]:
    """Alarms that saw the same change together, in the order of the first of each: what happened is one thing
    to look at, however many watchers saw it. Acknowledged ones are apart."""
    found: list[list[Alarm]] = []
    for alarm in alarms:
        home = next((together for together in found if _belongs(alarm, together)), None)
        if home is None:
            found.append([alarm])
        else:
            home.append(alarm)
    return tuple(map(tuple, found))


def _belongs(alarm: Alarm, together: Sequence[Alarm]) -> bool:
    """A change point is compared with the first one's alone, lest a chain join what lies far apart."""
    if (together[0].acknowledged is None) != (alarm.acknowledged is None):
        return False
    timeless = alarm.verdict.since is None
    return any(same_change(m.verdict, alarm.verdict) for m in (together if timeless else together[:1]))


def _order(alarm: Alarm) -> tuple[bool, int]:
    return alarm.acknowledged is not None, -SEVERITY[alarm.verdict.level]


def over(
    verdicts: Iterable[Verdict], acknowledgements: Iterable[Acknowledgement], now: int
) -> tuple[Acknowledgement, ...]:
    """The acknowledgements to forget: their time is over, or the watcher fell quiet, or it got worse. Give
    those of one view, and the verdicts under its options.

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
