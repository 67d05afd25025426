"""Charts put what they are given where it belongs."""

import re
from dataclasses import replace

import numpy as np
import pytest
from monitor_content import CONTENT, trend

from npc_edge.calibration.report import charts
from npc_edge.calibration.watch.estimate import Estimate


def points(svg: str, name: str) -> list[list[tuple[float, float]]]:
    """The points of every line or shape of a class."""
    found = re.findall(rf'<poly(?:line|gon) points="([^"]*)" class="{name}"', svg)
    return [[tuple(map(float, p.split(","))) for p in text.split()] for text in found]  # type: ignore[misc]


def test_the_change_is_drawn_at_its_date() -> None:
    item = trend("T2 median intensity", "", 1.3, "act")
    assert item.watch is not None
    assert item.watch.change is not None
    share = (item.at[item.watch.change] - item.at[0]) / (item.at[-1] - item.at[0])
    x = float(re.search(r'<line x1="([\d.]+)"[^>]*class="change"', charts.trend(item))[1])  # type: ignore[index]
    assert x == pytest.approx(46 + (470 - 46) * share, abs=0.01)


def test_what_is_beyond_its_limit_is_drawn_once_more() -> None:
    moved, still = trend("T2 median intensity", "", 1.3, "act"), trend("Tumour volume", "ml")
    assert moved.watch is not None
    assert still.watch is not None
    within = replace(still, watch=replace(still.watch, path=np.clip(still.watch.path, -0.99, 0.99)))
    assert len(points(charts.trend(moved), "path out")) >= 1
    assert points(charts.trend(within), "path out") == []
    assert "times its limit" in charts.trend(moved)
    assert "times its limit" not in charts.trend(within)


def test_everything_lies_inside_the_picture() -> None:
    for item in CONTENT.trends:
        svg = charts.trend(item)
        for name in ("through", "path", "path out"):
            for line in points(svg, name):
                assert all(46 <= x <= 470 and 22 <= y <= 192 for x, y in line)


def test_a_share_is_written_in_percent_and_never_below_zero() -> None:
    item = next(item for item in CONTENT.trends if item.share)
    ticks = re.findall(r'class="tick end">([^<]*%)<', charts.trend(item))
    assert ticks[0].startswith("0")
    assert not [tick for tick in ticks if tick.startswith("−")]


def test_reliability_is_drawn_to_scale() -> None:
    (item,) = CONTENT.reliability
    svg = charts.reliability(item)
    (curve,) = points(svg, "curve")
    assert len(curve) == len(item.predicted)
    for (x, y), predicted, observed in zip(curve, item.predicted, item.observed, strict=True):
        assert x == pytest.approx(52 + 298 * predicted, abs=0.01)
        assert y == pytest.approx(310 - 298 * observed, abs=0.01)
    (band,) = points(svg, "band")
    assert len(band) == 2 * len(item.predicted)
    assert svg.count('class="npc"') == np.count_nonzero(item.npc)
    assert f"{item.npc.sum()} cases with NPC" in svg


def test_an_interval_is_cut_at_the_scale() -> None:
    svg = charts.interval(Estimate(0.8, 0.4, 1.2, 9), 0.5, 1.0, None)
    assert re.search(r'<line x1="3.0" x2="97.0"[^>]*class="span"', svg)
    assert 'class="overall"' not in svg
    unknown = charts.interval(Estimate(0.8, float("nan"), float("nan"), 9), 0.5, 1.0, 0.9)
    assert 'class="span"' not in unknown
    assert 'class="overall"' in unknown
