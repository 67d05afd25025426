"""The conversion to fp16 itself, and what an fp16 file says where it is run as it is stored.

onnxconverter-common does the conversion. What it gets wrong when left alone is prepared before (constants
that an island shares, outputs that an island makes) or mended after (values that pass through fp16 between
two islands), and everything it returns is checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxconverter_common import float16

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.metrics import relative_error
from npc_edge.export import graph as graphs
from npc_edge.export.graph import attribute


def convert(model: ModelProto, islands: set[str]) -> ModelProto:
    """A tidy model in fp16, these nodes and all inputs and outputs excepted. BundleError when the converter
    fails, or what it made is not valid or lost a constant's values."""
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


def as_stored(half: ModelProto) -> ModelProto:
    """The graph with sums in fp32 and every fp16 tensor, constants too, rounded to 16 bits; names as before.

    What a CPU says of an fp16 file is worth nothing: ONNX Runtime lifts whole runs of fp16 nodes to fp32 and
    never rounds between them, so that neither overflow nor cancellation shows. Casts written out it keeps.
    """
    kinds = graphs.value_types(half)
    wide = ModelProto()
    wide.CopyFrom(half)
    graph = wide.graph
    taken = graphs.names(graph)
    tensors = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in (*graph.initializer, *tensors):
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Cast" and attribute(node, "to", 0) == TensorProto.FLOAT16:
            node.attribute[0].i = TensorProto.FLOAT
        for index, name in enumerate(node.output):
            if name in kinds and kinds[name].type.tensor_type.elem_type == TensorProto.FLOAT16:
                full, small = (graphs.unused(f"{name}.{part}", taken) for part in ("full", "small"))
                own = [graphs.unused(f"{name}.{part}", taken) for part in ("round", "widen")]
                node.output[index] = full
                nodes.append(helper.make_node("Cast", [full], [small], own[0], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [small], [name], own[1], to=TensorProto.FLOAT))
    graphs.set_nodes(graph, nodes)
    del graph.value_info[:]
    return wide
