"""`npc-edge monitor status | report | export | acknowledge`: does the model still hold, and who looked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npc_edge.engine.cli.monitor_store import StateFolder, now_ms, opened, utc
from npc_edge.engine.errors import OutputError, UsageError

if TYPE_CHECKING:
    from npc_edge.calibration.alarms import Alarm
    from npc_edge.calibration.record import CaseRecord, Verdict
    from npc_edge.calibration.report.values import Content
    from npc_edge.calibration.store import Scanner, Store
    from npc_edge.calibration.watch import Settings

Phantoms = Annotated[
    bool, typer.Option("--phantoms", help="Look at runs of phantoms instead of patients: never together.")
]
Rate = Annotated[
    float,
    typer.Option(help="The chance of a false alarm within 1,000 cases; the limits follow from it."),
]
Baseline = Annotated[int, typer.Option(help="How many of the first cases say what is normal.")]
Since = Annotated[
    str | None, typer.Option(help="YYYY-MM-DD: leave out older runs, as after a change meant to stay.")
]
_SHORT = 8


@dataclass(frozen=True)
class Choice:
    """What an operator decides about the watchers."""

    phantoms: bool
    rate: float
    baseline: int
    since: str | None


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What is concluded of a store at a moment. verdicts: all; alarms: those that are not quiet."""

    content: Content
    verdicts: tuple[Verdict, ...]
    alarms: tuple[Alarm, ...]


def conclude(store: Store, choice: Choice, now: int) -> Conclusion:
    """Watch all runs of patients (or of phantoms), and end the acknowledgements that hold no longer."""
    from npc_edge.calibration.alarms import open_alarms, over
    from npc_edge.calibration.report.gather import content_of
    from npc_edge.calibration.watch import watched

    records = [r for r in store.records() if r.quality_control == choice.phantoms]
    settings = _settings(records, choice)
    found = watched(records, store.truths(), settings, store.aliases())
    # Acknowledgements are of alarms about patients; phantoms have none.
    seen = () if choice.phantoms else store.acknowledgements()
    ended = over(found.verdicts, seen, now)
    if ended:
        store.end(ended, now)
    alarms = open_alarms(found.verdicts, [item for item in seen if item not in ended], now)
    content = content_of(records, found, settings, now)
    overview = dataclasses.replace(content.overview, recorded=store.counts().recorded)
    return Conclusion(dataclasses.replace(content, overview=overview), found.verdicts, alarms)


def _settings(records: list[CaseRecord], choice: Choice) -> Settings:
    """The operator's choice, and the operating point the newest result was judged by."""
    from datetime import UTC, datetime

    from npc_edge.calibration.watch import Settings

    start = 0
    if choice.since is not None:
        try:
            start = round(datetime.fromisoformat(choice.since).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            raise UsageError("--since is YYYY-MM-DD") from None
    point = next((r.operating_point for r in reversed(records) if r.operating_point), {})
    usual = Settings()
    try:
        return Settings(
            false_alarm_rate=choice.rate,
            watch_rate=max(usual.watch_rate, min(0.99, 2 * choice.rate)),
            baseline=choice.baseline,
            start=start,
            threshold=point.get("threshold", usual.threshold),
            sensitivity=point.get("sensitivity"),
            specificity=point.get("specificity"),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 when something moved, 11 when it is time to act.")
    ] = False,
    phantoms: Phantoms = False,
    false_alarm_rate: Rate = 0.05,
    baseline: Baseline = 250,
    since: Since = None,
    state: StateFolder = None,
) -> int:
    """How much is known, whether anything moved, and what to look at first."""
    import json

    from npc_edge.calibration import alarms
    from npc_edge.calibration.report.line import json_line

    with opened(state) as (_, store):
        found = conclude(store, Choice(phantoms, false_alarm_rate, baseline, since), now_ms())
        counts, last, scanners, aliases = store.counts(), store.last(), store.scanners(), store.aliases()
    if as_json:
        more = {
            "runs_held": counts.runs,
            "labels": counts.truths,
            "cases_with_truth": counts.labelled,
            "last_case": None if last is None else last.case_key,
            "scanners": [{**vars(s), "last": utc(s.last), "alias": aliases.get(s.key, "")} for s in scanners],
        }
        line = json.loads(json_line(found.content.overview, found.alarms)) | more
        print(json.dumps(line, ensure_ascii=False, allow_nan=False))
        return alarms.exit_code(found.alarms) if exit_code else 0
    print(f"runs      {counts.runs}: {counts.results} with a result, {counts.refused} refused")
    print(f"truth     {counts.truths} labels on {counts.labelled} cases")
    if last is not None:
        print(f"last run  {utc(last.at)}, case {last.case_key}, {last.finding or ', '.join(last.reasons)}")
    for scanner in scanners:
        name = aliases.get(scanner.key) or "without a name"
        print(f"scanner   {_described(scanner)}: {name}; {scanner.runs} runs, the last {utc(scanner.last)}")
    _print_alarms(found)
    return alarms.exit_code(found.alarms) if exit_code else 0


def _print_alarms(found: Conclusion) -> None:
    """The level, then one alarm of every incident: what was seen, and what to check first."""
    from npc_edge.calibration.alarms import incidents, worst

    print(f"level     {worst(found.alarms)}")
    for together in incidents(found.alarms):
        alarm = together[0]
        verdict, seen = alarm.verdict, alarm.acknowledged
        others = f" (and {len(together) - 1} more saw it)" if len(together) > 1 else ""
        known = f" Acknowledged by {seen.by or 'someone'} until {utc(seen.until)}." if seen else ""
        print(f"{verdict.level:<9} {verdict.watcher} of {verdict.group}{others}: {verdict.reason}{known}")
        if verdict.check_first and seen is None:
            print(f"          check first: {verdict.check_first}")
    if not found.alarms:
        for verdict in found.verdicts[:1]:
            print(f"          {verdict.reason} {verdict.power}".rstrip())


def report(
    file: Annotated[Path, typer.Argument(help="The page to write, as monitor.html.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file if it is there.")] = False,
    phantoms: Phantoms = False,
    false_alarm_rate: Rate = 0.05,
    baseline: Baseline = 250,
    since: Since = None,
    state: StateFolder = None,
) -> None:
    """Write the report: one HTML file for a head of department. Keep it as you keep patient data."""
    from npc_edge.calibration.report.page import render

    if file.exists() and not replace:
        raise OutputError(f"{file} is there already", "name another file, or pass --replace")
    with opened(state) as (_, store):
        found = conclude(store, Choice(phantoms, false_alarm_rate, baseline, since), now_ms())
    _write(file, render(found.content, found.verdicts, found.alarms), 0o600)
    print(file)


def export(
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Prometheus text, for a node exporter's textfile collector.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Replace this file at once; default: standard output.")
    ] = None,
    phantoms: Phantoms = False,
    false_alarm_rate: Rate = 0.05,
    baseline: Baseline = 250,
    since: Since = None,
    state: StateFolder = None,
) -> None:
    """Numbers about the model and the scanners for another program; no case, no key."""
    if not prometheus:
        raise UsageError("in which format?", "give --prometheus")
    from npc_edge.calibration.prometheus import exposition

    with opened(state) as (_, store):
        found = conclude(store, Choice(phantoms, false_alarm_rate, baseline, since), now_ms())
    content = found.content
    text = exposition(
        content.overview, found.verdicts, found.alarms, content.headline_measures, content.groups
    )
    if out is None:
        print(text, end="")
    else:
        _write(out, text, 0o644)


def acknowledge(
    watcher: Annotated[str, typer.Argument(help="The watcher that raised the alarm, as `status` names it.")],
    by: Annotated[str, typer.Option(help="Who has seen it.")],
    group: Annotated[str, typer.Option(help="Of which group.")] = "all",
    days: Annotated[float, typer.Option(min=0.01, max=366, help="For how long it is to be quiet.")] = 30,
    note: Annotated[str, typer.Option(help="What was found; never a patient's name.")] = "",
    false_alarm_rate: Rate = 0.05,
    baseline: Baseline = 250,
    since: Since = None,
    state: StateFolder = None,
) -> None:
    """Note that an alarm was seen: it is quiet until it gets worse or its time is over."""
    from npc_edge.calibration import alarms

    now = now_ms()
    with opened(state) as (_, store):
        found = conclude(store, Choice(False, false_alarm_rate, baseline, since), now)
        raised = [a.verdict for a in found.alarms if (a.verdict.watcher, a.verdict.group) == (watcher, group)]
        if not raised:
            raise UsageError("there is no such alarm now", "npc-edge monitor status names them")
        seen = alarms.acknowledge(raised[0], now, days, note, by)
        store.acknowledge(seen)
    print(f"{watcher} of {group} is acknowledged until {utc(seen.until)}")


def _write(file: Path, text: str, mode: int) -> None:
    """The file appears whole, in the place of an older one."""
    import os
    import secrets

    staged = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        try:
            with os.fdopen(os.open(staged, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as handle:
                handle.write(text.encode())
                handle.flush()
                os.fsync(handle.fileno())
            staged.replace(file)
        finally:
            staged.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror}", "name another file") from error


def _described(scanner: Scanner) -> str:
    tesla = "" if scanner.field_strength_t is None else f" {scanner.field_strength_t:g} T"
    return f"{scanner.key[:_SHORT] or 'no station'} ({scanner.vendor}{tesla})"
