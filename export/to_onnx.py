"""A PyTorch module becomes an ONNX file that says the same: exported, checked, run beside the original.

The window is fixed, the batch is the only free axis. PyTorch has two exporters: the one that captures the
program (dynamo) comes first; where it fails the one that records a run (TorchScript) is tried, and which of
them made the file, and why, is part of what is returned. Norms that runtimes sum too roughly are taken apart
(`staged_norms`), where PyTorch's own answer says that it helps.
"""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from npc_edge.engine.errors import BundleError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner, load_onnxruntime
from npc_edge.export import graph as graphs
from npc_edge.export.onnx_file import BATCH, first_line, write_model
from npc_edge.export.staged_norms import STAGED_NORMS

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference over an output's largest magnitude: both run in float32 and sum in another order."""

_GRAIN = 8  # voxels between the values that the smooth image is drawn at
_MOST = 64  # the batch's upper bound, which the capturing exporter wants to know
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a network's own forward, and the exporters (their errors are RuntimeErrors), may raise."""


@dataclass(frozen=True)
class Rewritten:
    """What a rewrite did to the exported file. Before and after: the largest relative difference of an output
    from PyTorch, and the milliseconds of a window on ONNX Runtime."""

    name: str
    errors: tuple[float, float]
    ms: tuple[float, float]

    def sentence(self) -> str:
        """The same in words."""
        (far, near), (before, after) = self.errors, self.ms
        moved = f"{far:.1e} → {near:.1e} from PyTorch, {before:.0f} → {after:.0f} ms a window"
        return f"Rewrite {self.name}: {moved} on ONNX Runtime."


@dataclass(frozen=True)
class Exported:
    """How a file was made. errors: largest relative difference from PyTorch for each output, batch 1.

    exporter: dynamo, or torchscript where dynamo failed; why: what it failed with, empty when it did not.
    rewritten: what a rewrite did, None where none found anything.
    """

    errors: Mapping[str, float]
    exporter: Literal["dynamo", "torchscript"]
    why: str = ""
    rewritten: Rewritten | None = None


@dataclass(frozen=True)
class _Measured:
    """errors: as in `Exported`. apart: of each output, how far a batch of two is from the two alone. ms: the
    quicker of the two."""

    errors: Mapping[str, float]
    apart: Mapping[str, float]
    ms: float

    @property
    def worst(self) -> float:
        return max((*self.errors.values(), *self.apart.values()))


def export_onnx(
    module: nn.Module, example: Tensor, outputs: Sequence[str], path: Path, seed: int = 0
) -> Exported:
    """Write `module` in eval mode as ONNX with one input, "image" (batch, C, Z, Y, X) float32.

    example: one input (1, C, Z, Y, X); all of its axes but the first are fixed. Raises BundleError when the
    network cannot be exported, its outputs are others than named, or the file differs from PyTorch by more
    than TOLERANCE, alone or two in a batch; OutputError when it cannot be written.
    """
    module = module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = _images(example.shape[1:], torch.Generator().manual_seed(seed))
    expected = [_run_module(module, image, outputs) for image in images]
    model, exporter, why = _convert(module, torch.cat(images), outputs)
    _tidy(model, outputs)
    write_model(model, path)
    found, rewritten = _measure(path, images, expected), None
    plain = graphs.tidy(model)
    staged = STAGED_NORMS.apply(plain)
    if staged != plain:
        write_model(staged, path)
        after = _measure(path, images, expected)
        if after.worst <= found.worst:
            rewritten = Rewritten(STAGED_NORMS.name, (found.worst, after.worst), (found.ms, after.ms))
            found = after
        else:
            write_model(model, path)
    _refuse(path, found)
    return Exported(found.errors, exporter, why, rewritten)


def _images(shape: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two inputs (1, C, Z, Y, X) of mean 0 and deviation about 1: white noise, and one as smooth as anatomy,
    which leaves more behind where a runtime sums roughly."""
    white = torch.randn((1, *shape), generator=generator)
    coarse = torch.randn((1, shape[0], *(-(-size // _GRAIN) for size in shape[1:])), generator=generator)
    smooth = nn.functional.interpolate(coarse, tuple(shape[1:]), mode="trilinear", align_corners=False)
    return white, smooth / smooth.std().clamp(min=1e-3)


def run_onnx(path: Path, inputs: Mapping[str, NDArray[np.float32]], threads: int = 0) -> dict[str, Any]:
    """Run a file once on the CPU with ONNX Runtime: output name → array."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _run_module(module: nn.Module, image: Tensor, outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    try:
        with torch.no_grad():
            made = module(image)
    except _FAULTS as error:
        raise BundleError(
            f"the network fails on an input of shape {tuple(image.shape)}: {first_line(error)}",
            "the spec's inputs and window must be the network's",
        ) from error
    values = tuple(made) if isinstance(made, tuple | list) else (made,)
    if len(values) != len(outputs) or not all(isinstance(value, Tensor) for value in values):
        raise BundleError(f"the network has {len(values)} outputs, not the {len(outputs)} named")
    return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}


def _convert(
    module: nn.Module, pair: Tensor, outputs: Sequence[str]
) -> tuple[Any, Literal["dynamo", "torchscript"], str]:
    """The ONNX model, the exporter that made it, and why the first was not it."""
    try:
        return _export(_with_dynamo, module, pair, outputs), "dynamo", ""
    except _FAULTS as error:
        why = _cause(error)
    try:
        return _export(_with_torchscript, module, pair, outputs), "torchscript", why
    except _FAULTS as error:
        raise BundleError(
            f"neither exporter of PyTorch can export the network: {why}; {_cause(error)}",
            "its batch must be free, and no size hard-coded",
        ) from error


def _export(
    exporter: Callable[[nn.Module, Tensor, Sequence[str]], Any],
    module: nn.Module,
    pair: Tensor,
    outputs: Sequence[str],
) -> Any:
    with _quiet(), torch.no_grad():
        return exporter(module, pair, outputs)


def _with_dynamo(module: nn.Module, pair: Tensor, outputs: Sequence[str]) -> Any:
    program = torch.onnx.export(
        module,
        (pair,),
        None,
        input_names=[IMAGE],
        output_names=list(outputs),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim(BATCH, min=1, max=_MOST)},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    return program.model_proto


def _with_torchscript(module: nn.Module, pair: Tensor, outputs: Sequence[str]) -> Any:
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        (pair,),
        buffer,  # type: ignore[arg-type]  # a buffer is taken, and keeps the disk out of it
        input_names=[IMAGE],
        output_names=list(outputs),
        opset_version=OPSET,
        dynamo=False,
        dynamic_axes={name: {0: BATCH} for name in (IMAGE, *outputs)},
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _cause(error: BaseException) -> str:
    """The innermost error says what the network did; the outer ones say that exporting failed."""
    seen = error
    while seen.__cause__ is not None:
        seen = seen.__cause__
    return first_line(seen)


def _tidy(model: Any, outputs: Sequence[str]) -> None:
    """Name what is free, and leave out what tells of the machine and the source it was made on."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = ""
    found = [output.name for output in model.graph.output]
    if found != list(outputs) or [value.name for value in model.graph.input] != [IMAGE]:
        raise BundleError(f"the exported network has outputs {found}, not {list(outputs)}")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH


def _measure(
    path: Path, images: Sequence[Tensor], expected: Sequence[Mapping[str, NDArray[np.float32]]]
) -> _Measured:
    """Each image alone against PyTorch, and both in a batch against each alone, on ONNX Runtime."""
    alone, taken = [], []
    with OnnxRuntimeRunner(path, threads=available_cores(), precision="fp32") as runner:
        for image in images:
            start = time.perf_counter()
            alone.append(runner.infer({IMAGE: image.numpy()}))
            taken.append(1000 * (time.perf_counter() - start))
        both = runner.infer({IMAGE: torch.cat(list(images)).numpy()})
    names = list(expected[0])
    errors = {
        name: max(relative_error(a[name], e[name]) for a, e in zip(alone, expected, strict=True))
        for name in names
    }
    apart = {name: relative_error(both[name], np.concatenate([a[name] for a in alone])) for name in names}
    return _Measured(errors, apart, min(taken))


def _refuse(path: Path, found: _Measured) -> None:
    """BundleError for a file that is not what PyTorch says, or says it of no case alone."""
    for name, error in found.errors.items():
        if not error <= TOLERANCE:
            raise BundleError(f"output {name} of {path.name} differs from PyTorch by {error:.1e} of its size")
        apart = found.apart[name]
        if not apart <= TOLERANCE:
            raise BundleError(
                f"output {name} of {path.name} depends on what else is in the batch, by {apart:.1e}",
                "the network mixes the cases of a batch, or uses a batch's own statistics",
            )


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
