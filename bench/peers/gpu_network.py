"""The network step of the GPU suite: the demo bundle's network, and a larger one with random weights.

Both are judged by what PyTorch says in fp32 on the processor.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from npc_edge.bench import gpu_rounds
from npc_edge.bench.gpu_place import Place, Row
from npc_edge.bench.gpu_rounds import FAULTS, Judged, Way, measure, words
from npc_edge.bench.large import ISOTROPIC, Plan, network
from npc_edge.bench.peers.gpu_ways import (
    Subject,
    flop_of,
    on_host,
    onnxruntime_ways,
    tensorrt_ways,
    torch_ways,
    use,
)
from npc_edge.bench.peers.networks import rebuild
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import TOLERANCES, golden_cases
from npc_edge.engine.model.manifest import Precision
from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.model.runners.onnxruntime import PROVIDERS, load_onnxruntime

_FILES: tuple[Precision, ...] = ("fp16", "fp32", "int8-s8s8")


@dataclass(frozen=True, eq=False)
class Asked:
    """A network on the processor, a window (1, C, Z, Y, X) for it, the names of its outputs, its files."""

    module: nn.Module
    image: Tensor
    outputs: Sequence[str]
    files: Mapping[str, Path]


def demo(place: Place, note: Callable[[str], None], tell: Callable[[Row], None]) -> None:
    """The network of the embedded bundle that decides (`small`: its locator), one window of a golden case."""
    use(place.number)
    bundle = bundles.load(None)
    names = [n.name for n in bundle.manifest.networks if n.locates == place.small]
    held = {a.precision for a in bundle.network(names[-1]).artefacts}
    files: dict[str, Path] = {p: bundle.artefact(names[-1], p) for p in _FILES if p in held}
    image = torch.from_numpy(next(golden_cases(bundle, names[-1])).inputs[IMAGE])
    outputs = [output.name for output in bundle.network(names[-1]).outputs]
    module = rebuild(bundle, names[-1])
    head = {"name": f"{bundle.name}, {names[-1]}"}
    _measure(Asked(module, image, outputs, files), place, note, lambda row: tell({**head, **row}))


def larger(place: Place, note: Callable[[str], None], tell: Callable[[Row], None], scratch: Path) -> None:
    """An isotropic U-Net of nnU-Net's plain shape, 2 x 96^3; its ONNX file is made where one is of use."""
    use(place.number)
    plan = Plan((16, 16, 16), ((1, 1, 1), (2, 2, 2)), 0, (8, 16)) if place.small else ISOTROPIC
    module = network(plan).requires_grad_(False)
    image = torch.randn((1, 2, *plan.window), generator=torch.Generator().manual_seed(1))
    files, why = {}, "no runtime here would run it"
    if place.device == "cpu" or _runtimes():
        note("exporting the larger network")
        try:
            files, why = {"fp32": _export(module, image, scratch / "larger.fp32.onnx")}, ""
        except FAULTS as error:
            why = words(error)
    head = {"name": f"isotropic U-Net, 2 x {plan.window[0]}^3, {len(plan.features)} stages", "no_file": why}
    asked = Asked(module, image, ["segmentation"], files)
    _measure(asked, place, note, lambda row: tell({**head, **row}))


def judge_by(expected: Mapping[str, object]) -> Callable[[Way], Judged]:
    """Right is: every output within its precision's tolerance of what is expected."""

    def judge(way: Way) -> Judged:
        found = way.outputs()
        worst = max(relative_error(found[name], wanted) for name, wanted in expected.items())  # type: ignore[arg-type]
        allowed = TOLERANCES[way.precision].relative_error
        wrong = "" if worst <= allowed else f"differs by {worst:.2g} of the range, {allowed:g} is allowed"
        return Judged({"max_relative_error": worst}, wrong)

    return judge


def _measure(asked: Asked, place: Place, note: Callable[[str], None], tell: Callable[[Row], None]) -> None:
    with torch.inference_mode():
        made = asked.module(asked.image)
    outputs = dict(zip(asked.outputs, (made,) if isinstance(made, Tensor) else made, strict=True))
    shapes = {name: tuple(output.shape) for name, output in outputs.items()}
    here = asked.image.to(place.torch_device)
    number = place.number or 0
    subject = Subject(lambda: copy.deepcopy(asked.module), here, shapes, asked.files, number)
    attempts = [
        *torch_ways(subject, "eager" if place.small else "inductor"),
        *onnxruntime_ways(subject),
        *tensorrt_ways(subject),
    ]
    flop = flop_of(asked.module, asked.image)
    head = {"window": list(asked.image.shape), "gflop": round(flop / 1e9, 2)}
    plan = gpu_rounds.Plan(3 if place.small else 30, 1 if place.small else 5, place.until, flop)
    measure(attempts, judge_by(on_host(outputs)), plan, note, lambda rows: tell({**head, "ways": rows}))


def _runtimes() -> bool:
    """True when something other than PyTorch could run an ONNX file on a GPU."""
    held = load_onnxruntime().get_available_providers()
    return PROVIDERS["onnxruntime-cuda"] in held or any(
        importlib.util.find_spec(module) is not None for module in ("tensorrt", "tensorrt_rtx")
    )


def _export(module: nn.Module, image: Tensor, path: Path) -> Path:
    from npc_edge.export.to_onnx import export_onnx

    export_onnx(module, torch.zeros_like(image), ("segmentation",), path)
    return path
