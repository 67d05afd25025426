"""An fp32 graph becomes int8: QuantizeLinear and DequantizeLinear around what its weighted layers read.

One calibration makes two flavours, for no file serves both: OpenVINO is silently wrong on signed
activations, TensorRT refuses unsigned ones, non-zero zero points and quantized biases. What layers make stays
in float, and so do biases: a runtime joins a layer with what follows by itself. onnxruntime.quantization's
quantizer is not used: it renames, removes and quantizes more than was asked for, and its calibrators hold
every case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.export import graph as graphs
from npc_edge.export.graph import attribute
from npc_edge.export.observe import Range

Flavour = Literal["int8-u8s8", "int8-s8s8"]
FLAVOURS: tuple[Flavour, ...] = ("int8-u8s8", "int8-s8s8")

_FEWEST_CHANNELS = 16
_OPSET = 13  # the first with a scale for each channel
_LEAST_SCALE = float(np.finfo(np.float32).tiny)


def quantizable(model: ModelProto) -> tuple[str, ...]:
    """The layers that int8 is for, in topological order: Conv, Gemm and MatMul with constant weights.

    Left out: those with no weighted layer before or behind them (the first and the last), those that read or
    make fewer than 16 channels, and transposed convolutions, which passes.DEPTH_TO_SPACE makes plain ones
    where it can. Names are those of `tidy(model)`.
    """
    model = graphs.tidy(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if _is_float(tensor)}
    weighted = {
        node.name
        for node in model.graph.node
        if node.op_type in graphs.WEIGHTED and node.input[1] in shapes and node.input[0] not in shapes
    }
    inner = _after(model.graph.node, weighted) & _before(model.graph, weighted)
    return tuple(
        node.name
        for node in model.graph.node
        if node.name in weighted & inner
        and (axis := _channel_axis(node, shapes[node.input[1]])) is not None
        and min(_channels(node, shapes[node.input[1]], axis)) >= _FEWEST_CHANNELS
    )


def activations(model: ModelProto, keep: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The tensors to observe: what the layers to quantize read, in topological order, each once."""
    model = graphs.tidy(model)
    layers = set(quantizable(model)) - keep
    return tuple(dict.fromkeys(node.input[0] for node in model.graph.node if node.name in layers))


def quantize(
    model: ModelProto,
    ranges: Mapping[str, Range],
    flavour: Flavour,
    keep: frozenset[str] = frozenset(),
) -> ModelProto:
    """The model with int8 weights (one scale for each output channel, zero point 0) and 8-bit activations.

    int8-u8s8: uint8 activations with a zero point; int8-s8s8: int8 activations with zero point 0. ranges:
    activation → range, for every tensor of `activations(model, keep)`. keep: layers to leave in float.
    Raises UsageError for a flavour or a layer that is not there, BundleError when a range is missing, nothing
    is left to quantize or the result is not valid.
    """
    if flavour not in FLAVOURS:
        raise UsageError(f"no int8 flavour {flavour}", f"use {' or '.join(FLAVOURS)}")
    model = graphs.tidy(model)
    unknown = keep - {node.name for node in model.graph.node}
    if unknown:
        raise UsageError(f"the graph has no node {min(unknown)} to keep in float")
    layers = set(quantizable(model)) - keep
    if not layers:
        raise BundleError("no layer is left to quantize", "leave int8 out of the bundle")
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < _OPSET:
        raise BundleError(f"int8 needs ONNX opset {_OPSET}, the graph is written in {opset}")
    _insert(model.graph, layers, ranges, flavour)
    graphs.drop_unread(model.graph)
    graphs.check(model, f"what {flavour} made")
    return model


def _insert(graph: GraphProto, layers: set[str], ranges: Mapping[str, Range], flavour: Flavour) -> None:
    values, taken = graphs.constants(graph), graphs.names(graph)
    done: dict[tuple[str, int | None], str] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.name in layers:
            activation, weight = node.input[:2]
            axis = _channel_axis(node, tuple(values[weight].dims))
            if (activation, None) not in done:
                if activation not in ranges:
                    raise BundleError(f"tensor {activation} was not calibrated")
                scale, zero = _activation_scale(ranges[activation], flavour)
                pair = _pair(graph, activation, (scale, zero), taken)
                nodes += pair
                done[activation, None] = pair[-1].output[0]
            if (weight, axis) not in done:
                back = _weight(graph, values[weight], axis or 0, taken)
                nodes.append(back)
                done[weight, axis] = back.output[0]
            node.input[0], node.input[1] = done[activation, None], done[weight, axis]
        nodes.append(node)
    graphs.set_nodes(graph, nodes)


def _activation_scale(span: Range, flavour: Flavour) -> tuple[NDArray[Any], NDArray[Any]]:
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BundleError(f"a range of {low} to {high} cannot be quantized")
    if flavour == "int8-s8s8":
        return np.array(_scale(max(-low, high) / 127), np.float32), np.array(0, np.int8)
    scale = _scale((high - low) / 255)
    return np.array(scale, np.float32), np.array(np.clip(np.round(-low / scale), 0, 255), np.uint8)


def _scale(size: float) -> float:
    """A tensor that is always 0 takes any scale but 0."""
    return size if size > _LEAST_SCALE else 1.0


def _pair(
    graph: GraphProto, tensor: str, parameters: tuple[NDArray[Any], NDArray[Any]], taken: set[str]
) -> list[NodeProto]:
    scale, zero = (
        _constant(graph, f"{tensor}.{part}", array, taken)
        for part, array in zip(("scale", "zero"), parameters, strict=True)
    )
    small, back = (graphs.unused(f"{tensor}.{part}", taken) for part in ("quantized", "dequantized"))
    own = [graphs.unused(f"{tensor}.{part}", taken) for part in ("quantize", "dequantize")]
    return [
        helper.make_node("QuantizeLinear", [tensor, scale, zero], [small], own[0]),
        helper.make_node("DequantizeLinear", [small, scale, zero], [back], own[1]),
    ]


def _weight(graph: GraphProto, tensor: TensorProto, axis: int, taken: set[str]) -> NodeProto:
    weight = numpy_helper.to_array(tensor).astype(np.float64)
    others = tuple(other for other in range(weight.ndim) if other != axis)
    largest = np.abs(weight).max(axis=others)
    if not np.isfinite(largest).all():
        raise BundleError(f"weight {tensor.name} holds values that are not finite")
    scale = np.array([_scale(float(size) / 127) for size in largest], np.float32)
    levels = np.round(weight / np.expand_dims(scale.astype(np.float64), others)).clip(-127, 127)
    inputs = [
        _constant(graph, f"{tensor.name}.{part}", array, taken)
        for part, array in (
            ("int8", levels.astype(np.int8)),
            ("scale", scale),
            ("zero", np.zeros(scale.shape, np.int8)),
        )
    ]
    back = graphs.unused(f"{tensor.name}.dequantized", taken)
    name = graphs.unused(f"{tensor.name}.dequantize", taken)
    return helper.make_node("DequantizeLinear", inputs, [back], name, axis=axis)


def _constant(graph: GraphProto, name: str, array: NDArray[Any], taken: set[str]) -> str:
    name = graphs.unused(name, taken)
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


# --- which layers ---


def _is_float(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT


def _channel_axis(node: NodeProto, shape: tuple[int, ...]) -> int | None:
    """The axis of a weight that counts output channels; None for what is not quantized."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm" and not attribute(node, "transA", 0):
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if node.op_type == "MatMul" and len(shape) == 2 else None


def _channels(node: NodeProto, shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Channels read and made."""
    group = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
    return shape[1 - axis] * group, shape[axis]


def _after(nodes: Any, weighted: set[str]) -> set[str]:
    """Nodes that some weighted layer comes before."""
    reached: set[str] = set()
    found = set()
    for node in nodes:
        behind = not reached.isdisjoint(graphs.reads(node))
        if behind:
            found.add(node.name)
        if behind or node.name in weighted:
            reached.update(node.output)
    return found


def _before(graph: GraphProto, weighted: set[str]) -> set[str]:
    """Nodes that some weighted layer comes behind."""
    wanted: set[str] = set()
    found = set()
    for node in reversed(graph.node):
        ahead = not wanted.isdisjoint(node.output)
        if ahead:
            found.add(node.name)
        if ahead or node.name in weighted:
            wanted.update(graphs.reads(node))
    return found
