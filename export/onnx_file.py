"""Writing an ONNX model: checked, in one piece, without PyTorch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import EncodeError

from npc_edge.engine.errors import BundleError, OutputError

BATCH = "batch"
"""Name of the one free axis."""


def write_model(model: Any, path: Path) -> None:
    """Check an ONNX model and write it in one piece. BundleError when it is not valid, OutputError."""
    try:
        onnx.checker.check_model(model)
        data = model.SerializeToString()
    except (onnx.checker.ValidationError, EncodeError, ValueError) as error:
        raise BundleError(f"{path.name} is not a valid ONNX model: {first_line(error)}") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror}") from error


def first_line(error: BaseException) -> str:
    """The first line of a foreign error that says something, cut to a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
