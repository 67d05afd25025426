"""Bundles of the small quantised network with whatever parity table a test asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import tiny_qdq

from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.export.pack import pack

ALL = ("fp32", "fp16", "int8-u8s8", "int8-s8s8")
SET = "avx512_bf16"
EVERYTHING = {
    "fp32": [("openvino", "bf16", SET), ("openvino", "fp32", SET), ("onnxruntime", "fp32", SET)],
    "fp16": [("onnxruntime", "fp16", SET), ("openvino", "fp32", SET)],
    "int8-u8s8": [("openvino", "int8-u8s8", SET), ("onnxruntime", "int8-u8s8", SET)],
    "int8-s8s8": [("onnxruntime", "int8-s8s8", SET), ("openvino", "int8-s8s8", SET)],
}


def bundle(
    folder: Path,
    kinds: Sequence[str] = ALL,
    parity: Mapping[str, Sequence[tuple[str, str, str]]] | None = None,
) -> Bundle:
    root = tiny_qdq.write_parts(folder / "bundle", kinds)
    pack(root, tiny_qdq.manifest(kinds, parity), None)
    return load(root, allow_unsigned=True)


def on(isa: str) -> dict[str, list[tuple[str, str, str]]]:
    """Every row, measured on one instruction set."""
    return {kind: [(backend, ran, isa) for backend, ran, _ in rows] for kind, rows in EVERYTHING.items()}
