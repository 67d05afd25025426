"""Grids and affines, always LPS and millimetres. Pure: no file formats, no resampling.

Axes of a voxel array are (Z, Y, X); `affine @ (x, y, z, 1)` is the centre of `voxels[z, y, x]`.
Slices ascend along row x column (the slice normal), so Z, Y, X is always right-handed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in patient space.

    shape: (Z, Y, X) voxels. affine: (4, 4) float64, index (x, y, z, 1) to LPS mm.
    frame_of_reference: the DICOM Frame of Reference UID, empty when there is none.
    """

    shape: tuple[int, int, int]
    affine: Floats
    frame_of_reference: str = ""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError("affine must be a finite 4x4 matrix")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise ValueError("affine is singular")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be three positive numbers, not {self.shape}")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along (x, y, z) in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def direction(self) -> Floats:
        """(3, 3) unit direction cosines, columns for x (along a row), y (down a column), z (slices)."""
        return np.asarray(self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def origin(self) -> Floats:
        """(3,) LPS mm: the centre of voxel [0, 0, 0]."""
        return np.array(self.affine[:3, 3])

    @property
    def normal(self) -> Floats:
        """(3,) unit slice normal, row x column."""
        return np.asarray(np.cross(self.direction[:, 0], self.direction[:, 1]))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def centre(self) -> Floats:
        """(3,) LPS mm: the middle of the grid."""
        z, y, x = self.shape
        return np.asarray(self.to_world(np.array([[(x - 1) / 2, (y - 1) / 2, (z - 1) / 2]]))[0])

    def to_world(self, index_xyz: ArrayLike) -> Floats:
        """(N, 3) voxel indices in x, y, z order → (N, 3) LPS mm."""
        points = np.asarray(index_xyz, dtype=np.float64)
        return np.asarray(points @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, world: ArrayLike) -> Floats:
        """(N, 3) LPS mm → (N, 3) fractional voxel indices in x, y, z order."""
        points = np.asarray(world, dtype=np.float64)
        return np.asarray((points - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def corners(self) -> Floats:
        """(8, 3) LPS mm: the outer corners of the grid, half a voxel beyond the first and last centres."""
        z, y, x = self.shape
        ends = [(-0.5, n - 0.5) for n in (x, y, z)]
        return self.to_world(np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T)

    def plane(self) -> str:
        """'axial', 'coronal' or 'sagittal': the anatomical axis the normal is nearest to."""
        return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(self.normal)))]

    def tilt_deg(self) -> float:
        """Angle between the slice normal and the nearest anatomical axis, in degrees."""
        return float(np.degrees(np.arccos(min(1.0, float(np.abs(self.normal).max())))))

    def same_grid(self, other: Geometry, tolerance_mm: float = 0.01) -> bool:
        """True when both grids have the same shape and every corner agrees within the tolerance."""
        return self.shape == other.shape and bool(
            np.abs(self.corners() - other.corners()).max() <= tolerance_mm
        )

    @staticmethod
    def from_parts(
        shape: tuple[int, int, int],
        spacing: Sequence[float],
        origin: Sequence[float],
        direction: ArrayLike | None = None,
        frame_of_reference: str = "",
    ) -> Geometry:
        """From spacing (x, y, z) mm, origin LPS mm and (3, 3) direction columns (default: axial LPS)."""
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3) if direction is None else np.asarray(direction)) * np.asarray(spacing)
        affine[:3, 3] = origin
        return Geometry(shape, affine, frame_of_reference)

    @staticmethod
    def centred(
        centre: ArrayLike, spacing: Sequence[float], shape: tuple[int, int, int], frame_of_reference: str = ""
    ) -> Geometry:
        """An axis-aligned (axial LPS, z superior) grid whose middle lies at `centre` (LPS mm)."""
        z, y, x = shape
        half = np.array([(x - 1) / 2, (y - 1) / 2, (z - 1) / 2]) * np.asarray(spacing)
        origin = np.asarray(centre, dtype=np.float64) - half
        return Geometry.from_parts(shape, spacing, origin.tolist(), None, frame_of_reference)
