"""Axes have round numbers and calendar dates, and no excursion of a long line is lost."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_edge.calibration.report.axes import bin_means, date_ticks, number, round_ticks, thinned

DAY = 86_400_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (-0.3, 0.9, [0, 0.5]),
        (297, 362, [300, 320, 340, 360]),
        (0.0012, 0.0049, [0.002, 0.003, 0.004]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(wanted)


@given(
    st.floats(-1e9, 1e9),
    st.floats(1e-6, 1e9),
)
def test_ticks_lie_within_and_are_few(low: float, span: float) -> None:
    ticks = round_ticks(low, low + span)
    assert len(ticks) <= 5
    assert ticks == sorted(ticks)
    slack = 1e-6 * max(abs(low), span)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


def test_dates_of_a_year_are_first_days_of_months_and_name_the_year_once() -> None:
    ticks = date_ticks(at("2025-11-20"), at("2026-10-05"))
    assert [label for _, label in ticks] == ["Jan 2026", "Mar", "May", "Jul", "Sep"]
    assert ticks[0][0] == at("2026-01-01")


def test_dates_of_a_week_are_days() -> None:
    labels = [label for _, label in date_ticks(at("2026-04-28T09:00"), at("2026-05-03T12:00"))]
    assert labels == ["29 Apr", "30 Apr", "1 May", "2 May", "3 May"]


def test_dates_of_many_years_are_years() -> None:
    assert [label for _, label in date_ticks(at("2020-05-01"), at("2030-01-01"))] == [
        "2022",
        "2024",
        "2026",
        "2028",
        "2030",
    ]


@given(st.integers(0, 4_000_000_000_000), st.integers(1, 20_000 * DAY))
def test_dates_are_few_and_within(first: int, span: int) -> None:
    ticks = date_ticks(first, first + span)
    assert len(ticks) <= 8
    assert all(first <= moment <= first + span for moment, _ in ticks)
    assert all(a < b for (a, _), (b, _) in pairwise(ticks))


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0, 0.25, -1.5, 12, 1500, 123456.7)] == [
        "0",
        "0.25",
        "−1.5",
        "12",
        "1,500",
        "123,457",
    ]


def test_bin_means_keep_the_mean_and_leave_empty_spans_out() -> None:
    times = np.array([0, 1, 2, 90, 91, 100], dtype=np.int64)
    values = np.array([1.0, 3.0, np.nan, 5.0, np.nan, 7.0])
    middles, means = bin_means(times, values, 10)
    assert middles.tolist() == [0.5, 95.0]
    assert means.tolist() == [2.0, 6.0]
    assert bin_means(times, np.full(6, np.nan), 10)[1].size == 0


def test_a_long_line_keeps_its_extremes_and_its_ends() -> None:
    rng = np.random.default_rng(1)
    line = rng.standard_normal(50_000)
    line[31_234] = 9.0
    kept = thinned(line, 300)
    assert len(kept) <= 300
    assert {0, 31_234, 49_999} <= set(kept.tolist())
    assert line[kept].min() == line.min()
    assert thinned(line[:200], 300).tolist() == list(range(200))
