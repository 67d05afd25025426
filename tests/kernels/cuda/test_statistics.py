"""Percentiles, moments and normalising on a device against the references and the CPU path."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npc_edge.kernels import reference, reference_network
from npc_edge.kernels.cuda.arguments import OUTSIDE
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import Grids, Rule, Sampling
from npc_edge.kernels.intensity import normalise

# The order statistics are exact. Between two of them the place is right to 2^-35 of the whole, and float32
# interpolation to a few units in the last place.
PERCENTILE = 1e-6  # of the largest value
# Sums are integers, exact to 2^-34 of the largest value or better; what is left is float32's own rounding.
MOMENT = 2e-6  # of the deviation, and of the mean
MARK = np.uint32(OUTSIDE).view(np.float32)


def statistics(operations: Operations, values: NDArray[np.float32], rule: Rule) -> Any:
    return operations.refuse(operations.statistics(operations.upload(values), rule))


def heads(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    values = rng.gamma(2, 50, size=(5, 11, 13)) - (60 if seed % 3 == 0 else 0)
    return (np.round(values) if seed % 2 else values).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("lower", "upper", "foreground"), [(0.5, 99.5, 0.1), (2, 97, 0.5), (0, 100, 0)])
def test_percentiles_are_the_references(
    operations: Operations, seed: int, lower: float, upper: float, foreground: float
) -> None:
    values = heads(seed)
    found = statistics(operations, values, Rule("percentile", lower, upper, foreground))
    low, high = reference.percentiles(values, lower, upper, foreground)
    allowed = PERCENTILE * np.abs(values).max()
    assert abs(found["low"] - low) <= allowed
    assert abs(found["high"] - high) <= allowed


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40),
    lower=st.floats(0, 100),
    upper=st.floats(0, 100),
    foreground=st.sampled_from([0.0, 0.1, 0.5, 0.999]),
)
def test_percentiles_of_anything(
    serial: Operations, values: list[float], lower: float, upper: float, foreground: float
) -> None:
    """Of any floats: whichever voxels the threshold takes by a hair more or less, the result fits one."""
    array = np.array(values, dtype=np.float32)
    found = statistics(serial, array, Rule("percentile", lower, upper, foreground))
    serial.launcher.check_guards()
    positive = array[array > 0].astype(np.float64)
    if positive.size == 0:
        assert found["low"] == found["high"] == 0
        return
    threshold = foreground * positive.mean()
    hair = threshold * 1e-6 + 1e-9 * array.max()
    tight, loose = threshold + hair, threshold - hair
    sets = [np.sort(array[array > t].astype(np.float64)) for t in (tight, loose)]
    for got, percent in ((found["low"], lower), (found["high"], upper)):
        ends = [np.percentile(s, percent) for s in sets if s.size] or [0.0]
        slack = 1e-6 * np.abs(array).max()
        assert min(ends) - slack <= got <= max(ends) + slack


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", ["zscore", "zscore-nonzero"])
def test_moments_are_the_references(operations: Operations, seed: int, method: Any) -> None:
    values = heads(seed)
    values[values < 20] = 0
    found = statistics(operations, values, Rule(method))
    mean, deviation = reference_network.moments(values, method == "zscore-nonzero")
    assert abs(found["low"] - mean) <= MOMENT * deviation
    assert abs(found["width"] - deviation) <= MOMENT * deviation


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_no_scale_is_too_small_or_too_large(operations: Operations, scale: float) -> None:
    values = (np.random.default_rng(1).gamma(2, 1, size=500) * scale).astype(np.float32)
    found = statistics(operations, values, Rule("zscore"))
    mean, deviation = reference_network.moments(values, nonzero=False)
    assert found["low"] == pytest.approx(mean, rel=1e-5)
    assert found["width"] == pytest.approx(deviation, rel=1e-5)


def test_order_and_thread_count_change_no_bit(operations: Operations) -> None:
    values = heads(4).ravel()
    rule = Rule("zscore")
    first = statistics(operations, values, rule)
    again = statistics(operations, np.random.default_rng(0).permutation(values), rule)
    assert first.tobytes() == again.tobytes()


def test_nothing_positive_and_no_contrast_become_zero(operations: Operations) -> None:
    for values in (np.zeros((2, 3, 4)), -np.ones((2, 3, 4)), np.full((2, 3, 4), 5.0), np.full(24, MARK)):
        array = values.astype(np.float32)
        for method in ("percentile", "zscore", "zscore-nonzero"):
            rule = Rule(method)
            there = operations.upload(array)
            operations.normalise(there, operations.statistics(there, rule), rule, there)
            assert not operations.launcher.copy_out(there).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(operations: Operations, value: float) -> None:
    values = heads(1)
    values[2, 3, 4] = value
    with pytest.raises(ValueError, match="not finite"):
        statistics(operations, values, Rule())
    with pytest.raises(ValueError, match="not finite"):
        operations.refuse(operations.check(operations.upload(values.astype(np.float16))))
    operations.refuse(operations.check(operations.upload(heads(1).astype(np.float16))))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("method", ["percentile", "zscore", "zscore-nonzero"])
def test_a_channel_is_what_the_cpu_path_makes_of_it(operations: Operations, method: Any, dtype: Any) -> None:
    """Resampled, measured inside the volume, normalised and cast: as `model.prepare` does on a CPU."""
    from grids import CASES, affine

    from npc_edge.kernels import cpu
    from npc_edge.kernels.sampling import index_map, inside

    source, shape = CASES["tilted"]
    target, there = affine((1.1, 1.2, 3.0), (-4, 0.5, -3)), (9, 17, 15)
    voxels = np.random.default_rng(8).gamma(2, 60, size=shape).astype(np.float32)
    rule = Rule(method, 1, 98, 0.2)
    out = operations.launcher.empty(there, dtype)
    grids = Grids(source, target, there)
    found = operations.channel(operations.upload(voxels), grids, Sampling(), rule, out)
    operations.refuse(found)
    covered = inside(index_map(source, target), shape, there)
    values = cpu.resample(voxels, source, target, there)
    wanted = normalise(values, method, 1, 98, 0.2, covered)
    allowed = 1e-5 + (2.0**-11 * np.abs(wanted).max() if dtype == np.float16 else 0)
    np.testing.assert_allclose(operations.launcher.copy_out(out), wanted, atol=allowed, rtol=0)
