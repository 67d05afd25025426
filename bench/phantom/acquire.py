"""From a signal volume in the head to an acquired series: slice profile, k-space, coils, noise, motion.

Arrays are (Z, Y, X); geometries are LPS mm. The head lies in the scanner through the affine of its own
geometry, which need not be axis-aligned. `bias_field`, `add_rician`, `suppression_failure`, `motion_lines`
and `through_kspace` work on plain arrays, for whoever augments training data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from npc_edge.engine.geometry import Geometry

Image = NDArray[np.float32]

_itk: Any = sitk  # its functions carry no types

_SUB_SLICE_MM = 1.3  # about the resolution of the head along z: finer sub-slices add nothing


@dataclass(frozen=True)
class Imperfections:
    """What keeps a series from being ideal; zeros give a perfect one.

    noise: sd of the real and imaginary part, relative to the brightest tissue (99th percentile).
    bias: log amplitude of the receive field. motion: head displacement in mm (ghosts and blur along the
    phase direction). ringing: 0 a well-filtered k-space, 1 a truncated one. phase_axis: 0 y, 1 x.
    """

    noise: float = 0.015
    bias: float = 0.25
    motion: float = 0.0
    ringing: float = 0.3
    phase_axis: int = 0


def acquire(
    signal: Image,
    head: Geometry,
    target: Geometry,
    thickness_mm: float,
    resolution_mm: float,
    rng: np.random.Generator,
    flaws: Imperfections | None = None,
) -> Image:
    """Acquire `signal` (Z, Y, X on `head`) as a series on `target`: (Z, Y, X) float32, magnitude, ≥ 0.

    resolution_mm is what was truly acquired in plane; the target's pixels come from zero-filled k-space,
    as scanners do it, so their noise is correlated like theirs.
    """
    flaws = flaws or Imperfections()
    coarse = acquired_grid(target, resolution_mm)
    ideal = integrate_slices(signal, head, coarse, thickness_mm)
    if flaws.bias > 0:
        ideal *= bias_field(ideal.shape, rng, flaws.bias)
    sigma = flaws.noise * float(np.percentile(ideal[:, ::4, ::4], 99))
    _, y, x = target.shape
    pixel = coarse.spacing[1 - flaws.phase_axis]
    return through_kspace(ideal, (y, x), rng, sigma=sigma, flaws=flaws, motion_px=flaws.motion / pixel)


def acquired_grid(target: Geometry, resolution_mm: float) -> Geometry:
    """The grid k-space was sampled for: the target's field of view in acquired pixels."""
    z, y, x = target.shape
    sx, sy, _ = target.spacing
    rows = min(y, max(16, 2 * round(y * sy / resolution_mm / 2)))
    columns = min(x, max(16, 2 * round(x * sx / resolution_mm / 2)))
    affine = np.array(target.affine)
    affine[:3, 0] *= x / columns
    affine[:3, 1] *= y / rows
    return Geometry((z, rows, columns), affine, target.frame_of_reference)


def slice_profile(thickness_mm: float) -> list[tuple[float, float]]:
    """Offsets (mm along the normal) and weights (sum 1) of a slice: a Fermi edge at ± half the thickness."""
    reach = 0.65 * thickness_mm
    count = 2 * max(1, round(reach / _SUB_SLICE_MM)) + 1
    offsets = np.linspace(-reach, reach, count)
    weights = 1.0 / (1.0 + np.exp((np.abs(offsets) - thickness_mm / 2) / (0.07 * thickness_mm)))
    weights /= weights.sum()
    return list(zip(offsets.tolist(), weights.tolist(), strict=True))


def integrate_slices(volume: Image, head: Geometry, target: Geometry, thickness_mm: float) -> Image:
    """Mean of `volume` over each slice's profile on `target`: (Z, Y, X) float32; 0 outside the head grid."""
    source = to_sitk(volume, head)
    total: Image | None = None
    for offset, weight in slice_profile(thickness_mm):
        part = resample(source, target, sitk.sitkLinear, offset)
        part *= np.float32(weight)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def nearest_labels(labels: NDArray[np.uint8], head: Geometry, target: Geometry) -> NDArray[np.uint8]:
    """Labels at the middle of each slice of `target`: (Z, Y, X) uint8, 0 outside the head grid."""
    return np.asarray(resample(to_sitk(labels, head), target, sitk.sitkNearestNeighbor), dtype=np.uint8)


def to_sitk(array: NDArray[np.generic], geometry: Geometry) -> Any:
    """(Z, Y, X) array on a geometry → SimpleITK image (LPS, as SimpleITK has it)."""
    image = _itk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin.tolist())
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


def resample(source: Any, target: Geometry, how: int, offset_mm: float = 0.0) -> NDArray[np.float32]:
    """`source` on `target` moved by offset_mm along its normal; source's pixel type kept, 0 outside."""
    z, y, x = target.shape
    resampler = _itk.ResampleImageFilter()
    resampler.SetSize([x, y, z])
    resampler.SetOutputSpacing(target.spacing)
    resampler.SetOutputOrigin((target.origin + offset_mm * target.normal).tolist())
    resampler.SetOutputDirection(target.direction.ravel().tolist())
    resampler.SetInterpolator(how)
    resampler.SetDefaultPixelValue(0.0)
    return np.asarray(_itk.GetArrayFromImage(resampler.Execute(source)))


def bias_field(shape: tuple[int, ...], rng: np.random.Generator, strength: float = 0.25) -> Image:
    """Smooth multiplicative field around 1, float32 of `shape` (Z, Y, X): exp of low-order cosines."""
    order = 4
    coefficients = rng.standard_normal((order, order, order))
    degree = np.add.outer(np.add.outer(np.arange(order), np.arange(order)), np.arange(order))
    coefficients *= (degree > 0) & (degree <= 3)
    coefficients *= strength / max(1e-9, float(np.sqrt((coefficients**2).sum()))) * np.sqrt(2)
    bases = [
        np.cos(np.pi * np.outer(np.arange(order), (np.arange(n) + 0.5) / n)).astype(np.float32) for n in shape
    ]
    field = np.einsum("abc,cx->abx", coefficients.astype(np.float32), bases[2])
    field = np.einsum("abx,by->ayx", field, bases[1])
    return np.asarray(np.exp(np.tensordot(bases[0].T, field, axes=1)), dtype=np.float32)


def suppression_failure(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """Where chemical fat suppression fails: float32 of `shape`, 0 (works) to 1 (fails), 0-2 patches."""
    failure = np.zeros(shape, dtype=np.float32)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    for _ in range(int(rng.integers(0, 3))):
        centre = rng.uniform(-1, 1, 3)
        width = rng.uniform(0.25, 0.6, 3)
        z, y, x = (np.exp(-(((a - c) / w) ** 2)) for a, c, w in zip(axes, centre, width, strict=True))
        patch = z[:, None, None] * y[None, :, None] * x[None, None, :]
        np.maximum(failure, np.float32(rng.uniform(0.3, 1.0)) * patch.astype(np.float32), out=failure)
    return failure


def add_rician(array: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Magnitude of `array` with complex Gaussian noise of sd sigma on each part; float32, any shape."""
    real = array + np.float32(sigma) * rng.standard_normal(array.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(array.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


def motion_lines(count: int, rng: np.random.Generator, amplitude_px: float) -> NDArray[np.float32]:
    """Displacement in pixels at each of `count` phase-encoding lines: a swing and a few jerks."""
    t = np.arange(count) / count
    swing = np.sin(2 * np.pi * (rng.uniform(3, 12) * t + rng.uniform()))
    path = amplitude_px * 0.6 * swing
    for _ in range(int(rng.integers(0, 3))):
        start = rng.uniform(0.05, 0.95)
        path = path + (t > start) * rng.normal(0, amplitude_px)
    path -= path[count // 2]  # the centre of k-space decides where the head is seen
    return np.asarray(path, dtype=np.float32)


def through_kspace(
    volume: Image,
    matrix: tuple[int, int],
    rng: np.random.Generator,
    *,
    sigma: float = 0.0,
    flaws: Imperfections | None = None,
    motion_px: float = 0.0,
) -> Image:
    """Each slice through k-space: window, motion, noise, zero-filling to `matrix` (rows, columns) ≥ its own.

    (Z, y, x) float32 → (Z, rows, columns) float32 magnitude. Intensities are kept; sigma is the noise sd on
    each part before the window.
    """
    flaws = flaws or Imperfections()
    count, rows, columns = volume.shape
    window = np.outer(_edge_window(rows, flaws.ringing), _edge_window(columns, flaws.ringing))
    out = np.empty((count, *matrix), dtype=np.float32)
    gain = np.float32(matrix[0] * matrix[1] / (rows * columns))
    for index in range(count):
        plane = volume[index].astype(np.complex64)
        if sigma > 0:
            noise = rng.standard_normal((2, rows, columns), dtype=np.float32) * np.float32(sigma)
            plane += noise[0] + 1j * noise[1]
        spectrum = np.asarray(np.fft.fft2(plane) * window, dtype=np.complex64)
        if motion_px > 0:
            spectrum *= _motion_phase(rows, columns, rng, motion_px, flaws.phase_axis)
        out[index] = np.abs(np.fft.ifft2(_zero_filled(spectrum, matrix))) * gain
    return out


def _edge_window(count: int, ringing: float) -> NDArray[np.float32]:
    """Tukey-like roll-off over the outer part of k-space, in FFT order; ringing 1 leaves it square."""
    frequency = np.abs(np.fft.fftfreq(count)) * 2
    start = 0.5 + 0.5 * ringing
    roll = np.clip((frequency - start) / max(1e-6, 1 - start), 0, 1)
    return np.asarray(0.5 * (1 + np.cos(np.pi * roll * (1 - 0.3 * ringing))), dtype=np.float32)


def _motion_phase(
    rows: int, columns: int, rng: np.random.Generator, amplitude_px: float, axis: int
) -> NDArray[np.complex64]:
    """Phase (rows, columns) of a head that moves along the phase direction while lines are acquired."""
    count = rows if axis == 0 else columns
    path = np.fft.ifftshift(motion_lines(count, rng, amplitude_px))
    phase = np.exp(-2j * np.pi * np.fft.fftfreq(count) * path).astype(np.complex64)
    return np.asarray(phase[:, None] if axis == 0 else phase[None, :])


def _zero_filled(spectrum: NDArray[np.complex64], matrix: tuple[int, int]) -> NDArray[np.complex64]:
    """(rows, columns) spectrum in FFT order, padded with zeros to `matrix`."""
    rows, columns = spectrum.shape
    if (rows, columns) == matrix:
        return spectrum
    filled = np.zeros(matrix, dtype=np.complex64)
    top, left = (rows + 1) // 2, (columns + 1) // 2
    bottom, right = rows - top, columns - left
    filled[:top, :left] = spectrum[:top, :left]
    filled[:top, matrix[1] - right :] = spectrum[:top, left:]
    filled[matrix[0] - bottom :, :left] = spectrum[top:, :left]
    filled[matrix[0] - bottom :, matrix[1] - right :] = spectrum[top:, left:]
    return filled


def texture(geometry: Geometry, rng: np.random.Generator, amount: float, grain_mm: float = 5.0) -> Image:
    """Mottle of living tissue: float32 (Z, Y, X) on `geometry` around 1, sd about `amount`, grain in mm."""
    spacing = np.array(geometry.spacing[::-1])
    counts = np.ceil((np.array(geometry.shape) * spacing) / grain_mm).astype(int) + 2
    grains = rng.standard_normal(counts, dtype=np.float32) * np.float32(1.5 * amount) + np.float32(1.0)
    coarse = Geometry.from_parts(
        (int(counts[0]), int(counts[1]), int(counts[2])),
        (grain_mm,) * 3,
        geometry.origin.tolist(),
        geometry.direction,
    )
    return resample(to_sitk(grains, coarse), geometry, sitk.sitkLinear)
