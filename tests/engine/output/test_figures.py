"""Pictures inside the report: what a reader of PNG files finds in them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from npc_edge.engine.output.figures import encoded


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (40, 33), (257, 300)])
@pytest.mark.parametrize("kind", ["noise", "ramp", "black", "white"])
def test_a_png_holds_the_pixels_it_was_made_of(shape, kind):
    pixels = {
        "noise": np.random.default_rng(1).integers(0, 256, shape),
        "ramp": np.add.outer(np.arange(shape[0]), 3 * np.arange(shape[1])) % 256,
        "black": np.zeros(shape),
        "white": np.full(shape, 255),
    }[kind].astype(np.uint8)
    with Image.open(BytesIO(encoded(pixels))) as picture:
        picture.load()
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), pixels)
