"""`npc-edge monitor truth`: what became known of a case. Accession numbers are hashed, never printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npc_edge.engine.cli.monitor_store import StateFolder, now_ms, opened
from npc_edge.engine.errors import UsageError

if TYPE_CHECKING:
    from npc_edge.calibration.labels import Find
    from npc_edge.calibration.store import Store
    from npc_edge.engine.state import State


def truth(
    case: Annotated[str | None, typer.Option(help="The study's key in result.json.")] = None,
    accession: Annotated[
        str | None, typer.Option(help="Or its accession number; other users of this machine may see it here.")
    ] = None,
    source: Annotated[Literal["biopsy", "radiologist"] | None, typer.Option(help="Who says so.")] = None,
    date: Annotated[str | None, typer.Option(help="Of the finding, YYYY-MM-DD.")] = None,
    npc: Annotated[bool | None, typer.Option("--npc/--no-npc", help="Is it NPC?")] = None,
    t_category: Annotated[Literal["T1", "T2", "T3", "T4"] | None, typer.Option()] = None,
    edition: Annotated[Literal["ajcc8", "ajcc9"], typer.Option(help="Of the T category.")] = "ajcc8",
    criterion: Annotated[
        list[str] | None,
        typer.Option(help="STRUCTURE=yes|no or STRUCTURE.SIDE=yes|no, as clivus=yes; several are fine."),
    ] = None,
    review: Annotated[
        Literal["accept", "reject", "corrected"] | None, typer.Option(help="What was done with the mask.")
    ] = None,
    dice: Annotated[float | None, typer.Option(help="Of the corrected mask against the engine's.")] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Or a table of labels: docs/monitor.md has its columns.")
    ] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out a table's rows of studies never run here.")
    ] = False,
    state: StateFolder = None,
) -> None:
    """Tell the monitor what became known: one case, or a table. All of a table is taken, or nothing."""
    if csv is not None:
        single = (case, accession, source, date, npc, t_category, criterion, review, dice)
        if any(value is not None for value in single):
            raise UsageError("a table says everything itself", "give --csv alone, with --skip-unknown or not")
        _table(csv, skip_unknown, state)
        return
    if source is None or date is None:
        raise UsageError("who says so, and when?", "give --source and --date")
    from npc_edge.calibration.labels import criteria_of
    from npc_edge.calibration.record import Truth
    from npc_edge.calibration.truth import fault

    try:
        criteria = criteria_of(criterion or [], structures())
    except ValueError as error:
        raise UsageError(str(error), "docs/staging.md names the structures") from error
    said = Truth("", now_ms(), source, date, npc, t_category, edition, criteria, review, dice)
    if why := fault(said):
        raise UsageError(why)
    with opened(state) as (where, store):
        key = _only(_finder(where, store)(accession or "", (case or "").lower()), case, accession)
        store.add_truth(Truth(key, *tuple(vars(said).values())[1:]))
    print(f"kept, for case {key}")


def structures() -> frozenset[str]:
    """Every structure a criterion may name, without sides."""
    from npc_edge.engine.findings.rules import load_rules

    rules = load_rules()
    named = {rule.structure for rule in rules.structures} | {rule.structure for rule in rules.surfaces}
    return frozenset(named | {rules.cranial_nerves.structure})


def _only(cases: tuple[str, ...], case: str | None, accession: str | None) -> str:
    if bool(case) == bool(accession):
        raise UsageError("which case?", "give either --case or --accession")
    if not cases:
        raise UsageError("no run is known of this study", "npc-edge monitor status shows the last case")
    if len(cases) > 1:
        raise UsageError("several studies have this accession number", "give --case")
    return cases[0]


def _table(path: Path, skip_unknown: bool, folder: Path | None) -> None:
    """Read all rows, keep those that say something new."""
    from npc_edge.calibration.labels import LabelFault, read_labels

    text = _text(path)
    with opened(folder) as (where, store):
        try:
            found = read_labels(text, _finder(where, store), structures(), now_ms(), skip_unknown)
        except LabelFault as error:
            raise UsageError(
                f"nothing was kept; {error.one_line()}", "the columns: docs/monitor.md"
            ) from error
        known = {_content(truth) for truth in store.truths(current=False)}
        fresh = [truth for truth in found.truths if _content(truth) not in known]
        store.add_truths(fresh)
    print(
        f"{len(fresh)} labels kept; {len(found.truths) - len(fresh)} were known already, "
        f"{found.unknown} are of studies never run here"
    )


def _content(truth: object) -> str:
    """A label without the moment it was entered: the same table given twice says nothing new."""
    return repr({name: value for name, value in vars(truth).items() if name != "at"})


def _finder(state: State, store: Store) -> Find:
    from npc_edge.engine.output.record import accession_key

    def find(accession: str, case: str) -> tuple[str, ...]:
        if case:
            return (case,) if store.holds(case) else ()
        return store.cases(accession_key(state.key_for, accession))

    return find


def _text(path: Path) -> str:
    """The table as text: UTF-8, with or without Excel's mark in front."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8", 'save it as "CSV UTF-8"') from error
