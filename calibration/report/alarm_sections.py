"""The part of the report that says how things stand: state, first steps, alarms, every watcher's power."""

from __future__ import annotations

from collections.abc import Sequence

from npc_edge.calibration.alarms import SEVERITY, Alarm, incidents, worst
from npc_edge.calibration.markup import Child, Markup, table, tag
from npc_edge.calibration.record import Verdict
from npc_edge.calibration.report import wording
from npc_edge.calibration.report.axes import number
from npc_edge.calibration.report.values import Overview

_MOST_STEPS = 3
_MOST_OTHERS = 6


def lead(overview: Overview, verdicts: Sequence[Verdict], alarms: Sequence[Alarm]) -> Markup:
    """The state in a sentence, and what it rests on."""
    level = worst(alarms)
    leads = [together[0] for together in incidents(alarms)]
    acting = [lead for lead in leads if lead.acknowledged is None and lead.verdict.level == level]
    seen = sum(lead.acknowledged is not None for lead in leads)
    words = wording.headline(level, len(acting), seen, overview.watchers)
    known = level if overview.watchers else "unknown"
    said = [alarm.verdict for alarm in acting] or [v for v in verdicts if v.watcher == "baseline"]
    why = said[0].reason if said else ""
    return tag(
        "section",
        tag("h1", words),
        tag("p", why, class_="why") if why else None,
        tag("p", _basis(overview), class_="soft"),
        class_=f"lead {known}",
    )


def _basis(overview: Overview) -> str:
    if not overview.runs:
        return "No run is recorded."
    share = overview.refused / overview.runs
    known = overview.with_truth
    return (
        f"{wording.count(overview.runs, 'run', 'runs')} from {wording.day(overview.first_at)} to"
        f" {wording.day(overview.last_at)}, {wording.percent(share)} of them refused."
        f" The truth is known of {wording.count(known, 'case', 'cases')}"
        f" ({overview.npc:,} with NPC, {overview.not_npc:,} without)."
    )


def first_steps(overview: Overview, alarms: Sequence[Alarm]) -> Markup:
    """What to check for the alarms of the worst level, every check once."""
    level, steps = worst(alarms), dict[str, None]()
    leads = [together[0] for together in incidents(alarms) if together[0].acknowledged is None]
    for lead in leads:
        if lead.verdict.level == level and lead.verdict.check_first:
            steps[lead.verdict.check_first] = None
    if steps:
        body: Child = tag("ol", [tag("li", step) for step in list(steps)[:_MOST_STEPS]])
    elif min(overview.npc, overview.not_npc) == 0:
        body = tag(
            "p",
            "Nothing has to be checked. Enter what became known of the cases (npc-edge monitor truth):"
            " without truth of both kinds nobody can say whether the probabilities hold.",
        )
    else:
        body = tag("p", "Nothing has to be checked.")
    more = len(leads) - min(len(steps), _MOST_STEPS)
    rest = tag("p", f"{more} more below.", class_="soft small") if steps and more > 0 else None
    return tag("section", tag("h2", "What to do first"), body, rest, class_="first")


def alarms(items: Sequence[Alarm], view: str | None = "") -> Markup | None:
    """One card for every incident; acknowledged ones after the others. view: as in `Overview`."""
    if not items:
        return None
    cards = [_card(together, view) for together in incidents(items)]
    note = "What is acknowledged stays quiet until it gets worse or its time is over; it stays on this page."
    return tag("section", tag("h2", "Alarms"), tag("p", note, class_="soft small"), cards)


def _card(together: Sequence[Alarm], view: str | None) -> Markup:
    first, *others = together
    verdict, seen = first.verdict, first.acknowledged
    level = verdict.level if seen is None else "seen"
    state = verdict.level if seen is None else f"{verdict.level}, acknowledged"
    more = len(others) - _MOST_OTHERS
    shown = [tag("li", _also(other)) for other in others[:_MOST_OTHERS]]
    rest = tag("li", f"and {more} more, in the table of every watcher") if more > 0 else None
    return tag(
        "article",
        tag("h3", tag("span", state, class_=f"pill {level}"), f" {verdict.reason}"),
        tag("p", tag("b", "Check first: "), verdict.check_first) if verdict.check_first else None,
        tag("p", tag("b", "What it could see: "), verdict.power, class_="small"),
        _acknowledged(first) if seen is not None else _how_to(verdict, view),
        tag("p", _source(verdict), class_="small soft"),
        [
            tag("p", "The same change was seen by:", class_="small soft"),
            tag("ul", shown, rest, class_="small soft"),
        ]
        if others
        else None,
        class_=f"alarm {level}",
    )


def _how_to(verdict: Verdict, view: str | None) -> Markup | None:
    """The command that acknowledges an alarm."""
    if view is None:
        return None
    group = "" if verdict.group == "all" else f' --group "{verdict.group}"'
    command = f'npc-edge monitor acknowledge "{verdict.watcher}"{group} --by NAME{" " + view if view else ""}'
    return tag("p", tag("b", "When it was looked at: "), tag("span", command, class_="mono"), class_="small")


def _acknowledged(alarm: Alarm) -> Markup | None:
    seen = alarm.acknowledged
    if seen is None:
        return None
    by = f"by {seen.by} " if seen.by else ""
    note = f": {seen.note}" if seen.note else ""
    words = f"{by}on {wording.day(seen.at)}, until {wording.day(seen.until)} unless it gets worse{note}"
    return tag("p", tag("b", "Acknowledged "), words, class_="small")


def _source(verdict: Verdict) -> str:
    return (
        f"{wording.watcher_name(verdict.watcher)}, {wording.group_name(verdict.group)}:"
        f" {number(verdict.statistic)} against a limit of {number(verdict.limit)},"
        f" from {wording.count(verdict.cases, 'case', 'cases')}"
    )


def _also(alarm: Alarm) -> str:
    return f"{alarm.verdict.level}: {alarm.verdict.reason}"


def artefacts(verdicts: Sequence[Verdict]) -> Markup | None:
    """What quantisation does by itself: the same cases through two artefacts, however the level."""
    said = [verdict for verdict in verdicts if verdict.watcher == "artefacts.paired" and verdict.cases > 1]
    if not said:
        return None
    words = [tag("p", verdict.reason, " ", tag("span", verdict.power, class_="soft")) for verdict in said]
    return tag("section", tag("h2", "The same cases through two artefacts"), words)


def watchers(verdicts: Sequence[Verdict], items: Sequence[Alarm]) -> Markup | None:
    """Every watcher with what it could have seen by now: a quiet one that could see little says little."""
    if not verdicts:
        return None
    seen = {alarm.key for alarm in items if alarm.acknowledged is not None}
    loud = [v for v in verdicts if v.level != "quiet"]
    loud.sort(key=lambda v: (-SEVERITY[v.level], (v.watcher, v.group) in seen))
    rows = [_loud_row(v, (v.watcher, v.group) in seen) for v in loud]
    rows += [_quiet_row(alike) for alike in _alike([v for v in verdicts if v.level == "quiet"])]
    head = ("Watcher", "Cases of", "State", "Statistic / limit", "Cases", "What it could have seen by now")
    caption = (
        "A quiet watcher proves nothing beyond what it could have seen; quiet ones of one kind share a row"
    )
    return tag("section", tag("h2", "Every watcher and its power"), table(head, rows, caption), class_="wide")


def _loud_row(verdict: Verdict, acknowledged: bool) -> list[Child]:
    state = f"{verdict.level}, acknowledged" if acknowledged else verdict.level
    return [
        wording.watcher_name(verdict.watcher),
        wording.group_name(verdict.group),
        tag("span", state, class_=f"pill {verdict.level}"),
        f"{number(verdict.statistic)} / {number(verdict.limit)}",
        f"{verdict.cases:,}",
        verdict.power,
    ]


def _alike(quiet: Sequence[Verdict]) -> list[list[Verdict]]:
    """Verdicts of one method on the same cases that could have seen the same, in the order of the first."""
    found: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in quiet:
        method = verdict.watcher.rpartition(".")[2]
        found.setdefault((method, verdict.group, verdict.power), []).append(verdict)
    return list(found.values())


def _quiet_row(alike: Sequence[Verdict]) -> list[Child]:
    first = max(alike, key=lambda v: v.statistic / v.limit if v.limit > 0 else 0.0)
    most = "at most " if len(alike) > 1 else ""
    said = first.reason if len(alike) == 1 else None
    return [
        wording.watcher_names([v.watcher for v in alike]),
        wording.group_name(first.group),
        tag("span", "quiet", class_="pill quiet"),
        f"{most}{number(first.statistic)} / {number(first.limit)}",
        f"{max(v.cases for v in alike):,}",
        [said, tag("div", first.power, class_="soft" if said else None)],
    ]
