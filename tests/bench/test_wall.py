"""The baseline's ruler on walls of known thickness."""

import numpy as np
import pytest

from npc_edge.bench.wall import thickness_mm
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.types import Volume


def slab(thickness: float) -> tuple[Volume, Volume]:
    """Air in front, a wall of mucosa, muscle behind; the wall's middle at (0, 0, 0)."""
    grid = Geometry.centred((0.0, 0.0, 0.0), (0.5, 0.5, 1.0), (50, 160, 160))
    y = grid.to_world(np.array([[0, j, 0] for j in range(160)]))[:, 1]
    t1 = np.where(y < -thickness / 2, 2.0, 100.0)
    t2 = np.where(y < -thickness / 2, 2.0, np.where(y < thickness / 2, 300.0, 60.0))
    return tuple(
        Volume(np.broadcast_to(line[None, :, None], grid.shape).astype(np.float32), grid) for line in (t1, t2)
    )


@pytest.mark.parametrize("thickness", [3.0, 8.0, 14.0])
def test_a_slab_is_as_thick_as_it_was_drawn(thickness: float) -> None:
    assert thickness_mm(*slab(thickness), (0.0, 0.0, 0.0)) == pytest.approx(thickness, abs=1.6)


def test_fat_is_no_wall() -> None:
    t1, t2 = slab(10.0)
    t1.voxels[t2.voxels > 200] = 400.0
    assert thickness_mm(t1, t2, (0.0, 0.0, 0.0)) == 0.0
