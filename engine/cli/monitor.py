"""`npc-edge monitor`: what was recorded, what people say of it, and keeping it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npc_edge.engine.cli.monitor_store import StateFolder, now_ms, opened, utc
from npc_edge.engine.errors import UsageError

if TYPE_CHECKING:
    from npc_edge.calibration.store import Scanner

_DAY_MS = 86_400_000
_SHORT = 8


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    state: StateFolder = None,
) -> None:
    """How many runs, refusals and labels there are, of which scanners, and when the last run was."""
    import json

    with opened(state) as (_, store):
        counts, last, scanners, aliases = store.counts(), store.last(), store.scanners(), store.aliases()
    if as_json:
        document = {
            "runs": counts.runs,
            "results": counts.results,
            "refused": counts.refused,
            "truths": counts.truths,
            "cases_with_truth": counts.labelled,
            "last_run": None if last is None else {"at": utc(last.at), "case": last.case_key},
            "scanners": [{**vars(s), "last": utc(s.last), "alias": aliases.get(s.key, "")} for s in scanners],
        }
        print(json.dumps(document, ensure_ascii=False))
        return
    print(f"runs      {counts.runs}: {counts.results} with a result, {counts.refused} refused")
    print(f"truth     {counts.truths} labels on {counts.labelled} cases")
    if last is not None:
        print(f"last run  {utc(last.at)}, case {last.case_key}, {last.finding or ', '.join(last.reasons)}")
    for scanner in scanners:
        name = aliases.get(scanner.key) or "without a name"
        print(f"scanner   {_described(scanner)}: {name}; {scanner.runs} runs, the last {utc(scanner.last)}")


def alias(
    name: Annotated[str, typer.Argument(help="What people call the scanner; '' takes the name away.")],
    station: Annotated[
        str | None, typer.Option(help="Its StationName as in the DICOM header; hashed, never kept.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Its key, or the beginning of it, as `status` shows.")
    ] = None,
    state: StateFolder = None,
) -> None:
    """Name a scanner, so that the report can."""
    from npc_edge.engine.output.record import station_key

    if (station is None) == (key is None):
        raise UsageError("which scanner?", "give either --station or --key")
    with opened(state) as (where, store):
        known = {scanner.key for scanner in store.scanners() if scanner.key}
        wanted = key.lower() if key is not None else station_key(where.key_for, station or "")
        matching = sorted(found for found in known if wanted and found.startswith(wanted))
        if len(matching) != 1:
            raise UsageError(
                "no run came from this scanner" if not matching else "several scanners' keys begin so",
                "npc-edge monitor status lists them",
            )
        store.alias(matching[0], name.strip())
    print(f"{matching[0][:_SHORT]}: {name.strip() or 'without a name'}")


def acknowledge(
    watcher: Annotated[str, typer.Argument(help="The watcher that raised the alarm, as score.cusum.")],
    by: Annotated[str, typer.Option(help="Who has seen it.")],
    group: Annotated[str, typer.Option(help="Of which group, as vendor=ge.")] = "all",
    level: Annotated[
        Literal["watch", "act"], typer.Option(help="How bad it is now; it comes back when it gets worse.")
    ] = "watch",
    days: Annotated[float, typer.Option(min=0.01, max=366, help="For how long it is to be quiet.")] = 30,
    note: Annotated[str, typer.Option(help="What was found; never a patient's name.")] = "",
    state: StateFolder = None,
) -> None:
    """Note that an alarm was seen: it is quiet until it gets worse or its time is over."""
    from npc_edge.calibration.store import Acknowledgement

    now = now_ms()
    seen = Acknowledgement(watcher, group, level, now, now + round(days * _DAY_MS), note, by)
    with opened(state) as (_, store):
        store.acknowledge(seen)
    print(f"{watcher} of {group} is acknowledged until {utc(seen.until)}")


def forget(
    older_than: Annotated[float, typer.Option("--older-than", min=0, help="Days.")],
    state: StateFolder = None,
) -> None:
    """Delete runs older than so many days, and the labels that go with them."""
    before = now_ms() - round(older_than * _DAY_MS)
    with opened(state) as (_, store):
        gone = store.forget(before)
    print(f"{gone} runs from before {utc(before)} are deleted")


def backup(
    file: Annotated[Path, typer.Argument(help="A new file; it may be written while studies run.")],
    state: StateFolder = None,
) -> None:
    """Copy the monitor's database while it is in use. The salt is not in it."""
    with opened(state) as (_, store):
        store.backup(file)
    print(f"{file}  keep it as you keep patient data; to go on with it, the state directory's salt is needed")


def _described(scanner: Scanner) -> str:
    tesla = "" if scanner.field_strength_t is None else f" {scanner.field_strength_t:g} T"
    return f"{scanner.key[:_SHORT] or 'no station'} ({scanner.vendor}{tesla})"
