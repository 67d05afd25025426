"""Windows cut out and blended on a device, against the reference and what the CPU path adds up."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.kernels import reference_network
from npc_edge.kernels.cuda.operations import Operations

# A weighted mean of some eight numbers: float32's rounding of each term, and of the weights' product.
BLEND = 1e-6  # of the largest prediction


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_windows_are_cut_out_bit_for_bit(operations: Operations, dtype: Any) -> None:
    volume = np.random.default_rng(0).normal(size=(3, 7, 9, 37)).astype(dtype)
    volume[1, 2, 3, 4] = np.nan
    starts = [(0, 0, 0), (2, 4, 1), (2, 0, 3), (1, 1, 1)]
    got = operations.gather(operations.upload(volume), starts, (5, 5, 34))
    wanted = reference_network.gather(volume, starts, (5, 5, 34))
    assert operations.launcher.copy_out(got).tobytes() == wanted.tobytes()


def test_a_window_beyond_the_volume_is_refused(operations: Operations) -> None:
    volume = operations.upload(np.zeros((1, 4, 4, 4), dtype=np.float32))
    for start in ((0, 0, 1), (-1, 0, 0)):
        with pytest.raises(ValueError, match="leaves the volume"):
            operations.gather(volume, [start], (4, 4, 4))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    window=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 7)),
    extra=st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 9)),
    channels=st.integers(1, 3),
    half=st.booleans(),
    slab=st.integers(1, 4),
)
def test_slabs_of_blended_windows_are_the_references(
    serial: Operations, seed: int, window: Any, extra: Any, channels: int, half: bool, slab: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(w + e for w, e in zip(window, extra, strict=True))
    starts = tuple(covering(n, w, rng) for n, w in zip(shape, window, strict=True))
    count = len(list(itertools.product(*starts)))
    windows = rng.normal(size=(count, channels, *window)).astype(np.float16 if half else np.float32) * 10
    wanted = reference_network.blend(windows, starts, shape)
    rows = windows.reshape(len(starts[0]), -1, channels, *window)
    whole = serial.launcher.empty((channels, *shape), np.float32)
    for first in range(0, shape[0], slab):
        last = min(first + slab, shape[0])
        # Only the windows that reach the slab are there.
        here = [k for k, z in enumerate(starts[0]) if z < last and z + window[0] > first]
        here = here[1:] + here[:1]  # in any order
        part = serial.upload(np.ascontiguousarray(rows[here]).reshape(-1, channels, *window))
        target = serial.launcher.empty((channels, last - first, *shape[1:]), np.float32)
        places = (tuple(starts[0][k] for k in here), starts[1], starts[2])
        serial.blend(part, places, target, first)
        serial.blend(part, places, whole, first, last - first)
        got = serial.launcher.copy_out(target)
        np.testing.assert_allclose(got, wanted[:, first:last], atol=BLEND * np.abs(windows).max(), rtol=0)
    got = serial.launcher.copy_out(whole)
    np.testing.assert_allclose(got, wanted, atol=BLEND * np.abs(windows).max(), rtol=0)
    serial.launcher.check_guards()


def covering(length: int, window: int, rng: np.random.Generator) -> tuple[int, ...]:
    starts = [0]
    while starts[-1] + window < length:
        starts.append(min(starts[-1] + int(rng.integers(1, window + 1)), length - window))
    return tuple(starts)


def test_the_sliding_windows_own_sum(operations: Operations) -> None:
    """What `engine.model.sliding_window` adds up on a CPU, window by window."""
    from npc_edge.kernels.windows import gaussian_weight

    rng = np.random.default_rng(2)
    starts, window, shape = ((0, 3, 5), (0, 4), (0, 2, 6, 9)), (4, 6, 8), (9, 10, 17)
    windows = rng.normal(size=(24, 2, *window)).astype(np.float32)
    total, weight = np.zeros(shape, dtype=np.float32), gaussian_weight(window)
    summed = np.zeros((2, *shape), dtype=np.float32)
    for one, corner in zip(windows, itertools.product(*starts), strict=True):
        box = tuple(slice(s, s + n) for s, n in zip(corner, window, strict=True))
        summed[(slice(None), *box)] += one * weight
        total[box] += weight
    target = operations.launcher.empty((2, *shape), np.float32)
    operations.blend(operations.upload(windows), starts, target)
    np.testing.assert_allclose(operations.launcher.copy_out(target), summed / total, atol=3e-6, rtol=0)


def test_windows_that_leave_a_gap_or_do_not_match_are_refused(operations: Operations) -> None:
    windows = operations.upload(np.zeros((2, 1, 2, 3, 3), dtype=np.float32))
    target = operations.launcher.empty((1, 5, 3, 3), np.float32)
    with pytest.raises(ValueError, match="uncovered"):
        operations.blend(windows, ((0, 3), (0,), (0,)), target)
    with pytest.raises(ValueError, match="do not fit"):
        operations.blend(windows, ((0, 2, 3), (0,), (0,)), target)
