"""Streaming gives what all data at once would; a budget changes how often the graph runs, not the answer."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_nets import Array, Net, image, unet

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.export import graph
from npc_edge.export.observe import Histogram, Options, Range, observe

floats = st.floats(-(2.0**100), 2.0**100, width=32)
batches = st.lists(st.lists(floats, max_size=20), min_size=1, max_size=6)
TENSORS = ("image", "a_act_out", "join_out", "c_act_out")


@settings(deadline=None, max_examples=200)
@given(batches)
def test_the_histogram_is_that_of_all_values_at_once(parts: Sequence[Sequence[float]]) -> None:
    histogram = Histogram(64)
    for part in parts:
        histogram.add(np.array(part, np.float32))
    values = np.array([value for part in parts for value in part], np.float32)
    if values.size == 0:
        assert not histogram.counts.any()
        return
    expected, edges = np.histogram(
        values.astype(np.float64), bins=64, range=(-histogram.limit, histogram.limit)
    )
    assert histogram.counts.tolist() == expected.tolist()
    np.testing.assert_allclose(histogram.edges, edges)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert np.abs(values).max() < histogram.limit <= max(2 * np.abs(values).max(), 2.0**-125)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(90, 99.9))
def test_the_percentile_is_numpys_to_a_bin(seed: int, percent: float) -> None:
    values = np.random.default_rng(seed).standard_normal(5000).astype(np.float32)
    histogram = Histogram(4096)
    for part in np.array_split(values, 7):
        histogram.add(part)
    found, width = histogram.percentile(percent), 2 * histogram.limit / 4096
    share = 1 - percent / 100
    assert (values < found.low).mean() <= share + 1e-9
    assert (values > found.high).mean() <= share + 1e-9
    # One bin further in it would be too many.
    assert (values < found.low + width).mean() > share - 1e-9
    assert (values > found.high - width).mean() > share - 1e-9
    assert histogram.percentile(100.0) == Range(values.min(), values.max())


def test_a_range_contains_zero() -> None:
    histogram = Histogram()
    histogram.add(np.linspace(5, 6, 100, dtype=np.float32))
    assert (histogram.percentile(99).low, histogram.least_error().low) == (0.0, 0.0)
    assert Histogram().percentile(99) == Histogram().least_error() == Range(0.0, 0.0)


def test_least_error_is_the_best_of_many_ranges() -> None:
    values = np.random.default_rng(0).standard_normal(400_000)
    values = np.append(values, [12.0, -30.0]).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    found = histogram.least_error()

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        zero = round(-low / step)
        levels = np.clip(np.round(values / step) + zero, 0, 255) - zero
        return float(((levels * step - values) ** 2).sum())

    best = min(error(low, high) for low in np.arange(-30, -3, 3) for high in np.arange(3, 13))
    assert error(found.low, found.high) < 1.02 * best
    assert error(found.low, found.high) < 0.6 * error(-30.0, 12.0)


def together(cases: Sequence[dict[str, Array]]) -> dict[str, Array]:
    model = graph.tidy(unet())
    found = [graph.run(graph.cut(model, TENSORS), case) for case in cases]
    return {name: np.concatenate([f[name].ravel() for f in found]) for name in TENSORS}


@pytest.mark.parametrize("budget", [1, 40_000, 1 << 30])
def test_ranges_over_all_cases_whatever_the_budget(budget: int) -> None:
    cases = [image(seed=seed, batch=1 + seed % 2) for seed in range(3)]
    found = observe(unet(), TENSORS, cases, Options("percentile", 100.0, budget))
    for name, values in together(cases).items():
        assert found[name] == Range(min(values.min(), 0), max(values.max(), 0))


def test_groups_fit_the_budget() -> None:
    model = graph.tidy(unet())
    sizes = {"image": 2048, "a_act_out": 16384, "join_out": 32768, "c_act_out": 4096}
    for budget in (1, 20_000, 40_000, 1 << 20):
        split = graph.groups(model, TENSORS, image(), budget)
        assert [name for group in split for name in group] == ["image", "a_act_out", "c_act_out", "join_out"]
        assert all(sum(sizes[name] for name in g) <= budget or len(g) == 1 for g in split)
    assert len(graph.groups(model, TENSORS, image(), 40_000)) == 2


class Loaded:
    """Cases that are read one at a time, and counted."""

    def __init__(self, count: int) -> None:
        self.count, self.read = count, 0

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for seed in range(self.count):
            self.read += 1
            yield image(seed=seed)


def test_every_case_is_read_once_for_a_group() -> None:
    cases = Loaded(3)
    whole = observe(unet(), TENSORS, cases)
    assert cases.read == 1 + 3
    assert whole == observe(unet(), TENSORS, [image(seed=seed) for seed in range(3)])


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(UsageError, match="again"):
        observe(unet(), TENSORS, iter([image()]))
    with pytest.raises(UsageError, match="at least one"):
        observe(unet(), TENSORS, [])
    with pytest.raises(UsageError):
        Options(percentile=0.99)
    with pytest.raises(BundleError, match="no tensor nowhere"):
        observe(unet(), ["nowhere"], [image()])
    net = Net((1, 2, 4, 8, 8))
    model = net.model({"out": net.node("Log", ["image"], "log")})
    with pytest.raises(BundleError, match=r"log_out.*not finite"):
        observe(model, ["log_out"], [image()])
