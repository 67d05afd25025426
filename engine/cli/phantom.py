"""`npc-edge phantom`: writes a synthetic study with its truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from npc_edge.engine.errors import UsageError


def phantom(
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="An empty or new folder: OUT/study and OUT/truth.")
    ] = None,
    stage: Annotated[
        Literal["none", "T1", "T2", "T3", "T4"], typer.Option(help="T category of the tumour, or none.")
    ] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Everything is drawn from it.")] = 0,
    vendor: Annotated[
        Literal["siemens", "ge", "philips", "uih"], typer.Option(help="Whose habits the files follow.")
    ] = "siemens",
    with_contrast: Annotated[
        bool, typer.Option("--with-contrast", help="Add a contrast-enhanced T1.")
    ] = False,
    fat_sat: Annotated[
        bool | None,
        typer.Option("--fat-sat/--no-fat-sat", help="Suppress fat on T2 or not; default: the seed decides."),
    ] = None,
    enhanced: Annotated[bool, typer.Option("--enhanced", help="Enhanced multi-frame MR.")] = False,
    oblique: Annotated[bool, typer.Option("--oblique", help="Tilt the slices by 8-20 degrees.")] = False,
    reversed_: Annotated[
        bool, typer.Option("--reversed", help="The same slices numbered the other way round.")
    ] = False,
    matrix: Annotated[int | None, typer.Option(help="Rows and columns; default: drawn, 256-512.")] = None,
    slices: Annotated[int | None, typer.Option(help="Slices a series; default: drawn, 24-40.")] = None,
    defect: Annotated[
        str | None, typer.Option(help="Damage the study on purpose; `list` names the ways.")
    ] = None,
) -> None:
    """Write a synthetic study: OUT/study (DICOM, marked Quality Control Subject) and OUT/truth."""
    if defect == "list":
        _list_defects()
        return
    if out is None:
        raise UsageError("no output folder given", "name a new one: npc-edge phantom OUT")
    from npc_edge.bench.phantom.study import PhantomSpec, write_phantom

    spec = PhantomSpec(
        stage=stage,
        seed=seed,
        vendor=vendor,
        with_contrast=with_contrast,
        fat_sat=fat_sat,
        enhanced=enhanced,
        oblique=oblique,
        reversed=reversed_,
        matrix=matrix,
        slices=slices,
        defect=defect,
    )
    written = write_phantom(spec, out)
    typer.echo(f"{written / 'study'}  the study\n{written / 'truth'}  its truth")


def _list_defects() -> None:
    """One defect a line: its name, what is expected of a reader, what was done."""
    from npc_edge.bench.phantom.defects import DEFECTS

    width = max(len(name) for name in DEFECTS)
    for name, defect in DEFECTS.items():
        typer.echo(f"{name:<{width}}  {defect.expected_words:<34}  {defect.what}")
