"""The end-to-end step of the GPU suite: two volumes in the host's memory become labels in the host's memory.

Ours: the kernels on either side of a network, nothing copied back between. The peer: MONAI's transforms on
the device and PyTorch's AMP. Both are told where the window lies; reading, locating and writing are not in
it. Labels are judged by the NumPy reference and PyTorch in fp32 on the processor, on some of the slices.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from npc_edge.bench.gpu_place import Place, Row, open_launcher
from npc_edge.bench.gpu_rounds import Attempt, Judged, Plan, Way, measure
from npc_edge.bench.peers.gpu_ways import Subject, onnxruntime_way, tensorrt_way, torch_way, use, wait
from npc_edge.bench.peers.networks import Prepared, Variant, rebuild
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import golden_cases
from npc_edge.engine.model.manifest import NetworkSpec, Precision
from npc_edge.engine.model.metrics import dice
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.types import Volume
from npc_edge.engine.voxels import channel_on
from npc_edge.kernels import reference
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import Grids, Rule, Sampling
from npc_edge.kernels.launch import CudaArray, DeviceArray, Launcher
from npc_edge.kernels.reference_network import probability_on_grid
from npc_edge.kernels.sampling import Shape

_FIELD_MM, _SLICE_MM = 230.0, 4.0
_FILES: tuple[Precision, ...] = ("fp16", "fp32")
_EQUAL, _DICE = 0.98, 0.95
"""What two sound chains agree in: they smooth, round and interpolate differently by a hair."""


@dataclass(frozen=True, eq=False)
class Study:
    """What is to be done. volumes: (2, Z, Y, X) float32. slices: those that are judged, expected: their
    structures and tumour, (n, Y, X) uint8 each."""

    volumes: NDArray[np.float32]
    source: Geometry
    window: Geometry
    network: NetworkSpec
    names: tuple[str, ...]
    threshold: float
    module: nn.Module
    slices: tuple[int, ...]
    expected: dict[str, NDArray[np.uint8]]


def rows(place: Place, note: Callable[[str], None], tell: Callable[[Row], None]) -> None:
    """Every chain in turns."""
    use(place.number)
    note("making a study, and what its labels are")
    study = make_study(place.study)
    launcher = open_launcher(place)
    attempts = [*_ours(place, study, launcher), *_peers(place, study)]
    plan = Plan(rounds=1 if place.small else 30, warmups=0 if place.small else 5, until=place.until)
    head = {"study": [2, *place.study], "window": list(study.window.shape)}
    measure(attempts, partial(judge, study), plan, note, lambda found: tell({**head, "ways": found}))


def make_study(shape: Shape) -> Study:
    """The golden case of the demo bundle, drawn out over a study of 230 mm and slices of 4 mm."""
    bundle = bundles.load(None)
    network = bundle.manifest.networks[-1]
    case = next(golden_cases(bundle, network.name)).inputs[IMAGE][0]
    spacing = (_FIELD_MM / shape[2], _FIELD_MM / shape[1], _SLICE_MM)
    source = Geometry(shape, np.diag([*spacing, 1.0]))
    z, y, x = network.window
    window = Geometry.centred(source.centre, network.spacing[::-1], (z, y, x))
    volumes = np.stack([_drawn_out(channel, window, source) for channel in case])
    module = rebuild(bundle, network.name)
    middle = shape[0] // 2
    slices = (middle - shape[0] // 4, middle, middle + shape[0] // 4)
    names = tuple(output.name for output in network.outputs)
    study = Study(
        volumes, source, window, network, names, bundle.manifest.tumour.threshold, module, slices, {}
    )
    study.expected.update(_expected(study))
    return study


def _drawn_out(channel: NDArray[np.float32], window: Geometry, source: Geometry) -> NDArray[np.float32]:
    """A window (Z, Y, X) of 0..1 on a larger grid of other spacing, its edges repeated, as intensities."""
    step = np.linalg.inv(window.affine) @ source.affine
    values = channel
    for axis, length in enumerate(source.shape):
        index = np.arange(length) * step[2 - axis, 2 - axis] + step[2 - axis, 3]
        index = np.clip(index, 0, values.shape[axis] - 1)
        low = np.minimum(index.astype(int), max(values.shape[axis] - 2, 0))
        part = (index - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, values.shape[axis] - 1)
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return np.ascontiguousarray(40 + 800 * values, dtype=np.float32)


def _expected(study: Study) -> dict[str, NDArray[np.uint8]]:
    """Prepared by the processor's path, run in fp32, brought back by the NumPy reference."""
    grids = [Volume(volume, study.source) for volume in study.volumes]
    channels = [channel_on(study.window, volume, study.network, "drawn out") for volume in grids]
    with torch.inference_mode():
        made = study.module(torch.from_numpy(np.stack(channels)[None]))
    held = dict(zip(study.names, made, strict=True))
    found: dict[str, list[NDArray[np.uint8]]] = {"structures": [], "tumour": []}
    for number in study.slices:
        offset = np.eye(4)
        offset[2, 3] = number
        grid = (study.window.affine, study.source.affine @ offset, (1, *study.source.shape[1:]))
        found["structures"].append(reference.labels_on_grid(held["anatomy"][0].numpy(), *grid)[0])
        probability = probability_on_grid(held["tumour"][0, 0].numpy(), *grid)[0]
        found["tumour"].append((probability >= study.threshold).astype(np.uint8))
    return {name: np.stack(parts) for name, parts in found.items()}


def judge(study: Study, way: Way) -> Judged:
    """A chain's labels on some slices beside what is expected of them."""
    found = {name: array[list(study.slices)] for name, array in way.outputs().items()}
    equal = float((found["structures"] == study.expected["structures"]).mean())
    same = dice(found["tumour"] > 0, study.expected["tumour"] > 0)
    right = equal >= _EQUAL and same >= _DICE
    wrong = f"structures equal at {equal:.4f} of voxels, tumour Dice {same:.3f}: too few"
    facts = {"structures_equal": round(equal, 4), "tumour_dice": round(same, 4)}
    return Judged(facts, "" if right else wrong)


def _ours(place: Place, study: Study, launcher: Launcher) -> Iterator[Attempt]:
    bundle = bundles.load(None)
    held = {a.precision for a in bundle.network(study.network.name).artefacts}
    wanted = ("fp32",) if place.small else _FILES
    files: dict[str, Path] = {p: bundle.artefact(study.network.name, p) for p in wanted if p in held}
    image = torch.zeros((1, len(study.volumes), *study.window.shape), device=place.torch_device)
    wait(image)
    with torch.inference_mode():
        made = study.module(image.cpu())
    shapes = {name: tuple(output.shape) for name, output in zip(study.names, made, strict=True)}
    subject = Subject(lambda: copy.deepcopy(study.module), image, shapes, files, place.number or 0)
    last = place.number is not None  # the fast layout on a GPU
    kinds = ("autocast",) if place.number is None else ("autocast", "fp16")
    opened: dict[str, Callable[[], Way]] = {}
    for precision in files:
        if place.number is None:
            opened[f"onnxruntime {precision}"] = partial(onnxruntime_way, subject, "onnxruntime", precision)
            continue
        opened[f"onnxruntime-cuda {precision}"] = partial(
            onnxruntime_way, subject, "onnxruntime-cuda", precision
        )
        opened[f"tensorrt-rtx {precision}"] = partial(tensorrt_way, subject, "rtx", precision)
        opened[f"tensorrt {precision}"] = partial(tensorrt_way, subject, "tensorrt", precision)
    for kind in kinds:
        variant = Variant(kind, last, place.device)
        opened[variant.name] = partial(torch_way, subject, variant)
    for name, open_network in opened.items():
        yield Attempt(f"kernels + {name}", partial(_chain, study, launcher, image, open_network))


def _chain(study: Study, launcher: Launcher, image: Tensor, open_network: Callable[[], Way]) -> Way:
    """The kernels before and after a network that reads `image`, which they fill."""
    network, operations = open_network(), Operations(launcher)
    rule = study.network.normalisation
    assert rule is not None, "the demo bundle's network is normalised"
    scale = Rule(rule.method, rule.lower, rule.upper, rule.foreground)
    there = Grids(study.source.affine, study.window.affine, study.window.shape)
    back = Grids(study.window.affine, study.source.affine, study.source.shape)
    found: dict[str, Any] = {}
    marks: list[Any] = []

    def run() -> None:
        marks[:] = [launcher.mark()]
        held = [operations.upload_slices(volume, study.source.shape) for volume in study.volumes]
        marks.append(launcher.mark())
        for number, source in enumerate(held):
            operations.channel(source, there, Sampling(), scale, array_of(image[0, number]))
        launcher.synchronize()
        marks.append(launcher.mark())
        network.run()
        made = network.held()
        anatomy, tumour = (made[name].contiguous() for name in ("anatomy", "tumour"))
        wait(image)
        marks.append(launcher.mark())
        structures = operations.labels(array_of(anatomy[0]), back)
        _, mask = operations.threshold(array_of(tumour[0, 0]), back, study.threshold)
        marks.append(launcher.mark())
        found.update(structures=launcher.copy_out(structures), tumour=launcher.copy_out(mask))
        marks.append(launcher.mark())
        launcher.synchronize()

    def stages() -> dict[str, float]:
        names = ("upload", "prepare", "network", "labels", "home")
        spent = [launcher.elapsed_ms(a, b) for a, b in itertools.pairwise(marks)]
        return dict(zip(names, spent, strict=True))

    return Way(run, lambda: found, network.precision, stages=stages, close=network.close)


def _peers(place: Place, study: Study) -> Iterator[Attempt]:
    kinds = ("autocast",) if place.number is None else ("autocast", "fp16")
    for kind, last in itertools.product(kinds, (True,) if place.small else (False, True)):
        variant = Variant(kind, last, place.device)
        yield Attempt(f"MONAI + {variant.name}", partial(_peer, place, study, variant), peer=True)


def _peer(place: Place, study: Study, variant: Variant) -> Way:
    """MONAI's transforms before and after PyTorch, on the device; page-locked memory is given to it."""
    import monai.data

    from npc_edge.bench.peers.monai_pipeline import RAS, brought_back, network_input

    data: Any = monai.data
    network = Prepared(copy.deepcopy(study.module), variant)
    staged = torch.empty(study.volumes.shape, pin_memory=place.number is not None)
    affine = torch.from_numpy(RAS @ study.source.affine)
    found: dict[str, Any] = {}
    spent: dict[str, float] = {}

    def run() -> None:
        begun = time.perf_counter()

        def passed(stage: str) -> None:
            nonlocal begun
            now = time.perf_counter()
            spent[stage], begun = 1e3 * (now - begun), now

        staged.copy_(torch.from_numpy(study.volumes))
        volumes = staged.to(place.torch_device, non_blocking=True)
        wait(volumes)
        passed("upload")
        images = {
            name: data.MetaTensor(volume.permute(2, 1, 0)[None], affine=affine)
            for name, volume in zip(study.network.inputs, volumes, strict=True)
        }
        image = network_input(images, study.window, study.network)
        wait(volumes)
        passed("prepare")
        made = dict(zip(study.names, network(image.permute(0, 1, 4, 3, 2)), strict=True))
        passed("network")
        logits = torch.cat([made["tumour"], made["anatomy"]], 1)
        inside, box, _ = brought_back(logits, study.window, study.source)
        masks = torch.zeros((2, *study.source.shape), dtype=torch.uint8, device=volumes.device)
        masks[(0, *box)] = inside[1:].argmax(0).to(torch.uint8)
        masks[(1, *box)] = (torch.sigmoid(inside[0]) >= study.threshold).to(torch.uint8)
        wait(volumes)
        passed("labels")
        home = masks.cpu().numpy()
        passed("home")
        found.update(structures=home[0], tumour=home[1])

    tolerance = "bf16" if place.number is None else "fp16"
    return Way(run, lambda: found, tolerance, stages=lambda: dict(spent))


def array_of(tensor: Tensor) -> DeviceArray:
    """A contiguous tensor as the kernels take it, sharing its memory."""
    assert tensor.is_contiguous()
    kind = np.dtype(np.float16 if tensor.dtype == torch.float16 else np.float32)
    given = tensor if tensor.dtype in (torch.float16, torch.float32) else tensor.float()
    made = CudaArray if given.is_cuda else DeviceArray
    return made(given.data_ptr(), tuple(given.shape), kind, given)
