"""Samples for the locator: a whole head at 8 mm, anywhere in view, and where its nasopharynx is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npc_edge.bench.demo.cache import COARSE, Case, Layer
from npc_edge.bench.demo.real_head import T2, RealHead, drawn_t2
from npc_edge.bench.demo.sample import Field, draw_signal_lut
from npc_edge.bench.phantom.acquire import add_rician, bias_field
from npc_edge.bench.phantom.anatomy import REGION
from npc_edge.bench.phantom.signal import TUMOUR
from npc_edge.kernels.intensity import normalise

GRID = (32, 40, 40)
SPACING_MM = 8.0


def draw_coarse(case: Case, rng: np.random.Generator) -> tuple[Field, Field]:
    """A synthetic head: image (2, Z, Y, X), its nasopharynx in voxels (z, y, x)."""
    fraction = None
    if case.layers and rng.uniform() < 0.7:
        fraction = _coarse_fraction(case.layers[int(rng.integers(len(case.layers)))])
    field_t = 3.0 if rng.uniform() < 0.6 else 1.5
    signals = []
    for kind in ("T1", "T2"):
        lut = draw_signal_lut(kind, field_t, rng)
        signal = lut[case.coarse].astype(np.float32)
        if fraction is not None:
            signal += fraction * (lut[TUMOUR] - signal)
        signals.append(signal)
    return _place(signals, COARSE.origin, COARSE.spacing[0], rng)


@dataclass(frozen=True, eq=False)
class CoarseHead:
    """The real head at 4 mm: t1 (Z, Y, X), shares (classes, Z, Y, X) of each tissue; origin x, y, z mm."""

    t1: Field
    shares: Field
    origin: tuple[float, float, float]


def coarse_head(head: RealHead) -> CoarseHead:
    """Average the real head over 4 mm, once."""
    kinds = [(head.kind == k).astype(np.float32) for k in range(len(T2))]
    shares = [ndimage.uniform_filter(kind, 4)[2::4, 2::4, 2::4] for kind in kinds]
    t1 = ndimage.uniform_filter(head.t1, 4)[2::4, 2::4, 2::4]
    x, y, z = (o + 1.5 for o in head.origin)  # an even filter leans half a voxel to the front
    return CoarseHead(t1, np.stack(shares), (x, y, z))


def draw_coarse_real(head: CoarseHead, rng: np.random.Generator) -> tuple[Field, Field]:
    """A copy of the real head with a simulated T2."""
    values = drawn_t2(rng, bool(rng.uniform() < 0.5))
    t1 = np.clip(head.t1, 0, None) ** np.float32(rng.uniform(0.8, 1.25))
    return _place([t1, np.tensordot(values, head.shares, axes=1)], head.origin, 4.0, rng)


def _coarse_fraction(layer: Layer) -> Field:
    """A tumour layer on the coarse grid."""
    index = np.argwhere(layer.fraction > 0)
    weight = layer.fraction[tuple(index.T)] / 255.0 * (np.prod(REGION.spacing) / np.prod(COARSE.spacing))
    low = np.array([s.start for s in layer.box])
    world = (index + low) * REGION.spacing[::-1] + np.array(REGION.origin[::-1])
    voxel = np.rint((world - COARSE.origin[::-1]) / COARSE.spacing[::-1]).astype(int)
    flat = np.ravel_multi_index(tuple(voxel.T), COARSE.shape, mode="clip")
    total = np.bincount(flat, weights=weight, minlength=int(np.prod(COARSE.shape)))
    return np.asarray(np.clip(total, 0, 1).reshape(COARSE.shape), dtype=np.float32)


def _place(
    signals: list[Field], origin: tuple[float, float, float], spacing: float, rng: np.random.Generator
) -> tuple[Field, Field]:
    """The head, turned and shifted, under a stack of slices whose centre is the grid's centre."""
    half = np.array(
        [rng.uniform(45, 115), *(rng.uniform(88, 135, 2) if rng.uniform() < 0.5 else [115.0, 115.0])]
    )
    room = np.maximum(half - (14, 35, 35), 5)  # the nasopharynx lies inside the stack
    offset = rng.uniform(-1, 1, 3) * np.minimum(room, (90, 60, 40))
    a, b, c = np.radians(rng.normal(0, 7.0, 3))
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    size = np.diag(rng.normal(1.0, 0.05) * rng.normal(1.0, 0.03, 3))
    if rng.uniform() < 0.5:
        size[0, 0] *= -1
    matrix = (size @ rz @ ry @ rx)[::-1, ::-1]  # in z, y, x
    axes = [(np.arange(n) - (n - 1) / 2) * SPACING_MM for n in GRID]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    index = (matrix @ (points - offset[:, None]) - np.array(origin[::-1])[:, None]) / spacing
    inside = np.ones(GRID, dtype=bool)
    for axis, (line, limit) in enumerate(zip(axes, half, strict=True)):
        inside &= (np.abs(line) <= limit).reshape([-1 if k == axis else 1 for k in range(3)])
    return _images(signals, index, inside, rng), (offset / SPACING_MM + (np.array(GRID) - 1) / 2).astype(
        np.float32
    )


def _images(
    signals: list[Field], index: NDArray[np.float64], inside: NDArray[np.bool_], rng: np.random.Generator
) -> Field:
    out = []
    for signal in signals:
        smooth = ndimage.gaussian_filter(signal, (float(rng.uniform(0.6, 1.2)), 0.85, 0.85))
        image = (
            ndimage.map_coordinates(smooth, index, order=1, mode="constant").reshape(GRID).astype(np.float32)
        )
        image *= bias_field(GRID, rng, float(rng.uniform(0, 0.4)))
        image = add_rician(image, float(rng.uniform(0.002, 0.02)) * float(np.percentile(image, 99)), rng)
        out.append(normalise(image, "percentile", 0.5, 99.5, inside=inside))
    return np.stack(out)
