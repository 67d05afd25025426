"""`npc-edge quantize`: artefacts of lower precision join a bundle, each behind its gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from npc_edge.export.quantize import Lowered


def quantize(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder; it is replaced.")],
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="fp32 adds no file: it holds the original on other backends to the gate."),
    ],
    cases: Annotated[Path, typer.Option(help="A folder of cases: phantoms, or patients with their masks.")],
    key: Annotated[Path | None, typer.Option(help="Private key to sign with, from npc-edge keygen.")] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Leave the bundle unsigned.")] = False,
    calibration: Annotated[int, typer.Option(min=1, help="Cases int8 is calibrated on.")] = 20,
    only_rows: Annotated[
        bool, typer.Option("--only-rows", help="Make no file: measure what has no row of this machine yet.")
    ] = False,
    category_changes: Annotated[
        int, typer.Option(min=0, help="Cases whose T category may change under the gate.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=0, help="0: all cores.")] = 0,
    state: Annotated[Path | None, typer.Option(help="State directory, with the trusted keys.")] = None,
) -> int:
    """Add fp16 or int8 artefacts to a bundle: calibrated, searched, and held against the original."""
    from npc_edge.engine.cli.terminal import note
    from npc_edge.engine.errors import BackendError, UsageError
    from npc_edge.engine.model.parity import Limits
    from npc_edge.engine.state import State

    if (key is None) != unsigned:
        raise UsageError("say either --key KEY or --unsigned", "npc-edge keygen makes a key")
    try:
        from npc_edge.export.quantize import Order, lower
        from npc_edge.export.sign import public_bytes, read_key
    except ImportError as error:
        raise BackendError(f"{error.name} is not installed", "pip install npc-edge[export]") from error

    private = None if key is None else read_key(key)
    keys = [*State.open(state).keys(), *([] if private is None else [public_bytes(private)])]
    order = Order(
        precision, cases, Limits(category_changes=category_changes), calibration, threads, only_rows
    )
    _print(lower(bundle, order, private, keys, note))
    return 0


def _print(lowered: Lowered) -> None:
    from rich.console import Console

    from npc_edge.engine.cli.verdicts import table

    rows = [(p.artefact, f"{p.backend} {p.precision} {p.isa}", p.verdict) for p in lowered.pairs]
    Console().print(table(rows))
    for pair in lowered.pairs:
        if pair.diverged:
            print(f"{pair.artefact} diverged first at {pair.diverged}")
    print("in the bundle now: " + (", ".join(lowered.added) or "nothing new"))
