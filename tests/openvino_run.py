"""OpenVINO on an ONNX graph held in memory, in fp32 and silent."""

import sys
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto


def openvino() -> Any:
    """The module, without its telemetry; skips the test where it is not installed."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it writes a client id and looks up a host
    return pytest.importorskip("openvino")


def run(model: ModelProto, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every output by name."""
    core = openvino().Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(BytesIO(model.SerializeToString())), "CPU", settings)
    found = compiled(dict(inputs))
    names = [value.name for value in model.graph.output]
    return {name: np.array(found[compiled.output(i)]) for i, name in enumerate(names)}
