"""fp16 holds its target, keeps fp32 where values or statistics need it, and is a valid file."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_nets import Net, image, unet

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.export import graph
from npc_edge.export.half import fits_half, heads, to_half
from npc_edge.export.to_float16 import as_stored, convert


def error(model: ModelProto, changed: ModelProto, example: dict[str, Any]) -> float:
    return graph.output_error(graph.run(as_stored(changed), example), graph.run(model, example))


def types(model: ModelProto) -> dict[str, int]:
    """Tensor → element type."""
    return {name: value.type.tensor_type.elem_type for name, value in graph.value_types(model).items()}


def test_a_network_with_its_statistics_and_heads_in_fp32() -> None:
    model = unet()
    changed, islands = to_half(model, [image(), image(seed=2)])
    assert error(model, changed, image(seed=7, batch=2)) < 5e-3
    assert 0 < islands.error < 1e-2
    assert set(islands.nodes) == {
        *("first_norm", "a_norm", "b_norm", "c_norm", "d_norm", "average"),
        *("mask_head", "score_head", "to_mask", "to_score"),
    }
    assert islands.half == len(model.graph.node) - len(islands.nodes)
    assert len(changed.SerializeToString()) < 0.6 * len(model.SerializeToString())
    kinds = types(changed)
    assert {kinds[name] for name in ("image", "mask", "score")} == {TensorProto.FLOAT}
    assert kinds["d_act_out"] == kinds["join_out"] == TensorProto.FLOAT16
    by_name = {node.name: node for node in changed.graph.node}
    for name in ("b_norm", "mask_head"):
        assert {kinds[tensor] for tensor in by_name[name].output} == {TensorProto.FLOAT}


def test_values_beyond_fp16_get_an_island() -> None:
    """A norm may read anything: here up to 1e5 times what it writes."""
    net = Net(("batch", 2, 4, 6, 8))
    loud = net.conv("image", "loud", (2, 8, 1))
    loud = net.node("Mul", [loud, net.constant("gain", np.full((1, 8, 1, 1, 1), 6e4, np.float32))], "gained")
    x = net.instance_norm(net.conv(loud, "more", (8, 8, 1)), "norm", 8)
    model = net.model({"out": net.conv(net.conv(x, "plain", (8, 8, 1)), "head", (8, 2, 1))})
    example = image((4, 6, 8))
    with np.errstate(all="ignore"):
        unguarded = convert(model, {"head", "norm", "to_out"})
    assert not np.isfinite(graph.run(as_stored(unguarded), example)["out"]).all()

    changed, islands = to_half(model, [example])
    assert {"gained", "more", "norm"} <= set(islands.nodes)
    assert "plain" not in islands.nodes
    assert "values up to" in islands.why["more"]
    assert error(model, changed, example) < 1e-2


def test_nodes_that_hurt_are_found_by_measurement() -> None:
    """Adding 2000 and taking it away again leaves nothing of small values; no value is out of range."""
    net = Net((1, 2, 4, 6, 8))
    x = net.conv("image", "before", (2, 8, 1))
    x = net.node("Add", [x, net.constant("big", np.array(2000, np.float32))], "lift")
    x = net.node("Relu", [x], "act")
    x = net.node("Sub", [x, "big"], "drop")
    for name in "abcdefgh":
        x = net.node("Relu", [net.conv(x, name, (8, 8, 1))], f"{name}_act")
    model = net.model({"out": net.conv(x, "head", (8, 2, 1))})
    example = image((4, 6, 8))
    with np.errstate(all="ignore"):
        unguarded = convert(model, {"head", "to_out"})
    assert error(model, unguarded, example) > 0.05

    changed, islands = to_half(model, [example])
    assert {"lift", "act", "drop"} <= set(islands.nodes)
    assert islands.rounds > 1
    assert islands.half > 8
    assert error(model, changed, example) == islands.error < 1e-2
    assert "added" in islands.why["drop"]


def test_an_unreachable_target_is_refused() -> None:
    with pytest.raises(BundleError, match="fp16"):
        to_half(unet(), [image()], target=0.0)
    with pytest.raises(UsageError):
        to_half(unet(), [])
    with pytest.raises(UsageError, match="no node nowhere"):
        to_half(unet(), [image()], keep=frozenset({"nowhere"}))


def test_constants_that_fp16_cannot_hold_keep_their_node_in_fp32() -> None:
    for value, fits in ((1.0, True), (6.5e4, True), (7e4, False), (1e-7, False), (0.0, True), (-1e5, False)):
        assert fits_half(numpy_helper.from_array(np.array([value, 0], np.float32))) == fits
    net = Net((1, 2, 4, 6, 8))
    x = net.conv("image", "a", (2, 8, 1))
    x = net.node("Mul", [x, net.constant("tiny", np.array(1e-9, np.float32))], "shrink")
    x = net.node("Div", [x, "tiny"], "grow")
    model = net.model({"out": net.conv(net.conv(x, "b", (8, 8, 1)), "head", (8, 2, 1))})
    changed, islands = to_half(model, [image((4, 6, 8))])
    assert {islands.why[name] for name in ("shrink", "grow")} == {"fp16 cannot hold one of its constants"}
    # Between two islands nothing passes through fp16, where 1e-9 is 0.
    assert error(model, changed, image((4, 6, 8), seed=4)) < 1e-2


def test_an_output_that_the_network_reads_on_stays_float32() -> None:
    """Deep supervision: an inner tensor is an output too, made by an island and by a plain layer."""
    for inner in ("norm_out", "a_out"):
        net = Net((1, 2, 4, 6, 8))
        x = net.instance_norm(net.conv("image", "a", (2, 8, 1)), "norm", 8)
        x = net.conv(net.conv(x, "b", (8, 8, 1)), "c", (8, 8, 1))
        model = net.model({"out": net.conv(x, "head", (8, 2, 1))})
        model.graph.output.append(helper.make_tensor_value_info(inner, TensorProto.FLOAT, (1, 8, 4, 6, 8)))
        changed, _ = to_half(model, [image((4, 6, 8))])
        assert [value.name for value in changed.graph.output] == ["out", inner]
        assert types(changed)[inner] == TensorProto.FLOAT
        assert error(model, changed, image((4, 6, 8), seed=4)) < 1e-2


def test_a_constant_shared_by_an_island_and_a_plain_layer() -> None:
    net = Net((1, 2, 4, 6, 8))
    x = net.conv("image", "a", (2, 8, 1))
    x = net.node("Mul", [x, net.normal("shared", (8, 1, 1, 1))], "plain")
    x = net.node("Mul", [net.conv(x, "b", (8, 8, 1)), "shared"], "kept")
    model = net.model({"out": net.conv(x, "head", (8, 2, 1))})
    changed, islands = to_half(model, [image((4, 6, 8))], keep=frozenset({"kept"}))
    assert islands.why["kept"] == "asked for"
    kinds = {tensor.name: tensor.data_type for tensor in changed.graph.initializer}
    assert kinds["shared"] == TensorProto.FLOAT16
    assert kinds["shared.fp32"] == TensorProto.FLOAT
    assert error(model, changed, image((4, 6, 8), seed=4)) < 1e-2


def test_resizing_and_casts_survive() -> None:
    net = Net((1, 2, 4, 6, 8))
    x = net.conv("image", "a", (2, 8, 1))
    scales = net.constant("scales", np.array([1, 1, 2, 2, 2], np.float32))
    x = net.node("Resize", [x, "", scales], "resize", mode="linear")
    x = net.node("Cast", [net.node("Greater", [x, net.constant("z", np.float32([0.1]))], "gt")], "mask", to=1)
    model = net.model({"out": net.conv(net.conv(x, "b", (8, 8, 1)), "head", (8, 2, 1))})
    changed, islands = to_half(model, [image((4, 6, 8))], target=0.5)
    assert {"resize", "mask"} <= set(islands.nodes)
    assert graph.run(changed, image((4, 6, 8)))["out"].shape == (1, 2, 8, 12, 16)
    onnx.checker.check_model(changed, full_check=True)


def ints(net: Net, name: str, values: Any) -> str:
    return net.constant(name, np.array(values, np.int64))


def test_shifted_window_attention() -> None:
    """What a Swin block is made of: a roll, windows, attention under a mask, shapes computed on the way."""
    net = Net(("batch", 16, 24))
    last, rest = ints(net, "from", [20]), ints(net, "end", [24])
    parts = [
        net.node("Slice", ["image", last, rest, ints(net, "axis", [2])], "tail"),
        net.node("Slice", ["image", ints(net, "zero", [0]), last, "axis"], "front"),
    ]
    x = net.node("Transpose", [net.node("Concat", parts, "roll", axis=2)], "tokens", perm=[0, 2, 1])
    x = net.node("LayerNormalization", [x, net.normal("g", (16,)), net.normal("b", (16,))], "norm")
    windows = net.node("Reshape", [x, ints(net, "windows", [-1, 6, 16])], "window")
    size = net.node("Gather", [net.node("Shape", [windows], "shape"), ints(net, "first", [0])], "count")
    q, k, v = (net.node("MatMul", [windows, net.normal(f"{n}.w", (16, 16), 0.3)], n) for n in "qkv")
    k = net.node("Transpose", [k], "kt", perm=[0, 2, 1])
    scores = net.node("MatMul", [q, k], "scores")
    mask = net.constant("mask", np.tri(6, dtype=bool))
    low = net.node("Expand", [net.constant("low", np.array(-100, np.float32)), ints(net, "six", [6])], "lows")
    scores = net.node("Where", [mask, scores, low], "masked")
    x = net.node("MatMul", [net.node("Softmax", [scores], "softmax", axis=-1), v], "mixed")
    back = net.node("Concat", [size, ints(net, "flat", [96])], "back", axis=0)
    x = net.node("Reshape", [net.node("Reshape", [x, back], "join"), ints(net, "all", [-1, 24, 16])], "whole")
    x = net.node("MatMul", [net.node("Gelu", [x], "gelu"), net.normal("o.w", (16, 16), 0.3)], "project")
    model = net.model({"out": net.node("MatMul", [x, net.normal("h.w", (16, 2))], "head")}, opset=20)
    random = np.random.default_rng(0)
    cases = [{"image": random.standard_normal((n, 16, 24)).astype(np.float32)} for n in (1, 2, 3)]
    changed, islands = to_half(model, cases[:2])
    assert set(islands.nodes) == {"norm", "softmax", "head", "to_out"}
    assert error(model, changed, cases[2]) < 1e-2


def test_heads_reach_back_to_the_last_layer_with_weights() -> None:
    assert set(heads(graph.tidy(unet()))) == {"mask_head", "score_head", "to_mask", "to_score"}
