"""Masks as NIfTI on the reference sequence's source grid. SimpleITK turns LPS into NIfTI's RAS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from npc_edge.engine.errors import OutputError
from npc_edge.engine.geometry import Geometry

# Positions in headers are decimal strings, and NIfTI stores float32.
_TOLERANCE_MM = 0.05
# The masks are large and nearly empty: the fastest level is within a few kB of the best one.
_GZIP_LEVEL = 1


def write_mask(path: Path, mask: NDArray[np.uint8], geometry: Geometry) -> None:
    """Write mask (Z, Y, X) uint8. Raises OutputError when the file cannot be written."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask, dtype=np.uint8))
    image.SetSpacing(geometry.spacing)  # type: ignore[no-untyped-call]
    image.SetOrigin(geometry.origin.tolist())  # type: ignore[no-untyped-call]
    image.SetDirection(_orthonormal(geometry).ravel().tolist())  # type: ignore[no-untyped-call]
    try:
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=_GZIP_LEVEL)
    except RuntimeError as error:
        raise OutputError(f"cannot write {path.name}", "is the disk full?") from error


def check_mask(path: Path, mask: NDArray[np.uint8], geometry: Geometry) -> None:
    """Read the file back; OutputError unless its voxels are `mask` and its grid is `geometry`."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise OutputError(f"{path.name} cannot be read back", "is the disk full?") from error
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.dtype != np.uint8 or not np.array_equal(voxels, mask):
        raise OutputError(f"{path.name} does not hold the voxels that were meant")
    direction = np.array(image.GetDirection()).reshape(3, 3)  # type: ignore[no-untyped-call]
    spacing, origin = image.GetSpacing(), image.GetOrigin()  # type: ignore[no-untyped-call]
    shape = (int(voxels.shape[0]), int(voxels.shape[1]), int(voxels.shape[2]))
    found = Geometry.from_parts(shape, spacing, origin, direction)
    if not found.same_grid(geometry, _TOLERANCE_MM):
        raise OutputError(f"{path.name} does not lie where it was meant")


def _orthonormal(geometry: Geometry) -> NDArray[np.float64]:
    """The rotation nearest to the grid's direction: headers round cosines, a quaternion cannot hold that."""
    u, _, vt = np.linalg.svd(geometry.direction)
    return np.asarray(u @ vt)
