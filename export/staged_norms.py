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

In fp32 that costs no time. Before a file loses precision its norms are joined again: what rounding leaves of
a sum is nothing beside 11 or 8 bits, a norm's statistics then stay in fp32 as a whole, and on OpenVINO an
int8 network has them in half the time.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from npc_edge.export import graph as graphs
from npc_edge.export.graph import attribute
from npc_edge.export.passes import PASSES, Pass

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


# --- and back ---


def _join(model: ModelProto) -> ModelProto:
    fresh = ModelProto()
    fresh.CopyFrom(model)
    graph = fresh.graph
    found = _Found(fresh)
    norms = {}
    for node in graph.node:
        if node.op_type == "Sub" and (norm := found.norm(node)) is not None:
            norms[norm.output[0]] = norm
    if norms:
        # Where the last part stood; the parts before it are no longer read.
        nodes = [norms.get(node.output[0], node) for node in graph.node]
        graphs.set_nodes(graph, nodes)
        graphs.set_nodes(graph, graphs.ancestors(graph, [value.name for value in graph.output]))
        graphs.drop_unread(graph)
    return fresh


class _Found:
    """Finds the parts of a norm by what they compute, not by their names: those are a file's own."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._values = graphs.constants(model.graph)
        self._makers, self._readers = graphs.producers(model.graph), graphs.readers(model.graph)
        self._kinds, self._taken = graphs.value_types(model), graphs.names(model.graph)

    def norm(self, apart: NodeProto) -> NodeProto | None:
        """The InstanceNormalization that begins with this difference; None where it does not."""
        image, difference = apart.input[0], apart.output[0]
        users = [node for node in self._readers.get(difference, []) if node.op_type == "Mul"]
        squares = [node for node in users if list(node.input) == [difference, difference]]
        normed = [node for node in users if node.input[0] == difference and node not in squares]
        if len(users) != 2 or len(squares) != 1 or len(normed) != 1:
            return None
        factor = self._made(normed[0].input[1], "Div")
        deviation = factor and self._made(factor.input[1], "Sqrt")
        above = deviation and self._made(deviation.input[0], "Add")
        if not factor or not above or not {factor.input[0], above.input[1]} <= set(self._values):
            return None
        if (
            self._averaged(apart.input[1], image) != image
            or self._averaged(above.input[0], image) != squares[0].output[0]
        ):
            return None
        last, shift = self._shifted(normed[0])
        scale = self._array(factor.input[0]).reshape(-1)
        inputs = [image, self._constant(apart, "scale", scale)]
        inputs.append(self._constant(apart, "shift", np.zeros_like(scale) if shift is None else shift))
        epsilon = float(self._array(above.input[1]))
        return helper.make_node(
            "InstanceNormalization", inputs, [last.output[0]], name=apart.name, epsilon=epsilon
        )

    def _made(self, tensor: str, kind: str) -> NodeProto | None:
        maker = self._makers.get(tensor)
        return maker if maker is not None and maker.op_type == kind else None

    def _averaged(self, tensor: str, image: str) -> str:
        """What a tensor of one value a channel is the average of, as far back as `image`; "" for none."""
        shape = graphs.shape_of(self._kinds.get(tensor))
        if shape is None or any(size != 1 for size in shape[2:]):
            return ""
        while tensor != image and (pool := self._made(tensor, "AveragePool")) is not None:
            tensor = pool.input[0]
        return tensor

    def _shifted(self, normed: NodeProto) -> tuple[NodeProto, NDArray[Any] | None]:
        """The last part, and what is added for each channel."""
        users = self._readers.get(normed.output[0], [])
        if len(users) == 1 and users[0].op_type == "Add" and users[0].input[1] in self._values:
            array, scale = self._array(users[0].input[1]), self._made(normed.input[1], "Div")
            if scale is not None and array.shape == self._array(scale.input[0]).shape:
                return users[0], array.reshape(-1)
        return normed, None

    def _array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._values[name])

    def _constant(self, norm: NodeProto, part: str, array: NDArray[Any]) -> str:
        name = graphs.unused(f"{norm.name}.{part}", self._taken)
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name


JOINED_NORMS = Pass(
    "joined-norms",
    "at 11 or 8 bits a rough sum costs nothing, and a runtime's own norm is faster",
    _join,
    tolerance=1e-3,  # what a norm that was taken apart gained may be lost again: an export allows no more
)
LOWERED = (JOINED_NORMS, *PASSES)
"""What a file goes through before it loses precision."""
