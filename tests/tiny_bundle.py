"""Small real bundles for tests: ONNX networks of a few nodes whose outputs are known without running them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

WINDOW = (8, 12, 10)
LOCATOR_WINDOW = (6, 8, 8)


def _graph(name: str, nodes: Sequence[Any], inputs: Any, outputs: Sequence[Any], constants: Any = ()) -> Any:
    graph = helper.make_graph(list(nodes), name, [inputs], list(outputs), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _image(window: tuple[int, int, int], channels: int = 2) -> Any:
    return helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, channels, *window))


def _ints(name: str, values: Sequence[int]) -> Any:
    return helper.make_tensor(name, TensorProto.INT64, (len(values),), list(values))


def locator(window: tuple[int, int, int] = LOCATOR_WINDOW) -> Any:
    """heatmap = 40 x the second channel."""
    nodes = [
        helper.make_node("Slice", ["image", "one", "two", "axis"], ["second"]),
        helper.make_node("Mul", ["second", "gain"], ["heatmap"]),
    ]
    constants = [
        _ints("one", [1]),
        _ints("two", [2]),
        _ints("axis", [1]),
        helper.make_tensor("gain", TensorProto.FLOAT, (), [40.0]),
    ]
    heatmap = helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, (1, 1, *window))
    return _graph("locator", nodes, _image(window), [heatmap], constants)


def npc(window: tuple[int, int, int] = WINDOW, classes: int = 3) -> Any:
    """tumour = first channel - 0.5; anatomy k = k x the second channel; detection = mean of the first."""
    nodes = [
        helper.make_node("Slice", ["image", "zero", "one", "axis"], ["first"]),
        helper.make_node("Slice", ["image", "one", "two", "axis"], ["second"]),
        helper.make_node("Sub", ["first", "half"], ["tumour"]),
        helper.make_node("Mul", ["second", "scale"], ["anatomy"]),
        helper.make_node("ReduceMean", ["first"], ["mean"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("Identity", ["mean"], ["detection"]),
    ]
    constants = [
        _ints("zero", [0]),
        _ints("one", [1]),
        _ints("two", [2]),
        _ints("axis", [1]),
        helper.make_tensor("half", TensorProto.FLOAT, (), [0.5]),
        helper.make_tensor(
            "scale", TensorProto.FLOAT, (1, classes, 1, 1, 1), list(map(float, range(classes)))
        ),
    ]
    outputs = [
        helper.make_tensor_value_info("tumour", TensorProto.FLOAT, (1, 1, *window)),
        helper.make_tensor_value_info("anatomy", TensorProto.FLOAT, (1, classes, *window)),
        helper.make_tensor_value_info("detection", TensorProto.FLOAT, (1, 1)),
    ]
    return _graph("npc", nodes, _image(window), outputs, constants)


def manifest(**changes: Any) -> dict[str, Any]:
    """A manifest without `files` for the two networks above."""
    normalisation = {"method": "percentile", "lower": 1.0, "upper": 100.0}
    base: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "evidence": "synthetic",
        "task": "npc",
        "sequences": [{"name": "t1", "roles": ["T1"]}, {"name": "t2", "roles": ["T2", "T2FS"]}],
        "reference_sequence": "t1",
        "networks": [
            {
                "name": "locator",
                "region": "whole",
                "inputs": ["t1", "t2"],
                "spacing": [12.0, 12.0, 12.0],
                "window": LOCATOR_WINDOW,
                "normalisation": normalisation,
                "outputs": [{"name": "heatmap", "kind": "heatmap"}],
                "artefacts": [{"precision": "fp32", "file": "artefacts/locator.fp32.onnx"}],
            },
            {
                "name": "npc",
                "region": "around:locator.heatmap",
                "inputs": ["t1", "t2"],
                "spacing": [4.0, 2.0, 2.0],
                "window": WINDOW,
                "normalisation": normalisation,
                "outputs": [
                    {"name": "tumour", "kind": "tumour"},
                    {"name": "anatomy", "kind": "anatomy"},
                    {"name": "detection", "kind": "detection"},
                ],
                "artefacts": [{"precision": "fp32", "file": "artefacts/npc.fp32.onnx"}],
            },
        ],
        "tumour": {"threshold": 0.5},
        "provenance": {"training_data": "none", "commit": "", "recipe": "tests", "tools": {}},
    }
    return {**base, **changes}


def write_parts(root: Path) -> Path:
    """The files of the bundle, not yet packed."""
    (root / "artefacts").mkdir(parents=True)
    onnx.save(locator(), str(root / "artefacts" / "locator.fp32.onnx"))
    onnx.save(npc(), str(root / "artefacts" / "npc.fp32.onnx"))
    (root / "model_card.md").write_text("# tiny\nFor tests.\n")
    return root
