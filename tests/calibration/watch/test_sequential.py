"""CUSUM and EWMA against step-by-step sums, published run lengths and simulation."""

import numpy as np
import pytest

from npc_edge.calibration.watch.sequential import (
    cusum,
    cusum_arl,
    ewma,
    ewma_arl,
    ewma_deviation,
    limit_for,
    siegmund_arl,
    two_sided_arl,
)


def test_the_cusum_is_page_s_recursion() -> None:
    scores = np.random.default_rng(0).normal(0.1, 1, (300, 3))
    up, down = cusum(scores, 0.25)
    state = np.zeros((2, 3))
    for index, score in enumerate(scores):
        state = np.maximum(0, state + np.stack([score, -score]) - 0.25)
        np.testing.assert_allclose([up[index], down[index]], state, atol=1e-10)


def test_the_ewma_is_roberts_recursion_in_long_run_deviations() -> None:
    scores = np.random.default_rng(1).normal(size=50)
    found, state = ewma(scores, 0.2), 0.0
    for index, score in enumerate(scores):
        state = 0.2 * score + 0.8 * state
        assert found[index] == pytest.approx(state / np.sqrt(0.2 / 1.8), abs=1e-12)


@pytest.mark.parametrize(
    ("limit", "shift", "published"),
    [  # Montgomery, Introduction to Statistical Quality Control, 6th ed., table 9.3: two-sided, k = 1/2
        (4, 0.00, 168), (4, 0.25, 74.2), (4, 0.50, 26.6), (4, 0.75, 13.3), (4, 1.00, 8.38), (4, 2.00, 3.34),
        (5, 0.00, 465), (5, 0.25, 139), (5, 0.50, 38.0), (5, 0.75, 17.0), (5, 1.00, 10.4), (5, 3.00, 2.57),
    ],
)  # fmt: skip
def test_run_lengths_of_the_cusum_are_those_in_montgomery_s_table(
    limit: float, shift: float, published: float
) -> None:
    assert two_sided_arl(limit, 0.5, shift) == pytest.approx(published, rel=0.006)


@pytest.mark.parametrize(
    ("weight", "limit", "shift", "published"),
    [  # Lucas and Saccucci, Technometrics 1990;32:1, as in Montgomery's table 9.11
        (0.40, 3.054, 0.0, 500), (0.25, 2.998, 0.0, 500), (0.20, 2.962, 0.0, 500), (0.10, 2.814, 0.0, 500),
        (0.05, 2.615, 0.0, 500), (0.40, 3.054, 0.5, 71.2), (0.20, 2.962, 0.5, 41.8), (0.10, 2.814, 0.5, 31.3),
        (0.10, 2.814, 1.0, 10.3), (0.05, 2.615, 1.0, 11.4), (0.20, 2.962, 1.0, 10.5),
    ],
)  # fmt: skip
def test_run_lengths_of_the_ewma_are_those_of_lucas_and_saccucci(
    weight: float, limit: float, shift: float, published: float
) -> None:
    assert ewma_arl(limit, weight, shift) == pytest.approx(published, rel=0.012)


def test_siegmund_s_approximation_is_near() -> None:
    """His own example: k = 1/2, h = 5 gives 938.2 one-sided; with a shift of 1, 10.34."""
    assert siegmund_arl(5, 0.5) == pytest.approx(938.2, rel=0.001)
    assert siegmund_arl(5, 0.5, 1.0) == pytest.approx(10.34, rel=0.001)
    assert siegmund_arl(4, 0.5, 0.5) == pytest.approx(cusum_arl(4, 0.5, 0.5), rel=0.02)
    for limit, allowance in ((4, 0.5), (8, 0.25), (15, 0.1)):
        assert siegmund_arl(limit, allowance) == pytest.approx(cusum_arl(limit, allowance), rel=0.02)


def test_a_limit_gives_the_run_length_it_was_chosen_for() -> None:
    limit = limit_for(lambda h: two_sided_arl(h, 0.5), 370)
    assert limit == pytest.approx(4.77, abs=0.01)  # Hawkins 1993: k = 1/2, ARL 370 takes h = 4.77
    assert limit_for(lambda edge: ewma_arl(edge, 0.1), 500) == pytest.approx(2.814, abs=0.005)


def test_the_run_length_holds_in_simulation() -> None:
    scores = np.random.default_rng(2).normal(size=(3000, 400))
    up, _ = cusum(scores, 0.25)
    first = (up > 4.0).argmax(axis=0) + 1
    assert first.max() > 1
    assert first.mean() == pytest.approx(cusum_arl(4.0, 0.25), rel=0.12)
    assert ewma(scores, 0.1).std() == pytest.approx(1.0, abs=0.03)
    assert ewma_deviation(1.0) == 1.0
