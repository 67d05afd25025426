"""The processor's operations: halves count as floats; on its own grid nothing is interpolated."""

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.geometry import Geometry
from npc_edge.engine.voxels import HOST

GRID = Geometry.from_parts((4, 6, 5), (0.7, 0.7, 3.1), (-20.3, 4.7, 100.1))
FINER = Geometry.from_parts((8, 9, 7), (0.4, 0.5, 1.5), (-20.0, 5.0, 100.5))


def halves(classes: int = 3) -> NDArray[np.float16]:
    return np.random.default_rng(0).normal(0, 4, (1, classes, *GRID.shape)).astype(np.float16)


def test_halves_are_taken_as_the_floats_they_are() -> None:
    given = halves()
    floats = given.astype(np.float32)
    for target in (GRID, FINER):
        np.testing.assert_array_equal(HOST.labels(given, GRID, target), HOST.labels(floats, GRID, target))
    np.testing.assert_array_equal(HOST.margin(given, 1), HOST.margin(floats, 1))
    assert HOST.finite(given)
    given[0, 2, 3, 5, 4] = np.inf
    assert not HOST.finite(given)


def test_a_margin_is_the_logit_of_a_softmax() -> None:
    given = halves().astype(np.float32)
    powers = np.exp(given.astype(np.float64))
    for code in range(3):
        share = powers[:, code : code + 1] / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(HOST.margin(given, code), np.log(share / (1 - share)), atol=1e-5)
        likely = HOST.probability(HOST.margin(given, code), GRID, GRID)
        np.testing.assert_allclose(likely, share[0, 0], atol=1e-6)


def test_of_equal_logits_the_lowest_class_wins() -> None:
    given = np.round(halves(5) / 4)
    np.testing.assert_array_equal(HOST.labels(given, GRID, GRID), given[0].argmax(axis=0))
