"""The converter's file is what it should be, and is measured as it is stored."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from onnx_nets import Net, image, unet

from npc_edge.engine.errors import BundleError
from npc_edge.export import graph
from npc_edge.export.to_float16 import _verify, as_stored, convert


def test_what_is_measured_is_rounded_to_16_bits() -> None:
    """numpy's float16 agrees to the bit; the file as it is, run by ONNX Runtime, does not round at all."""
    net = Net((1, 2, 4, 6, 8))
    x = net.node("Add", ["image", net.constant("big", np.array(2000, np.float32))], "lift")
    model = net.model({"out": net.node("Sub", [x, "big"], "drop")})
    changed = convert(model, set())
    example = image((4, 6, 8))
    expected = (example["image"].astype(np.float16) + np.float16(2000)) - np.float16(2000)
    found = graph.run(as_stored(changed), example)["out"]
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert np.abs(graph.run(changed, example)["out"] - found).max() > 0.1


def test_rounding_keeps_names_and_types() -> None:
    model = graph.tidy(unet())
    half = convert(model, {"mask_head", "to_mask", "to_score"})
    wide = as_stored(half)
    assert {tensor.data_type for tensor in wide.graph.initializer} == {TensorProto.FLOAT}
    assert set(graph.producers(half.graph)) <= set(graph.producers(wide.graph))
    assert list(wide.graph.output) == list(half.graph.output)
    stored = graph.run(graph.cut(wide, ["d_act_out"]), image())["d_act_out"]
    np.testing.assert_array_equal(stored, stored.astype(np.float16).astype(np.float32))


def test_between_two_islands_nothing_passes_through_fp16() -> None:
    net = Net((1, 2, 4, 6, 8))
    x = net.node("Mul", ["image", net.constant("huge", np.array(1e8, np.float32))], "up")
    both = [net.node("Div", [x, "huge"], "down"), net.node("Div", [x, "huge"], "down2")]
    model = net.model({"out": net.node("Add", both, "sum")})
    half = convert(model, {"up", "down", "down2"})
    found = graph.run(as_stored(half), image((4, 6, 8)))["out"]
    np.testing.assert_allclose(found, 2 * image((4, 6, 8))["image"], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("value", [np.inf, 0.0])
def test_a_constant_that_became_infinite_or_vanished_is_found(value: float) -> None:
    model = graph.tidy(unet())
    half = convert(model, set())
    _verify(model, half)
    tensor = graph.constants(half.graph)["a.b"]
    spoiled = numpy_helper.to_array(tensor).copy()
    spoiled[np.abs(spoiled).argmax()] = value
    tensor.CopyFrom(numpy_helper.from_array(spoiled, "a.b"))
    with pytest.raises(BundleError, match=r"a\.b"):
        _verify(model, half)


def test_an_input_that_became_fp16_is_found() -> None:
    model = graph.tidy(unet())
    half = ModelProto()
    half.CopyFrom(model)
    half.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(BundleError, match="input or output"):
        _verify(model, half)


def test_what_the_converter_cannot_do_is_a_bundle_error() -> None:
    model = graph.tidy(unet())
    with pytest.raises(BundleError, match="onnxconverter-common"):
        convert(convert(model, set()), set())
