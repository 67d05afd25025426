"""One result against what its phantom was built from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from npc_edge.bench.measures import dice
from npc_edge.bench.phantom.acquire import resample
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.session import RunResult
from npc_edge.engine.types import Segmentation, Staging, TCategory

_itk: Any = sitk  # its functions carry no types


def compare(result: RunResult, truth: Path) -> dict[str, Any]:
    """What the regression keeps of one case, as JSON values.

    truth: the phantom's truth folder. A refusal has probability None and Dice 0; `criteria` holds the best
    status the engine gave each structure, either side.
    """
    document, findings = result.document, result.findings
    detection = None if findings is None else findings.detection
    staging = None if findings is None else findings.staging
    segmentation = None if findings is None else findings.segmentation
    overlap = 0.0
    if segmentation is not None:
        overlap = dice(segmentation.tumour, mask_on(truth / "tumour.nii.gz", segmentation.geometry))
    return {
        "truth": _known(truth),
        "reason": document.reasons[0].code if result.outcome == "no-result" else None,
        "finding": None if detection is None else detection.finding,
        "probability": None if detection is None else detection.probability,
        "dice": overlap,
        "predicted": {
            "ajcc8": _category(staging.ajcc8 if staging else None),
            "ajcc9": _category(staging.ajcc9 if staging else None),
            "volume_ml": _volume(segmentation),
        },
        "criteria": _best_status(staging),
    }


def _known(truth: Path) -> dict[str, Any]:
    """The part of truth.json that is compared: categories, volume, what else is in the head, criteria."""
    facts = json.loads((truth / "truth.json").read_text(encoding="utf-8"))
    invaded: dict[str, bool] = {}
    for item in facts["criteria"]:
        invaded[item["structure"]] = item["invaded"] or invaded.get(item["structure"], False)
    kept = ("npc", "ajcc8", "ajcc9", "tumour_volume_ml", "findings")
    return {**{name: facts[name] for name in kept}, "criteria": invaded}


def mask_on(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """(Z, Y, X) uint8: the label image on `geometry`, nearest neighbour, exact where the grids only differ in
    the order of their slices."""
    image = _itk.ReadImage(str(path), sitk.sitkUInt8)
    return resample(image, geometry, sitk.sitkNearestNeighbor).astype(np.uint8)


def _category(given: TCategory | None) -> str | None:
    return None if given is None else given.t


def _volume(segmentation: Segmentation | None) -> float | None:
    return None if segmentation is None else segmentation.volume_ml


def _best_status(staging: Staging | None) -> dict[str, str]:
    best: dict[str, str] = {}
    for item in () if staging is None else staging.evidence:
        if item.status == "unequivocal" or item.structure not in best:
            best[item.structure] = item.status
    return best
