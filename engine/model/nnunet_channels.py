"""An nnU-Net's sequences: voxels and how they are normalised, which is done when a window asks for them.

A study's volumes stay in memory for its pictures. A second, normalised copy of all of them would be as large;
a window of it is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import Refusal
from npc_edge.engine.model.nnunet_scheme import NnunetChannel

_LEAST_SPREAD = np.float32(1e-8)  # what a standard deviation is at least, in nnU-Net too
_ZERO, _ONE = np.float32(0), np.float32(1)

Float32s = NDArray[np.float32]
Box = tuple[slice, slice, slice]
_EVERYWHERE = (slice(None), slice(None), slice(None))


@dataclass(frozen=True, eq=False)
class Channel:
    """voxels (Z, Y, X), perhaps somebody else's: only read. Their values are clipped to limits, then
    (v - shift) / scale; both in float32."""

    voxels: Float32s
    limits: tuple[float, float] | None = None
    shift: np.float32 = _ZERO
    scale: np.float32 = _ONE

    def values(self, box: Box = _EVERYWHERE) -> Float32s:
        """A copy of the normalised values within a box."""
        found = np.empty(self.voxels[box].shape, dtype=np.float32)
        self.write(box, found)
        return found

    def write(self, box: Box, place: Float32s) -> None:
        """The normalised values within a box, to an array of its shape."""
        place[...] = self.voxels[box]
        if self.limits is not None:
            np.clip(place, *self.limits, out=place)
        place -= self.shift
        place /= self.scale


@dataclass(frozen=True, eq=False)
class Channels:
    """All channels of a network, of one shape."""

    held: tuple[Channel, ...]

    @staticmethod
    def of(array: Sequence[Float32s] | Float32s) -> Channels:
        """Of values (C, Z, Y, X) that are normalised already."""
        return Channels(tuple(Channel(values) for values in array))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        z, y, x = self.held[0].voxels.shape
        return z, y, x

    def values(self, box: Box = _EVERYWHERE) -> Float32s:
        """(C, z, y, x) float32, a copy of what lies within a box."""
        found = np.empty((len(self.held), *self.held[0].voxels[box].shape), dtype=np.float32)
        for channel, place in zip(self.held, found, strict=True):
            channel.write(box, place)
        return found


def normalised(image: Float32s, rule: NnunetChannel, mask: NDArray[np.bool_] | None) -> Channel:
    """One channel (Z, Y, X) by its scheme; mask: the voxels that count where the scheme uses one."""
    plain = Channel(image)
    if rule.scheme == "ZScoreNormalization":
        if rule.use_mask_for_norm and mask is not None:
            return Channel(_within(image, mask))
        return _z_score(plain)
    if rule.scheme == "CTNormalization" and rule.intensity is not None:
        known = rule.intensity
        limits = known.percentile_00_5, known.percentile_99_5
        spread = max(np.float32(known.std), _LEAST_SPREAD)
        return replace(plain, limits=limits, shift=np.float32(known.mean), scale=spread)
    if rule.scheme == "RescaleTo01Normalization":
        low = image.min()
        return replace(plain, shift=low, scale=max(image.max() - low, _LEAST_SPREAD))
    if rule.scheme == "RGBTo01Normalization":
        if image.min() < 0 or image.max() > 255:
            raise Refusal("OUT_OF_DOMAIN", "the network was trained on values from 0 to 255")
        return replace(plain, scale=np.float32(255))
    return plain


def _within(image: Float32s, mask: NDArray[np.bool_]) -> Float32s:
    """The z-score of the voxels of a mask, by those alone; all others as they are."""
    found = np.array(image, dtype=np.float32)
    found[mask] = _z_score(Channel(found[mask][None, None])).values()[0, 0]
    return found


def _z_score(channel: Channel) -> Channel:
    """By mean and standard deviation of all its voxels, in float64, a slice at a time."""
    voxels = channel.voxels
    mean = voxels.mean(dtype=np.float64)
    squares = [np.square(np.subtract(part, mean, dtype=np.float64)).sum() for part in voxels]
    spread = np.float32(np.sqrt(np.sum(squares) / voxels.size))
    return replace(channel, shift=np.float32(mean), scale=max(spread, _LEAST_SPREAD))
