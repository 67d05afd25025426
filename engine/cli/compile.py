"""`npc-edge compile`: TensorRT engines of a bundle's networks, for GPUs that need not be in this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
    from npc_edge.export.compile import Wanted, compile_bundle
    from npc_edge.export.sign import public_bytes, read_key

    wanted = Wanted(_targets(target), _precisions(precision))
    signer = read_key(key)
    trt = load_tensorrt(runtime)
    loaded = load(bundle, [*State.open(state).keys(), public_bytes(signer)], allow_unsigned)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def show(file: str, fraction: float) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=1.0)
            bar.update(tasks[file], completed=fraction)

        built = compile_bundle(loaded, wanted, trt, signer, show)
    for one in built:
        print(f"{one.artefact.file}: {one.size / 1e6:.1f} MB in {one.seconds:.1f} s, built, not executed")
    print(
        f"built with {trt.name} {trt.version}, signed anew; none has run: golden cases come first on its GPU"
    )


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
