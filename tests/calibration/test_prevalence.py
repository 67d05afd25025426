"""The prevalence offset under label shift, against Bayes' rule and against drawn cases."""

import numpy as np
import pytest
from scipy.special import expit

from npc_edge.calibration.calibrators import apply, fit_platt
from npc_edge.calibration.prevalence import at_prevalence, estimate, offset, refit_offset


def two_normals(prevalence: float, count: int, seed: int):
    """Scores N(±1.5, 1): the log odds are 3 x + logit(prevalence), exactly."""
    random = np.random.default_rng(seed)
    y = (random.random(count) < prevalence).astype(np.float64)
    return random.normal(3 * y - 1.5, 1.0), y


def test_the_offset_is_the_change_of_prior_odds() -> None:
    posterior, before, after = 0.3, 0.5, 0.05
    odds = posterior / (1 - posterior) * (after / (1 - after)) / (before / (1 - before))
    assert float(expit(np.log(posterior / (1 - posterior)) + offset(before, after))) == pytest.approx(
        odds / (1 + odds), abs=1e-12
    )
    assert offset(0.2, 0.2) == 0


def test_a_calibrator_moved_to_another_prevalence_is_true_there() -> None:
    fit = fit_platt(*two_normals(0.5, 40_000, 1))
    there, y = two_normals(0.05, 40_000, 2)
    moved = at_prevalence(fit, 0.05)
    assert float(apply(there, fit.temperature, fit.bias).mean()) > 0.09
    assert float(apply(there, moved.temperature, moved.bias).mean()) == pytest.approx(y.mean(), abs=0.004)
    assert refit_offset(there, y, fit).bias == pytest.approx(moved.bias, abs=0.05)
    assert moved.prevalence == 0.05


@pytest.mark.parametrize("here", [0.05, 0.2, 0.7])
def test_the_prevalence_is_found_without_labels(here: float) -> None:
    scores, _ = two_normals(here, 20_000, 3)
    assert estimate(expit(3 * scores), 0.5) == pytest.approx(here, abs=0.012)


@pytest.mark.parametrize(("one", "other"), [(0.0, 0.5), (0.5, 1.0), (-1, 0.5)])
def test_impossible_prevalences_are_refused(one: float, other: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        offset(one, other)
