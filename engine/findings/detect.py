"""From the network's score to a calibrated probability, and from probability and mask to a finding.

Score and mask are two witnesses. Only where both speak is a study suspicious, only where both are silent is
it not; where they disagree, or the probability lies in the grey zone, the finding is indeterminate.

The operator's prevalence never touches the finding: the threshold was chosen for the probability as fitted,
and an offset on one of the two would change sensitivity and specificity with nobody having measured them. It
gives a second probability, beside the first.
"""

from __future__ import annotations

import math

from npc_edge.calibration import prevalence as prevalences
from npc_edge.calibration import venn_abers
from npc_edge.calibration.calibrators import apply
from npc_edge.engine.certainty import AtPrevalence, Interval
from npc_edge.engine.errors import BundleError
from npc_edge.engine.findings.segment import find_output
from npc_edge.engine.model.manifest import Calibrator, DetectionSpec, Manifest
from npc_edge.engine.types import Detection, Finding, Predictions, Segmentation
from npc_edge.engine.voxels import HOST


def raw_score(predictions: Predictions, manifest: Manifest) -> float | None:
    """The logit of the bundle's detection output, None when it has no such output.

    Raises BackendError when the logit is not finite, BundleError when it is not a single number.
    """
    found = find_output(predictions, manifest, "detection")
    if found is None:
        return None
    output, array = found[0], HOST.host(found[1])
    if array.size != 1:
        raise BundleError(f"detection output {output.name} has shape {array.shape}, not one number")
    return float(array.reshape(-1)[0])


def calibrated(score: float, manifest: Manifest, artefact_file: str) -> float:
    """sigmoid((score + bias) / temperature) with the calibrator of the artefact that ran; the plain sigmoid
    where the bundle has none for it."""
    calibrator = manifest.calibrators.get(artefact_file)
    logit = score
    if calibrator is not None and calibrator.method != "none":
        logit = (score + calibrator.bias) / calibrator.temperature
    return 0.5 * math.tanh(0.5 * logit) + 0.5


def detect(
    score: float | None,
    segmentation: Segmentation,
    manifest: Manifest,
    artefact_file: str,
    prevalence: float | None = None,
) -> Detection | None:
    """The finding, or None for a bundle without a detection head. prevalence: the operator's.

    suspicious: probability at or above the threshold, and a mask of at least mask_min_ml. not_suspicious:
    below it, and a smaller mask. Else, and inside indeterminate_low..indeterminate_high: indeterminate.
    """
    spec = manifest.detection
    if score is None or spec is None:
        return None
    probability = calibrated(score, manifest, artefact_file)
    finding, why = _conclude(probability, segmentation.volume_ml, spec)
    calibrator = manifest.calibrators.get(artefact_file)
    if calibrator is None:
        why += f"; {_UNCALIBRATED}, the probability is the network's own"
    interval, no_interval = _interval(score, calibrator)
    moved, not_moved = _moved(score, calibrator, prevalence)
    return Detection(
        finding, probability, spec.threshold, score, why, interval, no_interval, moved, not_moved
    )


_UNCALIBRATED = "the bundle has no calibrator for this artefact"


def _interval(score: float, calibrator: Calibrator | None) -> tuple[Interval | None, str]:
    """Venn-Abers' two probabilities of a score, or why there are none."""
    table = None if calibrator is None else calibrator.venn_abers
    if table is None:
        return None, "the bundle has no Venn-Abers table for this artefact"
    if not table.lower:
        return None, venn_abers.why_not(table.cases) or "the calibration cases are of one kind"
    fitted = venn_abers.VennAbers(table.scores, table.lower, table.upper, table.cases, table.prevalence)
    low, high = fitted.interval(score)
    return Interval(float(low), float(high), table.cases, table.prevalence), ""


def _moved(
    score: float, calibrator: Calibrator | None, given: float | None
) -> tuple[AtPrevalence | None, str]:
    """The probability at the operator's prevalence, or why there is none; neither when nobody gave one."""
    if given is None:
        return None, ""
    if calibrator is None or calibrator.method == "none":
        why = _UNCALIBRATED if calibrator is None else "the score of this artefact is not calibrated"
        return None, f"{why}: what prevalence its probability is for is not known"
    offset = prevalences.offset(calibrator.prevalence, given)
    logit = (score + calibrator.bias) / calibrator.temperature
    return AtPrevalence(given, calibrator.prevalence, offset, float(apply(logit + offset, 1.0))), ""


def _conclude(probability: float, volume_ml: float, spec: DetectionSpec) -> tuple[Finding, str]:
    low, high = spec.indeterminate_low, spec.indeterminate_high
    mask = volume_ml > 0 and volume_ml >= spec.mask_min_ml
    says_mask = f"a mask of {volume_ml:.1f} ml" if mask else "no mask"
    if low < high and low <= probability <= high:
        return "indeterminate", f"the score {probability:.2f} lies between {low:.2f} and {high:.2f}"
    if probability >= spec.threshold and mask:
        return "suspicious", f"the score {probability:.2f} is above the operating point, with {says_mask}"
    if probability < spec.threshold and not mask:
        return "not_suspicious", f"the score {probability:.2f} is below the operating point, with {says_mask}"
    where = "above" if probability >= spec.threshold else "below"
    return (
        "indeterminate",
        f"the score {probability:.2f} is {where} the operating point, but there is {says_mask}",
    )
