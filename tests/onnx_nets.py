"""Small ONNX networks for the exporter's tests, with seeded random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Shape = tuple[int, int, int]


class Net:
    """Writes a graph node after node. Every method returns the name of the tensor it makes."""

    def __init__(self, shape: Sequence[int | str], seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs = {"image": shape}

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, name: str, shape: Sequence[int], scale: float = 1.0) -> str:
        return self.constant(name, (scale * self.random.standard_normal(shape)).astype(np.float32))

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(
        self, x: str, name: str, shape: Shape, kernel: Sequence[int] = (3, 3, 3), bias: bool = True
    ) -> str:
        """shape: channels in, channels out, groups; padded to keep the size."""
        inside, outside, group = shape
        fan = inside // group * int(np.prod(kernel))
        weight = self.normal(f"{name}.w", (outside, inside // group, *kernel), (2 / fan) ** 0.5)
        parameters = [weight, self.normal(f"{name}.b", (outside,), 0.2)] if bias else [weight]
        pads = [k // 2 for k in kernel] * 2
        return self.node("Conv", [x, *parameters], name, kernel_shape=list(kernel), pads=pads, group=group)

    def up(
        self, x: str, name: str, shape: Shape, stride: Sequence[int] = (2, 2, 2), bias: bool = True
    ) -> str:
        """A transposed convolution whose kernel is its stride; shape: channels in, channels out, groups."""
        inside, outside, group = shape
        weight = self.normal(f"{name}.w", (inside, outside // group, *stride), (2 / inside) ** 0.5)
        parameters = [weight, self.normal(f"{name}.b", (outside,), 0.2)] if bias else [weight]
        sizes = {"kernel_shape": list(stride), "strides": list(stride)}
        return self.node("ConvTranspose", [x, *parameters], name, group=group, **sizes)

    def batch_norm(self, x: str, name: str, channels: int) -> str:
        gamma = self.constant(f"{name}.g", self.random.uniform(0.5, 2, channels).astype(np.float32))
        variance = self.constant(f"{name}.v", self.random.uniform(0.1, 3, channels).astype(np.float32))
        beta, mean = (self.normal(f"{name}.{part}", (channels,)) for part in "bm")
        return self.node("BatchNormalization", [x, gamma, beta, mean, variance], name, epsilon=1e-3)

    def instance_norm(self, x: str, name: str, channels: int) -> str:
        ones = self.constant(f"{name}.g", np.ones(channels, np.float32))
        return self.node("InstanceNormalization", [x, ones, self.normal(f"{name}.b", (channels,), 0.1)], name)

    def model(self, outputs: dict[str, str], opset: int = 18) -> ModelProto:
        """outputs: name of the graph's output → tensor."""
        nodes = self.nodes + [
            helper.make_node("Identity", [tensor], [name], f"to_{name}") for name, tensor in outputs.items()
        ]
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in self.inputs.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(inferred, full_check=True)
        return inferred


def unet(size: Sequence[int] = (4, 8, 8), seed: int = 0) -> ModelProto:
    """Two levels, 16 and 32 channels, batch norm above and instance norm below; image (batch, 2, *size),
    outputs mask (batch, 3, *size) and score (batch, 1)."""
    net = Net(("batch", 2, *size), seed)
    x = net.conv("image", "first", (2, 16, 1))
    x = net.node("Relu", [net.batch_norm(x, "first_norm", 16)], "first_act")
    skip = net.node("Relu", [net.batch_norm(net.conv(x, "a", (16, 16, 1)), "a_norm", 16)], "a_act")
    x = net.node("MaxPool", [skip], "pool", kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = net.node("LeakyRelu", [net.instance_norm(net.conv(x, "b", (16, 32, 1)), "b_norm", 32)], "b_act")
    deep = net.node("LeakyRelu", [net.instance_norm(net.conv(x, "c", (32, 32, 1)), "c_norm", 32)], "c_act")
    x = net.node("Concat", [net.up(deep, "up", (32, 16, 1)), skip], "join", axis=1)
    x = net.node("Relu", [net.batch_norm(net.conv(x, "d", (32, 16, 1)), "d_norm", 16)], "d_act")
    mask = net.conv(x, "mask_head", (16, 3, 1), (1, 1, 1))
    pooled = net.node("Flatten", [net.node("GlobalAveragePool", [deep], "average")], "flat")
    hidden = net.node("Gemm", [pooled, net.normal("g.w", (32, 32), 0.2), net.normal("g.b", (32,))], "hidden")
    score = net.node("Gemm", [hidden, net.normal("s.w", (32, 1)), net.normal("s.b", (1,))], "score_head")
    return net.model({"mask": mask, "score": score})


def image(size: Sequence[int] = (4, 8, 8), batch: int = 1, seed: int = 1) -> dict[str, Array]:
    """Input for `unet`."""
    random = np.random.default_rng(seed)
    return {"image": random.standard_normal((batch, 2, *size)).astype(np.float32)}
