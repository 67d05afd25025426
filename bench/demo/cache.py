"""What the recipe trains on, built once: region-only anatomies with tumour layers, as uint8 on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.phantom.anatomy import REGION, HeadGrid, build_anatomy
from npc_edge.bench.phantom.tumour import STAGES, grow_tumour

COARSE = HeadGrid((-100.0, -124.0, -96.0), (4.0, 4.0, 4.0), (56, 64, 51))
"""A whole head at 4 mm for the locator."""

Labels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Layer:
    """A tumour: its stage and its fraction (0..255) within a box of the region grid."""

    stage: str
    box: tuple[slice, slice, slice]
    fraction: Labels


@dataclass(frozen=True, eq=False)
class Case:
    """A head: tissue and structure (Z, Y, X) uint8 on REGION, tumour layers, the coarse whole head."""

    seed: int
    tissue: Labels
    structure: Labels
    layers: tuple[Layer, ...]
    coarse: Labels


def build(folder: Path, seeds: range, jobs: int, say: Callable[[str], None]) -> list[Path]:
    """Make what is missing of the cache; returns its files in the order of the seeds. Safe to interrupt."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed}.npz" for seed in seeds]
    missing = [(seed, path) for seed, path in zip(seeds, paths, strict=True) if not path.exists()]
    with Pool(jobs) as pool:
        for done, _ in enumerate(pool.imap_unordered(_build_one, missing), start=1):
            if done % 20 == 0 or done == len(missing):
                say(f"cache: {done} of {len(missing)} heads")
    return paths


def _build_one(job: tuple[int, Path]) -> None:
    """Every third head may have the mimics of the healthy; the others carry a tumour of each stage."""
    seed, path = job
    healthy = seed % 3 == 0
    anatomy = build_anatomy(seed, REGION, healthy=healthy)
    arrays = {
        "tissue": anatomy.tissue,
        "structure": anatomy.structure,
        "coarse": build_anatomy(seed, COARSE, healthy=healthy).tissue,
    }
    for number, stage in enumerate(() if healthy else STAGES):
        try:
            tumour = grow_tumour(anatomy, stage, 10 * seed + number)
        except ValueError:  # no room for this stage in this head: the cache holds one layer less
            continue
        where = np.argwhere(tumour.fraction > 0)
        low, high = where.min(0), where.max(0) + 1
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        arrays[f"{stage}.low"] = low.astype(np.int64)
        arrays[f"{stage}.fraction"] = np.round(tumour.fraction[box] * 255).astype(np.uint8)
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def load(path: Path) -> Case:
    """Read one cached head."""
    with np.load(path, allow_pickle=False) as data:
        layers = []
        for stage in STAGES:
            if f"{stage}.low" in data:
                low, fraction = data[f"{stage}.low"], data[f"{stage}.fraction"]
                box = tuple(slice(int(a), int(a) + n) for a, n in zip(low, fraction.shape, strict=True))
                layers.append(Layer(stage, (box[0], box[1], box[2]), fraction))
        return Case(int(path.stem), data["tissue"], data["structure"], tuple(layers), data["coarse"])
