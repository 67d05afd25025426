"""Was anything lost? What an artefact made of each case beside what the fp32 original made of it.

Pure: measured cases in, a verdict out. `engine.trial` measures them, export's gate and `verify --cases` ask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from npc_edge.calibration.calibrators import apply, fit_temperature

ENOUGH_FOR_NONE = 300
"""Cases from which "no category changed" may stand alone; from fewer only its upper bound says something."""

FIT_CASES = 20
"""Cases of each kind from which a score is recalibrated on the cohort itself."""


@dataclass(frozen=True)
class CaseParity:
    """One case through both. relative_error: by output, inf where shapes differ. dice, hd95_mm, assd_mm: the
    candidate's tumour mask against the reference's. dice_*: each against the truth, None without one.
    score_*: logits, None without a detection head. changed: a T category differs under either edition.
    categories: edition → true T category, where known. distribution_*: edition → what each said of T1-T4,
    where it gave a category."""

    case: str
    npc: bool | None
    relative_error: Mapping[str, float]
    dice: float
    hd95_mm: float
    assd_mm: float
    dice_reference: float | None = None
    dice_candidate: float | None = None
    score_reference: float | None = None
    score_candidate: float | None = None
    changed: bool = False
    finding_changed: bool = False
    categories: Mapping[str, str] = field(default_factory=dict)
    distribution_reference: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    distribution_candidate: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """delta_dice: how much mean Dice against the truth (against the reference where no truth is known) may
    fall. dice: what the masks of both must agree by, for two can be equally far from a truth and nothing
    alike. delta_probability: the largest mean shift of the calibrated probability. category_changes: how many
    cases may change their T category."""

    delta_dice: float = 0.005
    dice: float = 0.95
    delta_probability: float = 0.02
    category_changes: int = 0


@dataclass(frozen=True)
class Verdict:
    """What the cases say together; true when nothing was lost beyond the limits.

    delta_dice: mean fall. probability_shift: mean |difference| of the calibrated probabilities, and
    probability_shift_max the largest, None without scores. rescale: what the reference's temperature and bias
    are to be multiplied by for the candidate, from both scores fitted on these cases; None where they are too
    few. category_bound: upper end of the one-sided 95 % interval of the share of changed categories
    (Clopper-Pearson).
    """

    cases: int
    relative_error: float
    delta_dice: float
    against_truth: bool
    dice: float
    hd95_mm: float
    assd_mm: float
    probability_shift: float | None
    probability_shift_max: float | None
    rescale: float | None
    finding_changes: int
    category_changes: int
    category_bound: float
    why: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.why


def judge(
    cases: Sequence[CaseParity], limits: Limits | None = None, temperature: float = 1.0, bias: float = 0.0
) -> Verdict:
    """Judge the cases. temperature, bias: the reference's calibrator; the candidate's is the same, rescaled
    where the cohort is large enough to tell. ValueError without cases."""
    if not cases:
        raise ValueError("no cases: nothing can be judged")
    allowed = Limits() if limits is None else limits
    known = [(c.dice_reference, c.dice_candidate) for c in cases]
    pairs = [(a, b) for a, b in known if a is not None and b is not None]
    fall = float(np.mean([a - b for a, b in pairs])) if pairs else 1 - float(np.mean([c.dice for c in cases]))
    shifts, rescale = _shifts(cases, temperature, bias)
    changes = sum(c.changed for c in cases)
    distances = [c for c in cases if math.isfinite(c.hd95_mm)]
    error = max((e for c in cases for e in c.relative_error.values()), default=0.0)
    why = []
    if not math.isfinite(error):
        why.append("an output is missing, misshapen or not finite")
    if not fall <= allowed.delta_dice:
        why.append(f"mean Dice falls by {fall:.4f}, more than {allowed.delta_dice:g}")
    agreement = float(np.mean([c.dice for c in cases]))
    if pairs and not agreement >= allowed.dice:
        why.append(f"the masks agree by a mean Dice of {agreement:.3f}, less than {allowed.dice:g}")
    if shifts and not np.mean(shifts) <= allowed.delta_probability:
        why.append(
            f"the probability shifts by {np.mean(shifts):.3f}, more than {allowed.delta_probability:g}"
        )
    if changes > allowed.category_changes:
        why.append(f"{changes} of {len(cases)} T categories change, more than {allowed.category_changes}")
    return Verdict(
        cases=len(cases),
        relative_error=error,
        delta_dice=fall,
        against_truth=bool(pairs),
        dice=agreement,
        hd95_mm=float(np.mean([c.hd95_mm for c in distances])) if distances else math.inf,
        assd_mm=float(np.mean([c.assd_mm for c in distances])) if distances else math.inf,
        probability_shift=float(np.mean(shifts)) if shifts else None,
        probability_shift_max=float(np.max(shifts)) if shifts else None,
        rescale=rescale,
        finding_changes=sum(c.finding_changed for c in cases),
        category_changes=changes,
        category_bound=upper_bound(changes, len(cases)),
        why=tuple(why),
    )


def upper_bound(events: int, cases: int) -> float:
    """Upper end of the one-sided 95 % Clopper-Pearson interval of a share: 1 - 0.05^(1/n) for no event."""
    if events >= cases:
        return 1.0
    low, high = events / cases, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(events, cases, middle) > 0.05:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(events: int, cases: int, share: float) -> float:
    """P(X <= events) of a binomial, by its logarithms: no overflow for thousands of cases."""
    logs = (
        [
            math.lgamma(cases + 1)
            - math.lgamma(k + 1)
            - math.lgamma(cases - k + 1)
            + k * math.log(share)
            + (cases - k) * math.log1p(-share)
            for k in range(events + 1)
        ]
        if 0 < share < 1
        else [0.0 if share <= 0 else -math.inf]
    )
    return float(sum(math.exp(value) for value in logs))


def _shifts(cases: Sequence[CaseParity], temperature: float, bias: float) -> tuple[list[float], float | None]:
    """|difference| of the calibrated probabilities, and the rescaling of the temperature."""
    scored = [
        (c.score_reference, c.score_candidate, c.npc)
        for c in cases
        if c.score_reference is not None and c.score_candidate is not None
    ]
    if not scored:
        return [], None
    before, after = np.array([a for a, _, _ in scored]), np.array([b for _, b, _ in scored])
    labels = [npc for _, _, npc in scored]
    rescale: float | None = None
    finite = bool(np.isfinite(before).all() and np.isfinite(after).all())
    if finite and min(labels.count(True), labels.count(False)) >= FIT_CASES and None not in labels:
        truth = np.array([int(bool(npc)) for npc in labels])
        # Cases told apart without error would ask for no temperature at all, of both alike: a ratio does not.
        rescale = fit_temperature(after, truth).temperature / fit_temperature(before, truth).temperature
    scale = 1.0 if rescale is None else rescale
    moved = apply(after, temperature * scale, bias * scale) - apply(before, temperature, bias)
    return np.abs(moved).tolist(), rescale
