"""`npc-edge monitor alias | forget | backup`: names of scanners, and keeping the records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npc_edge.engine.cli.monitor_store import StateFolder, now_ms, opened, utc
from npc_edge.engine.errors import UsageError

_DAY_MS = 86_400_000
_SHORT = 8


def alias(
    name: Annotated[str, typer.Argument(help="What people call the scanner; '' takes the name away.")],
    station: Annotated[
        str | None, typer.Option(help="Its StationName as in the DICOM header; hashed, never kept.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Or its ManufacturerModelName, for headers without a StationName; hashed too."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Or the key of either, or the beginning of it, as `status` shows.")
    ] = None,
    state: StateFolder = None,
) -> None:
    """Name a scanner, so that the report can."""
    from npc_edge.engine.output.record import model_key, station_key

    if sum(given is not None for given in (station, model, key)) != 1:
        raise UsageError("which scanner?", "give one of --station, --model and --key")
    with opened(state) as (where, store):
        known = {k for scanner in store.scanners() for k in (scanner.key, scanner.model_key) if k}
        if key is not None:
            wanted = key.lower()
        elif station is not None:
            wanted = station_key(where.key_for, station)
        else:
            wanted = model_key(where.key_for, model or "")
        matching = sorted(found for found in known if wanted and found.startswith(wanted))
        if len(matching) != 1:
            raise UsageError(
                "no run came from this scanner" if not matching else "several scanners' keys begin so",
                "npc-edge monitor status lists them",
            )
        store.alias(matching[0], name.strip())
    print(f"{matching[0][:_SHORT]}: {name.strip() or 'without a name'}")


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
