"""A synthetic copy of the public data set's layout (`engine.cohort`), with what is odd about the real one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom

_itk: Any = sitk


def folder_of(dataset: pydicom.Dataset) -> str | None:
    """The layout's folder of a phantom's image; None for the localizer."""
    if dataset.get("ContrastBolusAgent"):
        return "CE-T1WI"
    description = str(dataset.SeriesDescription).lower()
    return next((name for name, word in (("T1WI", "t1"), ("T2WI", "t2")) if word in description), None)


def write_patient(spec: PhantomSpec, root: Path, number: int, scratch: Path) -> Path:
    """One patient as the layout has them: names that say nothing, blanked dates, masks in another order.

    Every third patient's mask has a slice less than its series.
    """
    phantom = write_phantom(spec, scratch / f"phantom-{number}")
    patient = root / "primary_data" / "data" / "MRI-Segments" / f"{number:03d}"
    rng = np.random.default_rng(number)
    for path in sorted(p for p in (phantom / "study").rglob("*") if p.is_file()):
        dataset = pydicom.dcmread(path)
        name = folder_of(dataset)
        if name is None:
            continue
        for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "InstitutionName", "StudyTime"):
            if keyword in dataset:
                setattr(dataset, keyword, "")
        (patient / name).mkdir(parents=True, exist_ok=True)
        dataset.save_as(patient / name / f"{rng.integers(2**48):012x}.dcm")
        junk = root / "primary_data" / "__MACOSX" / "data" / "MRI-Segments" / f"{number:03d}" / name
        junk.mkdir(parents=True, exist_ok=True)
        (junk / "._image.dcm").write_bytes(b"\0\5\26\7" + b"Mac OS X        ")
    _write_mask(phantom / "truth" / "tumour.nii.gz", patient / "ROI-T1.nii", short=number % 3 == 0)
    shutil.rmtree(phantom)
    return patient


def _write_mask(source: Path, target: Path, short: bool) -> None:
    """In RAS order, values just below 1, as floats."""
    image = _itk.DICOMOrient(_itk.ReadImage(str(source), sitk.sitkFloat32), "RAS") * 0.99998
    if short:
        image = image[:, :, : image.GetSize()[2] - 1]
    _itk.WriteImage(image, str(target))
