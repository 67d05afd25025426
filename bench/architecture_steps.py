"""The steps of `bench architectures`: each reads what earlier ones left in a folder, says what it found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.engine.errors import BackendError, BundleError, NpcEdgeError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.metrics import dice, relative_error
from npc_edge.engine.model.runner import IMAGE, Arrays, Runner
from npc_edge.kernels.zoom import resize

TARGETS = ("sm80", "sm86", "sm89", "sm120")
COMPILED = ("fp32", "fp16", "int8-s8s8")

_ANSWERS = "answers.npz"
_GRAIN = 8  # voxels between the values that smooth noise is drawn at
_JITTER = 0.02  # no two weights alike, as after training: an export would share those that are

Found = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One architecture of `export.architectures`. configuration: keyword arguments of its configuration.
    window (Z, Y, X) voxels, of two channels. output: what the network makes, a map (1, 1, Z, Y, X) or a score
    (1, 1), both logits."""

    name: str
    configuration: Mapping[str, Any]
    window: tuple[int, int, int]
    output: str


PUBLISHED = {
    "detector": Subject("detector", {}, (128, 128, 128), "score"),
    "swin_unetr": Subject("swin_unetr", {"feature_size": 48}, (64, 64, 64), "tumour"),
}
SMALL = {
    "detector": Subject(
        "detector",
        {
            **{"window": (32, 32, 32), "widths": (2, 4, 16, 16, 16), "width": 32, "layers": 1, "heads": 4},
            **{"feed_forward": 64, "adapter": 3, "fusion_feed_forward": 48},
        },
        (32, 32, 32),
        "score",
    ),
    "swin_unetr": Subject(
        "swin_unetr",
        {"feature_size": 12, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4)},
        (32, 32, 64),
        "tumour",
    ),
}
"""Tiny ones of the same make, to try the bench itself."""


def smooth_noise(window: tuple[int, int, int], index: int) -> Arrays:
    """{"image": (1, 2, Z, Y, X) float32}, of mean 0 and about the deviation that a normalisation leaves."""
    rng = np.random.default_rng([1, index])
    coarse = rng.standard_normal((2, *(-(-size // _GRAIN) for size in window)), dtype=np.float32)
    image = np.stack([resize(channel, window, 3) for channel in coarse])[None]
    return {IMAGE: np.asarray(image / image.std(), dtype=np.float32)}


def pink_noise(window: tuple[int, int, int], index: int) -> Arrays:
    """The same with structure at every scale, as MR images have it: an amplitude of 1 over the frequency."""
    rng = np.random.default_rng([2, index])
    white = np.fft.rfftn(rng.standard_normal((2, *window)), axes=(1, 2, 3))
    z, y, x = np.fft.fftfreq(window[0]), np.fft.fftfreq(window[1]), np.fft.rfftfreq(window[2])
    frequency = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    frequency[0, 0, 0] = np.inf
    image = np.fft.irfftn(white / frequency, s=window, axes=(1, 2, 3))[None]
    return {IMAGE: np.asarray(image / image.std(), dtype=np.float32)}


KINDS: Mapping[str, Callable[[tuple[int, int, int], int], Arrays]] = {
    "smooth": smooth_noise,
    "1/f": pink_noise,
}
"""Kinds of image. On the smooth one a float32 sum over many voxels leaves the most behind."""


def images(subject: Subject, windows: int) -> list[Arrays]:
    """What every file is compared on: so many of each kind, kind after kind."""
    return [make(subject.window, index) for make in KINDS.values() for index in range(windows)]


def export(subject: Subject, folder: Path, windows: int) -> Found:
    """Write fp32.onnx, and what PyTorch says of every window; how far it is from itself in float64, on one of
    each kind: no runtime can be asked to come nearer."""
    import onnx
    import torch

    from npc_edge.export.architectures import ARCHITECTURES
    from npc_edge.export.to_onnx import export_onnx

    configuration, build = ARCHITECTURES[subject.name]
    torch.manual_seed(0)
    network = build(configuration(**subject.configuration)).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn(weights.shape), alpha=_JITTER)
    path = folder / "fp32.onnx"
    exported = export_onnx(network, torch.zeros(1, 2, *subject.window), (subject.output,), path)
    with torch.no_grad():
        answers = [network(torch.from_numpy(image[IMAGE])).numpy() for image in images(subject, windows)]
        wide = network.double()
        truth = [wide(torch.from_numpy(image[IMAGE]).double()).numpy() for image in images(subject, 1)]
    np.savez(folder / _ANSWERS, *answers)
    held = onnx.load(str(path)).graph.initializer
    return {
        "parameters": sum(int(np.prod(t.dims)) for t in held if t.data_type == onnx.TensorProto.FLOAT),
        "megabytes": _megabytes(path),
        "exporter": exported.exporter,
        "why": exported.why,
        "rewritten": None if exported.rewritten is None else asdict(exported.rewritten),
        "float64": {kind: relative_error(answers[n * windows], truth[n]) for n, kind in enumerate(KINDS)},
        "largest_answer": max(float(np.abs(answer).max()) for answer in answers),
    }


def rewrite(subject: Subject, folder: Path, windows: int) -> Found:
    """Apply the passes, which check and time themselves; write rewritten.onnx."""
    import onnx

    from npc_edge.export.passes import rewrite as apply
    from npc_edge.export.staged_norms import LOWERED

    model, applied = apply(_load(folder / "fp32.onnx"), LOWERED, smooth_noise(subject.window, 0))
    onnx.save(model, str(folder / "rewritten.onnx"))
    return {"passes": [asdict(one) for one in applied]}


def fp32(subject: Subject, folder: Path, windows: int) -> Found:
    """fp32.onnx on both backends against PyTorch."""
    return {"ran": _on_backends(subject, folder, windows, (("fp32", "onnxruntime"), ("fp32", "openvino")))}


def fp16(subject: Subject, folder: Path, windows: int) -> Found:
    """Write fp16.onnx; its error with every fp16 tensor rounded as it is stored, which no CPU does itself."""
    import onnx

    from npc_edge.export import graph as graphs
    from npc_edge.export.half import to_half
    from npc_edge.export.to_float16 import as_stored

    half, islands = to_half(_load(folder / "rewritten.onnx"), [smooth_noise(subject.window, 0)])
    onnx.save(half, str(folder / "fp16.onnx"))
    run = graphs.opened(as_stored(half))
    found = [run(image)[subject.output] for image in images(subject, windows)]
    return {
        "nodes": islands.half + len(islands.nodes),
        "islands": len(islands.nodes),
        "conversions": islands.rounds,
        "megabytes": _megabytes(folder / "fp16.onnx"),
        "ran": {"fp16 as stored": _against(folder, found)},
    }


def int8(subject: Subject, folder: Path, windows: int) -> Found:
    """Calibrate once, write both flavours with every layer that int8 is for; no search, no gate."""
    import onnx

    from npc_edge.export.observe import observe
    from npc_edge.export.qdq import FLAVOURS, activations, quantizable, quantize

    model = _load(folder / "rewritten.onnx")
    tensors = activations(model)
    ranges = observe(model, tensors, images(subject, windows))
    sizes = {}
    for flavour in FLAVOURS:
        onnx.save(quantize(model, ranges, flavour), str(folder / f"{flavour}.onnx"))
        sizes[flavour] = _megabytes(folder / f"{flavour}.onnx")
    pairs = (("int8-u8s8", "onnxruntime"), ("int8-u8s8", "openvino"), ("int8-s8s8", "onnxruntime"))
    return {
        "layers": len(quantizable(model)),
        "tensors": len(tensors),
        "megabytes": sizes,
        "ran": _on_backends(subject, folder, windows, pairs),
    }


def rtx(subject: Subject, folder: Path, windows: int) -> Found:
    """Whether TensorRT-RTX builds an engine of each file for each GPU, with none of them here."""
    from npc_edge.engine.model.runners.tensorrt_build import build_engine, load_tensorrt

    try:
        trt = load_tensorrt("rtx")
    except BackendError as error:
        return {"skipped": error.message}
    built: dict[str, Found] = {}
    for precision in COMPILED:
        path, built[precision] = folder / f"{precision}.onnx", {}
        for target in TARGETS if path.is_file() else ():
            begun = time.perf_counter()
            try:
                plan = build_engine(trt, path, path.name, target)
                seconds = round(time.perf_counter() - begun, 1)
                built[precision][target] = {"megabytes": round(len(plan) / 1e6, 1), "seconds": seconds}
            except NpcEdgeError as error:
                built[precision][target] = {"failed": error.message}
    return {"version": trt.version, "built": built}


STEPS: Mapping[str, Callable[[Subject, Path, int], Found]] = {
    step.__name__: step for step in (export, rewrite, fp32, fp16, int8, rtx)
}
"""In their order. Each takes an architecture, the folder of its files and how many windows to see."""


def _load(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(path))
    except OSError as error:
        raise BundleError(f"{path.name} is not there: an earlier step failed") from error


def _on_backends(
    subject: Subject, folder: Path, windows: int, pairs: tuple[tuple[str, str], ...]
) -> dict[str, Found]:
    """ "<file> on <backend>" → how far from PyTorch."""
    found: dict[str, Found] = {}
    for precision, backend in pairs:
        try:
            with _runner(folder / f"{precision}.onnx", backend, precision) as runner:
                answers = [runner.infer(image)[subject.output] for image in images(subject, windows)]
                executed = runner.describe().precision
            found[f"{precision} on {backend}"] = {**_against(folder, answers), "executed_in": executed}
        except NpcEdgeError as error:
            found[f"{precision} on {backend}"] = {"failed": error.one_line()}
    return found


def _runner(path: Path, backend: str, precision: str) -> Runner:
    from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner
    from npc_edge.engine.model.runners.openvino import OpenVinoRunner

    kind = OpenVinoRunner if backend == "openvino" else OnnxRuntimeRunner
    return kind(path, threads=available_cores(), precision=precision)


def _against(folder: Path, found: list[Any]) -> Found:
    """Each window's relative error, the worst of each kind and of all; how much lies on the same side of 0 as
    in PyTorch; of maps the Dice of what lies above 0, of scores the numbers themselves."""
    with np.load(folder / _ANSWERS) as held:
        expected = [held[name] for name in held.files]
    ours, theirs = np.concatenate(found), np.concatenate(expected)
    errors = [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    each = len(errors) // len(KINDS)
    told: Found = {
        "relative_error": max(errors),
        "by_kind": {kind: max(errors[n * each : (n + 1) * each]) for n, kind in enumerate(KINDS)},
        "by_window": errors,
        "same_side": round(float(((ours > 0) == (theirs > 0)).mean()), 5),
    }
    if ours.ndim == 5:
        return {**told, "dice": round(dice(ours > 0, theirs > 0), 5)}
    return {**told, "answers": ours.ravel().tolist(), "pytorch": theirs.ravel().tolist()}


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)
