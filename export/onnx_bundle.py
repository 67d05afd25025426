"""An ONNX file made elsewhere becomes a bundle: checked against the spec, and tidied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model.onnx_external import external_files
from npc_edge.engine.model.runner import IMAGE
from npc_edge.export.make_bundle import Made, Origin, Say, make_bundle
from npc_edge.export.onnx_file import BATCH, first_line, write_model
from npc_edge.export.spec import Spec

OLDEST_OPSET = 13
"""Before it, quantisation and softmax mean something else."""

_DOMAINS = ("", "ai.onnx")


def bundle_of_onnx(file: Path, spec: Spec, out: Path, key: Ed25519PrivateKey | None, say: Say) -> Made:
    """Make the bundle `out` of an ONNX file. key None: unsigned. Raises UsageError (the file is not there),
    BundleError (it is not valid or not what the spec says), OutputError."""
    say(f"checking {file.name}")
    model, notes = adopt(file, spec)

    def write(path: Path) -> Origin:
        write_model(model, path)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return Origin({"source": file.name, "source_sha256": digest}, notes=notes)

    return make_bundle(spec, out, key, write, say)


def adopt(file: Path, spec: Spec) -> tuple[Any, tuple[str, ...]]:
    """The model with one float32 input "image" (C, Z, Y, X as in the spec) and the spec's outputs; and in
    sentences what was changed. Raises UsageError, BundleError."""
    model, notes = _read(file)
    _check_operators(model, file.name)
    graph = model.graph
    initial = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initial]
    if len(inputs) != 1:
        raise BundleError(f"{file.name} has {len(inputs)} inputs, not the one image")
    notes += _fit_input(inputs[0], spec, file.name)
    # Weights listed as inputs could be overridden, and fold into nothing.
    if len(graph.input) > 1:
        del graph.input[:]
        graph.input.append(inputs[0])
    if inputs[0].name != IMAGE:
        notes.append(f'Its input "{inputs[0].name}" is now named "{IMAGE}".')
        _rename(graph, inputs[0].name, IMAGE, file.name)
    notes += _fit_outputs(graph, spec, file.name)
    return onnx.shape_inference.infer_shapes(model), tuple(notes)


def _read(file: Path) -> tuple[Any, list[str]]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"the ONNX file {file} cannot be read: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(data)
        if not model.graph.node:
            raise ValueError("no operators")
    except (DecodeError, ValueError) as error:
        raise BundleError(f"{file.name} is not an ONNX model") from error
    outside = sorted(external_files(data))
    if not outside:
        return model, []
    for location in outside:
        path = PurePosixPath(location.replace("\\", "/"))
        plain = not path.is_absolute() and ".." not in path.parts
        if not plain or not (file.parent / path).is_file() or (file.parent / path).is_symlink():
            raise BundleError(
                f"{file.name} wants data from {location}, which is not a file beside it",
                "put its data file beside it, or export it with the weights inside",
            )
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BundleError(f"{file.name}: its data cannot be read: {first_line(error)}") from error
    return model, [f"Its data ({', '.join(outside)}) is now inside the file."]


def _check_operators(model: Any, name: str) -> None:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    foreign = sorted({node.domain for node in _nodes(model.graph)} - set(_DOMAINS))
    if foreign or model.functions:
        what = foreign[0] if foreign else "its own functions"
        raise BundleError(f"{name} uses operators of {what}", "export it with operators of ONNX itself")
    opset = max(opsets.get(domain, 0) for domain in _DOMAINS)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise BundleError(f"{name} is of opset {opset}; {OLDEST_OPSET} to {newest} are known")


def _fit_input(value: Any, spec: Spec, name: str) -> list[str]:
    """Fix the window, free the batch where it is free already; BundleError when it is another input."""
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise BundleError(f"{name} takes {kind} input, not float32", "export it in float32")
    dims = tensor.shape.dim
    found = [dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in dims]
    wanted = spec.input_shape
    fits = len(found) == len(wanted) and all(
        isinstance(f, str) or f == w for f, w in zip(found, wanted, strict=True)
    )
    if not fits:
        shape = ", ".join(map(str, found))
        raise BundleError(f"{name} takes input ({shape}), the spec makes it {wanted}")
    for dim, size in zip(dims[1:], wanted[1:], strict=True):
        dim.dim_value = size
    if isinstance(found[0], str):
        dims[0].dim_param = BATCH
    return (
        ["Its free axes are fixed to the spec's window."]
        if any(isinstance(f, str) for f in found[1:])
        else []
    )


def _fit_outputs(graph: Any, spec: Spec, name: str) -> list[str]:
    held = {value.name: value for value in graph.output}
    if lacking := [n for n in spec.output_names if n not in held]:
        raise BundleError(f"{name} has no output {lacking[0]}, but {', '.join(held)}")
    for output in spec.output_names:
        if held[output].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise BundleError(f"output {output} of {name} is not float32", "export it in float32")
    extra = [n for n in held if n not in spec.output_names]
    kept = [held[n] for n in spec.output_names]
    # Shapes inferred while the window was free are no longer true.
    for value in kept:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    del graph.output[:]
    graph.output.extend(kept)
    return [f"Outputs the spec does not name are left out: {', '.join(extra)}."] if extra else []


def _rename(graph: Any, old: str, new: str, name: str) -> None:
    taken = {n for node in _nodes(graph) for n in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    if new in taken:
        raise BundleError(f'{name} uses the name "{new}" for something else than its input')
    for node in _nodes(graph):
        for place, held in enumerate(node.input):
            if held == old:
                node.input[place] = new
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new


def _nodes(graph: Any) -> Iterator[Any]:
    """Every node, those inside of loops and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            inner: Sequence[Any] = (attribute.g, *attribute.graphs)
            for part in inner:
                if part.node:
                    yield from _nodes(part)
