"""What every runner checks before it runs: the inputs are the network's, by name and by shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.runner import Arrays
from npc_edge.engine.types import Array

Shape = Sequence[int | str | None]
"""A dimension that is no number takes any size."""


def checked(artefact: str, wanted: Mapping[str, Shape], inputs: Arrays) -> Arrays:
    """The inputs as contiguous float32; BundleError when names or shapes are not those wanted."""
    fits(artefact, wanted, inputs)
    return {name: np.ascontiguousarray(inputs[name], dtype=np.float32) for name in wanted}


def fits(artefact: str, wanted: Mapping[str, Shape], inputs: Mapping[str, Array]) -> None:
    """BundleError when names or shapes are not those wanted."""
    if set(wanted) != set(inputs):
        raise BundleError(f"{artefact} wants inputs {sorted(wanted)}, not {sorted(inputs)}")
    for name, shape in wanted.items():
        given = inputs[name].shape
        alike = len(shape) == len(given) and all(
            not isinstance(a, int) or a == b for a, b in zip(shape, given, strict=True)
        )
        if not alike:
            raise BundleError(
                f"{artefact} wants {name} of shape {list(shape)}, the manifest makes it {list(given)}"
            )


def first_line(error: Exception) -> str:
    """The first line a runtime's error says, cut to what fits on one of ours; its class where it is mute."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
