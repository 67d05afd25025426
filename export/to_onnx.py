"""A PyTorch module becomes an ONNX file that says the same: exported, checked, run beside the original."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.runners.onnxruntime import load_onnxruntime

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference over an output's range: both run in float32 and sum in another order."""


def export_onnx(
    module: nn.Module, example: Tensor, outputs: Sequence[str], path: Path, seed: int = 0
) -> Mapping[str, float]:
    """Write `module` in eval mode as ONNX with one input, "image", of the example's fixed shape, float32.

    Returns the largest relative difference from PyTorch for each output on random input. Raises BundleError
    when the file is not valid, the outputs are others, or a difference exceeds TOLERANCE.
    """
    module = module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=["image"],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
    _strip(path)
    image = torch.randn(example.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = module(image)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = run_onnx(path, {"image": image.numpy()})
    if list(found) != list(outputs):
        raise BundleError(f"{path.name} has outputs {list(found)}, not {list(outputs)}")
    errors = {n: _apart(found[n], e.numpy()) for n, e in zip(outputs, expected, strict=True)}
    for name, error in errors.items():
        if not error <= TOLERANCE:
            raise BundleError(
                f"output {name} of {path.name} differs from PyTorch by {error:.1e} of its range"
            )
    return errors


def run_onnx(path: Path, inputs: Mapping[str, NDArray[np.float32]], threads: int = 0) -> dict[str, Any]:
    """Run a file once on the CPU with ONNX Runtime: output name → array."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _apart(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    span = max(float(np.ptp(expected)), 1.0)
    return float(np.abs(found - expected).max()) / span if found.shape == expected.shape else float("inf")


def _strip(path: Path) -> None:
    """Check the file, and leave out what tells of the machine and the source it was made on."""
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks, and warns of its own internals; a failure still raises."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
