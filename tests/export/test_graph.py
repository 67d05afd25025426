"""Names, parts and runs of a graph."""

import numpy as np
import pytest
from onnx import ModelProto, helper
from onnx_nets import Net, image, unet

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.export import graph


def test_tidy_names_every_node_once_and_always_the_same() -> None:
    model = unet()
    for node in model.graph.node:
        node.name = "" if node.op_type == "Relu" else "same"
    first, again = graph.tidy(model), graph.tidy(graph.tidy(model))
    names = [node.name for node in first.graph.node]
    assert "" not in names
    assert len(set(names)) == len(names)
    assert first == again == graph.tidy(model)
    assert {node.name for node in model.graph.node} == {"", "same"}


def test_tidy_makes_constants_initializers_and_initializers_no_inputs() -> None:
    net = Net((1, 2, 3))
    net.nodes.append(helper.make_node("Constant", [], ["half"], value_float=0.5))
    net.nodes.append(helper.make_node("Constant", [], ["shape"], value_ints=[6]))
    x = net.node("Reshape", [net.node("Mul", ["image", "half"], "mul"), "shape"], "reshape")
    model = net.model({"out": net.node("Add", [x, net.normal("bias", (6,))], "add")})
    model.graph.input.append(helper.make_tensor_value_info("bias", 1, (6,)))
    tidied = graph.tidy(model)
    assert [node.op_type for node in tidied.graph.node] == ["Mul", "Reshape", "Add", "Identity"]
    assert [value.name for value in tidied.graph.input] == ["image"]
    assert set(graph.constants(tidied.graph)) == {"half", "shape", "bias"}
    case = {"image": np.ones((1, 2, 3), np.float32)}
    np.testing.assert_array_equal(graph.run(tidied, case)["out"], graph.run(model, case)["out"])


def test_a_part_holds_what_it_needs_and_no_more() -> None:
    model = unet()
    part = graph.cut(model, ["first_act_out", "first_out"])
    assert [node.name for node in part.graph.node] == ["first", "first_norm", "first_act"]
    assert all(name.startswith("first") for name in graph.constants(part.graph))
    whole, found = graph.run(model, image()), graph.run(part, image())
    assert list(found) == ["first_act_out", "first_out"]
    assert (found["first_act_out"] >= 0).all()
    assert list(whole) == ["mask", "score"]
    with pytest.raises(BundleError, match="no tensor first_act"):
        graph.cut(model, ["first_act"])


def test_a_part_reads_what_inner_graphs_read() -> None:
    net = Net((1, 2, 3))
    double = helper.make_node("Mul", ["scaled", "two"], ["doubled"])
    same = helper.make_node("Identity", ["scaled"], ["kept"])
    branches = {
        f"{name}_branch": helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(out, 1, (1, 2, 3))]
        )
        for name, node, out in (("then", double, "doubled"), ("else", same, "kept"))
    }
    net.constant("two", np.array(2, np.float32))
    net.node("Mul", ["image", "two"], "scale")
    net.nodes[-1].output[0] = "scaled"
    x = net.node("If", [net.constant("yes", np.array(True))], "if", **branches)
    model = net.model({"out": x})
    assert [n.name for n in graph.cut(model, ["out"]).graph.node] == ["scale", "if", "to_out"]
    found = graph.run(graph.cut(model, ["out"]), {"image": np.ones((1, 2, 3), np.float32)})["out"]
    assert (found == 4).all()


def test_errors_are_those_of_the_house() -> None:
    model = unet()
    with pytest.raises(BundleError, match="wants an input image"):
        graph.run(model, {})
    with pytest.raises(BackendError, match="failed"):
        graph.run(model, {"image": np.zeros((1, 3, 4, 8, 8), np.float32)})
    broken = ModelProto()
    broken.CopyFrom(model)
    broken.graph.node[0].op_type = "Convolve"
    with pytest.raises(BundleError, match="cannot load"):
        graph.opened(broken)
    with pytest.raises(BundleError, match="it is not a valid ONNX model"):
        graph.check(broken, "it")


def test_an_output_near_zero_is_not_divided_by() -> None:
    near, far = {"a": np.array([1e-3])}, {"a": np.array([50.0])}
    assert graph.output_error({"a": np.array([2e-3])}, near) == pytest.approx(1e-3)
    assert graph.output_error({"a": np.array([51.0])}, far) == pytest.approx(0.02)
    assert graph.output_error({"a": np.array([np.nan])}, near) == np.inf
