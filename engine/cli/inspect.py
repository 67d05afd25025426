"""`npc-edge inspect`: every series, what it was taken for, on what evidence, chosen or not and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from npc_edge.engine.types import Selection, Study


def inspect(
    study: Annotated[Path, typer.Argument(help="A folder (searched recursively), a DICOMDIR or a zip.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> int:
    """Show every series: what it was taken for, on what evidence, chosen or not and why."""
    from npc_edge.engine.errors import Refusal
    from npc_edge.engine.model.manifest import SequenceSpec
    from npc_edge.engine.study.read import Reader
    from npc_edge.engine.study.select import judge, select
    from npc_edge.engine.types import Selection

    wanted = (SequenceSpec(name="t1", roles=("T1",)), SequenceSpec(name="t2", roles=("T2", "T2FS")))
    refusal: Refusal | None = None
    found: Study | None = None
    selection = Selection({}, ())
    try:
        with Reader() as reader:
            found = reader.read(study)
        selection = Selection({}, judge(found))
        selection = select(found, wanted, "t1")
    except Refusal as error:
        refusal = error
    if as_json:
        reasons = [] if refusal is None else [{"code": refusal.code, "message": refusal.one_line()}]
        typer.echo(_as_json(found, selection, reasons))
    elif found is not None:
        _print_table(found, selection)
    if refusal is not None:
        raise refusal
    return 0


def _rows(study: Study, selection: Selection) -> list[dict[str, Any]]:
    """One row a series: numbers and words of ours, none of the header's free text and no UID."""
    rows = []
    for verdict in selection.verdicts:
        series = study.series[verdict.series]
        rows.append(
            {
                "series_number": series.number,
                "images": len(series.frames),
                "kind": verdict.kind,
                "role": verdict.role,
                "contrast": verdict.contrast,
                "fat_suppression": verdict.fat_suppression,
                "plane": verdict.plane,
                "confidence": verdict.confidence,
                "chosen": verdict.chosen,
                "why": verdict.why,
                "evidence": list(verdict.evidence),
                "warnings": list(verdict.warnings),
            }
        )
    return rows


def _as_json(study: Study | None, selection: Selection, reasons: list[dict[str, str]]) -> str:
    import json

    series = [] if study is None else _rows(study, selection)
    skipped = {} if study is None else dict(study.skipped)
    document = {"series": series, "skipped": skipped, "reasons": reasons}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _print_table(study: Study, selection: Selection) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="bold", expand=False)
    for column in ("Se", "images", "taken for", "verdict and evidence"):
        table.add_column(column, overflow="fold")
    for row in _rows(study, selection):
        role = f"{row['role']} ({row['kind']})" if row["role"] not in (None, row["kind"]) else row["kind"]
        states = [f"{row['plane']}, confidence {row['confidence']:.2f}"]
        if row["role"] is not None or row["contrast"] != "unknown":
            states += [f"contrast: {row['contrast']}", f"fat suppression: {row['fat_suppression']}"]
        notes = [row["why"], *(f"· {e}" for e in row["evidence"]), *(f"! {w}" for w in row["warnings"])]
        table.add_row(
            "?" if row["series_number"] is None else str(row["series_number"]),
            str(row["images"]),
            escape("\n".join([role, *states])),
            escape("\n".join(notes)),
            style="bold green" if row["chosen"] else None,
            end_section=True,
        )
    console = Console()
    console.print(table)
    for why, count in sorted(study.skipped.items()):
        console.print(f"left aside: {count} × {escape(why)}", highlight=False)
    for code, message in study.problems:
        console.print(f"{code}: {escape(message)}", style="bold red", highlight=False)
