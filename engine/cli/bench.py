"""`npc-edge bench`: latency by stage, what of the machine is used, and a peer side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from npc_edge.engine.cli import options
from npc_edge.engine.cli.terminal import complain, note

SLOWER = 8
"""Exit code of a regression beyond the machine's noise."""


def bench(
    study: Annotated[
        Path | None, typer.Option(help="A study's folder; default: a phantom of 2 x (512 x 512 x 36).")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Warm runs.")] = 10,
    cold_runs: Annotated[
        int | None, typer.Option(min=1, help="New processes; default: a third as many as warm runs, 3 to 10.")
    ] = None,
    bundle: options.Bundle = None,
    backend: options.Backend = "auto",
    precision: options.Precision = "auto",
    against: Annotated[
        Literal["torch"] | None,
        typer.Option(help="The same weights through PyTorch and MONAI, side by side (extras export, monai)."),
    ] = None,
    out: Annotated[Path, typer.Option(help="FILE.json; the plot is FILE.html beside it.")] = Path(
        "npc-edge-bench.json"
    ),
    check: Annotated[
        Path | None,
        typer.Option(metavar="BASELINE.json", help="Exit code 8 when slower than it beyond the noise."),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="A phantom of 2 x (192 x 192 x 24), to try the command.")
    ] = False,
    allow_unsigned: options.AllowUnsigned = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> int:
    """Measure latency, throughput and memory on this machine; with --against torch, a peer beside it."""
    from npc_edge.bench.timing import command
    from npc_edge.bench.timing.order import Order
    from npc_edge.bench.timing.summary import summary
    from npc_edge.engine.errors import UsageError

    if study is not None and not study.exists():
        raise UsageError(f"there is no {study}", "name a study's folder")
    if out.suffix != ".json":
        raise UsageError(f"--out {out} is no FILE.json", "the plot goes beside it, as FILE.html")
    if check is not None and check.resolve() == out.resolve():
        raise UsageError("--out would overwrite the baseline", "name another file")
    baseline = None if check is None else command.read_baseline(check)
    order = Order(
        study=Path() if study is None else study.resolve(),
        runs=runs,
        cold_runs=cold_runs or min(10, max(3, runs // 3)),
        bundle=None if bundle is None else bundle.resolve(),
        backend=backend,
        precision=precision,
        allow_unsigned=allow_unsigned,
        against=against,
    )
    report = command.bench(order, small, (lambda line: None) if quiet else note)
    written = command.publish(report, out)
    print(f"{summary(report)}\n\n{written[0]}, {written[1]}")
    found = command.judged(report, baseline)
    for one in found:
        print(one.line())
    slower = [one.what for one in found if one.regressed]
    if slower:
        return complain(f"slower than {check} beyond this machine's noise: {', '.join(slower)}", SLOWER)
    return 0
