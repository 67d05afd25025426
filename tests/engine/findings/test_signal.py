"""Signal at points: trilinear, nothing outside, and few points of a mask."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.engine.findings.signal import points_of, sample
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.types import Volume


def by_hand(voxels, x, y, z):
    """One point, the definition."""
    if not all(-0.5 <= at <= n - 0.5 for at, n in zip((z, y, x), voxels.shape, strict=True)):
        return np.nan
    total = 0.0
    z, y, x = (min(max(at, 0), n - 1) for at, n in zip((z, y, x), voxels.shape, strict=True))
    for k in range(voxels.shape[0]):
        for j in range(voxels.shape[1]):
            for i in range(voxels.shape[2]):
                weight = max(0, 1 - abs(z - k)) * max(0, 1 - abs(y - j)) * max(0, 1 - abs(x - i))
                total += weight * float(voxels[k, j, i])
    return total


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
)
def test_signal_is_trilinear_and_nan_outside(seed, shape):
    rng = np.random.default_rng(seed)
    voxels = rng.normal(size=shape).astype(np.float32)
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    grid = Geometry.from_parts(shape, [0.5, 0.7, 3.0], [1.0, -2.0, 5.0], turned)
    index = rng.random((12, 3)) * (np.array(shape[::-1]) + 1) - 1
    found = sample(Volume(voxels, grid), grid.to_world(index))
    np.testing.assert_allclose(found, [by_hand(voxels, *at) for at in index], rtol=1e-5, atol=1e-6)


def test_points_are_thinned_evenly():
    grid = Geometry.from_parts((4, 100, 100), [1, 1, 2], [0, 0, 0])
    mask = np.zeros(grid.shape, dtype=bool)
    mask[2, :70, :] = True
    points = points_of(mask, grid)
    assert len(points) == 3500
    assert set(points[:, 2]) == {4.0}
    assert points[:2, 0].tolist() == [0, 2]
