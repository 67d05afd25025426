"""Norms taken apart say what float64 says, whatever the shape; on many voxels the runtimes' own do not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx_nets import Net
from torch import nn

from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.model.runners.openvino import OpenVinoRunner
from npc_edge.export import graph as graphs
from npc_edge.export.passes import rewrite
from npc_edge.export.staged_norms import JOINED_NORMS, LOWERED, MANY, STAGED_NORMS, staged_norms
from npc_edge.export.to_onnx import export_onnx

EVERY = staged_norms(0)


def normed(
    x: NDArray[np.float32], scale: NDArray[np.float32], shift: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The norm in float64."""
    wide, axes = x.astype(np.float64), tuple(range(2, x.ndim))
    column = (1, -1, *(1,) * len(axes))
    mean, variance = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    return (wide - mean) / np.sqrt(variance + 1e-5) * scale.reshape(column) + shift.reshape(column)


@pytest.mark.parametrize("space", [(7,), (5, 1), (3, 5, 7), (1, 1, 9), (20, 16, 12)], ids=str)
def test_a_norm_taken_apart_is_the_norm(space: tuple[int, ...]) -> None:
    """Far from 0 too, where a variance made of squares would be nothing but rounding."""
    net = Net(("batch", 4, *space))
    scale, shift = net.normal("scale", (4,)), net.normal("shift", (4,))
    model = net.model({"out": net.node("InstanceNormalization", ["image", scale, shift], "norm")})
    image = np.random.default_rng(1).standard_normal((2, 4, *space)).astype(np.float32) + np.float32(50)
    changed = EVERY.apply(graphs.tidy(model))
    graphs.check(changed, "what it made")
    assert "InstanceNormalization" not in [node.op_type for node in changed.graph.node]
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    expected = normed(image, values["scale"], values["shift"])
    assert relative_error(graphs.run(changed, {"image": image})["out"], expected) < 1e-5


def test_it_is_compared_and_timed_as_every_rewrite() -> None:
    net = Net((1, 4, 6, 8, 10))
    model = net.model({"out": net.instance_norm(net.conv("image", "layer", (4, 4, 1)), "norm", 4)})
    image = np.random.default_rng(2).standard_normal((1, 4, 6, 8, 10)).astype(np.float32)
    _, (step,) = rewrite(model, [EVERY], {"image": image})
    assert (step.name, step.nodes_after - step.nodes_before) == ("staged-norms", 12)
    assert 0 < step.error < 1e-6
    assert step.ms_after > 0


def test_few_voxels_unknown_sizes_and_weights_that_are_fed_are_left() -> None:
    assert MANY == 64**3
    small = Net(("batch", 2, 64, 64, 64))
    small.constant("unread", np.ones(3, np.float32))
    free = Net((1, 2, "z", 128, 128))
    fed = Net((1, 2, 128, 128, 128))
    fed.inputs["scale"] = (2,)
    for net, scale in ((small, ""), (free, ""), (fed, "scale")):
        inputs = ["image", scale or net.normal("scale", (2,)), net.normal("shift", (2,))]
        model = graphs.tidy(net.model({"out": net.node("InstanceNormalization", inputs, "norm")}))
        assert STAGED_NORMS.apply(model) == model


@pytest.mark.parametrize("shifted", [True, False])
def test_norms_are_joined_again_before_a_file_loses_precision(shifted: bool) -> None:
    """Into what they were: the same node, whatever stands before and behind it."""
    net = Net(("batch", 4, 6, 8, 1))
    scale = net.normal("scale", (4,))
    shift = net.normal("shift", (4,)) if shifted else net.constant("shift", np.zeros(4, np.float32))
    x = net.conv("image", "layer", (4, 4, 1))
    x = net.node("InstanceNormalization", [x, scale, shift], "norm", epsilon=1e-3)
    residual = net.node("Add", [x, net.normal("more", (1, 4, 1, 1, 1))], "residual")
    model = graphs.tidy(net.model({"out": net.node("Sub", [residual, "image"], "rest"), "normed": x}))
    image = {"image": np.random.default_rng(3).standard_normal((2, 4, 6, 8, 1)).astype(np.float32)}
    apart = EVERY.apply(model)
    assert apart != model
    joined, (step, *_) = rewrite(apart, LOWERED, image)
    assert step.name == "joined-norms"
    assert 0 < step.error < 1e-5
    (norm,) = [node for node in joined.graph.node if node.op_type == "InstanceNormalization"]
    values = {
        t.name: onnx.numpy_helper.to_array(t) for t in (*joined.graph.initializer, *model.graph.initializer)
    }
    for found, given in zip(norm.input[1:], ("scale", "shift"), strict=True):
        np.testing.assert_array_equal(values[found], values[given])
    assert norm.attribute[0].f == pytest.approx(1e-3)
    assert not {"AveragePool", "Sqrt"} & {node.op_type for node in joined.graph.node}


def test_what_only_looks_like_a_norm_is_left() -> None:
    net = Net((1, 4, 6, 8, 10))
    model = graphs.tidy(net.model({"out": net.instance_norm("image", "norm", 4)}))
    assert JOINED_NORMS.apply(model) == model
    apart = EVERY.apply(model)
    for kind, change in (("Sqrt", "Exp"), ("Sub", "Add"), ("Div", "Mul"), ("AveragePool", "MaxPool")):
        other = onnx.ModelProto()
        other.CopyFrom(apart)
        next(node for node in other.graph.node if node.op_type == kind).op_type = change
        assert JOINED_NORMS.apply(other) == other


def smooth(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    coarse = torch.randn(
        (*shape[:2], *(n // 8 for n in shape[2:])), generator=torch.Generator().manual_seed(seed)
    )
    return nn.functional.interpolate(coarse, shape[2:], mode="trilinear").numpy()


def test_over_many_voxels_openvino_s_own_norm_is_off_and_this_is_not(tmp_path: Path) -> None:
    """In the blocked layout that its convolutions leave. Where this fails because its norm has become exact,
    the pass is no longer needed."""
    net = Net((1, 1, 96, 128, 128))
    layer = net.conv("image", "layer", (1, 8, 1), (1, 1, 1))
    norm = net.instance_norm(layer, "norm", 8)
    pooled = net.node("AveragePool", [norm], "pool", kernel_shape=[8, 8, 8], strides=[8, 8, 8])
    plain = graphs.tidy(net.model({"out": pooled}))
    image = smooth((1, 1, 96, 128, 128), 3)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in plain.graph.initializer}
    weight, bias = (values[f"layer.{part}"].astype(np.float64).reshape(1, 8, 1, 1, 1) for part in "wb")
    truth = normed(image * weight + bias, values["norm.g"], values["norm.b"])
    truth = truth.reshape(1, 8, 12, 8, 16, 8, 16, 8).mean((3, 5, 7))
    errors = {}
    for name, model in (("own", plain), ("staged", STAGED_NORMS.apply(plain))):
        onnx.save(model, str(tmp_path / f"{name}.onnx"))
        with OpenVinoRunner(tmp_path / f"{name}.onnx", threads=1, precision="fp32") as runner:
            errors[name] = relative_error(runner.infer({IMAGE: image})["out"], truth)
        errors[f"{name} on onnxruntime"] = relative_error(graphs.run(model, {IMAGE: image})["out"], truth)
    assert errors["own"] > 1e-4
    assert max(errors["staged"], errors["staged on onnxruntime"]) < 1e-5


def test_an_export_takes_long_norms_apart_and_says_what_it_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv3d(1, 2, 1), nn.InstanceNorm3d(2, affine=True), nn.AvgPool3d(8))
    path = tmp_path / "far.onnx"
    made = export_onnx(nn.Sequential(*layers), torch.zeros(1, 1, 96, 128, 128), ("out",), path)
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert made.rewritten is not None
    assert "InstanceNormalization" not in kinds
    assert made.rewritten.errors[1] == made.errors["out"] < made.rewritten.errors[0]
    assert made.rewritten.sentence().startswith("Rewrite staged-norms: ")
