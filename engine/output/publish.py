"""All files of a run, together or not at all: written beside their place, read back, then renamed into it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from npc_edge.engine.clock import Clock
from npc_edge.engine.errors import OutputError
from npc_edge.engine.output import folder, nifti, report
from npc_edge.engine.output.result import Outcome, ResultDocument, document
from npc_edge.engine.output.scribe import Drafts, ScribeLost
from npc_edge.engine.types import Watch


@dataclass(frozen=True)
class Product:
    """One file: how to write it and how to prove that what lies on disk is what was meant."""

    name: str
    write: Callable[[Path], None]
    check: Callable[[Path], None]


@dataclass(frozen=True)
class Published:
    """What lies in the output folder now; document is result.json as a value."""

    files: tuple[Path, ...]
    document: ResultDocument


def write(
    outcome: Outcome, out: Path, replace: bool, clock: Clock | None = None, drafts: Drafts | None = None
) -> Published:
    """Publish a run's files in `out`. drafts: who makes the DICOM objects meanwhile; None: made here.

    A refused study leaves result.json and report.html only. result.json comes last, so that its timings hold
    the time the others took. Raises OutputError, or Cancelled by the clock's watch between two files; then
    nothing of this run is left, and an `out` that was there before is unchanged.
    """
    began = time.monotonic()
    clock = Clock(Watch()) if clock is None else clock
    station = clock.station("output")
    # The disk takes its time over a file while it is read back and the next one is made.
    with station, folder.staged(out, replace) as stage, ThreadPoolExecutor(1, "npc-edge-sync") as disk:
        synced = []
        for product in _products(outcome, out, drafts):
            clock.watch.check()
            synced.append(_produce(product, stage, disk))
        timed = _with_output_time(outcome, (time.monotonic() - began) * 1000)
        final = document(timed)
        synced.append(_produce(_result_product(final), stage, disk))
        for one in synced:
            one.result()
        names = sorted(path.name for path in stage.iterdir())
        clock.watch.check()
    return Published(tuple(out / name for name in names), final)


def _produce(product: Product, stage: Path, disk: Executor) -> Future[None]:
    path = stage / product.name
    product.write(path)
    synced = disk.submit(folder.sync, path)
    product.check(path)
    return synced


def _products(outcome: Outcome, replaced: Path, drafts: Drafts | None) -> list[Product]:
    """Everything but result.json, in the order in which it is written."""
    page = Product("report.html", partial(report.write, outcome), partial(report.check, outcome))
    if outcome.outcome == "no-result":
        return [page]
    made = [page, *_nifti_products(outcome)]
    if outcome.writes_dicom:
        # Whole, for the scribe has a working directory of its own.
        made += _dicom_products(outcome, replaced.resolve() / folder.SR, drafts)
    return made


def _nifti_products(outcome: Outcome) -> list[Product]:
    masks = outcome.segmentation
    grid = outcome.reference_volume.geometry
    return [
        Product(
            name,
            partial(nifti.write_mask, mask=mask, geometry=grid),
            partial(nifti.check_mask, mask=mask, geometry=grid),
        )
        for name, mask in (("tumour.nii.gz", masks.tumour), ("structures.nii.gz", masks.structures))
    ]


def _dicom_products(outcome: Outcome, previous: Path, drafts: Drafts | None) -> list[Product]:
    """RTSTRUCT for a suspicious finding, SEG unless there is nothing to show, SR always.

    The two that highdicom makes are the scribe's, where there is one; RTSTRUCT is made while it is at them.
    """
    # pydicom takes a while to import: refusals and NIfTI input do not pay for it.
    from npc_edge.engine.output import rtstruct, segments, sr_content

    made = []
    if outcome.contoured:
        made.append(
            Product(folder.RTSTRUCT, partial(rtstruct.write, outcome), partial(rtstruct.check, outcome))
        )
    theirs = [(folder.SEG, segments.check)] if segments.segments(outcome) else []
    theirs.append((folder.SR, sr_content.check))
    for name, check in theirs:
        write_object = _made_by(drafts, name, outcome, previous)
        made.append(Product(name, write_object, partial(check, outcome)))
    return made


def _made_by(drafts: Drafts | None, name: str, outcome: Outcome, previous: Path) -> Callable[[Path], None]:
    """What writes an object: asked of the scribe now, or made here where there is none or it is lost."""

    def here() -> bytes:
        from npc_edge.engine.output import objects  # half a second, and tens of MB

        return objects.encoded(name, outcome, previous)

    if drafts is None:
        return lambda path: _write_bytes(path, here())
    promised = drafts.object(name, outcome, previous)

    def write_object(path: Path) -> None:
        try:
            made = drafts.wait(promised)
        except ScribeLost:
            made = here()
        _write_bytes(path, made)

    return write_object


def _result_product(meant: ResultDocument) -> Product:
    def check(path: Path) -> None:
        if ResultDocument.model_validate_json(path.read_bytes()) != meant:
            raise OutputError("result.json does not hold what was meant", "is the disk full?")

    return Product("result.json", lambda path: _write_text(path, meant.to_json()), check)


def _write_bytes(path: Path, made: bytes) -> None:
    path.write_bytes(made)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _with_output_time(outcome: Outcome, output_ms: float) -> Outcome:
    """The same outcome with `output` in its timings and `total` lengthened by it."""
    timings = dict(outcome.facts.timings_ms)
    timings["output"] = output_ms
    timings["total"] = timings.get("total", 0.0) + output_ms
    return dataclasses.replace(outcome, facts=dataclasses.replace(outcome.facts, timings_ms=timings))
