"""Endless, repeatable streams of training samples: the i-th sample of a seed is always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from npc_edge.bench.demo import real_head
from npc_edge.bench.demo.cache import Case, load
from npc_edge.bench.demo.coarse import CoarseHead, coarse_head, draw_coarse, draw_coarse_real
from npc_edge.bench.demo.sample import WINDOW, draw_sample

REAL = 0.3
"""Share of copies of the real head."""
MIMICS = 0.7
"""Share, among synthetic samples without a tumour, of heads that may have what looks like one."""
TUMOUR = 0.55
"""Share of samples with a tumour."""


@dataclass(frozen=True)
class Source:
    """Cached heads (paths as text), and whether copies of the real head are mixed in."""

    heads: tuple[str, ...]
    real: bool
    seed: int


@lru_cache(maxsize=512)
def _case(path: str) -> Case:
    return load(Path(path))


@lru_cache(maxsize=1)
def _real() -> real_head.RealHead:
    return real_head.load()


@lru_cache(maxsize=1)
def _real_coarse() -> CoarseHead:
    return coarse_head(_real())


def _drawn_case(source: Source, wanted: bool, rng: np.random.Generator) -> Case:
    """A head with tumour layers where one is wanted, else any, of which MIMICS may mimic one."""
    mimic = bool(rng.uniform() < MIMICS)
    for attempt in range(1000):
        case = _case(source.heads[int(rng.integers(len(source.heads)))])
        # A few heads may hold no mimics at all.
        if case.layers if wanted else (not mimic or not case.layers or attempt > 30):
            return case
    raise ValueError("no head of the cache has room for a tumour")


def npc_sample(source: Source, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """image (2, Z, Y, X) float32; tumour (Z, Y, X), anatomy (Z, Y/2, X/2) uint8, 255 unknown; npc (1,)."""
    rng = np.random.default_rng([source.seed, index])
    wanted = bool(rng.uniform() < TUMOUR)
    if source.real and rng.uniform() < REAL:
        sample = real_head.draw_real_sample(_real(), wanted, rng)
    else:
        case = _drawn_case(source, wanted, rng)
        layer = case.layers[int(rng.integers(len(case.layers)))] if wanted else None
        sample = draw_sample(case, layer, rng)
    anatomy = sample.anatomy
    if anatomy is None:
        anatomy = np.full((WINDOW[0], WINDOW[1] // 2, WINDOW[2] // 2), 255, dtype=np.uint8)
    npc = torch.tensor([float(sample.npc)])
    return torch.from_numpy(sample.image), torch.from_numpy(sample.tumour), torch.from_numpy(anatomy), npc


def locator_sample(source: Source, index: int) -> tuple[Tensor, Tensor]:
    """image (2, Z, Y, X) float32, the nasopharynx in voxels (z, y, x)."""
    rng = np.random.default_rng([source.seed + 1, index])
    if source.real and rng.uniform() < 2 * REAL:
        image, point = draw_coarse_real(_real_coarse(), rng)
    else:
        image, point = draw_coarse(_case(source.heads[int(rng.integers(len(source.heads)))]), rng)
    return torch.from_numpy(image), torch.from_numpy(point)


class _Indexed(Dataset[Any]):
    def __init__(self, draw: Callable[[Source, int], Any], source: Source, start: int, count: int) -> None:
        self.draw, self.source, self.start, self.count = draw, source, start, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.draw(self.source, self.start + index)


def batches(
    draw: Callable[[Source, int], Any], source: Source, start: int, size: int, workers: int
) -> Iterator[Any]:
    """Batches from the start-th batch on, without end."""
    data = _Indexed(draw, source, start * size, 10_000_000)
    options: dict[str, Any] = {"prefetch_factor": 6} if workers else {}
    return iter(DataLoader(data, batch_size=size, num_workers=workers, worker_init_fn=_one_thread, **options))


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
