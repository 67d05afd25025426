"""The operating point and the zone around it in which nothing is concluded."""

from __future__ import annotations

import numpy as np

from npc_edge.bench.demo.calibrate import _MARGIN, _grey_zone, _operating_point


def test_scores_that_validation_never_showed_lie_in_the_grey_zone() -> None:
    labels = np.repeat([0, 1], 100)
    apart = np.concatenate([np.linspace(0.01, 0.1, 100), np.linspace(0.9, 0.97, 100)])
    threshold = _operating_point(apart, labels)
    low, high = _grey_zone(apart, labels, threshold)
    assert threshold == 0.5
    assert 0.09 < low <= 0.1
    assert 0.9 <= high < 0.91
    inside = (apart >= low) & (apart <= high)
    assert inside[labels == 0].mean() <= 0.06
    assert inside[labels == 1].mean() <= 0.06


def test_the_zone_is_never_narrower_than_its_margin_nor_touches_certainty() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 200)
    mixed = np.concatenate([rng.uniform(0, 0.7, 200), rng.uniform(0.3, 1, 200)])
    threshold = _operating_point(mixed, labels)
    low, high = _grey_zone(mixed, labels, threshold)
    assert low <= threshold - _MARGIN + 1e-9
    assert high >= threshold + _MARGIN - 1e-9
    certain = np.repeat([0.0, 1.0], 200)
    assert _grey_zone(certain, labels, 0.5) == (0.02, 0.98)
