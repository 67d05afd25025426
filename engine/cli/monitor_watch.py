"""`npc-edge monitor status | report | export | acknowledge`: does the model still hold, and who looked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npc_edge.engine.cli.monitor_conclude import Choice, Conclusion, conclude, watching
from npc_edge.engine.cli.monitor_store import StateFolder, now_ms, opened, utc
from npc_edge.engine.errors import OutputError, UsageError

if TYPE_CHECKING:
    from npc_edge.calibration.store import Scanner

_SHORT = 8


@watching
def status(
    choice: Choice,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 when something moved, 11 when it is time to act.")
    ] = False,
    state: StateFolder = None,
) -> int:
    """How much is known, whether anything moved, and what to look at first."""
    import json

    from npc_edge.calibration import alarms
    from npc_edge.calibration.report.line import json_line

    with opened(state) as (_, store):
        found = conclude(store, choice, now_ms())
        counts, last, scanners, aliases = store.counts(), store.last(), store.scanners(), store.aliases()
    if as_json:
        more = {
            "runs_held": counts.runs,
            "labels": counts.truths,
            "cases_with_truth": counts.labelled,
            "last_case": None if last is None else last.case_key,
            "scanners": [
                {**vars(s), "last": utc(s.last), "alias": aliases.get(s.key or s.model_key, "")}
                for s in scanners
            ],
        }
        line = json.loads(json_line(found.content.overview, found.alarms)) | more
        print(json.dumps(line, ensure_ascii=False, allow_nan=False))
        return alarms.exit_code(found.alarms) if exit_code else 0
    print(f"runs      {counts.runs}: {counts.results} with a result, {counts.refused} refused")
    print(f"truth     {counts.truths} labels on {counts.labelled} cases")
    if last is not None:
        print(f"last run  {utc(last.at)}, case {last.case_key}, {last.finding or ', '.join(last.reasons)}")
    for scanner in scanners:
        name = aliases.get(scanner.key or scanner.model_key) or "without a name"
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


@watching
def report(
    choice: Choice,
    file: Annotated[Path, typer.Argument(help="The page to write, as monitor.html.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file if it is there.")] = False,
    state: StateFolder = None,
) -> None:
    """Write the report: one HTML file for a head of department. Keep it as you keep patient data."""
    from npc_edge.calibration.report.page import render

    if file.exists() and not replace:
        raise OutputError(f"{file} is there already", "name another file, or pass --replace")
    with opened(state) as (_, store):
        found = conclude(store, choice, now_ms())
    _write(file, render(found.content, found.verdicts, found.alarms), 0o600)
    print(file)


@watching
def export(
    choice: Choice,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Prometheus text, for a node exporter's textfile collector.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Replace this file at once; default: standard output.")
    ] = None,
    state: StateFolder = None,
) -> None:
    """Numbers about the model and the scanners for another program; no case, no key."""
    if not prometheus:
        raise UsageError("in which format?", "give --prometheus")
    from npc_edge.calibration.prometheus import exposition

    with opened(state) as (_, store):
        found = conclude(store, choice, now_ms())
    content = found.content
    text = exposition(
        content.overview, found.verdicts, found.alarms, content.headline_measures, content.groups
    )
    if out is None:
        print(text, end="")
    else:
        _write(out, text, 0o644)


@watching
def acknowledge(
    choice: Choice,
    watcher: Annotated[str, typer.Argument(help="The watcher that raised the alarm, as `status` names it.")],
    by: Annotated[str, typer.Option(help="Who has seen it.")],
    group: Annotated[str, typer.Option(help="Of which group.")] = "all",
    days: Annotated[float, typer.Option(min=0.01, max=366, help="For how long it is to be quiet.")] = 30,
    note: Annotated[str, typer.Option(help="What was found; never a patient's name.")] = "",
    state: StateFolder = None,
) -> None:
    """Note that an alarm was seen: it is quiet until it gets worse or its time is over."""
    from npc_edge.calibration import alarms

    if choice.phantoms:
        raise UsageError("alarms about phantoms are not acknowledged", "leave --phantoms out")
    now = now_ms()
    with opened(state) as (_, store):
        found = conclude(store, choice, now)
        raised = [a.verdict for a in found.alarms if (a.verdict.watcher, a.verdict.group) == (watcher, group)]
        if not raised:
            raise UsageError("there is no such alarm now", "npc-edge monitor status names them")
        seen = dataclasses.replace(alarms.acknowledge(raised[0], now, days, note, by), view=choice.view)
        store.acknowledge(seen)
    under = f", with {seen.view}" if seen.view else ""
    print(f"{watcher} of {group} is acknowledged until {utc(seen.until)}{under}")


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
    key = scanner.key[:_SHORT] or f"no station, model {scanner.model_key[:_SHORT] or 'not named'}"
    return f"{key} ({scanner.vendor}{tesla})"
