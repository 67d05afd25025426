"""What is done to a graph before OpenVINO compiles it: the same arithmetic, laid out as its code likes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npc_edge.engine.model.runners.feed import Shape

_LINEAR = ("linear", "linear_onnx")


def fix_batch(model: Any, inputs: Mapping[str, Shape]) -> bool:
    """Make the first axis 1 where it is free in every input and the only free one; True when it was."""
    free = all(len(shape) > 1 and shape[0] is None and None not in shape[1:] for shape in inputs.values())
    if free:
        model.reshape({name: [1, *shape[1:]] for name, shape in inputs.items()})
    return free


def resize_by_planes(openvino: Any, model: Any) -> int:
    """Let outputs that are enlarged in plane be enlarged as planes; how many were.

    An output of the network lies channel by channel. Its convolutions keep channels innermost, and so does a
    resize of five axes: what comes out, the largest array of the run, is then turned around, which on one
    network took a quarter of its time. Resized as (1, C x Z, Y, X) the small array is turned instead.
    """
    changed = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Interpolate" or not _is_last(node) or not _in_plane(node):
            continue
        _, channels, slices, *source = node.input(0).get_shape()
        whole = list(node.output(0).get_shape())
        ops = openvino.opset13
        planes = ops.reshape(node.input(0).get_source_output(), [1, channels * slices, *source], False)
        facts = node.get_attributes()
        grown = openvino.opset11.interpolate(
            planes,
            ops.constant([far / near for far, near in zip(whole[3:], source, strict=True)], dtype="float32"),
            mode=facts["mode"],
            shape_calculation_mode="scales",
            coordinate_transformation_mode=facts["coordinate_transformation_mode"],
            axes=ops.constant([2, 3], dtype="int64"),
        )
        back = ops.reshape(grown, whole, False)
        names = node.output(0).get_names()
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(back.output(0))
        back.output(0).set_names(names)
        changed += 1
    if changed:
        model.validate_nodes_and_infer_types()
    return changed


def _is_last(node: Any) -> bool:
    """True when nothing but the network's output reads it."""
    readers = [place.get_node().get_type_name() for place in node.output(0).get_target_inputs()]
    return readers == ["Result"]


def _in_plane(node: Any) -> bool:
    """True for a linear resize of one five-axis map that leaves slices and channels as many as they are."""
    shapes = node.input(0).get_partial_shape(), node.output(0).get_partial_shape()
    if any(shape.is_dynamic or len(shape) != 5 for shape in shapes):
        return False
    before, after = (list(place.get_shape()) for place in (node.input(0), node.output(0)))
    facts = node.get_attributes()
    plain = not any([*facts["pads_begin"], *facts["pads_end"]]) and not facts["antialias"]
    exact = all(far % near == 0 for near, far in zip(before[3:], after[3:], strict=True))
    return exact and before[:3] == after[:3] and before[0] == 1 and facts["mode"] in _LINEAR and plain
