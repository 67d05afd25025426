"""Two flavours of int8 from one calibration: what is in the file, and what it says beside fp32."""

from collections import Counter
from typing import Any

import numpy as np
import openvino_run
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from onnx_nets import Net, image, unet

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model.metrics import relative_error
from npc_edge.export import graph
from npc_edge.export.observe import Range, observe
from npc_edge.export.passes import PASSES, rewrite
from npc_edge.export.qdq import FLAVOURS, Flavour, activations, quantizable, quantize

SIZE = (8, 16, 16)
TOLERANCE = {"mask": 0.1, "score": 0.02}
"""Of the output's largest value: 6 layers of 8 bits with random weights; measured 0.05 and 0.006."""


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return rewrite(unet(SIZE), PASSES, image(SIZE))[0]


@pytest.fixture(scope="module")
def ranges(model: ModelProto) -> dict[str, Range]:
    return observe(model, activations(model), [image(SIZE, seed=seed) for seed in range(4)])


def initializers(model: ModelProto, kind: int) -> list[Any]:
    return [tensor for tensor in model.graph.initializer if tensor.data_type == kind]


def errors(found: Any, expected: Any) -> dict[str, float]:
    return {name: relative_error(found[name], array) for name, array in expected.items()}


def test_first_last_and_thin_layers_are_left_out(model: ModelProto) -> None:
    assert quantizable(model) == ("a", "b", "c", "up", "d", "hidden")
    net = Net((1, 2, 4, 6, 8))
    x = net.conv(net.conv("image", "first", (2, 16, 1)), "thin", (16, 8, 1))
    x = net.conv(net.conv(x, "from_thin", (8, 16, 1)), "depthwise", (16, 16, 16))
    x = net.up(net.conv(x, "wide", (16, 16, 1)), "up", (16, 16, 1))
    assert quantizable(net.model({"out": net.conv(x, "last", (16, 16, 1))})) == ("depthwise", "wide")


def test_what_is_to_be_observed(model: ModelProto) -> None:
    assert activations(model) == (
        *("first_act_out", "pool_out", "b_act_out", "c_act_out", "join_out", "flat_out"),
    )
    assert activations(model, frozenset({"a", "hidden"})) == (
        "pool_out",
        "b_act_out",
        "c_act_out",
        "join_out",
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_int8_says_what_fp32_says(model: ModelProto, ranges: dict[str, Range], flavour: Flavour) -> None:
    small = quantize(model, ranges, flavour)
    case = image(SIZE, batch=2, seed=11)
    found = errors(graph.run(small, case), graph.run(model, case))
    assert all(0 < found[name] < limit for name, limit in TOLERANCE.items()), found


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_weights_are_int8_in_the_file(model: ModelProto, ranges: dict[str, Range], flavour: Flavour) -> None:
    small = quantize(model, ranges, flavour)
    weights = {t.name: numpy_helper.to_array(t) for t in small.graph.initializer if t.name.endswith(".int8")}
    assert len(weights) == 6
    assert all(array.dtype == np.int8 and array.min() >= -127 for array in weights.values())
    original = graph.constants(model.graph)
    for name, array in weights.items():
        weight = numpy_helper.to_array(original[name.removesuffix(".int8")])
        scale = numpy_helper.to_array(graph.constants(small.graph)[name.replace(".int8", ".scale")])
        axis = 1 if name == "g.w.int8" else 0
        assert scale.shape == (weight.shape[axis],)
        back = array * np.expand_dims(scale, [a for a in range(weight.ndim) if a != axis])
        np.testing.assert_allclose(back, weight, atol=0.5001 * scale.max())
        assert name.removesuffix(".int8") not in graph.constants(small.graph)
    weighted = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert sum(len(tensor.raw_data) for tensor in small.graph.initializer) < 0.3 * weighted


def test_the_signed_flavour_is_what_tensorrt_takes(model: ModelProto, ranges: dict[str, Range]) -> None:
    small = quantize(model, ranges, "int8-s8s8")
    assert initializers(small, TensorProto.UINT8) == initializers(small, TensorProto.INT32) == []
    values = graph.constants(small.graph)
    zeros = [values[n.input[2]] for n in small.graph.node if n.op_type == "QuantizeLinear"]
    zeros += [values[n.input[2]] for n in small.graph.node if n.op_type == "DequantizeLinear"]
    assert len(zeros) == 6 + 12
    assert all(zero.data_type == TensorProto.INT8 for zero in zeros)
    assert not any(numpy_helper.to_array(zero).any() for zero in zeros)
    biases = [node.input[2] for node in small.graph.node if node.op_type == "Conv" and len(node.input) > 2]
    assert biases
    assert {values[name].data_type for name in biases} == {TensorProto.FLOAT}


def test_the_unsigned_flavour_spans_the_range(model: ModelProto, ranges: dict[str, Range]) -> None:
    small = quantize(model, ranges, "int8-u8s8")
    values = {name: numpy_helper.to_array(tensor) for name, tensor in graph.constants(small.graph).items()}
    for name, span in ranges.items():
        scale, zero = float(values[f"{name}.scale"]), values[f"{name}.zero"]
        assert zero.dtype == np.uint8
        assert (0 - int(zero)) * scale == pytest.approx(span.low, abs=scale)
        assert (255 - int(zero)) * scale == pytest.approx(span.high, abs=scale)
    assert values["first_act_out.zero"] == 0
    assert values["join_out.zero"] > 0


def test_openvino_and_onnxruntime_agree_on_unsigned_activations(
    model: ModelProto, ranges: dict[str, Range]
) -> None:
    small = quantize(model, ranges, "int8-u8s8")
    case = image(SIZE, seed=11)
    # A value on the edge of two levels may fall to either side.
    found = errors(openvino_run.run(small, case), graph.run(small, case))
    assert all(error < 0.02 for error in found.values()), found


def test_openvino_is_wrong_on_signed_activations(model: ModelProto, ranges: dict[str, Range]) -> None:
    """Why there are two flavours. When this fails, OpenVINO was mended and can have the signed one too."""
    small = quantize(model, ranges, "int8-s8s8")
    case = image(SIZE, seed=11)
    expected = graph.run(model, case)["mask"]
    right = relative_error(graph.run(small, case)["mask"], expected)
    wrong = relative_error(openvino_run.run(small, case)["mask"], expected)
    assert wrong > 2 * right


def test_layers_to_keep_are_left_as_they_were(model: ModelProto, ranges: dict[str, Range]) -> None:
    small = quantize(model, ranges, "int8-u8s8", keep=frozenset({"a", "d"}))
    before = {node.name: node for node in graph.tidy(model).graph.node}
    after = {node.name: node for node in small.graph.node}
    assert {name for name in before if before[name] != after[name]} == {"b", "c", "up", "hidden"}
    assert Counter(node.op_type for node in small.graph.node)["DequantizeLinear"] == 8


def test_the_model_given_is_left_as_it_was(model: ModelProto, ranges: dict[str, Range]) -> None:
    before = model.SerializeToString(deterministic=True)
    quantize(model, ranges, "int8-u8s8")
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("transposed", [0, 1])
def test_linear_layers(transposed: int) -> None:
    net = Net(("batch", 24), seed=3)
    x = net.node("Gemm", ["image", net.normal("w1", (24, 32), 0.2)], "first")
    shape = (40, 32) if transposed else (32, 40)
    x = net.node(
        "Gemm", [x, net.normal("w2", shape, 0.2), net.normal("b2", (40,))], "gemm", transB=transposed
    )
    x = net.node("MatMul", [x, net.normal("w3", (40, 20), 0.2)], "matmul")
    model = net.model({"out": net.node("Gemm", [x, net.normal("w4", (20, 3), 0.2)], "last")})
    assert quantizable(model) == ("gemm", "matmul")
    case = {"image": np.random.default_rng(0).standard_normal((64, 24)).astype(np.float32)}
    found = observe(model, activations(model), [case])
    for flavour in FLAVOURS:
        small = quantize(model, found, flavour)
        axes = [n.attribute[0].i for n in small.graph.node if n.op_type == "DequantizeLinear" and n.attribute]
        assert axes == [0 if transposed else 1, 1]
        assert errors(graph.run(small, case), graph.run(model, case))["out"] < 0.05


def test_layers_that_share_a_weight_share_its_int8_form() -> None:
    net = Net((1, 2, 4, 6, 8))
    x = net.conv(net.conv("image", "first", (2, 16, 1)), "one", (16, 16, 1))
    x = net.node("Conv", [x, "one.w", "one.b"], "two", kernel_shape=[3, 3, 3], pads=[1] * 6)
    model = net.model({"out": net.conv(x, "last", (16, 2, 1))})
    spans = dict.fromkeys(activations(model), Range(-4, 4))
    small = quantize(model, spans, "int8-u8s8")
    assert len(initializers(small, TensorProto.INT8)) == 2  # the weight and its zero points
    kept = quantize(model, spans, "int8-u8s8", keep=frozenset({"two"}))
    assert "one.w" in graph.constants(kept.graph)


def test_a_channel_or_tensor_of_zeros_stays_zero() -> None:
    net = Net((1, 2, 4, 6, 8))
    x = net.conv(net.conv("image", "first", (2, 16, 1)), "one", (16, 16, 1))
    model = net.model({"out": net.conv(x, "last", (16, 2, 1))})
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "one.w")
    values = numpy_helper.to_array(weight).copy()
    values[3] = 0
    weight.CopyFrom(numpy_helper.from_array(values, "one.w"))
    for flavour in FLAVOURS:
        small = quantize(model, {"first_out": Range(0.0, 0.0)}, flavour)
        assert all(np.isfinite(array).all() for array in graph.run(small, image((4, 6, 8))).values())
        levels = numpy_helper.to_array(graph.constants(small.graph)["one.w.int8"])
        assert not levels[3].any()
        assert levels[2].any()


def test_what_cannot_be_quantized_is_refused(model: ModelProto, ranges: dict[str, Range]) -> None:
    with pytest.raises(UsageError, match="flavour"):
        quantize(model, ranges, "int8-u8u8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no node nowhere"):
        quantize(model, ranges, "int8-u8s8", keep=frozenset({"nowhere"}))
    with pytest.raises(BundleError, match="join_out was not calibrated"):
        quantize(model, {n: r for n, r in ranges.items() if n != "join_out"}, "int8-u8s8")
    with pytest.raises(BundleError, match="no layer is left"):
        quantize(model, ranges, "int8-u8s8", keep=frozenset(quantizable(model)))
    with pytest.raises(BundleError, match="cannot be quantized"):
        quantize(model, dict.fromkeys(ranges, Range(0, np.inf)), "int8-u8s8")
    old = Net((1, 2, 4, 6, 8))
    x = old.conv(old.conv("image", "first", (2, 16, 1)), "one", (16, 16, 1))
    with pytest.raises(BundleError, match="opset 13"):
        quantize(old.model({"out": old.conv(x, "last", (16, 2, 1))}, opset=12), {}, "int8-u8s8")
