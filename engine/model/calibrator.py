"""A calibrator of the manifest: from one artefact's outputs to a probability, and to how sure it is.

Everything in it was fitted on outputs of the artefact it belongs to, and is looked up at run time with NumPy
alone. What the calibration set did not allow is told by its counts.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from npc_edge.calibration import conformal, venn_abers
from npc_edge.engine.model.strict import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class VennAbersTable(Strict):
    """The steps of p0 and p1 over the raw score, as in `calibration.venn_abers.VennAbers`: scores (K,)
    ascending, lower and upper (K + 1,). All three empty: the cases were too few."""

    cases: Count
    prevalence: Share
    scores: tuple[float, ...] = ()
    lower: tuple[Share, ...] = ()
    upper: tuple[Share, ...] = ()

    @model_validator(mode="after")
    def _steps(self) -> VennAbersTable:
        if not self.lower and not self.upper and not self.scores:
            return self
        if why := venn_abers.why_not(self.cases):
            raise ValueError(f"there are steps, but {why}")
        if not len(self.lower) == len(self.upper) == len(self.scores) + 1:
            raise ValueError("lower and upper have one value more than scores")
        rising = all(list(steps) == sorted(steps) for steps in (self.lower, self.upper))
        rising = rising and list(self.scores) == sorted(set(self.scores))
        # At a score itself p0 has already stepped up, p1 not yet.
        met = zip(self.lower, (self.upper[0], *self.upper[:-1]), strict=True)
        if not rising or any(low > high for low, high in met):
            raise ValueError("scores, lower and upper rise, and lower stays below upper")
        return self


class CategorySets(Strict):
    """Class-conditional sets of T categories, as in `calibration.conformal.Conformal`: a category belongs to
    the set when its share of the distribution reaches its threshold. cases: of the calibration set, by their
    true category. thresholds null: there were too few."""

    level: float = Field(gt=0, lt=1)
    cases: dict[str, Count]
    thresholds: dict[str, Share] | None = None

    @model_validator(mode="after")
    def _every_category(self) -> CategorySets:
        wanted = set(conformal.CATEGORIES)
        if set(self.cases) != wanted or (self.thresholds is not None and set(self.thresholds) != wanted):
            raise ValueError("cases and thresholds name T1, T2, T3 and T4")
        if self.thresholds is not None and (why := conformal.why_not(self.cases, self.level)):
            raise ValueError(f"there are thresholds, but {why}")
        return self


class Calibrator(Strict):
    """probability = sigmoid((logit + bias) / temperature). venn_abers, sets (by edition): how sure it is, and
    which T categories go with a case; null and empty where nothing was fitted."""

    method: Literal["temperature", "platt", "none"]
    temperature: float = Field(gt=0)
    bias: float = 0.0
    cases: int
    prevalence: float = Field(gt=0, lt=1)
    population: str  # in words: what the probability is true of
    venn_abers: VennAbersTable | None = None
    sets: dict[Literal["ajcc8", "ajcc9"], CategorySets] = Field(default_factory=dict)
