"""What every rewrite needs of an ONNX graph: who makes and who reads a tensor, a part of it, a run of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.runners.onnxruntime import faults, load_onnxruntime

Arrays = Mapping[str, NDArray[Any]]
"""Tensor name → array."""
Run = Callable[[ModelProto, Arrays], Mapping[str, NDArray[Any]]]
"""Runs a graph once on some backend: inputs by name → every output by name."""

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FATAL_ONLY = 4


def tidy(model: ModelProto) -> ModelProto:
    """A copy that means the same: every node has a name of its own, every constant is an initializer, no
    initializer is an input, local functions are written out. The names are the same whenever it is asked."""
    fresh = ModelProto()
    fresh.CopyFrom(onnx.inliner.inline_local_functions(model) if model.functions else model)
    graph = fresh.graph
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    nodes = []
    for index, node in enumerate(graph.node):
        value = _constant(node)
        if value is not None:
            graph.initializer.append(value)
            continue
        if not node.name or node.name in seen:
            node.name = unused(f"{node.name or node.op_type}_{index}", taken)
        seen.add(node.name)
        nodes.append(node)
    set_nodes(graph, nodes)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    return fresh


def _constant(node: NodeProto) -> TensorProto | None:
    """The value of a Constant node, under its output's name; None for sparse and text constants."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    kinds: dict[str, type[np.generic]] = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if attribute.name not in kinds:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return numpy_helper.from_array(np.asarray(value, dtype=kinds[attribute.name]), node.output[0])


def unused(name: str, taken: set[str]) -> str:
    """`name`, or with a number behind it; added to `taken`."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}.{number}"
    taken.add(candidate)
    return candidate


def names(graph: GraphProto) -> set[str]:
    """Every name of a tensor or a node."""
    found = {tensor.name for tensor in graph.initializer}
    found |= {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
    for node in graph.node:
        found |= {node.name, *node.input, *node.output}
    return found


def set_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Put these nodes, in topological order, in the place of those there."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)


def reads(node: NodeProto) -> Iterator[str]:
    """The tensors a node reads, its inner graphs' (If, Loop) among them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for child in inner.node:
                yield from reads(child)
            yield from (value.name for value in inner.output)


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """Tensor → the node that makes it."""
    return {name: node for node in graph.node for name in node.output if name}


def readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Tensor → the nodes that read it, in order. That a tensor is an output of the graph is not in it."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(reads(node)):
            found.setdefault(name, []).append(node)
    return found


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Initializers by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or the default."""
    for found in node.attribute:
        if found.name == name:
            return onnx.helper.get_attribute_value(found)
    return default


def ancestors(graph: GraphProto, tensors: Iterable[str]) -> list[NodeProto]:
    """The nodes these tensors need, in topological order."""
    needed = set(tensors)
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(reads(node))
    return kept[::-1]


def drop_unread(graph: GraphProto, inputs: bool = False) -> None:
    """Remove initializers and recorded types that no node and no output refers to; inputs too when asked."""
    read = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output}
    made = {name for node in graph.node for name in node.output}
    for field, wanted in (
        (graph.initializer, read),
        (graph.value_info, made),
        (graph.input, read if inputs else {value.name for value in graph.input}),
    ):
        kept = [item for item in field if item.name in wanted]
        del field[:]
        field.extend(kept)
    del graph.quantization_annotation[:]


def cut(model: ModelProto, outputs: Sequence[str]) -> ModelProto:
    """The part of a model that makes these tensors, which become its outputs, in this order.

    BundleError when one is not there.
    """
    graph = model.graph
    known = set(producers(graph)) | {value.name for value in graph.input}
    missing = [name for name in outputs if name not in known]
    if missing:
        raise BundleError(f"the graph has no tensor {missing[0]}")
    kinds = value_types(model)
    part = ModelProto()
    part.CopyFrom(model)
    set_nodes(part.graph, ancestors(graph, outputs))
    del part.graph.output[:]
    part.graph.output.extend(kinds.get(name, ValueInfoProto(name=name)) for name in outputs)
    drop_unread(part.graph, inputs=True)
    return part


def value_types(model: ModelProto) -> dict[str, ValueInfoProto]:
    """Tensor → its type and shape, as far as they can be inferred."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except (onnx.shape_inference.InferenceError, EncodeError, ValueError) as error:
        raise BundleError(f"the types of the graph do not fit together: {first_line(error)}") from error
    graph = inferred.graph
    return {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}


def shape_of(value: ValueInfoProto | None) -> tuple[int | None, ...] | None:
    """A tensor's dimensions, None for a free one; None when the rank is unknown."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def check(model: ModelProto, what: str) -> None:
    """Structure, types and shapes. BundleError naming `what` when they are not those of a valid model."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        DecodeError,
        EncodeError,
        ValueError,
    ) as error:
        raise BundleError(f"{what} is not a valid ONNX model: {first_line(error)}") from error


def opened(model: ModelProto) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    """Load a graph into ONNX Runtime on the CPU; the result runs it: inputs by name → every output by name.

    Inputs the graph does not want are left out. Without memory arena or plan: big intermediates go back to
    the system. BundleError when it does not load, BackendError when a run fails.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = _FATAL_ONLY
    failures = (*faults(), EncodeError)
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise BundleError(f"ONNX Runtime cannot load the graph: {first_line(error)}") from error
    wanted = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        missing = [name for name in wanted if name not in inputs]
        if missing:
            raise BundleError(f"the graph wants an input {missing[0]} that was not given")
        try:
            values = session.run(outputs, {name: inputs[name] for name in wanted})
        except failures as error:
            raise BackendError(f"ONNX Runtime failed on the graph: {first_line(error)}") from error
        return dict(zip(outputs, values, strict=True))

    return run


def run(model: ModelProto, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Run a graph once with ONNX Runtime on the CPU: every output by name."""
    return opened(model)(inputs)


def groups(
    model: ModelProto, tensors: Sequence[str], example: Arrays, budget: int
) -> tuple[tuple[str, ...], ...]:
    """Split tensors, in topological order, so that each group of them takes at most `budget` bytes at the
    example's shape. A tensor larger than that, or of unknown shape, makes a group of its own."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in example:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, example[value.name].shape, strict=False):
                dim.dim_value = size
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    kinds = value_types(fixed)
    order = [value.name for value in model.graph.input] + list(producers(model.graph))
    place = {name: index for index, name in enumerate(order)}
    found: list[list[str]] = []
    room = 0
    for name in sorted(tensors, key=lambda name: place.get(name, -1)):
        shape = shape_of(kinds.get(name))
        known = shape is not None and None not in shape
        size = 4 * int(np.prod(shape, dtype=np.int64)) if known else budget  # type: ignore[arg-type]
        if not found or size > room:
            found.append([])
            room = budget
        found[-1].append(name)
        room -= size
    return tuple(tuple(group) for group in found)


def output_error(found: Arrays, expected: Arrays) -> float:
    """The largest difference of any output over its largest expected magnitude, or over 1 where that is less:
    outputs are logits, and one that happens to lie near 0 is no reason to divide by it."""
    errors = []
    for name, array in expected.items():
        scale = max(float(np.abs(array).max(initial=0.0)), 1e-6)
        errors.append(relative_error(found[name], array) * min(scale, 1.0))
    return max(errors, default=0.0)


def first_line(error: Exception) -> str:
    """The first line of what a library says, cut to a readable length."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
