"""A small convolution network three ways: fp32, quantised for the CPU (u8s8) and for TensorRT (s8s8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny_bundle
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from npc_edge.engine.model import acceptance
from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner

SHAPE = (2, 6, 8, 8)
_CHANNELS, _CLASSES = 16, 3
_INPUT_RANGE, _INNER_RANGE = 1.0, 2.0


def image(seed: int = 0, batch: int = 1) -> NDArray[np.float32]:
    """(batch, 2, 6, 8, 8) float32 in 0..1."""
    return np.random.default_rng(seed).random((batch, *SHAPE), dtype=np.float32)


def network(kind: str = "fp32", batch: int | str = "batch") -> Any:
    """map = 1x1x1 convolution of ReLU of a 3x3x3 one; score = its mean. The same weights whatever the kind.

    kind: fp32, u8s8 (unsigned activations) or s8s8 (signed ones); zero-points 0, weights int8 per channel.
    """
    rng = np.random.default_rng(3)
    first = rng.normal(0, 0.15, (_CHANNELS, 2, 3, 3, 3)).astype(np.float32)
    second = rng.normal(0, 0.3, (_CLASSES, _CHANNELS, 1, 1, 1)).astype(np.float32)
    made = _Graph(kind)
    inner = made.convolve("image", first, _INPUT_RANGE, "first")
    made.node("Relu", [inner], "relu")
    made.node("Identity", [made.convolve("relu", second, _INNER_RANGE, "second")], "map")
    made.node("ReduceMean", ["map"], "mean", axes=[1, 2, 3, 4], keepdims=0)
    made.node("Unsqueeze", ["mean", made.constant("one", np.array([1]))], "score")
    values = [
        helper.make_tensor_value_info("map", TensorProto.FLOAT, (batch, _CLASSES, *SHAPE[1:])),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, (batch, 1)),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, (batch, *SHAPE))
    graph = helper.make_graph(made.nodes, "tiny", [given], values, made.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def convolve(self, source: str, weights: NDArray[np.float32], largest: float, name: str) -> str:
        """A convolution that keeps the size; quantised around unless the kind is fp32."""
        pads = [weights.shape[2] // 2] * 6
        if self.kind == "fp32":
            return self.node("Conv", [source, self.constant(f"{name}_w", weights)], name, pads=pads)
        kind, top = (np.uint8, 255) if self.kind == "u8s8" else (np.int8, 127)
        scale = self.constant(f"{name}_scale", np.float32(largest / top))
        zero = self.constant(f"{name}_zero", kind(0))
        held = self.node("QuantizeLinear", [source, scale, zero], f"{name}_q")
        ready = self.node("DequantizeLinear", [held, scale, zero], f"{name}_dq")
        # Seven bits: two products of 255 x 63 still fit the 16 bits that a CPU without VNNI has for them.
        steps = (np.abs(weights).max(axis=(1, 2, 3, 4)) / 63).astype(np.float32)
        whole = np.round(weights / steps[:, None, None, None, None]).astype(np.int8)
        scales = self.constant(f"{name}_w_scale", steps)
        zeros = self.constant(f"{name}_w_zero", np.zeros(len(steps), np.int8))
        stored = self.constant(f"{name}_w", whole)
        kernel = self.node("DequantizeLinear", [stored, scales, zeros], f"{name}_w_dq", axis=0)
        return self.node("Conv", [ready, kernel], name, pads=pads)


def manifest(
    kinds: Sequence[str] = ("fp32",), parity: Mapping[str, Sequence[tuple[str, str, str]]] | None = None
) -> dict[str, Any]:
    """A manifest without `files` for one network of this kind, "npc", with an artefact of each precision.

    kinds: precisions of the manifest. parity: precision → (backend, execution precision, instruction set).
    """
    rows = {} if parity is None else parity
    artefacts = [
        {
            "precision": precision,
            "file": f"artefacts/npc.{precision}.onnx",
            "parity": [
                {"backend": backend, "precision": ran_in, "isa": isa, "max_relative_error": 0.01}
                for backend, ran_in, isa in rows.get(precision, ())
            ],
        }
        for precision in kinds
    ]
    made = tiny_bundle.manifest()
    outputs = [{"name": "map", "kind": "anatomy"}, {"name": "score", "kind": "detection"}]
    changes = {"region": "whole", "window": SHAPE[1:], "outputs": outputs, "artefacts": artefacts}
    return {**made, "networks": [{**made["networks"][1], **changes}]}


def write_parts(root: Path, kinds: Sequence[str] = ("fp32",)) -> Path:
    """The files of such a bundle, not yet packed: artefacts and a golden case of what ONNX Runtime makes."""
    (root / "artefacts").mkdir(parents=True)
    for precision in kinds:
        # An fp16 artefact is fp32 here: what counts is who may run it.
        kind = {"int8-u8s8": "u8s8", "int8-s8s8": "s8s8"}.get(precision, "fp32")
        onnx.save(network(kind), str(root / "artefacts" / f"npc.{precision}.onnx"))
    given = {"image": acceptance.storable(image(seed=9))}
    with OnnxRuntimeRunner(root / "artefacts" / "npc.fp32.onnx", threads=1, precision="fp32") as runner:
        acceptance.save_golden(root / "golden" / "npc.a.npz", given, runner.infer(given))
    return root
