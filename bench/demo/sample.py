"""One training sample: a cached head in a drawn pose, seen by two drawn acquisitions.

The network's grid is 4 x 1 x 1 mm (z, y, x), 32 x 144 x 144, axis-aligned, as the engine prepares it: slices
of 3-6.5 mm are integrated, interpolated to 4 mm and normalised by the engine's own function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from npc_edge.bench.demo.cache import Case, Layer
from npc_edge.bench.phantom.acquire import add_rician, bias_field
from npc_edge.bench.phantom.anatomy import REGION
from npc_edge.bench.phantom.signal import TUMOUR, FatSuppression, SequenceParameters, tissue_signals
from npc_edge.bench.phantom.structures import Tissue
from npc_edge.kernels.intensity import normalise

Field = NDArray[np.float32]

WINDOW = (32, 144, 144)
SPACING = (4.0, 1.0, 1.0)
_FINE_MM, FINE = 2.0, 76  # a finer z axis that the slices are integrated from


@dataclass(frozen=True, eq=False)
class Sample:
    """image (2, Z, Y, X) float32, T1 then T2; tumour (Z, Y, X) uint8; anatomy (Z, Y/2, X/2) uint8, None where
    it is not known (copies of a real head); npc: a tumour is in view."""

    image: Field
    tumour: NDArray[np.uint8]
    anatomy: NDArray[np.uint8] | None
    npc: bool


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the fine grid's voxels lie in the head's frame: p = matrix @ q + offset (x, y, z mm)."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    @staticmethod
    def draw(rng: np.random.Generator) -> Pose:
        """Rotation, size and the locator's error; a mirrored head is as good as the head."""
        tilt = rng.normal(0, [5.0, 4.0, 5.0])
        if rng.uniform() < 0.25:
            tilt[0] += rng.uniform(-18, 18)
        a, b, c = np.radians(tilt)
        rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        size = np.diag(rng.normal(1.0, 0.05) * rng.normal(1.0, 0.025, 3))
        if rng.uniform() < 0.5:
            size[0, 0] *= -1
        spread = 4.0 if rng.uniform() < 0.85 else 8.0
        return Pose(size @ rz @ ry @ rx, rng.normal(0, spread, 3))

    def points(self) -> tuple[Field, Field, Field]:
        """x, y, z (Zf, Y, X) float32 in the head's frame, mm."""
        axes = [
            (np.arange(n, dtype=np.float32) - (n - 1) / 2) * s
            for n, s in zip((FINE, *WINDOW[1:]), (_FINE_MM, *SPACING[1:]), strict=True)
        ]
        m, o = self.matrix.astype(np.float32), self.offset.astype(np.float32)
        z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
        found = [m[k, 0] * x + m[k, 1] * y + m[k, 2] * z + o[k] for k in range(3)]
        return found[0], found[1], found[2]


def draw_sample(case: Case, layer: Layer | None, rng: np.random.Generator) -> Sample:
    """Draw pose, contrast and acquisitions for a head and one of its tumours (None: healthy)."""
    x, y, z = Pose.draw(rng).points()
    index, inside = _nearest(x, y, z)
    tissue = np.where(inside, case.tissue.ravel()[index], np.uint8(Tissue.AIR))
    fraction: Field | None = None
    if layer is not None:
        whole = np.zeros(case.tissue.shape, dtype=np.uint8)
        whole[layer.box] = layer.fraction
        fraction = whole.ravel()[index].astype(np.float32) / np.float32(255)
    slices = Slices.draw(rng)
    other = Slices.draw(rng) if rng.uniform() < 0.5 else slices
    field_t = 3.0 if rng.uniform() < 0.6 else 1.5
    images = []
    covered = slices.covered & other.covered
    for plan, kind in ((slices, "T1"), (other, "T2")):
        signal = _signal(tissue, fraction, draw_signal_lut(kind, field_t, rng))
        images.append(_acquire(signal, plan, rng))
    target = np.zeros(WINDOW, dtype=np.uint8)
    if fraction is not None:
        target = (slices.apply(fraction) >= 0.5).astype(np.uint8)
        target[~slices.covered] = 0
    middle = np.round((np.arange(WINDOW[0]) - (WINDOW[0] - 1) / 2) * 2 + (FINE - 1) / 2).astype(int)
    structure = np.where(inside, case.structure.ravel()[index], np.uint8(0))[middle][:, ::2, ::2]
    structure[~covered] = 255
    image = finish(images, (slices.covered, other.covered), rng)
    return Sample(image, target, structure, bool(target.sum() > 20))


def finish(
    images: list[Field], covered: tuple[NDArray[np.bool_], NDArray[np.bool_]], rng: np.random.Generator
) -> Field:
    """Normalise each sequence over what it covers, as the engine does; sometimes the view ends early."""
    inside = np.ones(WINDOW, dtype=bool)
    if rng.uniform() < 0.15:
        inside[:, :, : int(rng.integers(1, 22))] = False
        inside[:, :, WINDOW[2] - int(rng.integers(1, 22)) :] = False
    out = [
        normalise(np.asarray(i, dtype=np.float32), "percentile", 0.5, 99.5, inside=inside & c[:, None, None])
        for i, c in zip(images, covered, strict=True)
    ]
    return np.stack(out)


@dataclass(frozen=True, eq=False)
class Slices:
    """A stack of slices on the fine z axis. matrix: (Z, Zf), profile, interpolation. covered: (Z,) bool."""

    matrix: Field
    covered: NDArray[np.bool_]

    @staticmethod
    def draw(rng: np.random.Generator) -> Slices:
        """Spacing 3-6.5 mm, a gap up to 1 mm, any phase, more or less of the region; one in ten isotropic."""
        fine = (np.arange(FINE) - (FINE - 1) / 2) * _FINE_MM
        spacing = float(rng.uniform(3.0, 6.5)) if rng.uniform() < 0.9 else 2.0
        thickness = max(2.0, spacing - float(rng.uniform(0, 1.0)))
        centres = np.arange(-90.0, 90.0, spacing) + rng.uniform(0, spacing)
        if rng.uniform() < 0.6:
            low, high = -float(rng.uniform(10, 75)), float(rng.uniform(34, 75))
            centres = centres[(centres > low) & (centres < high)]
        edge = np.abs(fine[None, :] - centres[:, None])
        profile = 1 / (1 + np.exp((edge - thickness / 2) / (0.07 * thickness + 0.4)))
        profile /= np.maximum(profile.sum(1, keepdims=True), 1e-6)
        target = (np.arange(WINDOW[0]) - (WINDOW[0] - 1) / 2) * SPACING[0]
        weight = np.clip(1 - np.abs(target[:, None] - centres[None, :]) / spacing, 0, 1)
        if spacing < SPACING[0]:  # the engine smooths where it shrinks
            weight = np.exp(-0.5 * ((target[:, None] - centres[None, :]) / (0.5 * SPACING[0])) ** 2)
        total = weight.sum(1, keepdims=True)
        half = spacing / 2
        covered = (target >= centres.min() - half) & (target <= centres.max() + half)
        weight = np.where(total > 1e-6, weight / np.maximum(total, 1e-6), 0)
        return Slices((weight @ profile).astype(np.float32), covered)

    def apply(self, fine: Field) -> Field:
        """(Zf, Y, X) → (Z, Y, X)."""
        return np.asarray(np.tensordot(self.matrix, fine, axes=1), dtype=np.float32)


def _nearest(x: Field, y: Field, z: Field) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Flat index into a REGION volume of the nearest voxel, and whether the point is inside at all."""
    index = np.zeros(x.shape, dtype=np.int32)
    inside = np.ones(x.shape, dtype=bool)
    for points, k, count in ((z, 2, REGION.shape[0]), (y, 1, REGION.shape[1]), (x, 0, REGION.shape[2])):
        position = np.rint((points - np.float32(REGION.origin[k])) / np.float32(REGION.spacing[k])).astype(
            np.int32
        )
        inside &= (position >= 0) & (position < count)
        np.clip(position, 0, count - 1, out=position)
        index *= count
        index += position
    return index, inside


def _parameters(kind: str, field_t: float, rng: np.random.Generator) -> SequenceParameters:
    """A sequence as departments run it, and then some."""
    suppression: FatSuppression = "none"
    if kind == "T1":
        if rng.uniform() < 0.05:
            suppression = "spectral"
        return SequenceParameters(
            "T1", float(rng.uniform(6, 20)), float(rng.uniform(380, 900)), field_t, suppression
        )
    drawn = rng.uniform()
    if drawn < 0.3:
        suppression = "spectral"
    elif drawn < 0.4:
        suppression = "stir"
    elif drawn < 0.48:
        suppression = "dixon_water"
    return SequenceParameters(
        "T2", float(rng.uniform(65, 125)), float(rng.uniform(2200, 6500)), field_t, suppression
    )


def draw_signal_lut(kind: str, field_t: float, rng: np.random.Generator) -> Field:
    """Signal of every tissue, the tumour last, varied beyond what tissues do: real heads are no surprise."""
    lut, _ = tissue_signals(_parameters(kind, field_t, rng), rng)
    lut = lut * np.exp(rng.normal(0, 0.10, lut.shape)).astype(np.float32)
    if rng.uniform() < 0.2:
        top = float(lut.max())
        lut = top * (np.clip(lut / top, 0, 1) ** np.float32(rng.uniform(0.75, 1.35)))
    return np.asarray(lut, dtype=np.float32)


def _signal(tissue: NDArray[np.uint8], fraction: Field | None, lut: Field) -> Field:
    """Signal (Zf, Y, X)."""
    signal = np.asarray(lut[tissue], dtype=np.float32)
    if fraction is not None:
        signal += fraction * (lut[TUMOUR] - signal)
    return signal


def texture(rng: np.random.Generator) -> Field:
    """What makes a tissue uneven, (Z, Y, X) about 1, grains of 7 mm."""
    knots = rng.standard_normal((16, 21, 21), dtype=np.float32)
    return np.asarray(1 + np.float32(rng.uniform(0.02, 0.1)) * spread(knots, WINDOW), dtype=np.float32)


def spread(knots: Field, shape: tuple[int, int, int]) -> Field:
    """Knots (z, y, x) → (Z, Y, X) float32, linear in between."""
    rows = [_linear(n, m) for n, m in zip(shape, knots.shape, strict=True)]
    grown = np.matmul(rows[1], np.tensordot(rows[0], knots, axes=1)) @ rows[2].T
    return np.asarray(grown, dtype=np.float32)


def _linear(count: int, knots: int) -> Field:
    """(count, knots): linear interpolation."""
    at = np.linspace(0, knots - 1, count)[:, None]
    return np.asarray(np.clip(1 - np.abs(at - np.arange(knots)), 0, 1), dtype=np.float32)


def _acquire(signal: Field, plan: Slices, rng: np.random.Generator) -> Field:
    """Slices, in-plane resolution, receive field, noise."""
    image = plan.apply(signal) * texture(rng)
    blur = float(rng.uniform(0.25, 0.75))
    image = ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(image, blur, axis=1), blur, axis=2)
    image *= bias_field(image.shape, rng, float(rng.uniform(0, 0.35)))
    sigma = float(rng.uniform(0.003, 0.04)) * float(np.percentile(image[:, ::4, ::4], 99))
    return add_rician(image, sigma, rng)
