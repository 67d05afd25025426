"""The real head of the evaluation: Colin27's T1 (`ch2.nii.gz`), and a T2 made up from it.

The T2 is a guess by rules over the T1 and where a voxel lies: fluid where a dark but not black region is
wide or within the brain, mucosa where soft tissue lies along the airway, all else by its T1 alone. It looks
like a T2; it is none, and what rests on it says nothing about real T2 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from npc_edge.engine.geometry import Geometry

_itk: Any = sitk  # its functions carry no types

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

CH2 = Path("/usr/share/mricron/templates/ch2.nii.gz")
BRAIN = "ch2bet.nii.gz"
"""The same head without its skull, in the same Debian package; lies beside CH2."""

MUSCLE_T1, MUSCLE_T2 = 80.0, 0.14
_AIR, _FLUID, _SOFT, _FAT = 26.0, (28.0, 58.0), (60.0, 105.0), 150.0  # T1 levels of this image, by looking
_BY_T1 = ([0, 20, 45, 65, 95, 130, 180, 230], [0.0, 0.03, 0.08, 0.13, 0.16, 0.45, 0.65, 0.75])
_IN_BRAIN = ([20, 58, 66, 82, 92, 120], [1.0, 0.9, 0.45, 0.38, 0.29, 0.26])
_FACE = (slice(0, 60), slice(118, 217), slice(48, 133))  # z, y, x: nose, sinuses, nasopharynx; no mastoid
_NOSE = (slice(0, 26), slice(136, 190), slice(72, 110))  # between the nostrils and the choanae
_MUCOSA_T2, _MUCOSA_MM = 0.55, (4.0, 9.0)  # fully mucosa up to, none from here on


@dataclass(frozen=True, eq=False)
class Contrasts:
    """A head in two contrasts: t1, t2 (Z, Y, X) float32 on `geometry`, and what muscle is in each."""

    t1: Image
    t2: Image
    geometry: Geometry
    muscle_t1: float
    muscle_t2: float


def read_head(path: Path = CH2) -> Contrasts:
    """Read the T1 and make up the T2. OSError when it or the brain beside it is not there."""
    brain_path = path.with_name(BRAIN)
    for needed in (path, brain_path):
        if not needed.is_file():
            raise FileNotFoundError(f"there is no {needed}; Debian's mricron-data has it")
    image = _itk.ReadImage(str(path), sitk.sitkFloat32)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    t1 = np.asarray(_itk.GetArrayFromImage(image))
    geometry = Geometry.from_parts(t1.shape, image.GetSpacing(), image.GetOrigin(), direction)
    brain = np.asarray(_itk.GetArrayFromImage(_itk.ReadImage(str(brain_path)))) > 0
    return Contrasts(t1, simulate_t2(t1, brain), geometry, MUSCLE_T1, MUSCLE_T2)


def simulate_t2(t1: Image, brain: Mask) -> Image:
    """(Z, Y, X) float32, 0..1: the made-up T2 of a T1 with this image's levels and 1 mm voxels."""
    t2 = np.interp(t1, *_BY_T1)
    soft = (t1 > _SOFT[0]) & (t1 < _SOFT[1]) & ~brain
    t2 += soft * along_airway(t1) * (_MUCOSA_T2 - t2)
    t2 = np.where(brain, np.interp(t1, *_IN_BRAIN), t2)
    t2[_fluid(t1) & ~brain] = 0.95
    return np.asarray(_itk.GetArrayFromImage(_itk.DiscreteGaussian(_image(t2.astype(np.float32)), 0.5)))


def along_airway(t1: Image) -> Image:
    """(Z, Y, X) float32: 1 along the air inside the face, falling to 0 deeper in the wall."""
    dark = _itk.Cast(_image(t1) < _AIR, sitk.sitkUInt8)
    # the room outside touches the volume's border; thin dark sheets are cortical bone, gone by the opening
    outside = _itk.ConnectedComponent(_itk.BinaryMorphologicalOpening(dark, [4, 4, 4]))
    corner = int(outside[0, 0, outside.GetSize()[2] - 1])
    room = _itk.BinaryDilate(_itk.Cast(outside == corner, sitk.sitkUInt8), [6, 6, 6])
    air = _itk.BinaryMorphologicalOpening(_itk.And(dark, _itk.Not(room)), [2, 2, 2])
    face = np.zeros(t1.shape, np.uint8)
    face[_FACE] = 1
    air = _itk.And(air, _image(face))
    distance = np.asarray(_itk.GetArrayFromImage(_itk.SignedMaurerDistanceMap(air, False, False, True)))
    full, none = _MUCOSA_MM
    weight = np.clip((none - distance) / (none - full), 0, 1).astype(np.float32)
    weight[_NOSE] = 1.0  # the turbinates are mucosa to the core
    return weight


def _fluid(t1: Image) -> Mask:
    """Wide regions as dark as fluid: the eyes, the cisterns, the canal around the cord."""
    candidate = _itk.And(_image(t1) > _FLUID[0], _image(t1) < _FLUID[1])
    parts = _itk.ConnectedComponent(_itk.BinaryMorphologicalOpening(candidate, [3, 3, 3]))
    wide = _itk.RelabelComponent(parts, minimumObjectSize=1500)
    return np.asarray(_itk.GetArrayFromImage(wide)) > 0


def _image(array: NDArray[Any]) -> Any:
    return _itk.GetImageFromArray(array)
