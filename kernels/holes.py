"""Filling holes, the fast path: SimpleITK instead of a flood. Same meaning as `reference.fill_holes`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """mask (Z, Y, X) with all that it encloses; see `reference.fill_holes`."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(mask, dtype=np.uint8))
    filled = sitk.BinaryFillhole(image, False, 1.0)  # type: ignore[no-untyped-call]
    return np.asarray(sitk.GetArrayFromImage(filled) > 0)
