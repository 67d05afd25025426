"""Limits: they hold at the chosen rate, for charts that go together and are skewed, and for shares."""

import numpy as np
import pytest

from npc_edge.calibration.watch.limits import (
    Design,
    Span,
    by_case,
    family_limits,
    indicator_limits,
    indicator_scores,
    null_peaks,
    passed_by,
    spans,
)
from npc_edge.calibration.watch.ranks import full_scores, sequential_scores
from npc_edge.calibration.watch.sequential import cusum, ewma, limit_for, two_sided_arl
from npc_edge.calibration.watch.settings import WITH_LABELS, WITHOUT_LABELS, share_of

DESIGN = Design(allowance=0.25)


def test_for_one_chart_they_agree_with_the_average_run_length() -> None:
    """The wait for an alarm is nearly exponential: P(alarm in n cases) = 1 - exp(-n / ARL)."""
    pool = np.random.default_rng(0).normal(size=(20_000, 1))
    peaks, _ = null_peaks(pool, Span(500), 3000, DESIGN, 1)
    limit = family_limits(peaks, 0.1, 0.3).act[0]
    expected = limit_for(lambda h: two_sided_arl(h, 0.25), 500 / -np.log(0.9))
    assert limit == pytest.approx(expected, rel=0.05)


def test_charts_that_go_together_alarm_together_at_the_chosen_rate() -> None:
    """Four skewed measurements, two of them nearly the same; the limits come from 250 cases of a baseline."""
    random = np.random.default_rng(2)
    alarms = 0
    for run in range(150):
        common = random.normal(size=(550, 1))
        values = np.exp(common + np.array([0.1, 0.1, 1.0, 3.0]) * random.normal(size=(550, 4)))
        pool = np.stack([full_scores(column) for column in values[:250].T], axis=1)
        peaks, _ = null_peaks(pool, Span(300), 300, DESIGN, run)
        limits = family_limits(peaks, 0.2, 0.5).act
        scores = np.stack([sequential_scores(column) for column in values.T], axis=1)[250:]
        up, down = cusum(scores, DESIGN.allowance)
        alarms += bool((np.maximum(up, down).max(axis=0) > limits).any())
    assert 0.12 <= alarms / 150 <= 0.29


def test_a_chart_that_has_long_run_fluctuates_more_and_has_a_limit_of_its_own() -> None:
    """12 independent charts over 4,000 cases, 300 series: with a limit for the first cases alone the rate
    would double."""
    pool = np.random.default_rng(4).normal(size=(5000, 12))
    pool = (pool - pool.mean(axis=0)) / pool.std(axis=0)  # as ranks are: a pool's own mean would add up too
    first, later = (
        family_limits(null_peaks(pool, span, 1000, Design(), 5)[0], 0.1, 0.3).act
        for span in spans(750, 1000, True)
    )
    assert (later > first).all()
    scores = np.random.default_rng(6).standard_normal((3750, 300, 12), np.float32)
    path = np.maximum(*cusum(scores, Design().allowance))
    early = (path[:750] > first).any(axis=(0, 2)).mean()
    assert early == pytest.approx(0.1, abs=0.045)
    for start in (1750, 2750):
        here = path[start : start + 1000]
        assert (here > later).any(axis=(0, 2)).mean() == pytest.approx(0.1, abs=0.045)
        assert (here > first).any(axis=(0, 2)).mean() > 0.15


def test_what_is_passed_by_few_is_taken_from_the_tail() -> None:
    highest = np.random.default_rng(7).exponential(size=20_000)
    for rate in (0.3, 0.05, 0.001):
        assert passed_by(highest, rate) == pytest.approx(-np.log(rate), rel=0.03)
    assert passed_by(np.ones(100), 0.01) == 1.0


def test_limits_are_for_the_first_cases_and_for_the_rest() -> None:
    np.testing.assert_array_equal(by_case([3.0, 4.0], 5, 2), [3, 3, 4, 4, 4])
    np.testing.assert_array_equal(by_case([3.0], 3, 2), [3, 3, 3])
    assert spans(750, 1000, False) == (Span(750),)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.4])
def test_an_indicator_alarms_no_more_often_than_chosen(share: float) -> None:
    random = np.random.default_rng(3)
    alarms = np.zeros(2)
    for _ in range(1500):
        yes = random.random(550) < share
        limits = indicator_limits(int(yes[:250].sum()), 250, Span(300), 0.05, DESIGN, 1)
        scores = indicator_scores(yes, 250)[250:]
        highest = np.maximum(*cusum(scores, DESIGN.allowance)).max(), np.abs(ewma(scores, 0.1)).max()
        alarms += np.array(highest) > limits
    assert (alarms / 1500 <= 0.068).all()
    if share > 0.1:
        assert (alarms / 1500 >= 0.032).all()


def test_something_never_seen_alarms_only_when_it_comes_back() -> None:
    yes = np.zeros(550, np.bool_)
    yes[300] = True
    limit, _ = indicator_limits(0, 250, Span(300), 0.01, DESIGN, 1)
    once = cusum(indicator_scores(yes, 250)[250:], DESIGN.allowance)[0].max()
    yes[300:310] = True
    often = cusum(indicator_scores(yes, 250)[250:], DESIGN.allowance)[0].max()
    assert once < limit < often


@pytest.mark.parametrize("shares", [WITH_LABELS, WITHOUT_LABELS])
def test_the_parts_of_the_rate_make_the_whole(shares) -> None:
    parts = [shares.charts, shares.facts, shares.windows, shares.labels]
    assert sum(parts) == pytest.approx(1.0)
    assert 1 - np.prod([1 - share_of(0.05, part) for part in parts]) == pytest.approx(0.05)
