"""What it takes to export a network of nnU-Net's size: memory and time of export and int8 calibration.

30 million parameters, anisotropic, 2 x 20 x 256 x 256, random weights: what is measured is the way, not the
network. Each step is a process of its own, so that each has a peak of its own. Run it as

    python -m npc_edge.bench large
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.machine import describe
from npc_edge.engine.machine import peak_rss_mb

if TYPE_CHECKING:
    from torch import nn

FEATURES = (32, 64, 128, 256, 320, 320)


@dataclass(frozen=True)
class Plan:
    """window (Z, Y, X) of two channels. strides: (z, y, x) on the way into each stage. flat: how many stages
    have kernels that do not reach across slices. features: channels of each stage."""

    window: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    flat: int
    features: tuple[int, ...] = FEATURES


ANISOTROPIC = Plan((20, 256, 256), ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)), 2)
ISOTROPIC = Plan((96, 96, 96), ((1, 1, 1), *((2, 2, 2),) * 5), 0)


def network(plan: Plan = ANISOTROPIC, seed: int = 0) -> nn.Module:
    """A U-Net in nnU-Net's plain shape: two convolutions a stage, instance norm, leaky ReLU."""
    import torch
    from torch import Tensor, nn

    torch.manual_seed(seed)

    def stage(inputs: int, outputs: int, number: int, stride: tuple[int, int, int]) -> nn.Sequential:
        kernel = (1, 3, 3) if number < plan.flat else (3, 3, 3)
        layers: list[nn.Module] = []
        for channels, step in ((inputs, stride), (outputs, (1, 1, 1))):
            padding = tuple(k // 2 for k in kernel)
            layers += [
                nn.Conv3d(channels, outputs, kernel, step, padding),  # type: ignore[arg-type]
                nn.InstanceNorm3d(outputs, affine=True),
                nn.LeakyReLU(0.01),
            ]
        return nn.Sequential(*layers)

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            features = plan.features
            inputs = (2, *features[:-1])
            self.down = nn.ModuleList(
                stage(i, o, n, s)
                for n, (i, o, s) in enumerate(zip(inputs, features, plan.strides, strict=True))
            )
            pairs = list(zip(features[:-1], features[1:], plan.strides[1:], strict=True))[::-1]
            self.up = nn.ModuleList(nn.ConvTranspose3d(deep, wide, s, s) for wide, deep, s in pairs)
            self.join = nn.ModuleList(
                stage(2 * wide, wide, len(pairs) - 1 - n, (1, 1, 1)) for n, (wide, _, _) in enumerate(pairs)
            )
            self.head = nn.Conv3d(plan.features[0], 2, 1)

        def forward(self, image: Tensor) -> Tensor:
            skips = []
            for block in self.down:
                image = block(image)
                skips.append(image)
            for grow, block, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
                image = block(torch.cat([grow(image), skip], 1))
            return self.head(image)  # type: ignore[no-any-return]

    return Large().eval()


class Windows(Sequence[dict[str, NDArray[np.float32]]]):
    """Windows of smooth noise, each made when it is asked for."""

    def __init__(self, size: int, plan: Plan = ANISOTROPIC) -> None:
        self.size, self.shape = size, plan.window

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.size:
            raise IndexError(index)
        rng = np.random.default_rng([1, index])
        z, y, x = self.shape
        coarse = rng.standard_normal((1, 2, z // 4, y // 8, x // 8), dtype=np.float32)
        return {"image": coarse.repeat(4, 2).repeat(8, 3).repeat(8, 4)}

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return (self[i] for i in range(self.size))


def export_step(folder: Path) -> dict[str, Any]:
    """Write the fp32 file."""
    import torch

    from npc_edge.export.to_onnx import export_onnx

    model = network()
    parameters = sum(p.numel() for p in model.parameters())
    exported = export_onnx(
        model, torch.zeros(1, 2, *ANISOTROPIC.window), ("segmentation",), folder / "large.fp32.onnx"
    )
    return {"parameters": parameters, "exporter": exported.exporter, "errors": dict(exported.errors)}


def calibrate_step(folder: Path, cases: int) -> dict[str, Any]:
    """Ranges of every activation over the cases, and both int8 files."""
    import onnx

    from npc_edge.export.observe import observe
    from npc_edge.export.passes import rewrite
    from npc_edge.export.qdq import FLAVOURS, activations, quantize
    from npc_edge.export.staged_norms import LOWERED

    windows = Windows(cases)
    model, _ = rewrite(onnx.load(str(folder / "large.fp32.onnx")), LOWERED, windows[0])
    tensors = activations(model)
    ranges = observe(model, tensors, windows)
    sizes = {}
    for flavour in FLAVOURS:
        path = folder / f"large.{flavour}.onnx"
        onnx.save(quantize(model, ranges, flavour), str(path))
        sizes[flavour] = round(path.stat().st_size / 1e6, 1)
    return {"cases": cases, "tensors": len(tensors), "megabytes": sizes}


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--cases", type=int, default=20, help="windows int8 is calibrated on")
    parser.add_argument("--out", type=Path, default=None, help="default: bench/results/<date>-large.json")
    parser.add_argument("--step", choices=("export", "calibrate"), default=None, help="one step, here")
    parser.add_argument("--folder", type=Path, default=None, help="of the step's files")


def main(given: Namespace) -> int:
    """Run both steps in processes of their own, print what they took and write JSON."""
    if given.step is not None:
        begun = time.perf_counter()
        folder = given.folder or Path()
        found = export_step(folder) if given.step == "export" else calibrate_step(folder, given.cases)
        print(json.dumps({**found, "seconds": time.perf_counter() - begun, "peak_mb": peak_rss_mb()}))
        return 0
    report: dict[str, Any] = {"machine": describe(), "window": ANISOTROPIC.window}
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
        for step in ("export", "calibrate"):
            command = [sys.executable, "-m", "npc_edge.bench", "large", "--step", step, "--folder", scratch]
            ran = subprocess.run(
                [*command, "--cases", str(given.cases)], stdout=subprocess.PIPE, text=True, check=True
            )
            report[step] = json.loads(ran.stdout.splitlines()[-1])
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-large.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for step in ("export", "calibrate"):
        print(f"{step}: {report[step]['seconds']:.0f} s, {report[step]['peak_mb']:.0f} MB at its peak")
    return 0
