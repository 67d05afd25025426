"""Instance norms over many voxels, taken apart so that every runtime computes them as exactly as PyTorch.

A runtime adds up all voxels of a channel in float32, and what rounding leaves behind grows faster than their
number. Against float64, on a smooth image behind one convolution, the largest difference of a norm's range:

| voxels | PyTorch | ONNX Runtime 1.31 | OpenVINO 2026.4 | taken apart, on either |
|---|---|---|---|---|
| 32³ | 6e-7 | 6e-7 | 1e-6 | 7e-7 |
| 64³ | 6e-7 | 2e-6 | 2e-5 | 6e-7 |
| 96³ | 7e-7 | 1e-5 | 9e-5 | 7e-7 |
| 128³ | 6e-7 | 4e-5 | 3e-4 | 7e-7 |

Here the mean and the variance are averages along Z of averages along Y of averages along X: sums of a few
hundred terms each. They are pooled, not reduced: OpenVINO joins reductions that follow one another, and is
then further off than with its own norm. ReduceMean over all axes at once it makes its own norm again.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from npc_edge.export import graph as graphs
from npc_edge.export.graph import attribute
from npc_edge.export.passes import Pass

MANY = 64**3
"""Norms over more voxels than this are taken apart."""


def staged_norms(more_than: int = MANY) -> Pass:
    """A pass that takes apart every InstanceNormalization over more voxels than this, all axes but the batch
    known and scale and shift constant."""
    return Pass(
        "staged-norms",
        "a float32 sum over a million voxels is no mean: averages of averages are",
        lambda model: _take_apart(model, more_than),
    )


STAGED_NORMS = staged_norms()


def _take_apart(model: ModelProto, more_than: int) -> ModelProto:
    fresh = ModelProto()
    fresh.CopyFrom(model)
    graph = fresh.graph
    kinds, values, taken = graphs.value_types(model), graphs.constants(graph), graphs.names(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        shape = graphs.shape_of(kinds.get(node.input[0])) if node.op_type == "InstanceNormalization" else None
        sizes = [size for size in (shape or ())[2:] if size is not None]
        whole = shape is not None and len(sizes) == len(shape) - 2 and 1 <= len(sizes) <= 3
        if not whole or prod(sizes) <= more_than or not set(node.input[1:]) <= set(values):
            nodes.append(node)
            continue
        scale, shift = (numpy_helper.to_array(values[name]) for name in node.input[1:])
        nodes += _Parts(graph, node, taken).made(sizes, scale, shift)
    if len(nodes) > len(graph.node):  # a file without such a norm stays what it was, to the byte
        graphs.set_nodes(graph, nodes)
        graphs.drop_unread(graph)
    return fresh


class _Parts:
    """The nodes that stand for one norm, named after it."""

    def __init__(self, graph: GraphProto, norm: NodeProto, taken: set[str]) -> None:
        self._graph, self._norm, self._taken = graph, norm, taken
        self._nodes: list[NodeProto] = []

    def made(self, sizes: list[int], scale: NDArray[Any], shift: NDArray[Any]) -> list[NodeProto]:
        """(x - mean) * (scale / sqrt(variance + epsilon)) + shift: the mean first, and nothing cancels."""
        column = (1, -1, *(1,) * len(sizes))
        epsilon = np.array(attribute(self._norm, "epsilon", 1e-5), dtype=scale.dtype)
        apart = self._node(
            "Sub", "apart", self._norm.input[0], self._mean("mean", self._norm.input[0], sizes)
        )
        variance = self._mean("variance", self._node("Mul", "squared", apart, apart), sizes)
        deviation = self._node(
            "Sqrt", "deviation", self._node("Add", "above", variance, self._constant("epsilon", epsilon))
        )
        factor = self._node("Div", "factor", self._constant("scale", scale.reshape(column)), deviation)
        self._node("Mul", "normed", apart, factor)
        if shift.any():
            self._node(
                "Add", "shifted", self._nodes[-1].output[0], self._constant("shift", shift.reshape(column))
            )
        self._nodes[-1].output[0] = self._norm.output[0]
        return self._nodes

    def _mean(self, part: str, tensor: str, sizes: list[int]) -> str:
        """Averaged along one axis after the other, the last first: it is the one that lies together."""
        for axis in reversed(range(len(sizes))):
            if sizes[axis] > 1:
                window = [size if place == axis else 1 for place, size in enumerate(sizes)]
                pool = {"kernel_shape": window, "strides": window}
                tensor = self._node("AveragePool", f"{part}.{axis}", tensor, **pool)
        return tensor

    def _node(self, kind: str, part: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of what it makes."""
        output = graphs.unused(f"{self._norm.output[0]}.{part}", self._taken)
        name = graphs.unused(f"{self._norm.name}.{part}", self._taken)
        self._nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def _constant(self, part: str, array: NDArray[Any]) -> str:
        name = graphs.unused(f"{self._norm.name}.{part}", self._taken)
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name
