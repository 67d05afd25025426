"""`npc-edge verify`: signature, hashes, golden cases and parity of every artefact this machine can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from npc_edge.engine.model.acceptance import ArtefactResult
    from npc_edge.engine.model.bundle import Bundle
    from npc_edge.engine.site import Acceptance


def verify(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="A bundle's folder; none: the embedded bundle.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Go on with a bundle nobody vouches for.")
    ] = False,
    cases: Annotated[
        Path | None,
        typer.Option(help="A folder of cases (phantoms, or patients with masks) to judge on too."),
    ] = None,
    state: Annotated[Path | None, typer.Option(help="State directory, with the trusted keys.")] = None,
) -> int:
    """Check a bundle's signature and hashes, and run its golden cases on this machine."""
    from npc_edge.engine.cli.terminal import complain, note
    from npc_edge.engine.model import acceptance
    from npc_edge.engine.model.bundle import load
    from npc_edge.engine.model.engines import verify_engines
    from npc_edge.engine.model.runners.devices import gpu_for
    from npc_edge.engine.remembered import Remembered
    from npc_edge.engine.state import State
    from npc_edge.engine.types import Options

    opened, options = State.open(state), Options()
    loaded = load(bundle, opened.keys(), allow_unsigned)
    gpu, remembered = gpu_for(options, opened.root / "engines"), Remembered(opened.root)
    results = acceptance.verify(loaded, options, gpu) + verify_engines(loaded, remembered, gpu)
    for line in remembered.notes:
        note(line)
    site = None if cases is None else _cohort(loaded, cases)
    if as_json:
        import json

        typer.echo(json.dumps(_as_json(loaded, results, site), indent=2))
    else:
        _print(loaded, results, site)
    if failed := _harmful(results):
        return complain(
            f"{failed[0].file} does not reproduce its golden cases here on {failed[0].pair} "
            f"({failed[0].why}); do not use this bundle on this machine",
            4,
        )
    lost = [] if site is None else [one for one in site.pairs if one.allowed and not one.verdict]
    if lost:
        return complain(
            f"network {lost[0].network} on {lost[0].pair} does not hold on these cases "
            f"({'; '.join(lost[0].verdict.why)}); do not use this bundle on this machine",
            4,
        )
    return 0


def _cohort(bundle: Bundle, folder: Path) -> Acceptance:
    from npc_edge.engine.cli.terminal import note
    from npc_edge.engine.cohort import find_cases
    from npc_edge.engine.site import accept

    manifest = bundle.manifest
    role = next(s.roles[0] for s in manifest.sequences if s.name == manifest.reference_sequence)
    return accept(bundle, find_cases(folder, role), 0, note)


def _harmful(results: tuple[ArtefactResult, ...]) -> list[ArtefactResult]:
    """What failed and could be chosen; a failure the bundle does not allow is never run."""
    return [result for result in results if not result and result.allowed]


def _as_json(
    bundle: Bundle, results: tuple[ArtefactResult, ...], site: Acceptance | None = None
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "where": _where(),
        "bundle": bundle.name,
        "bundle_sha256": bundle.manifest_sha256,
        "trusted": bundle.trusted,
        "files": len(bundle.manifest.files),
        "passed": not _harmful(results),
        "artefacts": _finite([asdict(result) for result in results]),
        "parity": [
            {"file": artefact.file, **parity.model_dump()}
            for network in bundle.manifest.networks
            for artefact in network.artefacts
            for parity in artefact.parity
        ],
        "cohort": None if site is None else _finite(asdict(site)),
    }


def _where() -> dict[str, str]:
    """When and on what this was measured: what whoever files it must know."""
    from datetime import UTC, datetime

    from npc_edge.engine.gpu import find_gpus
    from npc_edge.engine.machine import cpu_model
    from npc_edge.engine.model.runners import instruction_set
    from npc_edge.engine.model.runners.devices import runtime_version
    from npc_edge.engine.model.runners.pairs import CPU_PAIRS
    from npc_edge.engine.version import VERSION

    gpus = find_gpus()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "npc-edge": VERSION,
        **{pair.backend: runtime_version(pair) for pair in sorted(CPU_PAIRS, key=str)},
        "processor": f"{cpu_model()} ({instruction_set()})",
        "gpu": f"{', '.join(gpus.names)}, CUDA {gpus.driver}" if gpus.names else "none answers",
    }


def _finite(value: Any) -> Any:
    """JSON has no infinity: an output that is missing or NaN, a distance to a mask that is empty."""
    from math import isfinite

    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _print(bundle: Bundle, results: tuple[ArtefactResult, ...], site: Acceptance | None) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    trust = "signed by a trusted key" if bundle.trusted else "NOT signed by a trusted key"
    if bundle.trusted and _is_embedded(bundle):
        trust = "the embedded bundle"
    console.print(f"{bundle.name}: {trust}; {len(bundle.manifest.files)} files match their hashes")
    console.print(f"evidence: {bundle.manifest.evidence}; sha256 {bundle.manifest_sha256}", soft_wrap=True)
    where = _where()
    told = "; ".join(f"{what} {how}" for what, how in where.items() if what != "date")
    console.print(f"measured {where['date']}; {told}", soft_wrap=True)
    table = Table(
        Column("artefact", overflow="fold"),
        Column("runs on", overflow="fold", min_width=11),
        *("cases", "largest error", "lowest Dice", "allowed"),
        Column("status", overflow="fold", min_width=7),
    )
    for result in results:
        error = max((case.max_relative_error for case in result.cases), default=None)
        dice = min((case.dice for case in result.cases), default=None)
        table.add_row(
            result.file.removeprefix("artefacts/"),
            f"{result.pair} {result.isa}".strip(),
            str(len(result.cases)),
            "" if error is None else f"{error:.1e}",
            "" if dice is None else f"{dice:.4f}",
            "yes" if result.allowed else "no",
            result.status if result.status == "passed" else f"{result.status}: {result.why}",
        )
    console.print(table)
    if not all(result.allowed for result in results):
        console.print("Not allowed: no row in the parity table for it here; never chosen.", soft_wrap=True)
    parity = Table(
        "artefact", "backend", "precision", "instruction set", "relative error", "Dice", "score shift"
    )
    for row in _as_json(bundle, ())["parity"]:
        parity.add_row(
            row["file"],
            row["backend"],
            row["precision"],
            row["isa"],
            f"{row['max_relative_error']:.1e}",
            "" if row["dice"] is None else f"{row['dice']:.4f}",
            "" if row["score_shift"] is None else f"{row['score_shift']:.3f}",
        )
    if parity.row_count:
        console.print("Parity measured when the bundle was made:")
        console.print(parity)
    if site is not None:
        _print_cohort(console, site)


def _print_cohort(console: Console, site: Acceptance) -> None:
    from npc_edge.engine.cli.verdicts import table

    if not site.pairs:
        console.print("Cases: the bundle holds nothing but its original here, there is nothing to compare.")
        return
    console.print("Whole cases, against the fp32 original:")
    rows = []
    for one in site.pairs:
        name = f"{one.network}{'' if one.allowed else ' (not allowed)'}"
        rows.append((name, str(one.pair), one.verdict))
    console.print(table(rows))
    for line in (*site.refused, *site.notes):
        console.print(line, soft_wrap=True)


def _is_embedded(bundle: Bundle) -> bool:
    from npc_edge.engine.model.embedded import EMBEDDED_SHA256

    return bundle.manifest_sha256 == EMBEDDED_SHA256
