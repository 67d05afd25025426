"""An fp32 graph becomes fp16, but for the islands that measurement says must stay fp32.

onnxconverter-common does the conversion. What it gets wrong when left alone is prepared before (constants
that an island shares, outputs that an island makes) or mended after (values that pass through fp16 between
two islands), and everything it returns is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxconverter_common import float16

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model.metrics import relative_error
from npc_edge.export import graph as graphs
from npc_edge.export.graph import Arrays, attribute

TARGET = 1e-2
"""Largest relative error of an output: 11 bits of mantissa through tens of layers stay well below."""
BUDGET = 1 << 30
"""Bytes of intermediate tensors held at once."""

_LARGEST = 65504.0
_HEADROOM = 4.0  # a case that was not among the examples may hold larger values
_SMALLEST_NORMAL = 2.0**-14
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

    examples: inputs by name, float32; the error is measured on them with ONNX Runtime on the CPU, which
    stores every fp16 tensor in 16 bits but may sum in 32. keep: further nodes to leave in fp32. Raises
    BundleError when nothing can run in fp16 within target, or the converter made no valid model.
    """
    if not examples:
        raise UsageError("fp16 needs at least one example to be measured on")
    model = graphs.tidy(model)
    expected = [graphs.run(model, example) for example in examples]
    why = dict.fromkeys(keep, "asked for") | _expected_islands(model)
    why |= _out_of_range(model, examples, budget)
    step, rounds = 1, 0
    while True:
        half, rounds = _converted(model, set(why)), rounds + 1
        errors = _errors(half, examples, expected)
        if max(errors) <= target:
            break
        worst = examples[int(np.argmax(errors))]
        harm = _harm(model, half, set(why), (worst, budget))
        if not harm:
            raise BundleError(
                f"fp16 differs from fp32 by {max(errors):.1e} with every node that matters in fp32",
                "leave fp16 out, or raise its target",
            )
        for name in sorted(harm, key=lambda name: -harm[name])[:step]:
            why[name] = f"added {harm[name]:.1e} to the error"
        step *= 2
    nodes = tuple(node.name for node in model.graph.node if node.name in why)
    count = len(model.graph.node) - len(nodes)
    if count == 0:
        raise BundleError("nothing of the network can run in fp16", "leave fp16 out")
    return half, Islands(nodes, {name: why[name] for name in nodes}, max(errors), rounds, count)


def _errors(half: ModelProto, examples: Sequence[Arrays], expected: Sequence[Arrays]) -> list[float]:
    run = graphs.opened(half)
    found = [run(example) for example in examples]
    return [max(relative_error(f[name], e[name]) for name in e) for f, e in zip(found, expected, strict=True)]


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
                largest[name] = max(largest[name], float(np.abs(array).max(initial=0.0)))
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
    """fp16 node → how much larger the error of what it makes is than that of what it reads."""
    example, budget = where
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
        found = graphs.run(graphs.cut(half, [pairs[name] for name in group]), example)
        errors |= {name: relative_error(found[pairs[name]], expected[name]) for name in group}
    harm = {}
    for node in model.graph.node:
        if node.name in islands:
            continue
        before = max((errors.get(name, 0.0) for name in node.input), default=0.0)
        after = max((errors.get(name, 0.0) for name in node.output), default=0.0)
        if after > 0.0 and np.isfinite(before):
            harm[node.name] = after - before
    return harm


# --- the conversion ---


def _converted(model: ModelProto, islands: set[str]) -> ModelProto:
    prepared = _prepared(model, islands)
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is found below
            half: ModelProto = float16.convert_float_to_float16(
                prepared,
                min_positive_val=0.0,
                max_finite_val=float("inf"),
                keep_io_types=True,
                op_block_list=[],
                node_block_list=sorted(islands),
            )
    except (ValueError, AssertionError, AttributeError, KeyError) as error:
        raise BundleError(f"onnxconverter-common cannot make it fp16: {graphs.first_line(error)}") from error
    _mend(half, {node.name for node in model.graph.node})
    graphs.check(half, "what onnxconverter-common made")
    _verify(model, half)
    return half


def _prepared(model: ModelProto, islands: set[str]) -> ModelProto:
    """Every island gets constants of its own, every output a node of its own that is no island."""
    fresh = ModelProto()
    fresh.CopyFrom(model)
    graph = fresh.graph
    taken = graphs.names(graph)
    outside = {name for node in graph.node if node.name not in islands for name in node.input}
    for tensor in list(graph.initializer):
        inside = [n for n in graph.node if n.name in islands and tensor.name in n.input]
        if inside and tensor.name in outside and tensor.data_type == TensorProto.FLOAT:
            graph.initializer.append(tensor)
            graph.initializer[-1].name = graphs.unused(f"{tensor.name}.fp32", taken)
            for node in inside:
                _rename(node.input, tensor.name, graph.initializer[-1].name)
    makers = graphs.producers(graph)
    guards = []
    for value in graph.output:
        if value.name not in makers or value.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        inner = graphs.unused(f"{value.name}.inner", taken)
        for node in graph.node:
            _rename(node.input, value.name, inner)
            _rename(node.output, value.name, inner)
        for known in graph.value_info:
            known.name = inner if known.name == value.name else known.name
        guards.append(
            helper.make_node("Identity", [inner], [value.name], graphs.unused(f"{value.name}.guard", taken))
        )
    graph.node.extend(guards)
    return fresh


def _rename(field: Any, old: str, new: str) -> None:
    for index, name in enumerate(field):
        if name == old:
            field[index] = new


def _mend(half: ModelProto, known: set[str]) -> None:
    """Take out the guards, and lead fp32 to fp32 where the converter goes through fp16. In place."""
    graph = half.graph
    makers = graphs.producers(graph)

    def added(name: str, kind: str) -> NodeProto | None:
        node = makers.get(name)
        return node if node is not None and node.op_type == kind and node.name not in known else None

    def origin(name: str) -> str:
        """Through guards."""
        while (guard := added(name, "Identity")) is not None:
            name = guard.input[0]
        return name

    outputs = {value.name for value in graph.output}
    moved: dict[str, str] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = origin(name)
    for node in graph.node:
        if node.op_type != "Cast" or node.name in known or attribute(node, "to", 0) != TensorProto.FLOAT:
            continue
        before = added(node.input[0], "Cast")
        if before is not None:
            moved[node.output[0]] = before.input[0]
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = moved.get(name, name)
    for shown, source in moved.items():
        maker = makers.get(source)
        if shown in outputs and maker is not None and source not in outputs:
            for node in graph.node:  # the cast that made the output loses its name to the island
                _rename(node.output, shown, f"{shown}.cast")
            _rename(maker.output, source, shown)
            for node in graph.node:
                _rename(node.input, source, shown)
    graphs.set_nodes(graph, graphs.ancestors(graph, list(outputs)))
    graphs.drop_unread(graph)


def _verify(model: ModelProto, half: ModelProto) -> None:
    """Inputs and outputs are what they were; no constant became infinite or vanished."""
    before = [(v.name, v.type.tensor_type.elem_type) for v in (*model.graph.input, *model.graph.output)]
    after = [(v.name, v.type.tensor_type.elem_type) for v in (*half.graph.input, *half.graph.output)]
    if before != after:
        raise BundleError("onnxconverter-common changed the type of an input or output")
    original = graphs.constants(model.graph)
    for tensor in half.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT16 or tensor.name not in original:
            continue
        values: NDArray[Any] = numpy_helper.to_array(tensor).astype(np.float32)
        if not relative_error(values, numpy_helper.to_array(original[tensor.name])) <= 2.0**-10:
            raise BundleError(f"onnxconverter-common lost the values of {tensor.name}")
