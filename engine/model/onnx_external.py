"""Which outside files an ONNX model names, read from its protobuf wire format: no onnx, nothing executed.

A tensor with external_data (TensorProto field 13) holds key/value pairs, "location" among them: a path that a
runtime opens. Only the messages that can lead to a tensor are walked (onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

from npc_edge.engine.errors import BundleError

_TENSOR = "tensor"
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: "entry"},
}
_DEPTH = 64


def external_files(model: bytes) -> set[str]:
    """The locations of all external tensors, as written. BundleError when the bytes are no protobuf."""
    found: set[str] = set()
    _walk(memoryview(model), "model", found, 0)
    return found


def _walk(data: memoryview, kind: str, found: set[str], depth: int) -> None:
    if depth > _DEPTH:
        raise BundleError("the ONNX model is nested too deeply")
    if kind == "entry":
        fields = {number: bytes(value) for number, value in _fields(data)}
        if fields.get(1) == b"location":
            found.add(fields.get(2, b"").decode("utf-8", errors="replace"))
        return
    children = _CHILDREN[kind]
    for number, value in _fields(data):
        child = children.get(number)
        if child is not None:
            _walk(value, child, found, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, payload) of every length-delimited field of a message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        wire = key & 7
        if wire == 0:
            _, place = _varint(data, place)
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        elif wire == 2:
            length, place = _varint(data, place)
            yield key >> 3, data[place : place + length]
            place += length
        else:
            raise BundleError("the ONNX model is not a valid protobuf")
    if place > len(data):
        raise BundleError("the ONNX model is cut short")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise BundleError("the ONNX model is cut short")
        byte = data[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, place
    raise BundleError("the ONNX model is not a valid protobuf")
