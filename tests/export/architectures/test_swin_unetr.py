"""SwinUNETR of MONAI through the exporter: shifted windows, rolls and masks at a small size."""

from pathlib import Path

import pytest
import torch
from outside_runtimes import run_openvino

from npc_edge.engine.model.metrics import relative_error
from npc_edge.export.to_onnx import export_onnx, run_onnx

pytest.importorskip("monai", reason="monai is not installed")
pytest.importorskip("einops", reason="einops is not installed")

from npc_edge.export.architectures.swin_unetr import SwinUnetrConfig, build_swin_unetr

WINDOW = (32, 32, 64)  # the last level, 1/32, must keep more than one voxel for its norm


@torch.no_grad()
def test_onnx_runtime_and_openvino_say_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = SwinUnetrConfig(feature_size=12, depths=(2, 1, 1, 1), heads=(1, 2, 2, 4))
    network = build_swin_unetr(config).eval()
    path = tmp_path / "swin.onnx"
    made = export_onnx(network, torch.zeros(1, 2, *WINDOW), ("tumour",), path)
    assert made.exporter in ("dynamo", "torchscript")
    image = torch.randn(1, 2, *WINDOW, generator=torch.Generator().manual_seed(1))
    expected = network(image).numpy()
    assert expected.shape == (1, 1, *WINDOW)
    assert relative_error(run_onnx(path, {"image": image.numpy()})["tumour"], expected) <= 1e-4
    assert relative_error(run_openvino(path, image.numpy())[0], expected) <= 1e-4
