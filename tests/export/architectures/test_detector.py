"""The detector: masks drop sequences exactly, the loss is as told, the export holds the student alone."""

import math
from pathlib import Path

import onnx
import pytest
import torch
from outside_runtimes import run_openvino

from npc_edge.engine.model.metrics import relative_error
from npc_edge.export.architectures import ARCHITECTURES
from npc_edge.export.architectures.detector import (
    Answers,
    Detector,
    DetectorConfig,
    build_detector,
    distillation_loss,
    draw_masks,
)
from npc_edge.export.to_onnx import export_onnx, run_onnx

SMALL = DetectorConfig(
    window=(32, 32, 48),
    widths=(2, 4, 4, 8, 16),
    width=32,
    layers=2,
    heads=4,
    feed_forward=64,
    adapter=3,
    fusion_feed_forward=48,
)


@pytest.fixture(scope="module")
def network() -> Detector:
    torch.manual_seed(3)
    made = build_detector(SMALL).eval()
    with torch.no_grad():
        for weights in made.parameters():  # as after training: no two alike, which an export would share
            weights += 0.02 * torch.randn(weights.shape)
    return made


def images(cases: int, sequences: int) -> torch.Tensor:
    return torch.randn(cases, sequences, *SMALL.window, generator=torch.Generator().manual_seed(1))


def test_the_published_size_is_the_default() -> None:
    config = DetectorConfig()
    assert config.places == (8, 8, 8)
    with torch.device("meta"):
        whole = build_detector(config)
    assert whole.head.weight.shape == (2, 128 * 8**3)
    assert len(whole.streams) == 3
    assert whole.teacher[0].levels[0].weight.shape[1] == 3
    assert ARCHITECTURES["detector"] == (DetectorConfig, build_detector)
    with pytest.raises(ValueError, match="multiple of 16"):
        _ = DetectorConfig(window=(120, 128, 128)).places


@torch.no_grad()
def test_a_masked_sequence_is_a_dropped_one(network: Detector) -> None:
    whole = images(2, 3)
    present = torch.tensor([[True, True, False]] * 2)
    fused = network.answer(whole, present).fused
    torch.testing.assert_close(network(whole[:, :2]), fused[:, 1:] - fused[:, :1], atol=1e-5, rtol=1e-5)
    other = whole.clone()
    other[:, 2] = 100
    assert torch.equal(network.answer(other, present).fused, fused)
    assert not torch.equal(network.answer(other, torch.ones(2, 3, dtype=torch.bool)).fused, fused)


@torch.no_grad()
def test_cases_may_lack_different_sequences(network: Detector) -> None:
    whole, present = images(2, 3), torch.tensor([[True, False, False], [False, True, True]])
    both = network.answer(whole, present).fused
    for k in range(2):
        alone = network.answer(whole[k : k + 1], present[k : k + 1]).fused
        torch.testing.assert_close(both[k : k + 1], alone, atol=1e-5, rtol=1e-5)


def test_masks_are_never_empty_and_differ() -> None:
    masks = draw_masks(700, 3, torch.Generator().manual_seed(0))
    assert masks.any(dim=1).all()
    counts = torch.unique(masks, dim=0, return_counts=True)[1]
    assert len(counts) == 7
    assert counts.min() > 60


def test_the_loss_by_hand() -> None:
    answers = Answers(
        fused=torch.tensor([[0.0, math.log(3)]]),
        sequences=torch.tensor([[[0.0, 0.0], [0.0, math.log(4)], [9.0, -9.0]]]),
        teacher=torch.tensor([[0.0, math.log(4)]], requires_grad=True),
    )
    present = torch.tensor([[True, True, False]])
    loss = distillation_loss(answers, torch.tensor([1]), present)
    divergence = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    assert loss.item() == pytest.approx(-math.log(3 / 4) - math.log(4 / 5) + divergence, abs=1e-6)
    loss.backward()
    assert answers.teacher.grad is not None
    torch.testing.assert_close(answers.teacher.grad, torch.tensor([[0.2, -0.2]]))  # its own CE alone


def test_a_step_of_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network = build_detector(SMALL)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-4, amsgrad=True)
    whole, truth = images(2, 3), torch.tensor([0, 1])
    present = draw_masks(2, 3, torch.Generator().manual_seed(2))
    losses = []
    for _ in range(4):
        loss = distillation_loss(network.answer(whole, present), truth, present)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in network.parameters())


@pytest.fixture(scope="module")
def exported(network: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "detector.onnx"
    made = export_onnx(network, torch.zeros(1, 2, *SMALL.window), ("score",), path)
    assert made.exporter == "dynamo", made.why
    return path


@torch.no_grad()
def test_onnx_runtime_and_openvino_say_the_same(network: Detector, exported: Path) -> None:
    image = images(1, 2)
    expected = network(image).numpy()
    assert relative_error(run_onnx(exported, {"image": image.numpy()})["score"], expected) <= 1e-4
    assert relative_error(run_openvino(exported, image.numpy())[0], expected) <= 1e-4


def test_the_export_holds_neither_teacher_nor_contrast(network: Detector, exported: Path) -> None:
    model = onnx.load(str(exported))
    held = sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)

    def weights(*parts: torch.nn.Module) -> int:
        return sum(p.numel() for part in parts for p in part.parameters())

    student = weights(network.encoder, *network.streams[:2], network.fusion, network.head)
    constants = 1000  # the ones and zeros of norms without weights, and numbers
    assert student <= held < student + constants
    assert weights(network.teacher) > weights(network.streams[2]) > constants
