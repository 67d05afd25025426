"""`npc-edge compile`: TensorRT engines of a bundle's networks, for GPUs that need not be in this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from npc_edge.export.compile import Built

_PRECISIONS = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-s8s8"}


def compile_(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to add engines to.")],
    target: Annotated[str, typer.Option(help="Compute capabilities, for example sm86,sm89.")],
    key: Annotated[Path, typer.Option(help="Private key to sign the bundle with again.")],
    runtime: Annotated[
        Literal["rtx", "tensorrt"],
        typer.Option(help="rtx builds without a GPU; tensorrt for the GPU in this machine."),
    ] = "rtx",
    precision: Annotated[
        str,
        typer.Option(help="fp16, int8, fp32 or several; default: fp16 and int8 where held."),
    ] = "",
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Go on with a bundle nobody vouches for.")
    ] = False,
    state: Annotated[Path | None, typer.Option(help="State directory, with the trusted keys.")] = None,
) -> None:
    """Build TensorRT engines and sign them into a bundle, recorded as built, not executed."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from npc_edge.engine.model.bundle import load
    from npc_edge.engine.model.runners.tensorrt_build import load_tensorrt
    from npc_edge.engine.state import State
    from npc_edge.export.compile import Wanted, Watching, compile_bundle
    from npc_edge.export.sign import public_bytes, read_key

    wanted = Wanted(_targets(target), _precisions(precision))
    signer = read_key(key)
    trt = load_tensorrt(runtime)
    loaded = load(bundle, [*State.open(state).keys(), public_bytes(signer)], allow_unsigned)
    terminal = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not terminal) as bar:
        task = bar.add_task("", total=1.0)
        watching = Watching(
            on_build=lambda file, fraction: bar.update(task, description=file, completed=fraction),
            on_built=lambda one: None if terminal else _say(one),  # the bar says it there
        )
        built = compile_bundle(loaded, wanted, trt, signer, watching)
    for one in built if terminal else ():
        _say(one)
    print(
        f"built with {trt.name} {trt.version}, signed anew; none has run: golden cases come first on its GPU"
    )


def _say(one: Built) -> None:
    line = f"{one.artefact.file}: {one.size / 1e6:.1f} MB in {one.seconds:.1f} s, built, not executed"
    print(line, flush=True)


def _targets(text: str) -> tuple[str, ...]:
    from npc_edge.engine.errors import UsageError

    names = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    if not names or not all(re.fullmatch(r"sm\d{2,3}", name) for name in names):
        raise UsageError(f"--target {text!r} names no compute capabilities", "write --target sm86,sm89")
    return names


def _precisions(text: str) -> tuple[str, ...]:
    from npc_edge.engine.errors import UsageError

    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if unknown := [word for word in words if word not in _PRECISIONS]:
        raise UsageError(f"--precision {unknown[0]} cannot be compiled", "use fp16, int8 or fp32")
    return tuple(_PRECISIONS[word] for word in words)
