"""A network trained by nnU-Net, run as nnU-Net's own predictor runs it: volumes in, logits on their grid out.

transpose → crop to what is not zero → normalise → resample → windows, blended → folds averaged → resample
back → un-crop → un-transpose. Logits are summed in half precision because nnU-Net does: where two labels are
nearly equal, that rounding decides (and in an image's corners, where weights are least, it is coarse).

All of it works on NumPy arrays, whatever runs the network: nnU-Net's order and rounding are not those of the
other voxel operations, and a run on a GPU brings each window's logits home.

Parity holds for an image as nnU-Net would read it: the array as the file stores it. A network is not
indifferent to flips, so what reading turned round is turned back before the network sees it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BundleError, Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.machine import give_back_memory
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.nnunet_channels import Channel, Channels, normalised
from npc_edge.engine.model.nnunet_scheme import NnunetResampling, NnunetScheme
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.sliding_window import run_windows, windows
from npc_edge.engine.types import Predictions, Volume, Watch
from npc_edge.engine.voxels import HOST
from npc_edge.kernels import cpu, zoom
from npc_edge.kernels.holes import fill_holes
from npc_edge.kernels.threads import on_cores, slabs

_BACKGROUND = 30.0  # logit of label 0 where the image was cropped away: all others have probability 1e-13
_SLAB = 5  # slices that one thread takes on at a time
_MOST_VOXELS = 2**28  # of one channel on the network's grid: 1 GB as float32

Float16s = NDArray[np.float16]
Float32s = NDArray[np.float32]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class NnunetInput:
    """channels, each (Z, Y, X): transposed, cropped, normalised, resampled; and the way back.

    box: the crop within the transposed image, of shape `whole` and spacing mm. flips: axes of the engine's
    array that were turned round first. geometry: the reference's.
    """

    channels: Channels
    box: Box
    whole: Shape
    spacing: Spacing
    flips: tuple[int, ...]
    geometry: Geometry


def prepare(volumes: Mapping[str, Volume], network: NetworkSpec, reference: str) -> NnunetInput:
    """All channels on the reference's grid, as nnU-Net's preprocessor hands them to the network.

    A sequence on another grid is resampled onto it first, with cubic splines, 0 outside its field of view.
    Raises Refusal (UNREADABLE, TOO_LARGE, OUT_OF_DOMAIN).
    """
    scheme, base = scheme_of(network), volumes[reference]
    flips = stored_order(base, scheme)
    images = [
        np.flip(on_grid(base.geometry, volumes[name], name), flips).transpose(scheme.transpose)
        for name in network.inputs
    ]
    z, y, x = (stored_spacing(base)[axis] for axis in scheme.transpose)
    nonzero = np.zeros(images[0].shape, dtype=np.bool_)
    for image in images:
        nonzero |= image != 0
    box = crop(nonzero)
    shape = resampled_shape(_shape(nonzero[box]), (z, y, x), network.spacing)
    if int(np.prod(shape, dtype=np.int64)) > _MOST_VOXELS:
        raise Refusal("TOO_LARGE", f"the field of view needs {shape} voxels for network {network.name}")
    mask = fill_holes(nonzero)[box] if any(rule.use_mask_for_norm for rule in scheme.channels) else None
    made = []
    for image, rule in zip(images, scheme.channels, strict=True):
        channel = normalised(image[box], rule, mask)
        if shape != channel.voxels.shape:
            values = resample(channel.values(), shape, (z, y, x), network.spacing, scheme.data)
            channel = Channel(values)
        made.append(channel)
    return NnunetInput(Channels(tuple(made)), box, _shape(nonzero), (z, y, x), flips, base.geometry)


def infer(
    runners: Sequence[Runner], prepared: NnunetInput, network: NetworkSpec, watch: Watch
) -> Predictions:
    """Logits (1, K, Z, Y, X) float16 on the reference's own grid: the mean of all folds, one runner each.

    Where the image was cropped away label 0 wins. The watch is asked before each window. Raises BundleError
    when an output is missing or has another shape.
    """
    total = slide(runners[0], prepared.channels, network, watch)
    for runner in runners[1:]:
        total += slide(runner, prepared.channels, network, watch)
    if len(runners) > 1:
        total /= np.float16(len(runners))
    watch.check()
    logits = _back(total, prepared, network)
    return Predictions({network.outputs[0].name: logits}, prepared.geometry)


def scheme_of(network: NetworkSpec) -> NnunetScheme:
    """The network's scheme; BundleError when it is no nnU-Net."""
    if network.nnunet is None:
        raise BundleError(f"network {network.name} is no nnU-Net")
    return network.nnunet


def on_grid(target: Geometry, volume: Volume, name: str) -> Float32s:
    """A sequence's voxels (Z, Y, X) on the reference's grid: its own where it is that one, resampled else."""
    if not np.isfinite(volume.voxels).all():
        raise Refusal("UNREADABLE", f"sequence {name} holds values that are not finite")
    if volume.geometry.same_grid(target):
        return volume.voxels
    return cpu.resample(
        volume.voxels,
        volume.geometry.affine,
        target.affine,
        target.shape,
        anti_alias=False,
        interpolation="bspline",
    )


def stored_order(volume: Volume, scheme: NnunetScheme) -> tuple[int, ...]:
    """The array axes (0 z, 1 y) to turn round so that a volume lies as nnU-Net would read it."""
    if volume.stored is not None:
        return (0,) if volume.stored.turned else ()
    return (1,) if scheme.rows_reversed else ()


def stored_spacing(volume: Volume) -> Spacing:
    """(z, y, x) mm as a header gives it. An affine is right to 1e-16 only, which decides ties: spacings that
    are equal, or exactly three times another. NIfTI holds float32."""
    if volume.stored is not None:
        return volume.stored.spacing
    x, y, z = (float(np.float32(s)) for s in volume.geometry.spacing)
    return z, y, x


def crop(nonzero: NDArray[np.bool_]) -> Box:
    """The smallest box (z, y, x) around the voxels that are not zero. Refusal UNREADABLE when all are."""
    hits = [np.flatnonzero(nonzero.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if hits[0].size == 0:
        raise Refusal("UNREADABLE", "the images are zero everywhere")
    z, y, x = (slice(int(hit[0]), int(hit[-1]) + 1) for hit in hits)
    return z, y, x


def resampled_shape(shape: Shape, spacing: Spacing, wanted: Spacing) -> Shape:
    """Voxels of the wanted spacing that span the same field of view; halves go to the even number."""
    z, y, x = (round(s / w * n) for n, s, w in zip(shape, spacing, wanted, strict=True))
    if min(z, y, x) < 1:
        raise Refusal("TOO_FEW_SLICES", f"{shape} voxels are less than one of the network's")
    return z, y, x


def separate_axis(spacing: Spacing, wanted: Spacing, rule: NnunetResampling) -> int | None:
    """The coarse axis across which slices are resampled by themselves; None: all axes together."""
    for candidate in (spacing, wanted):
        largest = max(candidate)
        coarse = [axis for axis, s in enumerate(candidate) if largest / s == 1]
        decided = rule.force_separate_z
        if decided is None:
            decided = largest / min(candidate) > rule.anisotropy_threshold
        elif candidate is wanted:
            break
        if decided:
            return coarse[0] if len(coarse) == 1 else None
    return None


def resample(
    values: Float32s, shape: Shape, spacing: Spacing, wanted: Spacing, rule: NnunetResampling
) -> Float32s:
    """One channel (Z, Y, X) in another number of voxels; spacing and wanted decide only how."""
    if values.shape == shape:
        return values
    axis = separate_axis(spacing, wanted, rule)
    if axis is None:
        return zoom.resize(values, shape, rule.order)
    return zoom.resize_slices(values, shape, axis, rule.order, rule.order_z)


def slide(runner: Runner, channels: Channels, network: NetworkSpec, watch: Watch) -> Float16s:
    """Logits (K, Z, Y, X) of one fold over its input, padded with zeros where that is small."""
    short = [max(w - n, 0) for n, w in zip(channels.shape, network.window, strict=True)]
    margins = [(n // 2, n - n // 2) for n in short]
    padded = Channels.of(np.pad(channels.values(), [(0, 0), *margins])) if any(short) else channels
    weight = importance(network.window).astype(np.float32)
    sums: Float16s | None = None
    weights = np.zeros(padded.shape, dtype=np.float16)
    for box in windows(padded.shape, network):
        watch.check()
        logits = _mirrored(runner, padded.values(box)[None], network)[0]
        if sums is None:
            sums = np.zeros((len(logits), *padded.shape), dtype=np.float16)
            give_back_memory()  # what compiling the network and its first window left behind
        here = [*(label[box] for label in sums), weights[box]]
        on_cores(partial(_add, here, [*logits], weight), slabs(len(weight), _SLAB))
        del logits  # the next window wants room
    assert sums is not None, "a grid has at least one window"
    on_cores(partial(_divide, sums, weights), slabs(len(weights), _SLAB))
    unpad = tuple(slice(low, low + n) for (low, _), n in zip(margins, channels.shape, strict=True))
    return sums[(slice(None), *unpad)]


def _add(sums: Sequence[Float16s], logits: Sequence[Float32s], weight: Float32s, part: slice) -> None:
    """On some slices of a window (Z, Y, X), sums += logits * weight, the last of the sums += weight; in half
    precision. NumPy's own addition of halves goes value by value, and slices leave no large array behind."""
    with np.errstate(over="ignore"):  # an infinite logit is refused where the masks are made
        for z in range(part.start, part.stop):
            for total, values in zip(sums, logits, strict=False):
                total[z] = total[z].astype(np.float32) + values[z] * weight[z]
            sums[-1][z] = sums[-1][z].astype(np.float32) + weight[z]


def _divide(sums: Float16s, weights: Float16s, part: slice) -> None:
    """On some slices, sums (K, Z, Y, X) /= weights."""
    for z in range(part.start, part.stop):
        divisor = weights[z].astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for total in sums:
                total[z] = total[z] / divisor


def importance(window: Shape) -> Float16s:
    """(Z, Y, X): 10 in the middle voxel, a Gaussian of sigma an eighth of the window, never 0."""
    weight = np.full((1, 1, 1), 10.0)
    for axis, length in enumerate(window):
        shape = [1, 1, 1]
        shape[axis] = length
        weight = weight * np.exp(-0.5 * ((np.arange(length) - length // 2) / (length / 8)) ** 2).reshape(
            shape
        )
    half = weight.astype(np.float16)
    half[half == 0] = half[half > 0].min()
    return half


def _mirrored(runner: Runner, window: Float32s, network: NetworkSpec) -> Float32s:
    """Logits (1, K, Z, Y, X) of a window, averaged over its mirror images where the scheme says so."""
    axes, name = [axis + 2 for axis in scheme_of(network).mirror_axes], network.outputs[0].name
    first = HOST.host(run_windows(runner, window, network)[name])
    if not axes:
        return first
    total = first.astype(np.float32)
    turns = [turn for n in range(1, len(axes) + 1) for turn in itertools.combinations(axes, n)]
    for turn in turns:
        total += np.flip(HOST.host(run_windows(runner, np.flip(window, turn), network)[name]), turn)
    return total / np.float32(len(turns) + 1)


def _back(logits: Float16s, prepared: NnunetInput, network: NetworkSpec) -> Float16s:
    """Logits (K, Z, Y, X) on the network's grid → (1, K, Z, Y, X) on the reference's; its own array where
    nothing was cropped or resampled."""
    scheme, box = scheme_of(network), prepared.box
    z, y, x = (part.stop - part.start for part in box)
    whole = logits
    if not _shape(logits) == (z, y, x) == prepared.whole:
        whole = np.zeros((len(logits), *prepared.whole), dtype=np.float16)
        whole[0] = _BACKGROUND
    finite = _finite(logits)
    for place, half in zip(whole, logits, strict=True):
        if not finite:  # one value spoils the run; the room that makes masks says so
            place[box] = np.nan
        elif half.shape != (z, y, x):
            values = half.astype(np.float32)
            place[box] = resample(values, (z, y, x), network.spacing, prepared.spacing, scheme.logits)
        elif whole is not logits:
            place[box] = half
    untransposed = whole.transpose(0, *(int(axis) + 1 for axis in np.argsort(scheme.transpose)))
    return np.flip(untransposed, tuple(axis + 1 for axis in prepared.flips))[None]


def _finite(halves: Float16s) -> bool:
    """By their bits: NumPy asks halves one by one."""
    return all(int((part.view(np.uint16) & 0x7FFF).max()) < 0x7C00 for label in halves for part in label)


def _shape(array: NDArray[np.generic]) -> Shape:
    z, y, x = array.shape[-3:]
    return z, y, x
