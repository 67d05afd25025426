"""Runtimes other than the one the engine needs, for parity: a named skip where one is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


def run_openvino(path: Path, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """All outputs, in the file's order, computed in float32."""
    # Without this its import writes under the user's home and looks up a host.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    made = compiled({"image": image})
    return [np.array(made[output]) for output in compiled.outputs]
