"""A bundle whose one network has layers that int8 is for, and a cohort small enough to gate it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny_bundle
from onnx import ModelProto, numpy_helper
from onnx_nets import Net, image

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.engine.model import acceptance
from npc_edge.export import graph

WINDOW = (16, 32, 32)
FP32 = "artefacts/npc.fp32.onnx"


def network() -> ModelProto:
    """Smoothing layers of 16 channels: channel 1 of the mask, the tumour, wins where the T1 is bright."""
    net = Net((1, 2, *WINDOW))
    x = "image"
    x = net.node("Relu", [net.conv(x, "first", (2, 16, 1))], "first_act")
    x = net.instance_norm(net.conv(x, "second", (16, 16, 1)), "norm", 16)  # of both signs
    for name in ("third", "fourth"):
        x = net.conv(x, name, (16, 16, 1))
    x = net.node("Relu", [x], "act")
    mask = net.conv(x, "mask_head", (16, 3, 1), (1, 1, 1))
    pooled = net.node("Flatten", [net.node("GlobalAveragePool", [x], "average")], "flat")
    hidden = net.node("Gemm", [pooled, net.normal("g.w", (16, 16)), net.normal("g.b", (16,))], "hidden")
    score = net.node("Gemm", [hidden, net.normal("s.w", (16, 1)), net.normal("s.b", (1,))], "score_head")
    for tensor in net.constants:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 5:
            positive = np.abs(array) / np.abs(array).sum(axis=(1, 2, 3, 4), keepdims=True)
            if tensor.name == "mask_head.w":
                positive *= np.array([0.0, 6.0, 1.0], np.float32).reshape(3, 1, 1, 1, 1)
            tensor.CopyFrom(numpy_helper.from_array(positive, tensor.name))
        elif tensor.name.endswith(".b"):
            biased = [0.0, -2.0, -1.0] if tensor.name == "mask_head.b" else np.zeros(array.shape)
            tensor.CopyFrom(numpy_helper.from_array(np.array(biased, np.float32), tensor.name))
    return net.model({"mask": mask, "score": score})


def manifest() -> dict[str, Any]:
    """That network over the whole volume."""
    made = tiny_bundle.manifest()
    spec = {
        **made["networks"][1],
        "region": "whole",
        "spacing": [8.0, 8.0, 8.0],
        "window": WINDOW,
        "outputs": [{"name": "mask", "kind": "segmentation"}, {"name": "score", "kind": "detection"}],
        "artefacts": [{"precision": "fp32", "file": FP32}],
    }
    labels = [
        {"code": code, "name": name, "structure": name, "side": "midline", "colour": [9, 9, 9]}
        for code, name in ((1, "tumour"), (2, "other"))
    ]
    detection = {
        **{"threshold": 0.5, "indeterminate_low": 0.4, "indeterminate_high": 0.6, "mask_min_ml": 0.1},
        "operating_point": {"sensitivity": 0.5, "specificity": 0.5, "on": "tests"},
    }
    calibrator = {
        "method": "temperature",
        "temperature": 2.0,
        "cases": 9,
        "prevalence": 0.5,
        "population": "x",
    }
    changes = {"networks": [spec], "labels": labels, "detection": detection}
    return {**made, **changes, "calibrators": {FP32: calibrator}}


def write_parts(root: Path, model: ModelProto | None = None) -> Path:
    """The files, not yet packed; model: another network with the same inputs and outputs."""
    (root / "artefacts").mkdir(parents=True)
    model = network() if model is None else model
    onnx.save(model, str(root / FP32))
    (root / "model_card.md").write_text("# tiny\n", encoding="utf-8")
    given = {"image": acceptance.storable(image(WINDOW)["image"])}
    outputs = dict(graph.run(model, given))
    acceptance.save_golden(root / "golden" / "npc.a.npz", given, outputs)
    return root


def write_cohort(root: Path) -> Path:
    """A phantom with a tumour and one without."""
    for stage in ("T2", "none"):
        write_phantom(PhantomSpec(stage, seed=5, vendor="ge", matrix=96, slices=16), root / stage)
    return root
