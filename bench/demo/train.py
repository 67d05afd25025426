"""Training of both networks: a learning rate that ends on time, averaged weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from npc_edge.bench.demo import stream
from npc_edge.bench.demo.coarse import GRID, SPACING_MM
from npc_edge.bench.demo.network import CLASSES, LocatorNet, NpcNet
from npc_edge.bench.phantom.structures import Structure
from npc_edge.bench.phantom.tumour import CATEGORY

Loss = Callable[[nn.Module, Any, float], tuple[Tensor, dict[str, Tensor]]]
Say = Callable[[str], None]

_CROPPED, _FROZEN = 0.55, 0.66
"""Progress up to which npc steps see the middle of the window, and from which batch statistics are frozen."""

_MARGIN = (5, 9, 9)
"""Voxels (z, y, x) around a tumour that count as its margin."""
_FAR = torch.tensor([s for s in Structure if CATEGORY.get(s.name.lower()) == "T4"], dtype=torch.uint8)
"""Structures whose invasion is T4."""


@dataclass(frozen=True)
class Plan:
    """How long to train: minutes on the clock, or so many steps whatever they take. width: channels of the
    first level."""

    minutes: float
    steps: int | None
    batch: int
    rate: float
    workers: int
    width: int
    checkpoint_s: float = 120.0


def npc_loss(network: nn.Module, batch: Any, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Tumour: cross-entropy, heavier where the margin decides a category, and batch Dice. Anatomy:
    cross-entropy, heavier under the tumour, and the mean Dice of its classes. Detection: cross-entropy."""
    image, tumour, anatomy, npc = batch if progress > _CROPPED else cropped(batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits, classes, score = network(image.contiguous(memory_format=torch.channels_last_3d))
    logits, truth = logits.float()[:, 0], tumour.float()
    voxel, dice = _tumour_loss(logits, truth, anatomy)
    under, overlap = _anatomy_loss(classes, truth, anatomy)
    found = F.binary_cross_entropy_with_logits(score.float(), npc)
    total = 4 * voxel + dice + under + overlap + 0.3 * found
    return total, {"dice": dice, "voxel": voxel, "anatomy": under, "overlap": overlap, "detection": found}


def _tumour_loss(logits: Tensor, truth: Tensor, anatomy: Tensor) -> tuple[Tensor, Tensor]:
    """logits, truth (N, Z, Y, X); anatomy (N, Z, Y/2, X/2). Cross-entropy and 1 - Dice.

    Both sides of a tumour's margin weigh more outside the nasopharynx: there a millimetre makes a category.
    What lies in a structure of T4, far from the bulk and small beside it, weighs more still.
    """
    elsewhere = (anatomy != Structure.NASOPHARYNX) & (anatomy != 255)
    padding = tuple(n // 2 for n in _MARGIN)
    near = F.max_pool3d(truth[:, None], _MARGIN, 1, padding)[:, 0]
    margin = near * _doubled(elsewhere)
    far = truth * _doubled(torch.isin(anatomy, _FAR))
    weight = 1 + 2 * truth + 2 * margin + 3 * far
    voxel = F.binary_cross_entropy_with_logits(logits, truth, weight=weight)
    seen = torch.sigmoid(logits)
    return voxel, 1 - (2 * (seen * truth).sum() + 50) / (seen.sum() + truth.sum() + 50)


def _doubled(mask: Tensor) -> Tensor:
    """(N, Z, Y/2, X/2) → (N, Z, Y, X)."""
    return mask.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _anatomy_loss(classes: Tensor, truth: Tensor, anatomy: Tensor) -> tuple[Tensor, Tensor]:
    """classes (N, K, Z, Y/2, X/2) logits; truth (N, Z, Y, X). Cross-entropy and 1 - mean Dice; 0 where
    nothing is known. Under the tumour a voxel counts five times: that is where the rules look."""
    if not bool((anatomy != 255).any()):
        return torch.zeros(()), torch.zeros(())
    y, x = torch.randint(2, (2,)).tolist()  # a quarter of the pixels says as much
    some, wanted = classes[..., y::2, x::2].float(), anatomy[..., y::2, x::2].long()
    weight = 1 + 4 * truth[:, :, 2 * y :: 4, 2 * x :: 4]
    weight = weight * (wanted != 255)
    cross = F.cross_entropy(some, wanted, ignore_index=255, reduction="none")
    share = torch.softmax(some, 1) * weight[:, None]
    hot = F.one_hot(wanted.clamp(max=CLASSES - 1), CLASSES).movedim(-1, 1) * weight[:, None]
    both, size = (share * hot).sum((0, 2, 3, 4)), (share + hot).sum((0, 2, 3, 4))
    there = hot.sum((0, 2, 3, 4)) > 0
    there[Structure.BACKGROUND] = False
    dice = ((2 * both + 1) / (size + 1))[there].mean()
    return (cross * weight).sum() / weight.sum(), 1 - dice


def cropped(batch: Any) -> Any:
    """Some 96 x 96 pixels of the window, its corners as often as its middle: cheap early steps."""
    image, tumour, anatomy, _ = batch
    y, x = (4 * torch.randint(0, 13, (2,))).tolist()
    view = (..., slice(y, y + 96), slice(x, x + 96))
    half = (..., slice(y // 2, y // 2 + 48), slice(x // 2, x // 2 + 48))
    inside = tumour[view]
    npc = (inside.sum((1, 2, 3)) > 20).float()[:, None]
    return image[view], inside, anatomy[half], npc


def locator_loss(network: nn.Module, batch: Any, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The heatmap's softmax against a Gaussian of 8 mm, and the distance of its mean from the point."""
    image, point = batch
    heat = network(image).float().flatten(1)
    axes = [torch.arange(n, dtype=torch.float32) for n in GRID]
    where = torch.stack([g.flatten() for g in torch.meshgrid(*axes, indexing="ij")], 1)
    truth = torch.softmax(-((where[None] - point[:, None]) ** 2).sum(2) / 2, 1)
    cross = -(truth * torch.log_softmax(heat, 1)).sum(1).mean()
    mean = torch.softmax(heat, 1) @ where
    apart = (mean - point).norm(dim=1).mean()
    return cross + 0.1 * apart, {"cross": cross, "mm": apart * SPACING_MM}


def fit(
    network: nn.Module, loss: Loss, data: Callable[[int], Iterator[Any]], plan: Plan, at: Path, say: Say
) -> dict[str, Any]:
    """Train, or go on from the checkpoint at `at`; the network ends with its averaged weights, in eval mode.

    Returns how many steps and seconds it took. The last third runs with frozen normalisation
    statistics, as at inference: batches are small.
    """
    run = _Run(network, plan, at)
    batches = data(run.step)
    saved = begun = time.monotonic()
    spent = run.seconds
    facts: dict[str, float] = {}
    network.train()
    while run.progress() < 1:
        run.prepare()
        total, now = loss(network, next(batches), run.progress())
        run.advance(total)
        for name, value in now.items():
            facts[name] = 0.95 * facts.get(name, float(value.detach())) + 0.05 * float(value.detach())
        run.seconds = spent + time.monotonic() - begun
        if run.step % 20 == 0:
            shown = " ".join(f"{k} {v:.3f}" for k, v in facts.items())
            say(f"step {run.step} {run.seconds:.0f} s {run.progress():.2f} {shown}")
        if time.monotonic() - saved > plan.checkpoint_s:
            run.save()
            saved = time.monotonic()
    run.save()
    network.load_state_dict(run.average)
    network.eval()
    return {"steps": run.step, "seconds": round(run.seconds), "batch": plan.batch}


class _Run:
    """The state of a training run."""

    def __init__(self, network: nn.Module, plan: Plan, at: Path) -> None:
        self.network, self.plan, self.at = network, plan, at
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-3)
        self.step, self.seconds = 0, 0.0
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = 0.03
        if at.exists():
            state = torch.load(at, weights_only=True)
            network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.average = state["average"]
        else:
            self.average = {k: v.clone() for k, v in network.state_dict().items()}

    def progress(self) -> float:
        """0 at the start, 1 when done."""
        if self.plan.steps is not None:
            return self.step / self.plan.steps
        return self.seconds / (60 * self.plan.minutes)

    def prepare(self) -> None:
        """Learning rate of this step: a short rise, then a cosine to nothing."""
        progress = min(1.0, self.progress())
        rise = min(1.0, (self.step + 1) / 60)
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * rise * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        if progress > _FROZEN:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eval()

    def advance(self, total: Tensor) -> None:
        """One step; the averaged weights follow."""
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.99, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.dtype.is_floating_point:
                    self.average[name].lerp_(value, 1 - keep)
                else:
                    self.average[name].copy_(value)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.at.with_suffix(".part")
        state = {"network": self.network.state_dict(), "average": self.average}
        state |= {"optimiser": self.optimiser.state_dict(), "step": self.step, "seconds": self.seconds}
        torch.save(state, part)
        part.replace(self.at)


def train_npc(source: stream.Source, plan: Plan, at: Path, say: Say) -> tuple[NpcNet, dict[str, Any]]:
    """The network that finds and outlines."""
    torch.manual_seed(source.seed)
    network = NpcNet(plan.width).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    data = _data(stream.npc_sample, source, plan)
    return network, fit(network, npc_loss, data, plan, at, say)


def train_locator(source: stream.Source, plan: Plan, at: Path, say: Say) -> tuple[LocatorNet, dict[str, Any]]:
    """The network that finds the nasopharynx."""
    torch.manual_seed(source.seed)
    network = LocatorNet(plan.width)
    return network, fit(network, locator_loss, _data(stream.locator_sample, source, plan), plan, at, say)


def _data(draw: Any, source: stream.Source, plan: Plan) -> Callable[[int], Iterator[Any]]:
    return lambda step: stream.batches(draw, source, step, plan.batch, plan.workers)
