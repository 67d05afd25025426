"""The simulated deployments are what they say, and go through the monitor."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import skew

from npc_edge.bench.deployments import FEATURES, Scenario, simulate
from npc_edge.bench.monitor_simulation import SCENARIOS, Run, deployment, summary
from npc_edge.calibration.watch import Settings, charts
from npc_edge.calibration.watch.measures import auc, calibration_slope


def test_a_stationary_deployment_is_calibrated_skewed_and_its_features_go_together() -> None:
    given = simulate(Scenario("large", cases=40_000), 1)
    known = np.isfinite(given.columns.probability)
    p, y = given.columns.probability[known], given.npc[known]
    assert y.mean() == pytest.approx(0.05, abs=0.005)
    assert calibration_slope(p, y)[0].value == pytest.approx(1.0, abs=0.08)
    assert 0.85 < auc(p, y).value < 0.99
    features = np.stack([given.columns.features[name][known] for name in FEATURES])
    assert (skew(features, axis=1) > 0.4).all()
    assert np.corrcoef(features)[0, 1] > 0.4


def test_what_changes_is_what_the_scenario_says() -> None:
    def after(scenario: Scenario):
        given = simulate(scenario, 2)
        return given, np.arange(scenario.cases) >= (scenario.change or 0)

    fat, late = after(Scenario("f", cases=20_000, change=10_000, fat_suppressed=0.3))
    yes = fat.columns.facts["T2 fat suppression"].codes == 1
    assert yes[late].mean() == pytest.approx(0.32, abs=0.02)
    assert yes[~late].mean() == pytest.approx(0.03, abs=0.01)
    more, late = after(Scenario("p", cases=20_000, change=10_000, new_prevalence=0.2))
    assert more.npc[late].mean() == pytest.approx(0.2, abs=0.015)
    drift, late = after(Scenario("d", cases=20_000, change=10_000, drift_sd=0.3))
    logarithm = np.log(drift.columns.features["t1.median"])
    shift = np.nanmean(logarithm[late]) - np.nanmean(logarithm[~late])
    assert shift / np.nanstd(logarithm[~late]) == pytest.approx(0.3, abs=0.04)
    slope, late = after(Scenario("s", cases=40_000, change=20_000, prevalence=0.2, slope=0.7, labels=True))
    known = np.isfinite(slope.columns.probability)
    p, y = slope.columns.probability, slope.npc
    assert calibration_slope(p[late & known], y[late & known])[0].value == pytest.approx(0.7, abs=0.05)
    assert calibration_slope(p[~late & known], y[~late & known])[0].value == pytest.approx(1.0, abs=0.05)
    assert y[late].mean() == pytest.approx(0.2, abs=0.015)


def test_one_deployment_goes_through_and_is_the_same_again() -> None:
    scenario = next(s for s in SCENARIOS if s.name.startswith("T2 fat suppressed"))
    settings = Settings(null_runs=300)
    run = deployment(scenario, 3, settings)
    assert run == deployment(scenario, 3, settings)
    assert run.alarm is not None
    assert 500 <= run.alarm < 600
    assert abs(run.error or 0) < 50
    assert run.named.startswith("T2 fat suppression changed")


def test_the_table_counts_what_happened() -> None:
    quiet, loud = Run(None, False, False), Run(700, False, True, "score.cusum", "X changed on 4 May.", -3)
    row = summary(SCENARIOS[0], [quiet] * 95 + [Run(400, False, True, "score.cusum")] * 5)
    assert (row["share_with_alarm"], row["within"]) == (0.05, True)
    row = summary(SCENARIOS[0], [quiet] * 85 + [loud] * 15)
    assert row["within"] is False
    changed = summary(Scenario("c", change=500), [loud, loud, quiet, replace_alarm(loud)])
    assert changed["share_with_alarm"] == 0.75
    assert changed["cases_until_alarm"]["median"] == 201
    assert changed["change_point_absolute_error"]["median"] == 3
    assert changed["check_first"] == {"X changed": 3}


def replace_alarm(run: Run) -> Run:
    return Run(run.alarm, True, True, run.watcher, run.named, 3)


def test_log_odds_of_the_population_have_the_prevalence() -> None:
    given = simulate(Scenario("p", cases=20_000, prevalence=0.2), 4)
    assert np.nanmean(given.columns.probability) == pytest.approx(0.2, abs=0.01)
    assert np.nanmean(expit(given.columns.outputs["score"])) == pytest.approx(
        np.nanmean(given.columns.probability)
    )


def test_over_a_long_stationary_series_the_rate_stays_what_was_chosen() -> None:
    """36 thousands of cases, four deployments: 5 % of them may alarm. Ranks among a fixed reference, with
    limits for the first thousand alone, made it a quarter."""
    alarms = []
    for seed in range(1, 5):
        given = simulate(Scenario("long", cases=10_000), seed)
        beyond = np.zeros(10_000, np.bool_)
        for chart in charts(given.columns, np.full(10_000, np.nan), Settings(null_runs=300))[0]:
            beyond |= np.abs(chart.path) > chart.act_limits
        alarms.append(beyond.reshape(10, 1000)[1:].any(axis=1))
    assert np.sum(alarms) <= 5
