"""How much work a network is, counted from its graph: operations of its products, and what must move."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npc_edge.engine.errors import BackendError
from npc_edge.engine.model.runners.openvino import load_openvino

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8-bf16": 1, "int8-u8s8": 1, "int8-s8s8": 1}
"""Execution precision → bytes of a value."""

PEAK_OF = {"int8-bf16": "int8-u8s8"}
"""Execution precision → the peak it is held against, where that has another name."""


@dataclass(frozen=True)
class Work:
    """Of one window. flop: two for each multiply-add of convolutions and matrix products, all else is small
    beside them. values: numbers that these layers read and write, each once: inputs, weights, outputs. What a
    runtime keeps in cache between two layers it does not move, so real traffic can be less."""

    flop: float
    values: float


def work_of(path: Path) -> Work | None:
    """Count an fp32 ONNX file, batch 1. None where OpenVINO, which reads the graph, is not installed."""
    try:
        openvino = load_openvino()
    except BackendError:
        return None
    reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(path)))
    if model.is_dynamic():
        shapes = {port.get_any_name(): _batch_of_one(port.partial_shape) for port in model.inputs}
        model.reshape(shapes)
    flop = values = 0.0
    for node in model.get_ops():
        count = _flop(node)
        if count:
            flop += count
            values += sum(_size(port) for port in (*node.inputs(), *node.outputs()))
    return Work(flop, values)


def _batch_of_one(shape: Any) -> list[int]:
    return [1 if size.is_dynamic else size.get_length() for size in shape]


def _flop(node: Any) -> float:
    kind = node.get_type_name()
    if kind in ("Convolution", "GroupConvolution"):
        # Weights are (out, in, kernel), or (groups, out, in, kernel): each output sums in x kernel products.
        weights = list(node.input(1).get_shape())
        return 2.0 * _size(node.output(0)) * _product(weights[2 if kind.startswith("Group") else 1 :])
    if kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        # Weights are (in, out, kernel): each input value is spread over out x kernel places.
        weights = list(node.input(1).get_shape())
        return 2.0 * _size(node.input(0)) * _product(weights[2 if kind.startswith("Group") else 1 :])
    if kind == "MatMul":
        inner = list(node.input(0).get_shape())
        transposed = bool(node.get_attributes().get("transpose_a", False))
        return 2.0 * _size(node.output(0)) * float(inner[-2 if transposed and len(inner) > 1 else -1])
    return 0.0


def _size(port: Any) -> float:
    return _product(port.get_shape())


def _product(lengths: Iterable[int]) -> float:
    return float(math.prod(lengths))
