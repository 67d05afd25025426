"""Which layer of an artefact diverged from fp32 first, found in about log2 of the layers runs of a part each.

No backend is asked for its intermediate tensors, which it may have none of: both graphs are cut at a tensor
they share, and the parts are run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.metrics import relative_error
from npc_edge.export import graph as graphs
from npc_edge.export.graph import Arrays, Run

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Divergence:
    """node: the reference's node whose output differs while what it is made from does not. tensor: that
    output. error: its relative error. output_error: the worst of the outputs. checked: tensors compared."""

    node: str
    kind: str
    tensor: str
    error: float
    output_error: float
    checked: int


def first_divergence(
    reference: ModelProto,
    artefact: ModelProto,
    inputs: Arrays,
    limit: float,
    run: Run = graphs.run,
) -> Divergence | None:
    """Where the artefact's relative error first exceeds limit; None when no output's does.

    run: runs a part of the artefact on the backend in question (the reference runs on ONNX Runtime), as for
    OpenVINO, which has no names to ask for. Bisects over the ancestors of the worst output: a tensor within
    the limit clears all it is made from, one beyond it clears all it is not. A fault that shows only where a
    backend joins a node with the next is named by the node whose part shows it first. Raises BundleError
    when the graphs have no output in common.
    """
    reference, artefact = graphs.tidy(reference), graphs.tidy(artefact)
    shown = [value.name for value in artefact.graph.output]
    outputs = [value.name for value in reference.graph.output if value.name in shown]
    if not outputs:
        raise BundleError("the artefact has no output in common with the original")
    bench = _Bench(reference, artefact, inputs, run)
    errors = {name: bench.error(name) for name in outputs}
    suspect = max(outputs, key=lambda name: errors[name])
    worst = errors[suspect]
    if worst <= limit:
        return None
    shared = _shared(reference, artefact)
    candidates = _upstream(reference, suspect, shared)
    while candidates:
        middle = candidates[len(candidates) // 2]
        above = set(_upstream(reference, middle, shared))
        if bench.error(middle) > limit:
            suspect, candidates = middle, [name for name in candidates if name in above]
        else:
            candidates = [name for name in candidates if name != middle and name not in above]
    node = graphs.producers(reference.graph).get(suspect)
    return Divergence(
        node.name if node else suspect,
        node.op_type if node else "input",
        suspect,
        bench.error(suspect),
        worst,
        len(bench.known),
    )


class _Bench:
    """Compares one tensor at a time, each once: two parts are cut, run and forgotten."""

    def __init__(self, reference: ModelProto, artefact: ModelProto, inputs: Arrays, run: Run) -> None:
        self._reference, self._artefact, self._inputs, self._run = reference, artefact, inputs, run
        self.known: dict[str, float] = {}

    def error(self, tensor: str) -> float:
        if tensor not in self.known:
            expected = graphs.run(graphs.cut(self._reference, [tensor]), self._inputs)[tensor]
            part = graphs.cut(self._artefact, [tensor])
            wanted = {value.name for value in part.graph.input}
            found = self._run(part, {name: a for name, a in self._inputs.items() if name in wanted})
            if len(found) != 1:
                raise BundleError(f"the backend returned {len(found)} outputs for a part with one")
            self.known[tensor] = _apart(next(iter(found.values())), expected)
        return self.known[tensor]


def _apart(found: object, expected: object) -> float:
    error = relative_error(np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64))
    return math.inf if math.isnan(error) else error


def _shared(reference: ModelProto, artefact: ModelProto) -> set[str]:
    """Tensors of floating point that nodes of both graphs make, under one name, of what they are fed: a part
    without an input is nothing that every backend runs."""
    found = []
    for model in (reference, artefact):
        kinds = graphs.value_types(model)
        made: set[str] = set()
        fed = {value.name for value in model.graph.input}
        for node in model.graph.node:
            if not fed.isdisjoint(graphs.reads(node)):
                made.update(name for name in node.output if name)
                fed |= made
        found.append({n for n in made if n in kinds and kinds[n].type.tensor_type.elem_type in _FLOATS})
    return found[0] & found[1]


def _upstream(model: ModelProto, tensor: str, shared: set[str]) -> list[str]:
    """The shared tensors that this one is made from, in topological order."""
    names = [name for node in graphs.ancestors(model.graph, [tensor]) for name in node.output]
    return [name for name in names if name in shared and name != tensor]
