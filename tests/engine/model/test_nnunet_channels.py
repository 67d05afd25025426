"""A window's normalised values are those of the whole, whatever the scheme; nothing of a study is changed."""

from typing import Any

import numpy as np
import pytest

from npc_edge.engine.model.nnunet_channels import Channel, Channels, normalised
from npc_edge.engine.model.nnunet_scheme import NnunetChannel

BOX = (slice(1, 4), slice(0, 5), slice(3, 8))
INTENSITY = {"mean": 90.0, "std": 31.0, "percentile_00_5": 30.0, "percentile_99_5": 180.0}
SCHEMES = ["ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization"]


@pytest.mark.parametrize("scheme", [*SCHEMES, "RGBTo01Normalization"])
@pytest.mark.parametrize("use_mask", [False, True])
def test_a_window_of_the_values_is_the_values_of_a_window(scheme: Any, use_mask: bool) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (5, 7, 9)).astype(np.float32)
    before, mask = image.copy(), image > 20
    rule = NnunetChannel.model_validate(
        {"scheme": scheme, "use_mask_for_norm": use_mask, "intensity": INTENSITY}
    )
    channel = normalised(image[:, ::-1], rule, mask[:, ::-1])  # a view, as it comes from a flipped volume
    found = channel.values(BOX)
    np.testing.assert_array_equal(found, channel.values()[BOX])
    assert found.flags.c_contiguous
    found[...] = 0
    np.testing.assert_array_equal(image, before)


def test_channels_are_cut_together() -> None:
    array = np.random.default_rng(1).normal(0, 1, (2, 5, 7, 9)).astype(np.float32)
    channels = Channels.of(array)
    assert channels.shape == (5, 7, 9)
    np.testing.assert_array_equal(channels.values(), array)
    np.testing.assert_array_equal(channels.values(BOX), array[(slice(None), *BOX)])
    shifted = Channels((Channel(array[0], (-1.0, 1.0), np.float32(0.5), np.float32(2)),))
    np.testing.assert_array_equal(shifted.values()[0], (np.clip(array[0], -1, 1) - np.float32(0.5)) / 2)
