"""ONNX Runtime on PyTorch's memory says what PyTorch says; work is counted alike; what is missing is said."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from npc_edge.bench.peers.gpu_ways import (
    Subject,
    flop_of,
    onnxruntime_way,
    onnxruntime_ways,
    tensorrt_ways,
    torch_ways,
    use,
)
from npc_edge.bench.peers.networks import rebuild
from npc_edge.bench.timing.work import work_of
from npc_edge.engine.errors import BackendError
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import golden_cases
from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.runner import IMAGE


@pytest.fixture(scope="module")
def locator() -> tuple[nn.Module, Tensor, Path]:
    demo = bundles.load(None)
    image = torch.from_numpy(next(golden_cases(demo, "locator")).inputs[IMAGE])
    return rebuild(demo, "locator"), image, demo.artefact("locator", "fp32")


@pytest.fixture(scope="module")
def subject(locator: tuple[nn.Module, Tensor, Path]) -> Subject:
    module, image, path = locator
    shape = tuple(module(image).shape)
    return Subject(lambda: copy.deepcopy(module), image, {"heatmap": shape}, {"fp32": path})


def test_onnxruntime_reads_and_writes_pytorchs_memory(subject: Subject) -> None:
    way = onnxruntime_way(subject, "onnxruntime", "fp32")
    held = way.held()["heatmap"]
    held.fill_(torch.nan)
    way.run()
    expected = subject.module()(subject.image).numpy()
    assert relative_error(way.outputs()["heatmap"], expected) < 1e-4
    np.testing.assert_array_equal(way.outputs()["heatmap"], held.numpy())


def test_a_provider_that_is_not_here_is_an_error_and_no_fallback(subject: Subject) -> None:
    with pytest.raises(BackendError, match="no CUDAExecutionProvider"):
        onnxruntime_way(subject, "onnxruntime-cuda", "fp32")


def test_work_is_what_the_file_holds(locator: tuple[nn.Module, Tensor, Path]) -> None:
    module, image, path = locator
    counted = work_of(path)
    if counted is None:
        pytest.skip("OpenVINO, which counts a file's work, is not installed")
    assert flop_of(module, image) == pytest.approx(counted.flop, rel=1e-6)


def test_a_transposed_convolution_is_counted_by_what_it_reads() -> None:
    up = nn.ConvTranspose3d(3, 5, 2, 2)
    assert flop_of(up, torch.zeros(1, 3, 4, 4, 4)) == 2 * (3 * 4**3) * (5 * 2**3)


def test_compiled_ways_are_opened_last_and_pytorchs_are_peers(subject: Subject) -> None:
    asked = list(torch_ways(subject))
    assert all(attempt.peer for attempt in asked)
    assert [attempt.slow for attempt in asked] == ["compiled" in attempt.name for attempt in asked]
    assert any(attempt.slow for attempt in asked)


def test_no_int8_where_it_says_nothing(subject: Subject) -> None:
    files = {"fp32": Path("a"), "int8-s8s8": Path("b")}
    held = Subject(subject.module, subject.image, subject.shapes, files)
    assert [attempt.name for attempt in onnxruntime_ways(held)] == ["onnxruntime fp32"]
    assert "tensorrt-rtx int8-s8s8" in [attempt.name for attempt in tensorrt_ways(held)]


def test_a_gpu_that_pytorch_does_not_see_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch sees a GPU here")
    use(None)
    with pytest.raises(BackendError, match="does not see GPU 0"):
        use(0)
