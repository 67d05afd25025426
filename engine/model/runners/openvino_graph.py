"""What is done to a graph before OpenVINO compiles it: the same arithmetic, laid out as its code likes it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from npc_edge.engine.model.runners.feed import Shape

LARGE = 2**25
"""Values of a joined map that is worth avoiding: 64 MB in bf16."""

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
        _put_in_place(back, node)
        back.output(0).set_names(names)
        changed += 1
    return _settled(model, changed)


def blocks_channels_last(openvino: Any, model: Any) -> int:
    """Let channels that are laid out as blocks of voxels stay innermost meanwhile; how many times.

    Convolutions keep channels innermost; a transposed one exported as 1x1x1 and depth-to-space is split with
    channels outermost, so its output, and whatever joins it, was turned round and back: on a network of
    nnU-Net's size 7 % of its time. Turned by hand, OpenVINO sees that nothing has to move but voxels, and
    quantizes before it moves them.
    """
    changed = 0
    for node in model.get_ordered_ops():
        wide = _wide_axes(node) if node.get_type_name() == "Transpose" else None
        if wide is None:
            continue
        split, ops = node.input(0).get_source_output().get_node(), openvino.opset13
        joined = _readers(node)[0]
        _, channels, *space = joined.output(0).get_shape()
        source = split.input(0).get_source_output()
        _, _, *small = source.get_shape()
        factors = [far // near for near, far in zip(small, space, strict=True)]
        inner = ops.transpose(source, [0, 2, 3, 4, 1])
        apart = ops.reshape(inner, [*small, channels, *(factors[axis] for axis in wide)], False)
        order: list[int] = []
        for axis in range(3):
            order += [axis, *([4 + wide.index(axis)] if axis in wide else [])]
        laid = ops.reshape(ops.transpose(apart, [*order, 3]), [1, *space, channels], False)
        back = ops.transpose(laid, [0, 4, 1, 2, 3])
        _put_in_place(back, joined)
        changed += 1
    return _settled(model, changed)


def convolve_apart(openvino: Any, model: Any, least: int = LARGE) -> int:
    """Let convolutions of joined maps be sums of one convolution each, so that nothing is joined; how many.
    least: values in what is joined; with fewer it is not worth a rounding.

    The joined copy of a U-Net's uppermost skip is the largest array there is: on a network of nnU-Net's size
    a sixth of what a window takes. Sums are rounded once more on the way, which in bf16 takes them no further
    from fp32 than they were. int8 layers join what is quantized, which is small, and stay as they are.
    """
    changed = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        joined, weights = (node.input(n).get_source_output().get_node() for n in (0, 1))
        if joined.get_type_name() != "Concat" or weights.get_type_name() != "Constant":
            continue
        shapes = [place.get_partial_shape() for place in (*joined.inputs(), joined.output(0))]
        if any(shape.is_dynamic for shape in shapes) or len(_readers(joined)) > 1:
            continue
        if prod(joined.output(0).get_shape()) < least:
            continue
        if joined.get_attributes()["axis"] not in (1, 1 - len(shapes[0])):
            continue
        ops, facts = openvino.opset13, node.get_attributes()
        ways = [facts[name] for name in ("strides", "pads_begin", "pads_end", "dilations")]
        given, first, total = np.asarray(weights.data), 0, None
        for place in joined.inputs():
            part = place.get_source_output()
            last = first + part.get_shape()[1]
            held = ops.constant(np.ascontiguousarray(given[:, first:last]))
            made = ops.convolution(part, held, *ways, facts["auto_pad"])
            total, first = made if total is None else ops.add(total, made), last
        if total is not None:
            _put_in_place(total, node)
            changed += 1
    return _settled(model, changed)


def _wide_axes(transpose: Any) -> list[int] | None:
    """Of a transpose between two reshapes that lays channels (1, C x block, Z, Y, X) out as blocks of voxels:
    the axes, of 0 to 2, along which a block is wider than one. None for any other, and for an output."""
    split, readers = transpose.input(0).get_source_output().get_node(), _readers(transpose)
    if split.get_type_name() != "Reshape" or [one.get_type_name() for one in readers] != ["Reshape"]:
        return None
    if "Result" in [one.get_type_name() for one in _readers(readers[0])]:
        return None
    places = split.input(0), split.output(0), readers[0].output(0)
    shapes = [place.get_partial_shape() for place in places]
    if any(shape.is_dynamic for shape in shapes):
        return None
    near, apart, far = (list(place.get_shape()) for place in places)
    if len(near) != 5 or len(far) != 5 or near[0] != 1:
        return None
    wide = [axis for axis in range(3) if far[2 + axis] != near[2 + axis]]
    if any(far[2 + axis] % near[2 + axis] for axis in wide):
        return None
    factors = [far[2 + axis] // near[2 + axis] for axis in wide]
    first = 2 + len(wide)
    order = [0, 1]
    for axis in range(3):
        order += [first + axis, *([2 + wide.index(axis)] if axis in wide else [])]
    asked = transpose.input(1).get_source_output().get_node()
    fits = apart == [1, far[1], *factors, *near[2:]] and asked.get_type_name() == "Constant"
    return wide if fits and list(asked.get_vector()) == order else None


def _put_in_place(new: Any, old: Any) -> None:
    """Whatever reads one node reads the other."""
    for reader in old.output(0).get_target_inputs():
        reader.replace_source_output(new.output(0))


def _settled(model: Any, changed: int) -> int:
    """How many changes there were, their shapes and types worked out."""
    if changed:
        model.validate_nodes_and_infer_types()
    return changed


def _readers(node: Any) -> list[Any]:
    return [place.get_node() for place in node.output(0).get_target_inputs()]


def _is_last(node: Any) -> bool:
    """True when nothing but the network's output reads it."""
    return [reader.get_type_name() for reader in _readers(node)] == ["Result"]


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
