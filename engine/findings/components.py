"""Connected components of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


def connected(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """mask (Z, Y, X) → its 26-connected components, numbered from 1, and the voxels of each number from 0."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))  # type: ignore[no-untyped-call]
    sizes = np.zeros(int(parts.max(initial=0)) + 1, dtype=np.int64)
    for part in parts:  # bincount makes 64-bit numbers of all it is given
        sizes += np.bincount(part.ravel(), minlength=len(sizes))
    return parts, sizes
