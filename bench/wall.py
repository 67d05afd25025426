"""The one-feature baseline: how thick is the soft tissue of the nasopharyngeal wall?

Measured on the images, with the nasopharynx's place given from the truth. What an engine must beat:
thickness alone already tells a bulky tumour from a thin wall, and lymphoid hyperplasia from neither.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from npc_edge.bench.phantom.acquire import resample, to_sitk
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.study.assemble import assemble
from npc_edge.engine.study.read import Reader
from npc_edge.engine.types import Volume, Watch

_itk: Any = sitk  # its functions carry no types

_SHAPE = (40, 60, 60)  # voxels of 1 mm around the nasopharynx
_REACH_MM = 22.0  # tissue beyond this distance from the middle is not the wall
_BRIGHTER = 1.8  # than muscle on T2: mucosa, lymphoid tissue and tumour are, muscle and bone are not
_FAT = 1.8  # times muscle on T1: fat is brighter than this
_AIR = 0.45  # of muscle on T1: air and fluid are darker than this


class Ruler:
    """Measures phantoms, one after the other; a context manager, for it keeps a reading child warm."""

    def __init__(self) -> None:
        self._reader = Reader()

    def __enter__(self) -> Ruler:
        self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def measure(self, phantom: Path) -> float:
        """Thickness in mm. T1 and T2 are told apart by the truth's descriptions, not by the engine."""
        truth = json.loads((phantom / "truth" / "truth.json").read_text(encoding="utf-8"))
        descriptions = {series["role"]: series["description"] for series in truth["series"]}
        study = self._reader.read(phantom / "study")
        indices = {series.acquisition.description: index for index, series in enumerate(study.series)}
        t1, t2 = (
            assemble(study.series[index], index, self._reader, "unknown", Watch())
            for index in (indices[descriptions[role]] for role in ("T1", "T2"))
        )
        return thickness_mm(t1, t2, truth["nasopharynx_lps_mm"])


def thickness_mm(t1: Volume, t2: Volume, middle: ArrayLike) -> float:
    """Diameter in mm of the largest ball that fits into the wall around `middle` (LPS mm); 0 if none is seen.

    Wall: brighter than muscle on T2, no fat and no air, within reach. Muscle is
    the lower quartile of what is not air in the box, on T1, and of what looks like it on T1, on T2.
    """
    grid = Geometry.centred(middle, (1.0, 1.0, 1.0), _SHAPE)
    first, second = (resample(to_sitk(v.voxels, v.geometry), grid, sitk.sitkLinear) for v in (t1, t2))
    muscle_t1 = float(np.percentile(first[first > 0.15 * np.percentile(first, 90)], 25))
    like_muscle = (first > 0.8 * muscle_t1) & (first < 1.3 * muscle_t1)
    muscle_t2 = float(np.percentile(second[like_muscle], 25))
    solid = (first > _AIR * muscle_t1) & (first < _FAT * muscle_t1)
    wall = solid & (second > _BRIGHTER * muscle_t2) & _near(grid)
    image = _itk.GetImageFromArray(wall.astype(np.uint8))
    inside = _itk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False)
    # distances run from centre to centre of the outermost wall voxels: a voxel more is the whole ball
    return 2.0 * float(_itk.GetArrayViewFromImage(inside).max()) + 1.0 if wall.any() else 0.0


def _near(grid: Geometry) -> NDArray[np.bool_]:
    axes = [np.arange(n) - (n - 1) / 2 for n in grid.shape]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.asarray(x**2 + y**2 + z**2 < _REACH_MM**2)
