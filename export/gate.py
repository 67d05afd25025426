"""The gate: nothing joins a bundle that was not held against the original, case by case, on what runs it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from npc_edge.engine.cohort import Case
from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.manifest import Artefact, Parity
from npc_edge.engine.model.parity import Limits, judge
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner
from npc_edge.engine.model.runners.openvino import OpenVinoRunner
from npc_edge.engine.model.runners.pairs import CPU_PAIRS, REFERENCE, Pair
from npc_edge.engine.site import Candidate, calibrator, hold
from npc_edge.engine.trial import Trial
from npc_edge.export.diverge import Divergence, first_divergence
from npc_edge.export.graph import Arrays, Run
from npc_edge.export.parity_report import Tried

Say = Callable[[str], None]

_SIGNED = Pair("int8-s8s8", "onnxruntime", "int8-s8s8")
"""No CPU may run signed activations in a study; here ONNX Runtime's arithmetic stands in for TensorRT's."""
_DIVERGED = 0.1
_EXAMPLES = 8


@dataclass(frozen=True)
class Asked:
    """A pair to be tried: the artefact of a network, where its file lies, and what is to run it."""

    network: str
    artefact: Artefact
    path: Path
    backend: str
    precision: str

    @property
    def name(self) -> str:
        return f"{self.artefact.file} on {self.backend}, {self.precision}"


def pairs_of(network: str, artefact: Artefact, path: Path) -> tuple[Asked, ...]:
    """Every pair a CPU can try of an artefact, but the original on the reference runtime."""
    return tuple(
        Asked(network, artefact, path, pair.backend, pair.precision)
        for pair in (*CPU_PAIRS, _SIGNED)
        if pair.artefact == artefact.precision and pair != REFERENCE
    )


def gate(
    bundle: Bundle, asked: Sequence[Asked], cases: Sequence[Case], limits: Limits, threads: int, say: Say
) -> tuple[tuple[Tried, ...], Trial]:
    """Hold every pair that can run here against the original over the cases.

    bundle: the original; the artefacts asked about need not be in it. A pair this machine cannot run is said
    and left out. Raises BundleError when the engine answers none of the cases.
    """
    candidates = [Candidate(one.name, one.network, runner_of(one, threads)) for one in asked]
    trial = hold(_provisional(bundle, asked), candidates, cases, threads, say)
    if trial.refused:
        say(f"{len(trial.refused)} cases were refused by the engine, the first: {trial.refused[0]}")
    found = []
    for one in asked:
        if one.name not in trial.cases:
            continue
        rows = trial.cases[one.name]
        verdict = judge(rows, limits, *calibrator(bundle, one.network))
        tried = Tried(
            one.network, one.artefact.file, one.backend, one.precision, instruction_set(), verdict, rows
        )
        found.append(tried)
        say(f"{one.name}: {'within the gate' if verdict else '; '.join(verdict.why)}")
    return tuple(found), trial


def runner_of(asked: Asked, threads: int) -> Runner:
    """The runner of a pair, not yet entered."""
    return _runner(asked.path, asked.backend, asked.precision, threads)


def _runner(path: Path, backend: str, precision: str, threads: int) -> Runner:
    kind = OpenVinoRunner if backend == "openvino" else OnnxRuntimeRunner
    return kind(path, threads=threads, precision=precision)


def explained(
    pair: Tried, reference: ModelProto, artefact: ModelProto, inputs: Sequence[Arrays], threads: int
) -> Tried:
    """A pair that failed, with the layer that diverged first on its own backend: a fault may be of the file,
    which ONNX Runtime shows too, or of what ran it.

    reference: the fp32 graph. artefact: what ran. inputs: what the network was fed; the first few are tried
    until one diverges. Without one the pair is as it was.
    """
    words = ""
    try:
        found = _diverged(pair, reference, artefact, inputs, threads)
        if found is not None:
            words = f"{found.node} ({found.kind}), by {found.error:.2g} of its range on {pair.backend}"
    except (BackendError, BundleError) as error:
        words = f"a layer that is not known: {pair.backend} runs no part of the network ({error.message})"
    return replace(pair, diverged=words)


def _diverged(
    pair: Tried, reference: ModelProto, artefact: ModelProto, inputs: Sequence[Arrays], threads: int
) -> Divergence | None:
    run = _parts(pair.backend, pair.precision, threads)
    for example in inputs[:_EXAMPLES]:
        if found := first_divergence(reference, artefact, example, _DIVERGED, run):
            return found
    return None


def _parts(backend: str, precision: str, threads: int) -> Run:
    """Runs a part of a graph as the gate runs a file."""

    def run(model: ModelProto, inputs: Arrays) -> dict[str, NDArray[Any]]:
        with tempfile.TemporaryDirectory(prefix="npc-edge-part-") as folder:
            path = Path(folder) / "part.onnx"
            onnx.save(model, str(path))
            with _runner(path, backend, precision, threads) as runner:
                return dict(runner.infer(dict(inputs)))

    return run


def row_of(pair: Tried) -> Parity:
    """The manifest's row of a pair."""
    v = pair.verdict
    return Parity(
        backend=pair.backend,
        precision=pair.precision,
        isa=pair.isa,
        max_relative_error=v.relative_error,
        dice=v.dice,
        score_shift=v.probability_shift,
        delta_dice=v.delta_dice,
        cases=v.cases,
        category_changes=v.category_changes,
        category_bound=v.category_bound,
    )


def _provisional(bundle: Bundle, asked: Sequence[Asked]) -> Bundle:
    """Candidates have no calibrator yet: they borrow the original's, so that findings can be compared."""
    calibrators = dict(bundle.manifest.calibrators)
    for one in asked:
        original = bundle.find(one.network, "fp32")
        if original is not None and original.file in calibrators:
            for name in (one.artefact.file, one.path.name):
                calibrators.setdefault(name, calibrators[original.file])
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"calibrators": calibrators}))
