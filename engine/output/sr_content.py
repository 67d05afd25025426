"""What sr.dcm says, as numbers and codes, and the proof that it does: without highdicom, which makes it."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset
from pydicom.sr.coding import Code

from npc_edge.engine.errors import OutputError
from npc_edge.engine.output import dicom, wording
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.types import TCategory

COMMENT = (
    "RESEARCH USE ONLY. Automatic, unreviewed output of a research engine; not for diagnosis or treatment."
)

_MODEL_SCORE = Code("MODEL_SCORE", dicom.PRIVATE_SCHEME, "Model score")
CONCLUSION = Code("CONCLUSION", dicom.PRIVATE_SCHEME, "Algorithm conclusion on detection")
T_CATEGORY = Code("AI_IMAGING_T", dicom.PRIVATE_SCHEME, "Algorithm-suggested imaging T category")
STAGING_SYSTEM = Code("STAGING_SYSTEM", dicom.PRIVATE_SCHEME, "Staging system")
_AJCC8 = Code("897275008", "SCT", "AJCC Cancer Staging Manual, 8th edition")
_AJCC9 = Code("AJCC_V9_NPC", dicom.PRIVATE_SCHEME, "AJCC Version 9 nasopharynx cancer staging")
_PROBABILITY = Code("111047", "DCM", "Probability of cancer")
_PER_CENT = Code("%", "UCUM", "Percent")
_UNITY = Code("1", "UCUM", "no units")
_MILLILITRE = Code("ml", "UCUM", "Milliliter")
_VOLUME = Code("118565006", "SCT", "Volume")
_FINDINGS = {
    "suspicious": Code("SUSPICIOUS", dicom.PRIVATE_SCHEME, "Suspicious finding"),
    "not_suspicious": Code(
        "NOT_SUSPICIOUS", dicom.PRIVATE_SCHEME, "No suspicious lesion above operating point; NPC not excluded"
    ),
    "indeterminate": Code("INDETERMINATE", dicom.PRIVATE_SCHEME, "Indeterminate"),
}

Number = tuple[Code, float, Code]
"""What a number stands for, the number, its unit."""


def numbers(outcome: Outcome) -> list[Number]:
    """Score or probability, and the volume where there is one."""
    said: list[Number] = []
    detection = outcome.concluded.detection
    if detection is not None and wording.calibrated_on_patients(outcome):
        said.append((_PROBABILITY, round(detection.probability * 100, 2), _PER_CENT))
    elif detection is not None:
        said.append((_MODEL_SCORE, round(detection.probability, 4), _UNITY))
    if outcome.segmentation.tumour_slices:
        said.append((_VOLUME, round(outcome.segmentation.volume_ml, 3), _MILLILITRE))
    return said


def conclusion(outcome: Outcome) -> Code | None:
    """What was concluded; None for a bundle without a detection head."""
    detection = outcome.concluded.detection
    return None if detection is None else _FINDINGS[detection.finding]


def categories(outcome: Outcome) -> list[tuple[Code, Code]]:
    """The T category of each edition, and the edition."""
    staging = outcome.concluded.staging
    if staging is None:
        return []
    editions = ((staging.ajcc8, _AJCC8), (staging.ajcc9, _AJCC9))
    return [(_category(given), system) for given, system in editions if given is not None]


def _category(category: TCategory) -> Code:
    """The category as a code of its own ('at least' is another code)."""
    at_least = category.bound == "at_least"
    return Code(
        f"{category.t}{'_AT_LEAST' if at_least else ''}",
        dicom.PRIVATE_SCHEME,
        f"{'At least ' if at_least else ''}imaging {category.t} category",
    )


@dicom.odd_character_sets_allowed()
def check(outcome: Outcome, path: Path) -> None:
    """Read sr.dcm back; OutputError unless it carries the patient, the flags and every finding."""
    dataset = dicom.load(path)
    dicom.check_patient(dataset, dicom.study_of(outcome), path.name)
    found, values = _said(dataset)
    concluded = conclusion(outcome)
    codes = [*([] if concluded is None else [concluded]), *(code for code, _ in categories(outcome))]
    flags = (dataset.VerificationFlag, dataset.PreliminaryFlag)
    if flags != ("UNVERIFIED", "PRELIMINARY") or COMMENT not in values:
        raise OutputError("sr.dcm does not say that it is preliminary research output")
    meant = {number for _, number, _ in numbers(outcome)}
    if not meant <= set(found) or not {code.value for code in codes} <= set(values):
        raise OutputError("sr.dcm does not hold the findings that were meant")


def _said(item: Dataset) -> tuple[list[float], list[str]]:
    """Every number, and every code value and text, of a content tree."""
    found: list[float] = []
    values: list[str] = []
    if "MeasuredValueSequence" in item:
        found.append(float(item.MeasuredValueSequence[0].NumericValue))
    if "ConceptCodeSequence" in item:
        values.append(str(item.ConceptCodeSequence[0].CodeValue))
    if "TextValue" in item:
        values.append(str(item.TextValue))
    for child in item.get("ContentSequence", []):
        more_found, more_values = _said(child)
        found += more_found
        values += more_values
    return found, values
