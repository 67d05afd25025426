"""Every rewrite says the same as before, whatever the shape; what it must not touch stays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx_nets import Net, image, unet

from npc_edge.engine.errors import BundleError
from npc_edge.export.graph import run
from npc_edge.export.passes import BATCH_NORM, DEAD_BRANCHES, DEPTH_TO_SPACE, PASSES, Pass, rewrite, wanted


def kinds(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def agree(a: ModelProto, b: ModelProto, example: dict[str, Any]) -> None:
    expected, found = run(a, example), run(b, example)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5 * np.abs(array).max())


def test_all_of_them_on_a_network_with_a_free_batch() -> None:
    model = unet()
    changed, applied = rewrite(model, PASSES, image())
    assert [step.name for step in applied] == ["dead-branches", "batch-norm", "depth-to-space"]
    assert all(step.error < 1e-5 for step in applied)
    assert applied[0].nodes_before == applied[0].nodes_after == len(model.graph.node)
    assert applied[1].nodes_before - applied[1].nodes_after == 3
    assert applied[2].nodes_after - applied[2].nodes_before == 3
    assert applied[0].ms_after == applied[1].ms_before > 0
    assert not {"BatchNormalization", "ConvTranspose"} & set(kinds(changed))
    for batch in (1, 3):
        agree(model, changed, image(batch=batch))
    assert changed.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    left = {tensor.name for tensor in changed.graph.initializer}
    assert left == {n for node in changed.graph.node for n in node.input if n in left}


def test_the_model_given_is_left_as_it_was() -> None:
    model = unet()
    before = model.SerializeToString(deterministic=True)
    rewrite(model, PASSES, image())
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("kind", ["conv", "up"])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_becomes_part_of_its_convolution(kind: str, group: int, bias: bool) -> None:
    net = Net(("batch", 4, 3, 5, 7))
    layer = net.conv if kind == "conv" else net.up
    x = layer("image", "layer", (4, 8, group), bias=bias)
    model = net.model({"out": net.batch_norm(net.batch_norm(x, "norm", 8), "again", 8)})
    example = {"image": np.random.default_rng(5).standard_normal((2, 4, 3, 5, 7)).astype(np.float32)}
    changed, (step,) = rewrite(model, [BATCH_NORM], example)
    assert kinds(changed) == ["Conv" if kind == "conv" else "ConvTranspose", "Identity"]
    assert step.error < 1e-6
    agree(model, changed, example)


def test_batch_norm_stays_where_others_read_its_convolution() -> None:
    net = Net((1, 4, 3, 4, 5))
    x = net.conv("image", "layer", (4, 8, 1))
    normed = net.batch_norm(x, "norm", 8)
    model = net.model({"out": net.node("Add", [x, normed], "sum")})
    changed, (step,) = rewrite(model, [BATCH_NORM], {"image": np.ones((1, 4, 3, 4, 5), np.float32)})
    assert kinds(changed).count("BatchNormalization") == 1
    assert (step.error, step.ms_before) == (0.0, step.ms_after)


def test_batch_norm_stays_where_its_convolution_is_an_output() -> None:
    net = Net((1, 4, 3, 4, 5))
    x = net.conv("image", "layer", (4, 8, 1))
    model = net.model({"out": net.batch_norm(x, "norm", 8)})
    model.graph.output.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, (1, 8, 3, 4, 5)))
    changed, _ = rewrite(model, [BATCH_NORM], {"image": np.ones((1, 4, 3, 4, 5), np.float32)})
    assert "BatchNormalization" in kinds(changed)


def test_layers_that_share_weights_go_on_sharing_them() -> None:
    net = Net((1, 4, 3, 4, 5))
    first = net.batch_norm(net.conv("image", "layer", (4, 4, 1)), "norm", 4)
    net.nodes.append(
        helper.make_node("Conv", [first, "layer.w", "layer.b"], ["again"], "again", pads=[1] * 6)
    )
    parameters = [f"norm.{part}" for part in "gbmv"]
    second = net.node("BatchNormalization", ["again", *parameters], "norm2", epsilon=1e-3)
    model = net.model({"out": second})
    example = {"image": np.random.default_rng(0).standard_normal((1, 4, 3, 4, 5)).astype(np.float32)}
    changed, _ = rewrite(model, [BATCH_NORM], example)
    assert kinds(changed) == ["Conv", "Conv", "Identity"]
    assert len(changed.graph.initializer) == 2


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1, 3), (1, 1, 1), (2, 2)], ids=str)
def test_a_transposed_convolution_in_blocks_is_a_convolution(
    stride: Sequence[int], bias: bool, group: int
) -> None:
    size = (3, 5, 7)[: len(stride)]
    net = Net(("batch", 4, *size))
    model = net.model({"out": net.up("image", "up", (4, 6, group), stride, bias)})
    example = {"image": np.random.default_rng(3).standard_normal((2, 4, *size)).astype(np.float32)}
    changed, (step,) = rewrite(model, [DEPTH_TO_SPACE], example)
    moved = [] if max(stride) == 1 else ["Reshape", "Transpose", "Reshape"]
    assert kinds(changed) == ["Conv", *moved, "Identity"]
    assert changed.graph.node[0].name == "up"
    assert step.error < 1e-6
    agree(model, changed, example)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2], "pads": [1] * 6, "output_padding": [1] * 3},
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "pads": [1, 0, 0, 0, 0, 0]},
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "dilations": [1, 2, 1]},
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "output_padding": [1, 0, 0]},
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 2, 2]},
    ],
    ids=["overlap", "padded", "dilated", "longer", "auto", "stride 1"],
)
def test_other_transposed_convolutions_stay(attributes: dict[str, Any]) -> None:
    net = Net((1, 4, 3, 4, 5))
    weight = net.normal("w", (4, 4, *attributes["kernel_shape"]))
    model = net.model({"out": net.node("ConvTranspose", ["image", weight], "up", **attributes)})
    changed, _ = rewrite(model, [DEPTH_TO_SPACE], {"image": np.ones((1, 4, 3, 4, 5), np.float32)})
    assert kinds(changed) == ["ConvTranspose", "Identity"]


def student_and_teacher() -> ModelProto:
    net = Net((1, 2, 3, 4, 5))
    net.inputs["contrast"] = (1, 2, 3, 4, 5)
    shared = net.conv("image", "shared", (2, 4, 1))
    both = net.node("Add", [shared, net.conv("contrast", "guide", (2, 4, 1))], "both")
    student = net.conv(shared, "student", (4, 2, 1))
    net.conv(shared, "nobody", (4, 9, 1))
    return net.model({"answer": student, "teacher": net.conv(both, "teach", (4, 2, 1))})


def test_a_student_goes_without_its_teacher() -> None:
    model = student_and_teacher()
    ones = np.ones((1, 2, 3, 4, 5), np.float32)
    changed, (first, second) = rewrite(
        model, [wanted(["answer"]), DEAD_BRANCHES], {"image": ones, "contrast": 2 * ones}
    )
    assert [node.name for node in changed.graph.node] == ["shared", "student", "to_answer"]
    assert {tensor.name for tensor in changed.graph.initializer} == {
        *("shared.w", "shared.b", "student.w", "student.b"),
    }
    assert [value.name for value in changed.graph.input] == ["image"]
    assert (first.nodes_before, first.nodes_after, second.nodes_after) == (8, 3, 3)


def test_what_no_output_needs_goes_unasked() -> None:
    model = student_and_teacher()
    ones = np.ones((1, 2, 3, 4, 5), np.float32)
    changed, _ = rewrite(model, [DEAD_BRANCHES], {"image": ones, "contrast": ones})
    assert {node.name for node in model.graph.node} - {node.name for node in changed.graph.node} == {"nobody"}
    with pytest.raises(BundleError, match="no output diagnosis"):
        rewrite(model, [wanted(["diagnosis"])], {"image": ones, "contrast": ones})


def test_a_rewrite_that_changes_the_outputs_is_named() -> None:
    def spoil(model: ModelProto) -> ModelProto:
        changed = ModelProto()
        changed.CopyFrom(model)
        changed.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[::-1]
        return changed

    with pytest.raises(BundleError, match="rewrite spoiled"):
        rewrite(unet(), [Pass("spoiled", "", spoil)], image())


def test_a_rewrite_that_ties_the_batch_is_named() -> None:
    def tie(model: ModelProto) -> ModelProto:
        changed = ModelProto()
        changed.CopyFrom(model)
        for value in (*changed.graph.input, *changed.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        return changed

    with pytest.raises(BundleError, match=r"tied.*image"):
        rewrite(unet(), [Pass("tied", "", tie)], image())


def test_constants_written_as_nodes_fold_too() -> None:
    model = unet()
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer
    ]
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    for node in nodes:
        node.name = ""
    model.graph.node.extend(nodes)
    changed, _ = rewrite(model, PASSES, image())
    assert not {"BatchNormalization", "ConvTranspose", "Constant"} & set(kinds(changed))
    agree(model, changed, image())
