"""Deformed copies of one real head, so that the networks have seen that people are not phantoms.

Colin27 (`ch2.nii.gz` of Debian's package mricron-data): a T1 at 1 mm of one man, McConnell Brain Imaging
Centre, Montreal. It is read from where the package puts it; nothing of it is kept but trained weights. It has
no T2: one is simulated from tissue classes. It has no labels: anatomy is not trained on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from npc_edge.bench.demo.sample import FINE, WINDOW, Field, Pose, Sample, Slices, finish, spread
from npc_edge.bench.phantom.acquire import add_rician, bias_field

COLIN27 = Path("/usr/share/mricron/templates/ch2.nii.gz")
BRAIN = Path("/usr/share/mricron/templates/ch2bet.nii.gz")
NASOPHARYNX = (0.0, -12.0, -63.0)
"""Centre of the nasopharynx in the template's LPS mm, read off its slices."""

_itk: Any = sitk
DARK, CSF, GREY, WHITE, MUSCLE, MUCOSA, FAT, VITREOUS = range(8)
T2 = np.array([0.02, 1.0, 0.52, 0.38, 0.20, 0.62, 0.62, 0.95], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class RealHead:
    """t1 (Z, Y, X) float32, 1 about white matter; kind: tissue class; grain: t1 against its
    neighbourhood, about 0; airway: mm from air inside the head, 99 in what is no soft tissue; axes LPS
    1 mm; origin LPS mm of voxel 0 with the nasopharynx at (0, 0, 0)."""

    t1: Field
    kind: NDArray[np.uint8]
    grain: Field
    airway: Field
    origin: tuple[float, float, float]


def load(path: Path = COLIN27, brain: Path = BRAIN) -> RealHead:
    """Read the template and sort its voxels into tissue classes. OSError when it is not installed."""
    if not path.is_file() or not brain.is_file():
        raise FileNotFoundError(
            f"{path} is not there: install Debian's mricron-data, or use --synthetic-only"
        )
    image = _itk.DICOMOrient(_itk.ReadImage(str(path)), "LPS")
    t1 = np.asarray(_itk.GetArrayFromImage(image), dtype=np.float32) / 160.0
    inside = np.asarray(_itk.GetArrayFromImage(_itk.DICOMOrient(_itk.ReadImage(str(brain)), "LPS"))) > 0
    origin = tuple(float(o - c) for o, c in zip(image.GetOrigin(), NASOPHARYNX, strict=True))
    grain = np.clip(t1 / np.maximum(ndimage.uniform_filter(t1, 5), 0.08), 0.4, 1.8) - 1
    kind, airway = classify(t1, inside)
    return RealHead(t1, kind, grain, airway, (origin[0], origin[1], origin[2]))


def classify(t1: Field, brain: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], Field]:
    """A T1 (1 about white matter) and its brain: tissue classes (Z, Y, X) uint8, and `RealHead.airway`."""
    smooth = ndimage.gaussian_filter(t1, 0.6)
    kind = np.full(t1.shape, MUSCLE, dtype=np.uint8)
    kind[smooth > 0.92] = FAT
    kind[smooth < 0.20] = DARK
    head = ndimage.binary_fill_holes(smooth > 0.15)
    airway = _airway(smooth < 0.16)
    soft = (kind == MUSCLE) & (smooth > 0.3)
    distance = np.where(soft, ndimage.distance_transform_edt(~airway), 99.0).astype(np.float32)
    kind[soft & (distance <= 4)] = MUCOSA
    kind[ndimage.binary_dilation(brain, iterations=4) & (smooth < 0.45) & head & (smooth > 0.08)] = CSF
    kind[brain & (smooth >= 0.45)] = GREY
    kind[brain & (smooth >= 0.85)] = WHITE
    distance[(kind != MUSCLE) & (kind != MUCOSA)] = 99.0
    return kind, distance


def _airway(dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The air inside a head (Z, Y, X): dark, not a thin sheet of bone, and not the room.

    Nose and pharynx are open to the room, and the template's lower end cuts them: what is dark and wide and
    reaches the sides of the volume is the room, and what lies near it belongs to it.
    """
    sides = ((0, 8), (8, 8), (8, 8))
    wide = ndimage.binary_opening(np.pad(dark, sides, constant_values=True), iterations=7)
    parts, _ = ndimage.label(wide)
    room = ndimage.binary_dilation(parts == parts[20, 9, 9], iterations=9)[:-8, 8:-8, 8:-8]
    return np.asarray(ndimage.binary_opening(dark & ~room, iterations=1))


def drawn_t2(rng: np.random.Generator, fat_suppressed: bool) -> Field:
    """The T2-weighted signal of every tissue class, (classes,) float32."""
    values = T2 * np.exp(rng.normal(0, 0.2, T2.shape)).astype(np.float32)
    if fat_suppressed:
        values[FAT] *= np.float32(rng.uniform(0.05, 0.35))
    return np.asarray(values, dtype=np.float32)


def simulated_t2(head: RealHead, rng: np.random.Generator, fat_suppressed: bool) -> Field:
    """A T2-weighted image (Z, Y, X) float32 from the tissue classes, textured by the T1.

    The mucosa is drawn anew each time: bright to a depth of 1-7 mm, fading over another 0.5-6 mm.
    """
    values = drawn_t2(rng, fat_suppressed)
    image = values[np.where(head.kind == MUCOSA, np.uint8(MUSCLE), head.kind)]
    full, fading = float(rng.uniform(1, 7)), float(rng.uniform(0.5, 6))
    lining = np.clip((full + fading - head.airway) / np.float32(fading), 0, 1)
    image += lining * (values[MUCOSA] - image)
    image *= 1 + np.float32(rng.uniform(0, 0.5)) * head.grain
    return np.asarray(ndimage.gaussian_filter(image, float(rng.uniform(0.5, 1.0))), dtype=np.float32)


def draw_real_sample(head: RealHead, npc: bool, rng: np.random.Generator) -> Sample:
    """A strongly deformed copy, with a mass on the wall or without."""
    x, y, z = (p + d for p, d in zip(Pose.draw(rng).points(), _elastic(rng), strict=True))
    at = [q - np.float32(o) for q, o in zip((z, y, x), head.origin[::-1], strict=True)]
    suppressed = bool(rng.uniform() < 0.5)
    t2 = simulated_t2(head, rng, suppressed)
    signals = [ndimage.map_coordinates(v, at, order=1, mode="constant") for v in (head.t1, t2)]
    signals[0] = np.clip(signals[0], 0, None) ** np.float32(rng.uniform(0.8, 1.25))
    fraction = _mass(x, y, z, signals[0], rng) if npc else None
    if fraction is not None:
        muscle1, muscle2 = 0.52, float(T2[MUSCLE])
        inner = (muscle1 * float(rng.uniform(0.75, 1.1)), muscle2 * float(rng.uniform(1.6, 3.0)))
        signals = [s + fraction * (np.float32(v) - s) for s, v in zip(signals, inner, strict=True)]
    plan = Slices.draw(rng)
    plans = (plan, Slices.draw(rng) if rng.uniform() < 0.5 else plan)
    bottom = z[:, WINDOW[1] // 2, WINDOW[2] // 2] >= head.origin[2] - 1  # the template ends below
    images = [_acquire(s, p, rng) for s, p in zip(signals, plans, strict=True)]
    seen = plan.apply(bottom[:, None, None].astype(np.float32))[:, 0, 0] > 0.5
    covered = (plans[0].covered & seen, plans[1].covered & seen)
    target = np.zeros(WINDOW, dtype=np.uint8)
    if fraction is not None:
        target = (plan.apply(fraction) >= 0.5).astype(np.uint8)
        target[~covered[0]] = 0
    return Sample(finish(images, covered, rng), target, None, bool(target.sum() > 20))


def _elastic(rng: np.random.Generator) -> list[Field]:
    """Displacement of x, y, z (Zf, Y, X) in mm: smooth, sd about 5 mm."""
    out = []
    for _ in range(3):
        knots = ndimage.zoom(rng.normal(0, 5.0, (6, 6, 6)).astype(np.float32), 4, order=2)
        out.append(spread(knots, (FINE, *WINDOW[1:])))
    return out


def _mass(x: Field, y: Field, z: Field, t1: Field, rng: np.random.Generator) -> Field:
    """Fraction 0..1 of a mass that grows from the wall of the nasopharynx."""
    side = 1 if rng.uniform() < 0.5 else -1
    sites = ((13.0, 8.0, 1.0), (12.0, 5.0, -1.0), (4.0, 8.0, 5.0), (5.0, 10.0, 1.0))
    centre = np.array(sites[int(rng.integers(0, 4))]) * [side, 1, 1] + rng.normal(0, 1.5, 3)
    distance = np.full(x.shape, 50, dtype=np.float32)
    for _ in range(int(rng.integers(1, 4))):
        radii = rng.uniform(6, 13, 3)
        q = sum(
            ((p - np.float32(c)) / np.float32(r)) ** 2
            for p, c, r in zip((x, y, z), centre, radii, strict=True)
        )
        np.minimum(distance, (np.sqrt(q) - 1) * np.float32(radii.min()), out=distance)
        centre = centre + rng.normal(0, 6, 3)
    distance += 1.5 * spread(rng.standard_normal((12, 14, 14), dtype=np.float32), (FINE, *WINDOW[1:]))
    return np.asarray(np.clip(0.5 - distance / 2.4, 0, 1), dtype=np.float32)


def _acquire(signal: Field, plan: Slices, rng: np.random.Generator) -> Field:
    image = plan.apply(np.clip(signal, 0, None))
    image *= bias_field(image.shape, rng, float(rng.uniform(0, 0.35)))
    sigma = float(rng.uniform(0.003, 0.04)) * float(np.percentile(image[:, ::4, ::4], 99))
    return add_rician(image, sigma, rng)
