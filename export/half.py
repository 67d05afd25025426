"""An fp32 graph becomes fp16, but for the islands that measurement says must stay fp32."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model.metrics import relative_error
from npc_edge.export import graph as graphs
from npc_edge.export.graph import Arrays, attribute
from npc_edge.export.to_float16 import as_stored, convert

TARGET = 1e-2
"""Largest relative error of an output: 11 bits of mantissa through tens of layers stay well below."""
BUDGET = 1 << 30
"""Bytes of intermediate tensors held at once."""

_LARGEST = 65504.0
_HEADROOM = 4.0  # a case that was not among the examples may hold larger values
_SMALLEST_NORMAL = 2.0**-14
_PATIENCE = 8
_STATISTICS = {
    *("InstanceNormalization", "LayerNormalization", "GroupNormalization", "BatchNormalization"),
    *("MeanVarianceNormalization", "RMSNormalization", "LpNormalization", "Softmax", "LogSoftmax"),
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum"),
    *("ReduceLogSumExp", "GlobalAveragePool", "Exp", "Log", "Pow", "Sqrt"),
}
_FLOAT_ONLY = {
    *("Resize", "Upsample", "Range", "CumSum", "NonMaxSuppression", "TopK", "RoiAlign", "ConstantOfShape"),
    *("EyeLike", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"),
    *("QuantizeLinear", "DequantizeLinear", "If", "Loop", "Scan"),
}


@dataclass(frozen=True)
class Islands:
    """The nodes kept in fp32. why: node → reason. error: the largest relative error of an output against fp32
    over the examples. rounds: conversions it took. half: how many nodes run in fp16."""

    nodes: tuple[str, ...]
    why: Mapping[str, str]
    error: float
    rounds: int
    half: int


def to_half(
    model: ModelProto,
    examples: Sequence[Arrays],
    target: float = TARGET,
    keep: frozenset[str] = frozenset(),
    budget: int = BUDGET,
) -> tuple[ModelProto, Islands]:
    """The model in fp16 with float32 inputs and outputs, and the islands that hold its error below target.

    examples: inputs by name, float32; the error is measured on them with `as_stored`. keep: further nodes to
    leave in fp32. Raises BundleError when nothing can run in fp16 within target, or the converter made no
    valid model.
    """
    if not examples:
        raise UsageError("fp16 needs at least one example to be measured on")
    model = graphs.tidy(model)
    unknown = keep - {node.name for node in model.graph.node}
    if unknown:
        raise UsageError(f"the graph has no node {min(unknown)} to keep in fp32")
    expected = [graphs.run(model, example) for example in examples]
    why = dict.fromkeys(keep, "asked for") | _expected_islands(model)
    why |= _out_of_range(model, examples, budget)
    rounds = 0
    while True:
        half, rounds = convert(model, set(why)), rounds + 1
        errors = _errors(as_stored(half), examples, expected)
        if max(errors) <= target:
            break
        worst = examples[int(np.argmax(errors))]
        harm = _harm(model, half, set(why), (worst, budget))
        if not harm:
            raise BundleError(
                f"fp16 differs from fp32 by {max(errors):.1e} with every node that matters in fp32",
                "leave fp16 out, or raise its target",
            )
        # Those of the worst's own size; more of them when that has not been enough for long.
        ranked = sorted(harm, key=lambda name: -harm[name])
        alike = [name for name in ranked if 2 * harm[name] >= harm[ranked[0]]]
        for name in max(alike, ranked[: 2 ** max(rounds - _PATIENCE, 0)], key=len):
            why[name] = f"added {harm[name]:.1e} to the error"
    nodes = tuple(node.name for node in model.graph.node if node.name in why)
    count = len(model.graph.node) - len(nodes)
    if count == 0:
        raise BundleError("nothing of the network can run in fp16", "leave fp16 out")
    graphs.opened(half)  # it must load as it is, too
    return half, Islands(nodes, {name: why[name] for name in nodes}, max(errors), rounds, count)


def _errors(half: ModelProto, examples: Sequence[Arrays], expected: Sequence[Arrays]) -> list[float]:
    run = graphs.opened(half)
    found = [run(example) for example in examples]
    return [graphs.output_error(f, e) for f, e in zip(found, expected, strict=True)]


# --- which nodes ---


def _expected_islands(model: ModelProto) -> dict[str, str]:
    """Statistics, softmax, heads, what fp16 cannot hold or ONNX does not define in it."""
    why = dict.fromkeys(heads(model), "a head")
    values = graphs.constants(model.graph)
    lost = {name for name, tensor in values.items() if not fits_half(tensor)}
    for node in model.graph.node:
        if node.op_type in _FLOAT_ONLY or (
            node.op_type == "Cast" and attribute(node, "to", 0) == TensorProto.FLOAT
        ):
            why[node.name] = f"{node.op_type} is defined in fp32"
        elif node.op_type in _STATISTICS:
            why[node.name] = f"{node.op_type} sums or raises beyond fp16"
        elif lost.intersection(node.input):
            why[node.name] = "fp16 cannot hold one of its constants"
    return why


def heads(model: ModelProto) -> tuple[str, ...]:
    """The nodes between an output and the last weighted layer before it, that layer included."""
    constant = {tensor.name for tensor in model.graph.initializer}
    wanted = {value.name for value in model.graph.output}
    found = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            found.append(node.name)
            if node.op_type not in graphs.WEIGHTED or node.input[1] not in constant:
                wanted.update(graphs.reads(node))
    return tuple(found[::-1])


def fits_half(tensor: TensorProto) -> bool:
    """Whether the largest value of a constant stays finite and keeps its precision in fp16."""
    if tensor.data_type != TensorProto.FLOAT:
        return True
    values = np.abs(numpy_helper.to_array(tensor))
    finite = values[np.isfinite(values)]
    largest = float(finite.max()) if finite.size else 0.0
    return largest == 0.0 or _SMALLEST_NORMAL <= largest <= _LARGEST


def _out_of_range(model: ModelProto, examples: Sequence[Arrays], budget: int) -> dict[str, str]:
    """Nodes that make or read a tensor whose values come near the end of fp16's range."""
    tensors = _floats(model)
    largest = dict.fromkeys(tensors, 0.0)
    for group in graphs.groups(model, tensors, examples[0], budget):
        run = graphs.opened(graphs.cut(model, group))
        for example in examples:
            for name, array in run(example).items():
                peak = float(max(-array.min(initial=0.0), array.max(initial=0.0)))
                largest[name] = peak if not peak <= largest[name] else largest[name]
    beyond = {name: size for name, size in largest.items() if not size <= _LARGEST / _HEADROOM}
    why = {}
    for node in model.graph.node:
        for name in (*node.output, *node.input):
            if name in beyond:
                why[node.name] = f"values up to {beyond[name]:.1e}"
    return why


def _floats(model: ModelProto) -> list[str]:
    """float32 tensors that nodes make, in topological order."""
    kinds = graphs.value_types(model)
    return [
        name
        for node in model.graph.node
        for name in node.output
        if name in kinds and kinds[name].type.tensor_type.elem_type == TensorProto.FLOAT
    ]


def _harm(
    model: ModelProto, half: ModelProto, islands: set[str], where: tuple[Arrays, int]
) -> dict[str, float]:
    """fp16 node → how much larger the error of what it makes is than that of what it reads, and what it does
    to islands behind it."""
    example, budget = where
    stored = as_stored(half)
    there = {node.name: list(node.output) for node in half.graph.node}
    pairs = {  # fp32 name → name in the fp16 graph, where the converter renamed a tensor
        name: there[node.name][index]
        for node in model.graph.node
        for index, name in enumerate(node.output)
        if node.name in there and there[node.name][index]
    }
    errors: dict[str, float] = {}
    for group in graphs.groups(model, [name for name in _floats(model) if name in pairs], example, budget):
        expected = graphs.run(graphs.cut(model, group), example)
        found = graphs.run(graphs.cut(stored, [pairs[name] for name in group]), example)
        errors |= {name: relative_error(found[pairs[name]], expected[name]) for name in group}
    growth = {
        node.name: _worst(errors, node.output) - before
        for node in model.graph.node
        if np.isfinite(before := _worst(errors, node.input))
    }
    return _blame(model, growth, islands)


def _worst(errors: Mapping[str, float], tensors: Iterable[str]) -> float:
    return max((errors.get(name, 0.0) for name in tensors), default=0.0)


def _blame(model: ModelProto, growth: Mapping[str, float], islands: set[str]) -> dict[str, float]:
    """fp16 node → the error it adds, with what islands add by reading what it rounded (a difference of two
    large values: the fault lies with whoever made them)."""
    makers = graphs.producers(model.graph)
    passed: dict[str, float] = {}
    harm = {}
    for node in reversed(model.graph.node):
        added = max(growth.get(node.name, 0.0), 0.0) + passed.get(node.name, 0.0)
        if node.name not in islands:
            harm[node.name] = added
            continue
        for name in {makers[tensor].name for tensor in node.input if tensor in makers}:
            passed[name] = passed.get(name, 0.0) + added
    return {name: added for name, added in harm.items() if added > 0.0}
