"""NIfTI files → Volumes, for `run --image`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.study.limits import ReadLimits
from npc_edge.engine.types import Stored, Volume

_itk: Any = SimpleITK  # its functions carry no types


def read_nifti(images: Mapping[str, Path], limits: ReadLimits | None = None) -> dict[str, Volume]:
    """Read one volume a sequence name: (Z, Y, X) float32, LPS, slices ascending along row x column.

    Raises UsageError when a file is not there; Refusal UNREADABLE, TOO_LARGE or TOO_FEW_SLICES.
    """
    return {name: _volume(path, limits or ReadLimits()) for name, path in images.items()}


def _volume(path: Path, limits: ReadLimits) -> Volume:
    if not path.is_file():
        raise UsageError(f"there is no {path}", "name=path of a NIfTI file")
    reader = _itk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NiftiImageIO")
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 3 or reader.GetNumberOfComponents() != 1:
            raise Refusal("UNREADABLE", "a NIfTI file does not hold one three-dimensional image")
        if size[0] * size[1] * size[2] > limits.max_voxels:
            raise Refusal("TOO_LARGE", f"a NIfTI file has {size[0]} x {size[1]} x {size[2]} voxels")
        if min(size) < 2:
            raise Refusal("TOO_FEW_SLICES", "a NIfTI file holds a single slice")
        image = _itk.Cast(reader.Execute(), _itk.sitkFloat32)
    except RuntimeError as error:
        raise Refusal("UNREADABLE", "a NIfTI file cannot be read") from error
    voxels = _itk.GetArrayFromImage(image)
    if not np.isfinite(voxels).all():
        raise Refusal("UNREADABLE", "a NIfTI file holds values that are not numbers")
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    turned = bool(np.linalg.det(affine[:3, :3]) < 0)
    if turned:  # slices descend along row x column: turn their order round
        affine[:3, 3] += affine[:3, 2] * (voxels.shape[0] - 1)
        affine[:3, 2] *= -1
        voxels = np.ascontiguousarray(voxels[::-1])
    z, y, x = voxels.shape
    across, down, along = image.GetSpacing()
    return Volume(voxels, Geometry((z, y, x), affine), stored=Stored((along, down, across), turned))
