"""What PyTorch's exporter really writes goes through every rewrite and both precisions."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor, nn

from npc_edge.export import graph
from npc_edge.export.half import to_half
from npc_edge.export.observe import observe
from npc_edge.export.passes import PASSES, rewrite
from npc_edge.export.qdq import FLAVOURS, activations, quantizable, quantize
from npc_edge.export.to_float16 import as_stored


class Tiny(nn.Module):
    """Two levels, every kind of norm, tokens with a linear layer between, a mask and a score."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(2, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU())
        self.down = nn.Sequential(nn.Conv3d(16, 32, 3, 2, 1, bias=False), nn.InstanceNorm3d(32, affine=True))
        self.mix = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.up = nn.ConvTranspose3d(32, 16, (1, 2, 2), (1, 2, 2))
        self.join = nn.Sequential(nn.Conv3d(32, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.LeakyReLU(0.1))
        self.mask, self.score = nn.Conv3d(16, 2, 1), nn.Linear(32, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.first(image)
        low = self.down(skip)
        tokens = low.flatten(2).transpose(1, 2)
        low = (tokens + self.mix(tokens)).transpose(1, 2).reshape(low.shape)
        up = nn.functional.interpolate(self.up(low), scale_factor=(2.0, 1.0, 1.0))
        return self.mask(self.join(torch.cat([up, skip], 1))), self.score(low.mean((2, 3, 4)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks and warns of its own internals."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    path: Path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    torch.manual_seed(0)
    batch = ({0: torch.export.Dim("batch")},)
    with quiet():
        torch.onnx.export(
            Tiny().eval(),
            (torch.randn(2, 2, 4, 8, 6),),
            str(path),
            input_names=["image"],
            output_names=["mask", "score"],
            dynamic_shapes=batch,
            opset_version=18,
            dynamo=True,
            external_data=False,
        )
    return onnx.load(str(path))


def case(seed: int, batch: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"image": random.standard_normal((batch, 2, 4, 8, 6)).astype(np.float32)}


def test_it_is_rewritten_exactly(exported: ModelProto) -> None:
    changed, applied = rewrite(exported, PASSES, case(0))
    assert applied[2].nodes_after == applied[2].nodes_before + 3
    assert all(step.error < 1e-5 for step in applied)
    for batch in (1, 2):
        found, expected = graph.run(changed, case(1, batch)), graph.run(exported, case(1, batch))
        assert graph.output_error(found, expected) < 1e-5


def test_it_runs_in_fp16(exported: ModelProto) -> None:
    half, islands = to_half(rewrite(exported, PASSES, case(0))[0], [case(0), case(1)])
    assert 0 < islands.error < 1e-2
    error = graph.output_error(graph.run(as_stored(half), case(2, 2)), graph.run(exported, case(2, 2)))
    assert error < 1e-2
    weights = [tensor for tensor in half.graph.initializer if len(tensor.dims) > 1]
    assert sum(tensor.data_type == TensorProto.FLOAT16 for tensor in weights) >= 5


def test_it_runs_in_int8(exported: ModelProto) -> None:
    model = rewrite(exported, PASSES, case(0))[0]
    layers = {node.name: node.op_type for node in model.graph.node if node.name in quantizable(model)}
    assert sorted(layers.values()) == ["Conv", "Conv", "Conv", "MatMul", "MatMul"]
    ranges = observe(model, activations(model), [case(seed) for seed in range(3)])
    for flavour in FLAVOURS:
        small = quantize(model, ranges, flavour)
        error = graph.output_error(graph.run(small, case(7, 2)), graph.run(exported, case(7, 2)))
        assert 0 < error < 0.1
