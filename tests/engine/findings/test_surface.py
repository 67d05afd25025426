"""Cells of a surface are numbered as sorting their places would."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npc_edge.engine.findings.surface import cell_numbers


@given(st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), min_size=1, max_size=60))
def test_cells_are_numbered_in_the_order_of_their_places(places):
    pairs = np.array(places, dtype=np.float64)
    _, wanted = np.unique(pairs, axis=0, return_inverse=True)
    assert cell_numbers(pairs[:, 0], pairs[:, 1]).tolist() == wanted.reshape(-1).tolist()
