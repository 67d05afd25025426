"""`npc-edge quantize`: artefacts of lower precision join a bundle: calibrated, searched, held to the gate.

Only the network that decides is quantized: a locator is small, and where it points moves everything after it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import ModelProto

from npc_edge.engine.cohort import Case, find_cases
from npc_edge.engine.errors import BundleError, OutputError
from npc_edge.engine.model.acceptance import golden_cases
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.manifest import Artefact, NetworkSpec
from npc_edge.engine.model.parity import Limits
from npc_edge.engine.model.runner import Arrays
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.pairs import Pair, measured_sets, missing_here
from npc_edge.export import card, parity_report
from npc_edge.export.gate import Asked, explained, gate, pairs_of, row_of
from npc_edge.export.half import to_half
from npc_edge.export.observe import Range, observe
from npc_edge.export.pack import pack, reason, replace
from npc_edge.export.parity_report import Tried
from npc_edge.export.passes import Applied, rewrite
from npc_edge.export.qdq import FLAVOURS, Flavour, activations, quantizable, quantize
from npc_edge.export.recalibrate import calibrators
from npc_edge.export.record import record
from npc_edge.export.search import search
from npc_edge.export.staged_norms import LOWERED
from npc_edge.export.task_loss import Task, answers

Say = Callable[[str], None]
Wanted = Literal["fp32", "fp16", "int8"]

_STRICTER = (1.0, 0.5, 0.25)
"""When the gate refuses, the search is asked for less loss."""
_JUDGED = 8
_EXAMPLES = 2


@dataclass(frozen=True)
class Order:
    """precision "fp32" makes no file: it holds the original on other backends to the gate. calibration: cases
    whose inputs int8 is calibrated and searched on. threads 0: all cores. only_rows: no file is made of the
    others either; those that are there are held to the gate in every pair that has no row of this instruction
    set: one that this version knows and the one that made them did not, or any on another machine."""

    precision: Wanted
    cases: Path
    limits: Limits = field(default_factory=Limits)
    calibration: int = 20
    threads: int = 0
    only_rows: bool = False

    @property
    def makes(self) -> bool:
        """Whether it makes files, or measures those that are there."""
        return self.precision != "fp32" and not self.only_rows

    @property
    def files(self) -> tuple[str, ...]:
        """The precisions of its files, as a manifest calls them."""
        return FLAVOURS if self.precision == "int8" else (self.precision,)


@dataclass(frozen=True, eq=False)
class Work:
    """What every step of an order needs: the original, its rewritten graph, and what it was fed."""

    bundle: Bundle
    network: NetworkSpec
    model: ModelProto
    inputs: Sequence[Arrays]
    folder: Path
    order: Order
    cases: Sequence[Case]
    say: Say


@dataclass(frozen=True)
class Measured:
    """What an order was measured on: so many cases, and the names of those whose inputs made the artefact."""

    order: Order
    cases: int
    fed: frozenset[str]


@dataclass(frozen=True)
class Lowered:
    """A bundle after an order. pairs: everything that was tried; passes: what the rewrites did."""

    pairs: tuple[Tried, ...]
    added: tuple[str, ...]
    passes: tuple[Applied, ...]


def lower(
    root: Path, order: Order, key: Ed25519PrivateKey | None, keys: Sequence[bytes], say: Say
) -> Lowered:
    """Add the artefacts of an order to the bundle at `root`, signed with `key` (None: unsigned).

    keys: trusted public keys; with key None an unsigned bundle is taken too. What fails the gate is left out.
    The bundle is replaced whole, or not at all. Raises BundleError when nothing passed, but of the original
    on other backends, or there is no row to add, OutputError, UsageError.
    """
    bundle = load(root, keys, allow_unsigned=key is None)
    if order.only_rows and not any(_to_hold(bundle, network, order) for network in bundle.manifest.networks):
        raise BundleError(
            f"no {order.precision} file of {bundle.name} waits for a row of this machine", "it is as it was"
        )
    role = next(s.roles[0] for s in bundle.manifest.sequences if s.name == bundle.manifest.reference_sequence)
    cases = find_cases(order.cases, role)
    pairs: list[Tried] = []
    passes: list[Applied] = []
    try:
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.absolute().parent) as scratch:
            copy = Path(scratch) / "bundle"
            shutil.copytree(root, copy)
            fed = _spread(cases, order.calibration if order.makes else _EXAMPLES)
            recorded = record(bundle, fed, order.threads, say)
            for network in bundle.manifest.networks:
                inputs = recorded[network.name]
                original = onnx.load(str(bundle.artefact(network.name, "fp32")))
                if not order.makes:
                    pairs += _held(Work(bundle, network, original, inputs, copy, order, cases, say))
                elif not network.locates:  # which is small: it stays as it is
                    model, applied = rewrite(original, LOWERED, inputs[0])
                    _say_passes(applied, say)
                    pairs += _lowered(Work(bundle, network, model, inputs, copy, order, cases, say))
                    passes += applied
            measured = Measured(order, len(cases), frozenset(case.name for case in fed))
            added = _write(copy, bundle, measured, pairs, key)
            replace(copy, root)
            for name in sorted(_outdated(bundle, order, added)):
                say(f"{name}: left out, it was built from the file that is now another")
    except OSError as error:
        raise OutputError(f"the bundle cannot be written: {reason(error)}") from error
    return Lowered(tuple(pairs), added, tuple(passes))


def _say_passes(applied: Sequence[Applied], say: Say) -> None:
    for one in applied:
        if (one.nodes_before, one.error) != (one.nodes_after, 0.0):
            say(
                f"rewrite {one.name}: {one.nodes_before} → {one.nodes_after} nodes, {one.ms_before:.1f} → "
                f"{one.ms_after:.1f} ms; outputs differ by {one.error:.0e}"
            )


def _spread(cases: Sequence[Case], count: int) -> Sequence[Case]:
    """So many cases, evenly over all."""
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(count, len(cases))).astype(int))
    return [cases[i] for i in chosen]


# --- making ---


def _to_hold(bundle: Bundle, network: NetworkSpec, order: Order) -> tuple[Asked, ...]:
    """The pairs of files that are there; of an order for rows alone, those this machine could add one for."""
    found: list[Asked] = []
    for precision in order.files:
        held = bundle.find(network.name, precision)
        if held is not None:
            asked = pairs_of(network.name, held, bundle.file(held.file))
            found += [one for one in asked if not order.only_rows or _lacks_row(one)]
    return tuple(found)


def _lacks_row(asked: Asked) -> bool:
    """True where the pair runs on this machine and no row says so."""
    held, isa = asked.artefact, instruction_set()
    pair = Pair(held.precision, asked.backend, asked.precision)
    return isa not in measured_sets(held, pair) and not missing_here(pair, isa)


def _held(work: Work) -> tuple[Tried, ...]:
    """Files that are there, on what has not run them: the original on every other backend."""
    asked = _to_hold(work.bundle, work.network, work.order)
    return (
        _gated(work, asked, {one.artefact.file: onnx.load(str(one.path)) for one in asked}) if asked else ()
    )


def _lowered(work: Work) -> tuple[Tried, ...]:
    if work.order.precision == "fp16":
        half, islands = to_half(work.model, work.inputs[:_EXAMPLES])
        work.say(f"fp16: {islands.half} nodes, {len(islands.nodes)} stay in fp32 ({islands.error:.1e})")
        return _gated(work, _asked(work, "fp16", half), {_name(work, "fp16"): half})
    layers = quantizable(work.model)
    if not layers:
        raise BundleError(
            f"network {work.network.name} has no layer that int8 is for", "try --precision fp16"
        )
    work.say(f"calibrating {len(layers)} layers on {len(work.inputs)} windows")
    # Of the golden cases too: they judge the artefact on every machine it comes to.
    golden = [case.inputs for case in golden_cases(work.bundle, work.network.name)]
    ranges = observe(work.model, activations(work.model), [*work.inputs, *golden])
    task = Task(
        work.network.outputs,
        work.bundle.manifest.tumour.threshold,
        answers(work.model, work.inputs[:: max(1, len(work.inputs) // _JUDGED)][:_JUDGED]),
    )
    tried: list[Tried] = []
    for flavour in FLAVOURS:
        for strict in _STRICTER:
            kept = _searched(work, flavour, ranges, task, strict)
            if len(kept) == len(layers):
                work.say(f"{flavour}: left out, no layer can be int8 without harm to the task")
                break
            model = quantize(work.model, ranges, flavour, kept)
            pairs = _gated(work, _asked(work, flavour, model), {_name(work, flavour): model})
            if all(pair.verdict for pair in pairs) or strict == _STRICTER[-1]:
                tried += pairs
                break
    return tuple(tried)


def _searched(
    work: Work, flavour: Flavour, ranges: Mapping[str, Range], task: Task, strict: float
) -> frozenset[str]:
    """The layers that must stay in float for the task to lose no more than `strict` of what is allowed."""
    layers = quantizable(work.model)

    def build(keep: frozenset[str]) -> ModelProto:
        return work.model if len(keep) == len(layers) else quantize(work.model, ranges, flavour, keep)

    found = search(layers, build, lambda model: task.judge(model, strict))
    work.say(
        f"{flavour}: {len(found.reverted)} of {len(layers)} layers stay in float "
        f"({len(found.history)} judgements)"
    )
    return frozenset(found.reverted)


def _name(work: Work, precision: str) -> str:
    return f"artefacts/{work.network.name}.{precision}.onnx"


def _asked(work: Work, precision: str, model: ModelProto) -> tuple[Asked, ...]:
    """Write the file into the copy; what is to be tried of it."""
    name = _name(work, precision)
    onnx.save(model, str(work.folder / name))
    artefact = Artefact.model_validate({"precision": precision, "file": name})
    return pairs_of(work.network.name, artefact, work.folder / name)


def _gated(work: Work, asked: Sequence[Asked], models: Mapping[str, ModelProto]) -> tuple[Tried, ...]:
    order = work.order
    pairs, _ = gate(work.bundle, asked, work.cases, order.limits, order.threads, work.say)
    return tuple(
        pair
        if pair.verdict
        else explained(pair, work.model, models[pair.artefact], work.inputs, order.threads)
        for pair in pairs
    )


# --- writing ---


def _write(
    copy: Path,
    bundle: Bundle,
    measured: Measured,
    pairs: Sequence[Tried],
    key: Ed25519PrivateKey | None,
) -> tuple[str, ...]:
    """Manifest, report and signature of the copy; the artefacts that passed anywhere stay, the others go.

    Returns the files that passed.
    """
    order = measured.order
    passed = {pair.artefact for pair in pairs if pair.verdict}
    outdated, gone = _outdated(bundle, order, passed), set[str]()
    for name in outdated:
        (copy / name).unlink()
    if not passed and (order.makes or order.only_rows):
        why = "; ".join(pairs[0].verdict.why) if pairs else "no layer can do with less precision"
        why += f"; it diverged first at {pairs[0].diverged}" if pairs and pairs[0].diverged else ""
        raise BundleError(f"no {order.precision} artefact is within the gate: {why}")
    if order.makes:  # a file that was there before stays, whatever ran it
        gone = {pair.artefact for pair in pairs} - passed
        for name in gone:
            (copy / name).unlink()
    manifest = bundle.manifest
    fitted = dict(manifest.calibrators)
    if order.makes or order.precision == "fp32":  # else: which cases were those files made with?
        fitted |= calibrators(bundle, pairs, measured.fed)
    changed = manifest.model_copy(
        update={
            "networks": tuple(_network(n, pairs, outdated, order.makes) for n in manifest.networks),
            "calibrators": {file: one for file, one in fitted.items() if file not in gone},
        }
    )
    added = f".{instruction_set()}" if order.only_rows else ""  # beside the report of the rows that are there
    report = copy / "parity" / f"{order.precision}{added}.html"
    report.parent.mkdir(exist_ok=True)
    told = f"Measured on {measured.cases} cases, against the fp32 original on ONNX Runtime."
    lines = [f"{bundle.name}.", told]
    report.write_text(parity_report.html(f"Parity: {order.precision}", lines, pairs), encoding="utf-8")
    words = copy / "model_card.md"
    if words.is_file():
        fresh = card.with_parity(words.read_text(encoding="utf-8"), changed.networks)
        words.write_text(fresh, encoding="utf-8")
    pack(copy, changed.model_dump(mode="json", exclude={"files"}), key)
    return tuple(sorted(passed))


def _outdated(bundle: Bundle, order: Order, passed: Collection[str]) -> frozenset[str]:
    """Engines that were built from a file which is now another."""
    if not order.makes:
        return frozenset()
    return frozenset(
        artefact.file
        for network in bundle.manifest.networks
        for artefact in network.artefacts
        if artefact.format == "engine" and f"artefacts/{network.name}.{artefact.precision}.onnx" in passed
    )


def _network(
    network: NetworkSpec, pairs: Sequence[Tried], outdated: Collection[str], made: bool
) -> NetworkSpec:
    """The network with its artefacts that passed and the rows they passed with. Of before, a file that was
    made anew keeps no row, and one that is as it was none of a pair that was tried now."""
    held = {artefact.file: artefact for artefact in network.artefacts if artefact.file not in outdated}
    mine = [pair for pair in pairs if pair.network == network.name]
    for file in {pair.artefact for pair in mine} & held.keys():
        tried = {(p.backend, p.precision, p.isa) for p in mine if p.artefact == file}
        kept = [p for p in held[file].parity if not made and (p.backend, p.precision, p.isa) not in tried]
        held[file] = held[file].model_copy(update={"parity": tuple(kept)})
        if made and not any(pair.verdict for pair in mine if pair.artefact == file):
            del held[file]
    for pair in mine:
        if not pair.verdict:
            continue
        precision = Path(pair.artefact).name.split(".")[-2]
        known = held.get(pair.artefact) or Artefact.model_validate(
            {"precision": precision, "file": pair.artefact}
        )
        held[pair.artefact] = known.model_copy(update={"parity": (*known.parity, row_of(pair))})
    return network.model_copy(update={"artefacts": tuple(held.values())})
