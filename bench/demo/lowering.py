"""The demo bundle's other artefacts: fp16 and int8, held to the gate on phantoms made for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from npc_edge.bench.regression import plan, write_case
from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.export.card import with_parity
from npc_edge.export.pack import pack
from npc_edge.export.quantize import Order, lower

COHORT_FROM = 200_000
"""Seeds of the gate's phantoms: no training, validation or regression head among them."""
_CARD = "model_card.md"


def write_cohort(folder: Path, cases: int, say: Callable[[str], None]) -> Path:
    """Phantoms, about half of them with a tumour; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    planned = plan(cases - cases // 2, cases // 2, COHORT_FROM)
    for number, case in enumerate(planned, start=1):
        write_case(case, folder)
        if number % 10 == 0:
            say(f"cohort: {number} of {len(planned)} phantoms")
    return folder


def lower_all(bundle: Path, cohort: Path, threads: int, say: Callable[[str], None]) -> None:
    """fp32 on other backends, then fp16 and int8; what the gate refuses is said and left out."""
    for precision in ("fp32", "fp16", "int8"):
        try:
            lower(bundle, Order(precision, cohort, threads=threads), None, [], say)
        except BundleError as error:
            say(f"{precision}: {error.one_line()}")
    leave_out(bundle, "locator", "bf16")


def leave_out(bundle: Path, network: str, precision: str) -> None:
    """Take the rows of a network in a precision out again, though the gate let them in.

    Of the locator in bf16: where its two best voxels are equal in bf16 its point jumps by half a voxel, 4 mm,
    for 9 ms a study.
    """
    manifest = load(bundle, allow_unsigned=True).manifest
    networks = tuple(_without(one, precision) if one.name == network else one for one in manifest.networks)
    changed = manifest.model_copy(update={"networks": networks})
    with TemporaryDirectory() as scratch:
        words = Path(scratch) / _CARD
        words.write_text(
            with_parity((bundle / _CARD).read_text(encoding="utf-8"), networks), encoding="utf-8"
        )
        pack(bundle, changed.model_dump(mode="json", exclude={"files"}), None, {_CARD: words})


def _without(network: NetworkSpec, precision: str) -> NetworkSpec:
    artefacts = tuple(
        one.model_copy(update={"parity": tuple(row for row in one.parity if row.precision != precision)})
        for one in network.artefacts
    )
    return network.model_copy(update={"artefacts": artefacts})
