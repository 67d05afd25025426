"""Labels and probabilities on the source's grid, straight from logits, against the references."""

from typing import Any

import numpy as np
import pytest
from grids import CASES, affine
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.kernels import reference
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import Grids
from npc_edge.kernels.reference_network import margin, probability_on_grid

TARGET, SHAPE = affine((1.1, 1.2, 3.0), (-4, 0.5, -3)), (9, 17, 15)

# A logit is interpolated in float32: right to some 4e-7 of the largest; the sigmoid's slope is at most 1/4.
PROBABILITY = 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", CASES)
def test_the_winner_is_the_references(operations: Operations, name: str, dtype: Any) -> None:
    source, shape = CASES[name]
    logits = np.random.default_rng(4).normal(size=(5, *shape)).astype(dtype)
    got = operations.labels(operations.upload(logits), Grids(source, TARGET, SHAPE))
    # float32 may decide otherwise where two logits lie within rounding; here none do.
    wanted = reference.labels_on_grid(logits, source, TARGET, SHAPE)
    np.testing.assert_array_equal(operations.launcher.copy_out(got), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", CASES)
def test_probability_and_mask_are_the_references(operations: Operations, name: str, dtype: Any) -> None:
    source, shape = CASES[name]
    logit = (np.random.default_rng(5).normal(size=shape) * 3).astype(dtype)
    probability, mask = operations.threshold(operations.upload(logit), Grids(source, TARGET, SHAPE), 0.4)
    wanted = probability_on_grid(logit, source, TARGET, SHAPE)
    got = operations.launcher.copy_out(probability)
    np.testing.assert_allclose(got, wanted, atol=PROBABILITY, rtol=0)
    decided = np.abs(wanted - 0.4) > PROBABILITY
    np.testing.assert_array_equal(operations.launcher.copy_out(mask)[decided], (wanted >= 0.4)[decided])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 6),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)),
    turn=st.tuples(*[st.sampled_from([0.0, 0.3, np.pi / 2, -np.pi / 2, np.pi])] * 3),
)
def test_a_label_differs_only_where_two_logits_lie_within_rounding(
    serial: Operations, seed: int, classes: int, shape: Any, turn: Any
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(classes, *shape)).astype(np.float32)
    source = affine(tuple(rng.uniform(0.4, 4, 3)), tuple(rng.uniform(-8, 8, 3)), turn)
    target, there = affine(tuple(rng.uniform(0.4, 4, 3)), (-4, -4, -4)), (6, 7, 8)
    got = serial.launcher.copy_out(serial.labels(serial.upload(logits), Grids(source, target, there)))
    wanted = reference.labels_on_grid(logits, source, target, there)
    serial.launcher.check_guards()
    values = [reference.resample(k, source, target, there, anti_alias=False) for k in logits]
    chosen = np.take_along_axis(np.stack(values), got[None].astype(int), axis=0)[0]
    best = np.take_along_axis(np.stack(values), wanted[None].astype(int), axis=0)[0]
    assert np.abs(chosen - best).max() < 2e-6 * np.abs(logits).max()


def test_a_tie_goes_to_the_lower_class_and_outside_is_background(operations: Operations) -> None:
    logits = np.zeros((3, 1, 1, 3), dtype=np.float32)
    logits[1:, 0, 0, 2] = 1
    grids = Grids(affine(), affine(origin=(-1.0, 0.0, 0.0)), (1, 1, 6))
    got = operations.labels(operations.upload(logits), grids)
    assert operations.launcher.copy_out(got)[0, 0].tolist() == [0, 0, 0, 1, 0, 0]


def test_too_many_classes_are_refused(operations: Operations) -> None:
    logits = operations.upload(np.zeros((257, 1, 1, 1), dtype=np.float32))
    with pytest.raises(ValueError, match="uint8"):
        operations.labels(logits, Grids(affine(), affine(), (1, 1, 1)))


def test_logits_beyond_what_exp_can_hold_are_still_probabilities(operations: Operations) -> None:
    logit = np.array([[[-200.0, 200.0]]], dtype=np.float32)
    probability, mask = operations.threshold(
        operations.upload(logit), Grids(affine(), affine(), (1, 1, 2)), 0.5
    )
    assert operations.launcher.copy_out(probability)[0, 0].tolist() == [0, 1]
    assert operations.launcher.copy_out(mask)[0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("classes", "code"), [(2, 1), (5, 0), (5, 3), (5, 4)])
def test_one_class_against_the_others_is_the_reference_s(
    operations: Operations, classes: int, code: int, dtype: Any
) -> None:
    rng = np.random.default_rng(classes + code)
    logits = (rng.normal(size=(classes, 3, 4, 33)) * rng.choice([1, 30, 3000], size=(3, 4, 33))).astype(dtype)
    logits[:, 0, 0, 0] = 7.5  # all alike: the odds are 1 to the number of others
    got = operations.launcher.copy_out(operations.margin(operations.upload(logits), code))
    wanted = margin(logits, code)
    # The largest logit's rounding, and the logarithm's.
    assert np.abs(got - wanted).max() <= 1e-6 * max(1.0, np.abs(logits.astype(np.float32)).max())
    assert got[0, 0, 0] == pytest.approx(-np.log(classes - 1), abs=1e-5)


def test_a_class_has_others_to_be_measured_against(operations: Operations) -> None:
    for classes, code in ((1, 0), (3, 3), (3, -1)):
        logits = operations.upload(np.zeros((classes, 2, 2, 2), dtype=np.float32))
        with pytest.raises(ValueError, match="no class"):
            operations.margin(logits, code)


def test_the_probability_alone_is_the_same(operations: Operations) -> None:
    source, shape = CASES[next(iter(CASES))]
    logit = operations.upload(np.random.default_rng(6).normal(size=shape).astype(np.float32))
    grids = Grids(source, TARGET, SHAPE)
    alone, both = operations.probability(logit, grids), operations.threshold(logit, grids, 0.4)[0]
    copy = operations.launcher.copy_out
    np.testing.assert_array_equal(copy(alone), copy(both))
