"""The voxel operations on a device: shapes are checked here, kernels queued, and nothing is copied back.

The same calls on every launcher, so the tests of these run the bodies that a GPU runs. What each operation
means is said in `reference` and `reference_network`. Arrays are (Z, Y, X), affines LPS mm.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.kernels.cuda import arguments
from npc_edge.kernels.cuda.arguments import OUTSIDE, made
from npc_edge.kernels.cuda.values import (
    SUFFIX,
    Grids,
    Rule,
    Sampling,
    Starts,
    covering,
    lines,
    predictions,
    rows,
    shaped,
)
from npc_edge.kernels.launch import DeviceArray, Launcher
from npc_edge.kernels.sampling import Shape, gaussian, gaussian_radius, smoothing_sigmas
from npc_edge.kernels.windows import axis_weight

_METHODS = {"percentile": 0, "zscore": 1, "zscore-nonzero": 2}
_COUNTED = {"percentile": 0, "zscore": 1, "zscore-nonzero": 2}
MOST_VOXELS = 2**28
"""Values that statistics are taken of, and that one look goes over, at most."""
_SPLINE_EDGE = 2
_POLE = np.sqrt(3) - 2
_SPLINE_RADIUS = 14  # 0.268 to the 15th is 3e-9: below float32


class Operations:
    """The operations of one launcher. Every array given or returned lives on its device."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def upload(self, array: NDArray[np.generic]) -> DeviceArray:
        """A host array on the device."""
        target = self.launcher.empty(array.shape, array.dtype)
        self.launcher.copy_in(target, array)
        return target

    def upload_slices(
        self, slices: Iterable[NDArray[Any]], shape: Shape, staged: NDArray[Any] | None = None
    ) -> DeviceArray:
        """A volume (Z, Y, X) float32 from slices (Y, X) as they are decoded: each is on its way to the device
        while the next is decoded. ValueError unless there are as many as the shape says. staged: page-locked
        memory of that shape to pass them through, free since the last `synchronize`; None: made for it."""
        target = self.launcher.empty(shape, np.float32)
        staged = self.launcher.pinned(shape, np.float32) if staged is None else staged
        done = 0
        for done, one in enumerate(slices, start=1):
            if done > shape[0]:
                break
            staged[done - 1] = one
            self.launcher.copy_in(target.part(done - 1, done), staged[done - 1 : done])
        if done != shape[0]:
            raise ValueError(f"{shape[0]} slices are wanted, {'more' if done > shape[0] else done} came")
        return target

    def channel(
        self, source: DeviceArray, grids: Grids, sampling: Sampling, rule: Rule, target: DeviceArray
    ) -> DeviceArray:
        """One sequence of a network's input: source float32 on the target's grid, normalised by what lies
        inside, into `target` (Z, Y, X) float32 or float16. Returns the statistics (see `refuse`)."""
        marked = Sampling(sampling.interpolation, sampling.anti_alias, OUTSIDE)
        values = target if target.dtype == np.float32 else self.launcher.empty(grids.target_shape, np.float32)
        self.resample(source, grids, marked, values)
        found = self.statistics(values, rule)
        self.normalise(values, found, rule, target)
        return found

    def resample(
        self,
        source: DeviceArray,
        grids: Grids,
        sampling: Sampling,
        target: DeviceArray,
        scale: tuple[DeviceArray, Rule] | None = None,
    ) -> None:
        """source (Z, Y, X) float32 → target (Z, Y, X) float32 or float16 on its grid; with scale (statistics
        and their rule) normalised on the way, 0 outside."""
        shaped(source, 3, np.float32)
        if target.shape != grids.target_shape:
            raise ValueError(f"the target is {target.shape}, its grid {grids.target_shape}")
        size = source.shape[::-1]
        sigmas = smoothing_sigmas(grids.affine, grids.target_affine) if sampling.anti_alias else (0.0,) * 3
        common = {
            **arguments.fixed(grids.affine, grids.target_affine, grids.target_shape),
            **lines(target),
            "size": size,
            "target": target.pointer,
            "outside": sampling.fill_bits,
            "scale": scale[0].pointer if scale else 0,
            "method": _METHODS[scale[1].method] if scale else 0,
        }
        kept: list[DeviceArray] = []
        if sampling.interpolation == "bspline":
            kind = "cubic"
            kept = [self._coefficients(source, sigmas), self.check(source)]
            given: dict[str, Any] = {
                "source": kept[0].pointer,
                "range": kept[1].pointer + arguments.RANGE_OFFSET,
            }
        else:
            kind = "smooth" if any(sigmas) else "linear"
            given = {"source": source.pointer, "radius": [gaussian_radius(s) for s in sigmas]}
            if any(sigmas):
                kept = [
                    self.upload(np.concatenate([np.pad(gaussian(s), 1) for s in sigmas]).astype(np.float32))
                ]
                given["smoothing"] = kept[0].pointer
        kernel = f"npc_resample_{kind}_{SUFFIX[target.dtype]}"
        self.launcher.launch(kernel, made(arguments.RESAMPLE, **common, **given), rows(target))

    def statistics(self, values: DeviceArray, rule: Rule) -> DeviceArray:
        """What `rule` needs of the values (float32, any shape, marked voxels left aside): FOUND, shape ()."""
        count = prod(values.shape)
        if values.dtype != np.float32:
            raise ValueError(f"statistics are of float32 values, not {values.dtype}")
        found, struct = self._found(values, rule)
        steps = [("npc_range_f32", count, 0), ("npc_sum", count, 0), ("npc_mean", 1, 0)]
        if rule.method == "percentile":
            for digit in range(4):
                steps += [("npc_histogram", count, digit), ("npc_digit", 4, digit)]
        else:
            steps.append(("npc_squares", count, 0))
        for kernel, work, digit in [*steps, ("npc_finish", 1, 0)]:
            step = struct.copy()
            step["count"], step["digit"] = work, digit
            self.launcher.launch(kernel, step, work)
        return found

    def check(self, values: DeviceArray) -> DeviceArray:
        """Look at values, float32 or float16: `refuse` of what this returns says whether all are finite."""
        found, struct = self._found(values, Rule())
        self.launcher.launch(f"npc_range_{SUFFIX[values.dtype]}", struct, prod(values.shape))
        return found

    def refuse(self, found: DeviceArray) -> np.void:
        """The statistics on the host. ValueError when a voxel that was used is not finite."""
        result: np.void = self.launcher.copy_out(found).reshape(1)[0]
        if result["bad"]:
            raise ValueError("the array holds values that are not finite")
        return result

    def normalise(self, values: DeviceArray, found: DeviceArray, rule: Rule, target: DeviceArray) -> None:
        """values float32 → target, the same shape, float32 (the same array too) or float16; what is marked
        becomes 0."""
        if values.shape != target.shape:
            raise ValueError(f"{values.shape} is not normalised into {target.shape}")
        struct = made(
            arguments.NORMALISE,
            values=values.pointer,
            target=target.pointer,
            scale=found.pointer,
            count=prod(values.shape),
            method=_METHODS[rule.method],
        )
        self.launcher.launch(f"npc_normalise_{SUFFIX[target.dtype]}", struct, prod(values.shape))

    def gather(self, volume: DeviceArray, starts: ArrayLike, window: Shape) -> DeviceArray:
        """volume (C, Z, Y, X), starts (n, 3) first voxels z, y, x → (n, C, z, y, x), the same dtype.

        ValueError when a window leaves the volume."""
        corners = np.ascontiguousarray(starts, dtype=np.int32).reshape(-1, 3)
        shaped(volume, 4, volume.dtype)
        if (corners < 0).any() or (corners + window > volume.shape[1:]).any():
            raise ValueError("a window leaves the volume")
        target = self.launcher.empty((len(corners), volume.shape[0], *window), volume.dtype)
        where = self.upload(corners)
        struct = made(
            arguments.GATHER,
            source=volume.pointer,
            target=target.pointer,
            starts=where.pointer,
            depth=window[0],
            channels=volume.shape[0],
            size=volume.shape[:0:-1],
            **lines(target),
        )
        self.launcher.launch(f"npc_gather_{SUFFIX[volume.dtype]}", struct, rows(target))
        return target

    def blend(
        self,
        windows: DeviceArray,
        starts: Starts,
        target: DeviceArray,
        first: int = 0,
        slices: int | None = None,
    ) -> None:
        """windows (n, K, z, y, x) → a slab of float32 slices that begins at `first`: target (K, slices, Y, X)
        is that slab; where `slices` says how many there are, target is the whole volume, the rest untouched.

        starts: first voxels along z, y and x, every combination a window, z slowest. They must cover the
        slab; those that miss it may be left out, so only a slab's windows need be in memory.
        """
        shaped(windows, 5, windows.dtype)
        if windows.shape[0] != prod(len(axis) for axis in starts) or windows.shape[1] != target.shape[0]:
            raise ValueError(f"windows {windows.shape} do not fit their places or {target.shape}")
        size, plane = windows.shape[2:], prod(target.shape[2:])
        depth, skipped = (target.shape[1], 0) if slices is None else (slices, first)
        if skipped + depth > target.shape[1]:
            raise ValueError(f"slices {first}:{first + depth} leave a volume of {target.shape[1]}")
        lows, lengths = (first, 0, 0), (depth, *target.shape[2:])
        for low, length, axis, window in zip(lows, lengths, starts, size, strict=True):
            covering(low, length, axis, window)
        work = rows(target) // target.shape[1] * depth
        weights = self.upload(np.concatenate([axis_weight(n) for n in size]).astype(np.float32))
        places = self.upload(np.concatenate([np.asarray(axis, dtype=np.int32) for axis in starts]))
        struct = made(
            arguments.BLEND,
            windows=windows.pointer,
            target=target.pointer + skipped * plane * target.dtype.itemsize,
            weights=weights.pointer,
            starts=places.pointer,
            channel=prod(target.shape[1:]),
            depth=depth,
            first=first,
            channels=windows.shape[1],
            window=size[::-1],
            count=[len(axis) for axis in reversed(starts)],
            **{**lines(target), "rows": work},
        )
        self.launcher.launch(f"npc_blend_{SUFFIX[windows.dtype]}", struct, work)

    def labels(self, logits: DeviceArray, grids: Grids) -> DeviceArray:
        """logits (K, Z, Y, X) → (Z, Y, X) uint8 on the target grid: the class whose interpolated logit is
        largest, the lowest on a tie, 0 outside."""
        shaped(logits, 4, logits.dtype)
        if logits.shape[0] > 256:
            raise ValueError(f"{logits.shape[0]} classes do not fit in uint8")
        target = self.launcher.empty(grids.target_shape, np.uint8)
        struct = made(arguments.LABELS, labels=target.pointer, **predictions(logits, grids, target))
        self.launcher.launch(f"npc_winner_{SUFFIX[logits.dtype]}", struct, rows(target))
        return target

    def threshold(
        self, logit: DeviceArray, grids: Grids, threshold: float
    ) -> tuple[DeviceArray, DeviceArray]:
        """logit (Z, Y, X) → on the target grid the probability (float32, 0 outside), and where it reaches the
        threshold (uint8)."""
        shaped(logit, 3, logit.dtype)
        mask = self.launcher.empty(grids.target_shape, np.uint8)
        probability = self.launcher.empty(grids.target_shape, np.float32)
        struct = made(
            arguments.LABELS,
            labels=mask.pointer,
            probability=probability.pointer,
            threshold=threshold,
            **predictions(logit.shaped(1, *logit.shape), grids, mask),
        )
        self.launcher.launch(f"npc_threshold_{SUFFIX[logit.dtype]}", struct, rows(mask))
        return probability, mask

    def probability(self, logit: DeviceArray, grids: Grids) -> DeviceArray:
        """The probability alone: what `threshold` gives, without a mask."""
        shaped(logit, 3, logit.dtype)
        target = self.launcher.empty(grids.target_shape, np.float32)
        fields = predictions(logit.shaped(1, *logit.shape), grids, target)
        struct = made(arguments.LABELS, probability=target.pointer, **fields)
        self.launcher.launch(f"npc_threshold_{SUFFIX[logit.dtype]}", struct, rows(target))
        return target

    def margin(self, logits: DeviceArray, code: int) -> DeviceArray:
        """logits (K, Z, Y, X) → (Z, Y, X) float32: the softmax over all classes as one logit, log p / (1 - p)
        of class `code`. ValueError unless there are two classes and that is one of them."""
        shaped(logits, 4, logits.dtype)
        if not 0 <= code < logits.shape[0] or logits.shape[0] < 2:
            raise ValueError(f"{logits.shape[0]} classes have no class {code} against others")
        target = self.launcher.empty(logits.shape[1:], np.float32)
        struct = made(
            arguments.MARGIN,
            logits=logits.pointer,
            target=target.pointer,
            count=prod(target.shape),
            classes=logits.shape[0],
            code=code,
        )
        self.launcher.launch(f"npc_margin_{SUFFIX[logits.dtype]}", struct, prod(target.shape))
        return target

    def _found(self, values: DeviceArray, rule: Rule) -> tuple[DeviceArray, np.void]:
        count = prod(values.shape)
        if not 0 < count <= MOST_VOXELS:
            raise ValueError(f"statistics are of 1 to {MOST_VOXELS} values, not {count}")
        empty = np.zeros((), dtype=arguments.FOUND)
        empty["range"] = (0xFFFFFFFF, 0)
        found = self.upload(empty)
        struct = made(
            arguments.STATISTICS,
            values=values.pointer,
            found=found.pointer,
            count=count,
            lower=round(rule.lower / 100 * 2**35),
            upper=round(rule.upper / 100 * 2**35),
            foreground=int(rule.foreground * 2**64),
            counted=_COUNTED[rule.method],
            method=_METHODS[rule.method],
            bits=(count - 1).bit_length(),
        )
        return found, struct

    def _coefficients(self, source: DeviceArray, sigmas: tuple[float, ...]) -> DeviceArray:
        """The cubic B-spline's coefficients, edge voxels repeated: two more on either side of every axis."""
        values = source
        for axis, sigma in enumerate(sigmas):
            if sigma > 0:
                values = self._filtered(values, axis, gaussian(sigma), 0)
        taps = np.sqrt(3) * _POLE ** np.abs(np.arange(-_SPLINE_RADIUS, _SPLINE_RADIUS + 1))
        for axis in range(3):
            values = self._filtered(values, axis, taps, _SPLINE_EDGE)
        return values

    def _filtered(
        self, values: DeviceArray, axis: int, weights: NDArray[np.float64], edge: int
    ) -> DeviceArray:
        """A symmetric filter along x (0), y (1) or z (2), the axis `edge` longer on either side."""
        size, steps = values.shape[::-1], [1, values.shape[2], values.shape[1] * values.shape[2]]
        shape = list(values.shape)
        shape[2 - axis] += 2 * edge
        target = self.launcher.empty((shape[0], shape[1], shape[2]), np.float32)
        taps = self.upload(weights.astype(np.float32))
        struct = made(
            arguments.FILTER,
            source=values.pointer,
            target=target.pointer,
            weights=taps.pointer,
            step=[0 if a == axis else step for a, step in enumerate(steps)],
            along=steps[axis],
            length=size[axis],
            axis=axis,
            radius=len(weights) // 2,
            edge=edge,
            **lines(target),
        )
        self.launcher.launch("npc_filter", struct, rows(target))
        return target
