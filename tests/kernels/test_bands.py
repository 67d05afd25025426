"""A matrix along an axis: a narrow band of it is multiplied as one, and gives what the whole matrix gives."""

import numpy as np
import pytest

from npc_edge.kernels.cpu import apply_along, axis_matrix


def dense(matrix: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(values.astype(np.float64), axis, -1) @ matrix.T.astype(np.float64)
    return np.moveaxis(moved, -1, axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("length", [5, 100, 300])
@pytest.mark.parametrize("sigma", [0.0, 1.2])
@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_along_each_axis(axis: int, length: int, sigma: float, interpolation: str) -> None:
    positions = np.linspace(-0.4, length - 0.6, 131)
    matrix = axis_matrix(positions, length, sigma, interpolation).astype(np.float32)
    shape = [3, 4, 6]
    shape[axis] = length
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    found = apply_along(matrix, values, axis)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, dense(matrix, values, axis), rtol=0, atol=5e-6)


def test_rows_of_zeros_give_zeros() -> None:
    matrix = np.zeros((70, 100), dtype=np.float32)
    matrix[40, 99] = 2
    found = apply_along(matrix, np.ones((100, 2, 2), dtype=np.float32), 0)
    assert found[40].tolist() == [[2, 2], [2, 2]]
    assert np.count_nonzero(found) == 4
