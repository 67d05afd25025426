"""Depth, slices and support against shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.engine.findings.measure import (
    Field,
    fitting_probability,
    largest_discs,
    measure,
    on_neighbours,
)
from npc_edge.engine.findings.rules import Limits

LIMITS = Limits(depth_mm=2.0, slices=2, core_slices=1, probability=0.9, contact_mm=1.0, why="test")


def field_of(probability, pixel=(0.5, 0.5), slice_mm=4.0):
    probability = np.asarray(probability, dtype=np.float32)
    return Field(probability, probability >= 0.5, pixel, pixel[0] * pixel[1] * slice_mm, 10, 0.5)


@pytest.mark.parametrize("pixel", [0.4, 0.45, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("wide", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("along", ["x", "y"])
def test_a_strip_is_as_deep_as_it_is_wide(pixel, wide, along):
    strip = np.zeros((3, 60, 60), dtype=np.float32)
    strip[:, 20 : 20 + wide, 5:55] = 1
    overlap = measure(field_of(strip.swapaxes(1, 2) if along == "x" else strip, (pixel, pixel)),
                      np.ones_like(strip, dtype=bool), LIMITS)  # fmt: skip
    assert overlap.depth_mm == pytest.approx(wide * pixel, abs=1e-5)
    assert overlap.slices == (3 if wide * pixel >= 2 else 0)
    assert overlap.support == (1.0 if wide * pixel >= 2 else 0.0)
    assert overlap.overlap_mm3 == pytest.approx(3 * wide * 50 * pixel * pixel * 4)


@pytest.mark.parametrize("degrees", [0, 15, 30, 45, 70])
def test_depth_does_not_depend_on_direction(degrees):
    y, x = np.mgrid[:120, :120] * 0.5 - 30
    across = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    band = (np.abs(across) < 1.75)[None]
    assert largest_discs(band.repeat(2, 1).repeat(2, 2), (0.25, 0.25))[0] == pytest.approx(3.5, abs=0.5)


def test_a_disc_has_its_own_diameter_on_anisotropic_pixels():
    y, x = np.mgrid[:200, :100]
    disc = ((y * 0.25 - 25) ** 2 + (x * 0.5 - 25) ** 2 < 10.0**2)[None]
    assert largest_discs(disc, (0.25, 0.5))[0] == pytest.approx(20, abs=0.6)


def test_a_full_array_ends_at_its_edge():
    assert largest_discs(np.ones((1, 10, 40), dtype=bool), (0.5, 0.5))[0] == pytest.approx(5.0, abs=0.51)
    assert largest_discs(np.zeros((2, 4, 4), dtype=bool), (1, 1)).tolist() == [0, 0]


def brute_disc(mask, pixel):
    """Twice the largest distance to an outside pixel, by looking at every pair."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded) * pixel
    inside = np.argwhere(padded) * pixel
    if len(inside) == 0:
        return 0.0
    return 2 * max(float(np.sqrt(((outside - point) ** 2).sum(axis=1)).min()) for point in inside)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pixel=st.tuples(st.floats(0.2, 1.0), st.floats(0.2, 1.0)),
)
def test_discs_agree_with_every_pair_of_pixels_and_with_the_erosion(seed, shape, pixel):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.8
    depth = largest_discs(mask[None], pixel)[0]
    assert depth == pytest.approx(brute_disc(mask, np.array(pixel)), rel=1e-5)
    # Clear of the depth itself, where rounding decides.
    for diameter in (0.5, 1.0, 2.0):
        if abs(diameter - depth) > 1e-4:
            fits = fitting_probability(mask[None].astype(np.float32), diameter, pixel)[0]
            assert fits == (1.0 if depth > diameter else 0.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0.1, 0.95))
def test_support_is_the_threshold_at_which_the_overlap_stops_sufficing(seed, threshold):
    rng = np.random.default_rng(seed)
    smooth = np.asarray(rng.random((3, 4, 4)).repeat(3, 1).repeat(3, 2), dtype=np.float32)
    overlap = measure(field_of(smooth, (0.9, 0.9)), np.ones(smooth.shape, dtype=bool), LIMITS)
    at = measure(field_of((smooth >= threshold).astype(np.float32), (0.9, 0.9)),
                 np.ones(smooth.shape, dtype=bool), LIMITS)  # fmt: skip
    assert (overlap.support >= threshold) == (at is not None and at.support == 1.0)


def test_neighbours_must_be_neighbours():
    assert on_neighbours(np.array([0.9, 0.2, 0.8, 0.7]), 2) == pytest.approx(0.7)
    assert on_neighbours(np.array([0.9]), 2) == 0.0
    assert on_neighbours(np.array([0.9, 0.2]), 1) == pytest.approx(0.9)


def test_no_overlap_is_none_and_an_unsure_one_has_no_depth():
    blob = np.zeros((2, 20, 20), dtype=np.float32)
    blob[:, 5:15, 5:15] = 0.3
    elsewhere = np.zeros(blob.shape, dtype=bool)
    elsewhere[:, :3] = True
    assert measure(field_of(blob), elsewhere, LIMITS) is None
    overlap = measure(field_of(blob), np.ones(blob.shape, dtype=bool), LIMITS)
    assert (overlap.depth_mm, overlap.overlap_mm3, overlap.slices) == (0.0, 0.0, 0)
    assert overlap.support == pytest.approx(0.3)


def test_the_slice_shown_is_the_deepest():
    blob = np.zeros((4, 30, 30), dtype=np.float32)
    blob[1, 5:9, 5:25] = 1
    blob[2, 5:19, 5:25] = 1
    overlap = measure(field_of(blob), np.ones(blob.shape, dtype=bool), LIMITS)
    assert overlap.source_slice == 12
    assert overlap.probability == 1.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 25), st.integers(1, 25)),
    parts=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 6])),
    pixel=st.tuples(st.floats(0.1, 0.5), st.floats(0.1, 0.5)),
    diameter=st.sampled_from([0.3, 1.5, 2.0, 3.5]),
)
def test_entries_that_stand_for_pixels_measure_to_the_bit_as_those_pixels(
    seed, shape, parts, pixel, diameter
):
    rng = np.random.default_rng(seed)
    probability = rng.random(shape).astype(np.float32)
    for axis in (1, 2):
        probability = np.maximum(probability, np.roll(probability, 1, axis))
    mask = probability > rng.random()
    fine = probability.repeat(parts[0], 1).repeat(parts[1], 2)
    np.testing.assert_array_equal(
        largest_discs(mask, pixel, parts), largest_discs(mask.repeat(parts[0], 1).repeat(parts[1], 2), pixel)
    )
    np.testing.assert_array_equal(
        fitting_probability(probability, diameter, pixel, parts), fitting_probability(fine, diameter, pixel)
    )
