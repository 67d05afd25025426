"""The demo bundle's other artefacts: fp16 and int8, held to the gate on phantoms made for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from npc_edge.bench.regression import plan, write_case
from npc_edge.engine.errors import BundleError
from npc_edge.export.quantize import Order, lower

COHORT_FROM = 200_000
"""Seeds of the gate's phantoms: no training, validation or regression head among them."""


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
