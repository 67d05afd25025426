"""What is done to a graph before OpenVINO compiles it changes where values lie, not what they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto
from onnx_nets import Net

from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner
from npc_edge.engine.model.runners.openvino import OpenVinoRunner, load_openvino
from npc_edge.engine.model.runners.openvino_graph import blocks_channels_last, convolve_apart, fix_batch
from npc_edge.export.passes import DEPTH_TO_SPACE, rewrite

SHAPE = (2, 3, 6, 5)


def given(batch: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((batch, *SHAPE)).astype(np.float32)


def loaded(path: Path) -> tuple[Any, Any]:
    openvino = load_openvino()
    reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(path)))
    assert fix_batch(model, {"image": [None, *SHAPE]})
    return openvino, model


def saved(folder: Path, model: ModelProto) -> Path:
    onnx.save(model, str(folder / "net.onnx"))
    return folder / "net.onnx"


def agree(path: Path) -> None:
    image = given(batch=2)
    with OnnxRuntimeRunner(path, threads=1, precision="fp32") as runner:
        expected = runner.infer({"image": image})["out"]
    with OpenVinoRunner(path, threads=1, precision="fp32") as runner:
        found = runner.infer({"image": image})["out"]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2), (1, 3, 2), (2, 1, 1)])
def test_blocks_are_laid_out_with_channels_innermost(tmp_path: Path, stride: Sequence[int]) -> None:
    net = Net(("batch", *SHAPE))
    up = net.up(net.conv("image", "first", (2, 4, 1)), "up", (4, 3, 1), stride)
    model = net.model({"out": net.conv(up, "last", (3, 2, 1))})
    model, _ = rewrite(model, [DEPTH_TO_SPACE], {"image": given()})
    path = saved(tmp_path, model)
    openvino, read = loaded(path)
    assert blocks_channels_last(openvino, read) == 1
    assert blocks_channels_last(openvino, read) == 0  # done once
    agree(path)


@pytest.mark.parametrize("order", [(0, 1, 4, 2, 5, 3, 6), (0, 1, 4, 5, 3, 6, 2)])
def test_another_transpose_between_two_reshapes_is_left_alone(tmp_path: Path, order: Sequence[int]) -> None:
    net = Net(("batch", *SHAPE))
    x = net.conv("image", "first", (2, 8, 1))
    apart = net.constant("apart", np.array([0, 2, 2, 2, *SHAPE[1:]]))
    together = net.constant("together", np.array([0, 2, 3, 12, 10]))
    x = net.node("Transpose", [net.node("Reshape", [x, apart], "split")], "lay", perm=list(order))
    path = saved(
        tmp_path, net.model({"out": net.conv(net.node("Reshape", [x, together], "join"), "c", (2, 2, 1))})
    )
    openvino, read = loaded(path)
    assert blocks_channels_last(openvino, read) == 0
    agree(path)


def joined(folder: Path, *, read_twice: bool = False, axis: int = 1) -> Path:
    net = Net(("batch", *SHAPE))
    first, second = net.conv("image", "first", (2, 3, 1)), net.conv("image", "second", (2, 5, 1))
    if axis != 1:
        second = net.conv("image", "third", (2, 3, 1))
    both = net.node("Concat", [first, second], "join", axis=axis)
    made = net.conv(both, "over", (8 if axis == 1 else 3, 4, 1))
    if read_twice:
        made = net.node("Concat", [made, both], "again", axis=1)
    return saved(folder, net.model({"out": made}))


@pytest.mark.parametrize(("facts", "changed"), [({}, 1), ({"read_twice": True}, 0), ({"axis": 2}, 0)])
def test_a_convolution_of_joined_maps_is_a_sum_of_convolutions(
    tmp_path: Path, facts: dict[str, Any], changed: int
) -> None:
    path = joined(tmp_path, **facts)
    openvino, read = loaded(path)
    assert convolve_apart(openvino, read) == 0  # too small to be worth it
    assert convolve_apart(openvino, read, least=1) == changed
    assert convolve_apart(openvino, read, least=1) == 0  # done once
    compiled = openvino.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with OnnxRuntimeRunner(path, threads=1, precision="fp32") as runner:
        expected = runner.infer({"image": given()})["out"]
    found = np.array(compiled({"image": given()})[0])
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)
