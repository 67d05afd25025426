"""Exact rewrites of an ONNX graph, each with a name and a reason, each checked and timed as it is applied."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from npc_edge.engine.errors import BundleError
from npc_edge.export import graph as graphs
from npc_edge.export.graph import Arrays, attribute

TOLERANCE = 1e-4
"""Largest relative difference that most rewrites may make: they sum in another order, no more."""


@dataclass(frozen=True)
class Pass:
    """apply: a tidy model → another one; its argument is left as it was. tolerance: the largest relative
    difference it may make."""

    name: str
    why: str
    apply: Callable[[ModelProto], ModelProto]
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Applied:
    """What a pass did. error: the largest relative difference of an output from the model before this pass.
    Milliseconds: the quicker of two runs on the example; the same number when nothing changed."""

    name: str
    nodes_before: int
    nodes_after: int
    error: float
    ms_before: float
    ms_after: float


def rewrite(
    model: ModelProto, passes: Sequence[Pass], example: Arrays
) -> tuple[ModelProto, tuple[Applied, ...]]:
    """Apply passes one after the other, and compare and time each with ONNX Runtime on the example.

    Inputs and outputs keep names, types and free axes; an input nobody reads goes. Raises BundleError naming
    the pass that changed an output by more than its tolerance, or made no valid model.
    """
    expected, ms = _measured(model, example)
    current = graphs.tidy(model)
    applied = []
    for step in passes:
        changed = step.apply(current)
        error, after = 0.0, ms
        if changed != current:
            graphs.check(changed, f"what rewrite {step.name} made")
            _same_doors(step, current, changed)
            found, after = _measured(changed, example)
            error = graphs.output_error(found, {name: expected[name] for name in found})
            if not error <= step.tolerance:
                raise BundleError(f"rewrite {step.name} changes the outputs by {error:.1e}")
            expected = found
        nodes = len(current.graph.node), len(changed.graph.node)
        applied.append(Applied(step.name, *nodes, error=error, ms_before=ms, ms_after=after))
        current, ms = changed, after
    return current, tuple(applied)


def _measured(model: ModelProto, example: Arrays) -> tuple[dict[str, NDArray[Any]], float]:
    """The outputs, and the milliseconds of the quicker of two runs."""
    run = graphs.opened(model)
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        outputs = run(example)
        taken.append(1000 * (time.perf_counter() - start))
    return outputs, min(taken)


def _same_doors(step: Pass, before: ModelProto, after: ModelProto) -> None:
    known = {value.name: value.type for value in (*before.graph.input, *before.graph.output)}
    for value in (*after.graph.input, *after.graph.output):
        if known.get(value.name) != value.type:
            raise BundleError(f"rewrite {step.name} changes the type or shape of {value.name}")


def _copy(model: ModelProto) -> ModelProto:
    fresh = ModelProto()
    fresh.CopyFrom(model)
    return fresh


# --- dead branches ---


def wanted(outputs: Sequence[str]) -> Pass:
    """A pass that keeps only these outputs and what they need: a student without its teacher."""
    return Pass(
        "wanted-outputs", "what only training needed is not shipped", lambda model: _only(model, outputs)
    )


def _only(model: ModelProto, outputs: Sequence[str] | None) -> ModelProto:
    fresh = _copy(model)
    graph = fresh.graph
    if outputs is not None:
        held = {value.name: value for value in model.graph.output}
        missing = [name for name in outputs if name not in held]
        if missing:
            raise BundleError(f"the network has no output {missing[0]}", f"it has {', '.join(held)}")
        del graph.output[:]
        graph.output.extend(held[name] for name in outputs)
    graphs.set_nodes(graph, graphs.ancestors(graph, [value.name for value in graph.output]))
    graphs.drop_unread(graph, inputs=True)
    return fresh


# --- batch normalisation ---


def _fold_batch_norm(model: ModelProto) -> ModelProto:
    fresh = _copy(model)
    graph = fresh.graph
    values = graphs.constants(graph)
    makers, readers = graphs.producers(graph), graphs.readers(graph)
    shown = {value.name for value in graph.output}
    made: dict[tuple[Any, ...], tuple[str, str]] = {}
    taken = graphs.names(graph)
    folded = set()
    for norm in graph.node:
        conv = makers.get(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        if conv is None or len(readers[norm.input[0]]) != 1 or norm.input[0] in shown:
            continue
        if not _foldable(conv, norm, set(values)):
            continue
        key = (
            conv.op_type,
            *conv.input[1:],
            *norm.input[1:],
            _scale_axis(conv),
            attribute(norm, "epsilon", 1e-5),
        )
        if key not in made:  # layers that share their weights go on sharing them
            weight, bias = _folded(conv, norm, {n: numpy_helper.to_array(values[n]) for n in key[1:-2] if n})
            made[key] = (
                graphs.unused(f"{conv.name}.weight", taken),
                graphs.unused(f"{conv.name}.bias", taken),
            )
            for name, array in zip(made[key], (weight, bias), strict=True):
                graph.initializer.append(numpy_helper.from_array(array, name))
                values[name] = graph.initializer[-1]
        conv.input[:] = [conv.input[0], *made[key]]
        conv.output[0] = norm.output[0]
        makers[norm.output[0]] = conv
        folded.add(norm.name)
    graphs.set_nodes(graph, [node for node in graph.node if node.name not in folded])
    graphs.drop_unread(graph)
    return fresh


def _foldable(conv: NodeProto, norm: NodeProto, constant: set[str]) -> bool:
    parameters = {name for name in (*conv.input[1:], *norm.input[1:]) if name}
    at_rest = attribute(norm, "training_mode", 0) == 0 and sum(map(bool, norm.output)) == 1
    return conv.op_type in ("Conv", "ConvTranspose") and at_rest and parameters <= constant


def _scale_axis(conv: NodeProto) -> int:
    """Groups, where the output channels of a transposed convolution's weight lie split; 0 for a plain one."""
    return int(attribute(conv, "group", 1)) if conv.op_type == "ConvTranspose" else 0


def _folded(conv: NodeProto, norm: NodeProto, values: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    gamma, beta, mean, variance = (values[name].astype(np.float64) for name in norm.input[1:5])
    scale = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    weight = values[conv.input[1]]
    bias = values[conv.input[2]].astype(np.float64) if len(conv.input) > 2 and conv.input[2] else 0.0
    ones = (1,) * (weight.ndim - 2)
    group = _scale_axis(conv)
    if group:  # (in, out / group, *kernel); the rows of one group make one run of output channels
        split = weight.astype(np.float64).reshape(group, -1, *weight.shape[1:])
        scaled = (split * scale.reshape(group, 1, -1, *ones)).reshape(weight.shape)
    else:
        scaled = weight * scale.reshape(-1, 1, *ones)
    return scaled.astype(weight.dtype), (beta + (bias - mean) * scale).astype(weight.dtype)


# --- transposed convolution ---


def _depth_to_space(model: ModelProto) -> ModelProto:
    fresh = _copy(model)
    graph = fresh.graph
    kinds = graphs.value_types(model)
    values = graphs.constants(graph)
    taken = graphs.names(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        shape = graphs.shape_of(kinds.get(node.input[0])) if node.op_type == "ConvTranspose" else None
        names = [name for name in node.input[1:] if name]
        if shape is None or None in shape[1:] or not set(names) <= set(values):
            nodes.append(node)
            continue
        weight, *bias = (numpy_helper.to_array(values[name]) for name in names)
        if _is_block(node, weight.shape[2:]):
            nodes += _as_convolution(graph, node, (weight, bias), shape[2:], taken)
        else:
            nodes.append(node)
    graphs.set_nodes(graph, nodes)
    graphs.drop_unread(graph)
    return fresh


def _is_block(node: NodeProto, kernel: tuple[int, ...]) -> bool:
    """Whether every input voxel makes a block of its own: kernel = stride, nothing padded, cut or added."""
    added = [*attribute(node, "pads", []), *attribute(node, "output_padding", [])]
    dilations = attribute(node, "dilations", [1] * len(kernel))
    return (
        kernel == tuple(attribute(node, "strides", [1] * len(kernel)))
        and attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and not any(added)
        and all(size == 1 or dilation == 1 for size, dilation in zip(kernel, dilations, strict=True))
        and not attribute(node, "output_shape", [])
    )


def _as_convolution(
    graph: GraphProto,
    node: NodeProto,
    parameters: tuple[NDArray[Any], Sequence[NDArray[Any]]],
    space: Sequence[int | None],
    taken: set[str],
) -> list[NodeProto]:
    """A 1x1x1 convolution to (channel, place in the block) channels, then the blocks laid out."""
    weight, bias = parameters
    strides = weight.shape[2:]
    group = int(attribute(node, "group", 1))
    channels, block = weight.shape[1] * group, int(np.prod(strides))
    split = weight.reshape(group, -1, *weight.shape[1:])
    flat = np.moveaxis(split, 1, -1).reshape(channels * block, -1, *(1,) * len(strides))

    def constant(suffix: str, array: NDArray[Any]) -> str:
        name = graphs.unused(f"{node.name}.{suffix}", taken)
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    inputs = [node.input[0], constant("weight", flat)]
    inputs += [constant("bias", np.repeat(values, block)) for values in bias]
    attributes: dict[str, Any] = {"kernel_shape": [1] * len(strides), "group": group}
    if block == 1:
        return [helper.make_node("Conv", inputs, [node.output[0]], name=node.name, **attributes)]
    # Axes of stride 1 are left out of the split: TensorRT takes at most eight.
    wide = [axis for axis, stride in enumerate(strides) if stride > 1]
    order = [0, 1]
    for axis in range(len(strides)):
        order.append(2 + len(wide) + axis)
        if axis in wide:
            order.append(2 + wide.index(axis))
    apart = [0, channels, *(strides[axis] for axis in wide), *space]
    together = [0, channels, *(size * stride for size, stride in zip(space, strides, strict=True))]
    made = [graphs.unused(f"{node.output[0]}.{part}", taken) for part in ("blocks", "split", "laid")]
    own = [graphs.unused(f"{node.name}.{part}", taken) for part in ("split", "lay", "join")]
    shapes = constant("apart", np.array(apart)), constant("together", np.array(together))
    return [
        helper.make_node("Conv", inputs, [made[0]], name=node.name, **attributes),
        helper.make_node("Reshape", [made[0], shapes[0]], [made[1]], name=own[0]),
        helper.make_node("Transpose", [made[1]], [made[2]], name=own[1], perm=order),
        helper.make_node("Reshape", [made[2], shapes[1]], [node.output[0]], name=own[2]),
    ]


DEAD_BRANCHES = Pass("dead-branches", "no output needs them", lambda model: _only(model, None))
BATCH_NORM = Pass(
    "batch-norm", "a scale and a shift of a convolution's output are part of its weights", _fold_batch_norm
)
DEPTH_TO_SPACE = Pass(
    "depth-to-space",
    "TensorRT runs a quantized 3D transposed convolution in fp16; this it runs in int8",
    _depth_to_space,
)
PASSES = (DEAD_BRANCHES, BATCH_NORM, DEPTH_TO_SPACE)
"""In the order that lets each see what the one before left: batch normalisation before its convolution."""
