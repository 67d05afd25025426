"""Operations are counted from the graph: against sums done by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npc_edge.bench.timing.work import work_of

pytest.importorskip("openvino")


def save(path: Path, node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], out: tuple[int, ...]) -> Path:
    """A file of one node: `image` comes in, the others are weights."""
    weights = [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in shapes.items() if n != "image"]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", *shapes["image"][1:]))
    made = helper.make_tensor_value_info("out", TensorProto.FLOAT, out)
    graph = helper.make_graph([node], "one", [image], [made], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


def test_a_convolution(tmp_path: Path) -> None:
    """Each of 6 x 4 x 5 x 5 outputs sums 3 channels x 3 x 3 x 3 products; the free batch is 1."""
    node = helper.make_node("Conv", ["image", "w"], ["out"], pads=[1] * 6)
    shapes = {"image": (1, 3, 4, 5, 5), "w": (6, 3, 3, 3, 3)}
    found = work_of(save(tmp_path / "conv.onnx", node, shapes, ("N", 6, 4, 5, 5)))
    assert found is not None
    assert found.flop == 2 * (6 * 4 * 5 * 5) * (3 * 27)
    assert found.values == 3 * 100 + 6 * 3 * 27 + 6 * 100


def test_a_transposed_convolution(tmp_path: Path) -> None:
    """Each of 4 x 2 x 3 x 3 inputs is spread over 5 channels x 2 x 2 x 2."""
    node = helper.make_node("ConvTranspose", ["image", "w"], ["out"], strides=[2, 2, 2])
    shapes = {"image": (1, 4, 2, 3, 3), "w": (4, 5, 2, 2, 2)}
    found = work_of(save(tmp_path / "up.onnx", node, shapes, ("N", 5, 4, 6, 6)))
    assert found is not None
    assert found.flop == 2 * (4 * 2 * 3 * 3) * (5 * 8)


def test_a_product_of_matrices(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["image", "w"], ["out"])
    found = work_of(save(tmp_path / "mul.onnx", node, {"image": (1, 7), "w": (7, 9)}, ("N", 9)))
    assert found is not None
    assert found.flop == 2 * 7 * 9
