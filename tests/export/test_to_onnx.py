"""Exported files say what PyTorch says, alone and in a batch, and which exporter made them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_networks import WINDOW, small
from torch import Tensor, nn

from npc_edge.engine.errors import BundleError, OutputError
from npc_edge.export.to_onnx import TOLERANCE, export_onnx, run_onnx

OUTPUTS = ("tumour", "anatomy", "detection")
EXAMPLE = torch.zeros(1, 2, *WINDOW)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "deep" / "small.onnx"
    made = export_onnx(small(), EXAMPLE, OUTPUTS, path)
    assert (made.exporter, made.why) == ("dynamo", "")
    assert set(made.errors) == set(OUTPUTS)
    assert 0 <= max(made.errors.values()) < 1e-5
    return path


def test_the_batch_is_the_only_free_axis(exported: Path) -> None:
    graph = onnx.load(str(exported)).graph
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert ([value.name for value in graph.input], dims) == (["image"], ["batch", 2, *WINDOW])
    tumour = [dim.dim_param or dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim]
    assert tumour == ["batch", 1, *WINDOW]


def test_one_and_two_in_a_batch_agree_with_pytorch(exported: Path) -> None:
    images = torch.randn(2, 2, *WINDOW, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = [value.numpy() for value in small().eval()(images)]
    both = run_onnx(exported, {"image": images.numpy()})
    for k in range(2):
        alone = run_onnx(exported, {"image": images[k : k + 1].numpy()})
        for name, value in zip(OUTPUTS, expected, strict=True):
            np.testing.assert_allclose(both[name], value, atol=1e-5)
            np.testing.assert_allclose(alone[name], value[k : k + 1], atol=1e-5)


def test_nothing_of_the_machine_is_in_the_file(exported: Path) -> None:
    data = exported.read_bytes()
    assert b".py" not in data
    assert str(Path(__file__).parent).encode() not in data


class Counts(nn.Module):
    """Asks a tensor for its value: a capturing exporter cannot follow, a recording one can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.register_buffer("times", torch.tensor(2))

    def forward(self, image: Tensor) -> Tensor:
        for _ in range(int(self.times.item() * (image.sum().item() > -1e9))):
            image = self.conv(image)
        return image


def test_another_exporter_is_recorded_with_the_reason(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = export_onnx(Counts(), torch.zeros(1, 1, 4, 4, 4), ("out",), tmp_path / "n.onnx")
    assert made.exporter == "torchscript"
    assert made.why != ""
    assert "\n" not in made.why
    assert made.errors["out"] < 1e-5
    two = run_onnx(tmp_path / "n.onnx", {"image": np.zeros((2, 1, 4, 4, 4), dtype=np.float32)})
    assert two["out"].shape == (2, 1, 4, 4, 4)


class BatchStatistics(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image - image.mean(dim=0, keepdim=True) + image.std()


def test_a_network_that_mixes_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="depends on what else is in the batch"):
        export_onnx(BatchStatistics(), torch.zeros(1, 1, 4, 4, 4), ("out",), tmp_path / "n.onnx")


class Drops(nn.Module):
    """What is recorded at export is not what runs: a fresh number each time."""

    def forward(self, image: Tensor) -> Tensor:
        return image * torch.rand(1).item()


def test_a_file_that_says_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="differs from PyTorch"):
        export_onnx(Drops(), torch.zeros(1, 1, 4, 4, 4), ("out",), tmp_path / "n.onnx")
    assert TOLERANCE == 1e-3


class Fixed(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.reshape(1, 64)[:, :1] if image.shape[0] == 1 else _never(image)


def _never(image: Tensor) -> Tensor:
    raise ValueError("one case at a time")


def test_a_network_no_exporter_takes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="neither exporter") as caught:
        export_onnx(Fixed(), torch.zeros(1, 1, 4, 4, 4), ("out",), tmp_path / "n.onnx")
    assert "\n" not in caught.value.one_line()
    assert not (tmp_path / "n.onnx").exists()


def test_wrong_inputs_and_outputs_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    with pytest.raises(BundleError, match=r"fails on an input of shape \(1, 3, 8, 12, 10\)"):
        export_onnx(small(), torch.zeros(1, 3, *WINDOW), OUTPUTS, path)
    with pytest.raises(BundleError, match="has 3 outputs, not the 2 named"):
        export_onnx(small(), EXAMPLE, OUTPUTS[:2], path)
    assert not path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export_onnx(nn.ReLU(), torch.zeros(1, 1, 4, 4, 4), ("out",), tmp_path / "file" / "n.onnx")
