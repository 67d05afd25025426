"""The first layer that says something else is named, on a chain and beside a skip, on any backend."""

import math
from collections.abc import Callable

import numpy as np
import openvino_run
import pytest
from onnx import ModelProto, numpy_helper
from onnx_nets import Net, image, unet

from npc_edge.engine.errors import BundleError
from npc_edge.export import graph
from npc_edge.export.diverge import first_divergence
from npc_edge.export.half import to_half
from npc_edge.export.observe import Range, observe
from npc_edge.export.passes import PASSES, rewrite
from npc_edge.export.qdq import activations, quantize


def broken(model: ModelProto, weight: str, change: Callable[[np.ndarray], np.ndarray]) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    tensor = graph.constants(changed.graph)[weight]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), weight))
    return changed


@pytest.mark.parametrize("layer", ["first", "a", "b", "c", "up", "d", "mask_head"])
def test_the_planted_layer_is_named(layer: str) -> None:
    model = unet()
    found = first_divergence(model, broken(model, f"{layer}.w", lambda w: w[::-1].copy()), image(), 1e-3)
    assert found is not None
    assert (found.node, found.tensor) == (layer, f"{layer}_out")
    assert found.kind == ("ConvTranspose" if layer == "up" else "Conv")
    assert found.error > 0.1
    assert found.output_error > 1e-3
    assert found.checked <= 2 + 6  # of 23 tensors


def test_a_score_that_diverged_is_followed_to_its_own_branch() -> None:
    model = unet()
    found = first_divergence(model, broken(model, "g.w", np.negative), image(), 1e-3)
    assert found is not None
    assert found.node == "hidden"


def test_values_that_are_not_finite_are_found() -> None:
    model = unet()
    found = first_divergence(model, broken(model, "b.w", lambda w: w * np.float32(np.nan)), image(), 0.5)
    assert found is not None
    assert (found.node, found.error) == ("b", math.inf)


def test_what_agrees_has_not_diverged() -> None:
    model = unet()
    assert first_divergence(model, model, image(), 0.0) is None
    assert first_divergence(model, rewrite(model, PASSES, image())[0], image(), 1e-4) is None


def test_a_long_chain_takes_a_logarithm_of_runs() -> None:
    net = Net((1, 2, 3, 4, 5))
    x = "image"
    for index in range(60):
        x = net.conv(x, f"layer{index}", (2, 2, 1), (1, 1, 1))
    model = net.model({"out": x})
    found = first_divergence(model, broken(model, "layer41.b", lambda b: b + 1), image((3, 4, 5)), 1e-3)
    assert found is not None
    assert found.node == "layer41"
    assert found.checked <= 8


def test_int8_is_compared_where_both_have_a_tensor() -> None:
    """A range far too small clips what one layer reads; its own output is the first that is wrong."""
    model = rewrite(unet(), PASSES, image())[0]
    ranges = observe(model, activations(model), [image(seed=seed) for seed in range(3)])
    ranges["c_act_out"] = Range(0.0, 0.05 * ranges["c_act_out"].high)
    for run in (graph.run, openvino_run.run):
        found = first_divergence(model, quantize(model, ranges, "int8-u8s8"), image(), 0.2, run)
        assert found is not None
        assert found.node in ("up", "up.split", "up.join")
        assert found.tensor.startswith("up_out")


def test_fp16_is_compared_too() -> None:
    model = unet()
    half, _ = to_half(model, [image()])
    assert first_divergence(model, half, image(), 1e-2) is None
    found = first_divergence(model, broken(half, "d.w", lambda w: w * np.float16(1.5)), image(), 0.05)
    assert found is not None
    assert found.node == "d"


def test_graphs_with_nothing_in_common_are_refused() -> None:
    net = Net(("batch", 2, 4, 8, 8))
    other = net.model({"other": net.node("Relu", ["image"], "act")})
    with pytest.raises(BundleError, match="no output in common"):
        first_divergence(unet(), other, image(), 0.1)
