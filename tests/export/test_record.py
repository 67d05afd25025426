"""What a network was fed is kept, evenly thinned when it is too much."""

from __future__ import annotations

import numpy as np
import pytest

from npc_edge.engine.model.runner import FakeRunner
from npc_edge.export.record import Recorder


@pytest.mark.parametrize("fed", [1, 5, 16, 37])
def test_a_recorder_keeps_an_even_share_and_changes_nothing(fed: int) -> None:
    one = np.zeros((1, 1, 2, 2, 2), dtype=np.float32)
    with Recorder(FakeRunner(lambda inputs: {"out": inputs["image"] + 1}), 8 * one.nbytes) as recorder:
        for number in range(fed):
            image = one + np.float32(number)
            np.testing.assert_array_equal(recorder.infer({"image": image})["out"], number + 1)
            image += 100  # what is kept is a copy
    numbers = [int(kept["image"][0, 0, 0, 0, 0]) for kept in recorder.kept]
    steps = set(np.diff(numbers).tolist()) or {1}
    assert numbers[0] == 0
    assert len(steps) == 1
    assert len(numbers) <= 8
    assert len(numbers) >= min(fed, 4)
    assert recorder.describe().backend == "fake"
