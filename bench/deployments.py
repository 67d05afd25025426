"""Simulated deployments: what a department's cases look like to the monitor, and what may change.

Made without any of the monitor's assumptions: two vendors at three scanners in unequal parts, intensity
features that are skewed (log-normal and gamma) and go together through the patient and the scanner, a score
with unequal and skewed classes, volumes that are zero for most, refusals, latency with a heavy tail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.columns import Columns, Fact

Floats = NDArray[np.float64]

FEATURES = (
    "t1.median", "t1.p95", "t1.spread", "t1.snr", "t2.median", "t2.p95", "t2.spread", "t2.snr",
)  # fmt: skip
DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 1 January 2026
CASES_A_DAY = 8

_STATIONS = ("scanner A", "scanner B", "scanner C")
_VENDORS = np.array([0, 1, 1])  # of each station
_STATION_SHARES = (0.55, 0.30, 0.15)
_DEVIATION = 0.823
"""Of a feature's logarithm (over 0.3) among all patients and scanners: what a drift is a share of."""


@dataclass(frozen=True)
class Scenario:
    """What changes at case `change` (None: nothing). prevalence and its new value; drift_sd: of the intensity
    features' logarithm, reached over `ramp` cases; fat_suppressed: share of cases whose T2 is fat suppressed
    from then on, and whether headers say so; slope: of the labels' logit on the model's. labels: every case
    gets one."""

    name: str
    cases: int = 1000
    change: int | None = None
    prevalence: float = 0.05
    new_prevalence: float | None = None
    drift_sd: float = 0.0
    ramp: int = 0
    fat_suppressed: float = 0.0
    header_tells: bool = True
    slope: float = 1.0
    labels: bool = False


@dataclass(frozen=True, eq=False)
class Deployment:
    """columns, and npc (N,) 0 or 1: the truth of every case."""

    columns: Columns
    npc: Floats


def simulate(scenario: Scenario, seed: int) -> Deployment:
    """One deployment; the same seed, the same deployment."""
    random = np.random.default_rng((seed, 77))
    count = scenario.cases
    after = np.arange(count) >= (count if scenario.change is None else scenario.change)
    station = random.choice(3, size=count, p=_STATION_SHARES)
    prevalence = np.full(count, scenario.prevalence)
    if scenario.new_prevalence is not None:
        prevalence[after] = scenario.new_prevalence
    suppressed = random.random(count) < 0.03
    suppressed |= after & (random.random(count) < scenario.fat_suppressed)
    features = _features(scenario, random, station, suppressed)
    logit, npc = _scores(scenario, random, prevalence, after)
    logit = np.where(suppressed, logit - 0.5 + 0.6 * random.normal(size=count), logit)
    refused = random.random(count) < 0.03
    return Deployment(_columns(scenario, random, (station, suppressed, refused), features, logit, npc), npc)


def _features(
    scenario: Scenario, random: np.random.Generator, station: NDArray[np.int64], suppressed: NDArray[np.bool_]
) -> dict[str, Floats]:
    """Eight skewed features; a patient's and a scanner's part are common to those of one sequence."""
    count = scenario.cases
    patient, scanner = random.normal(size=count), np.array([0.0, 0.7, -0.5])[station]
    since = np.arange(count) - (count if scenario.change is None else scenario.change)
    drift = scenario.drift_sd * np.clip(since / max(1, scenario.ramp), 0, 1) * (since >= 0)
    sequences = {name: 0.35 * random.normal(size=count) for name in ("t1", "t2")}
    found = {}
    for index, name in enumerate(FEATURES):
        own = random.gamma(2.0, 0.35, size=count) - 0.7
        latent = 0.5 * patient + 0.6 * scanner + sequences[name[:2]] + own
        latent = latent + drift * _DEVIATION * ("snr" not in name)
        if name.startswith("t2"):
            latent = latent - 0.9 * suppressed * ("snr" not in name)
        found[name] = np.exp(0.3 * latent) * (100.0 + 40.0 * index)
    return found


def _scores(
    scenario: Scenario, random: np.random.Generator, prevalence: Floats, after: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """The model's logit and the truth. Calibrated at the first prevalence: the logit is the log odds of an
    evidence with skewed noise, the truth drawn from it. A slope other than 1 is drawn for the labels alone,
    at the prevalence of the probabilities."""
    count = scenario.cases
    pool = _log_odds(scenario.prevalence)
    logit = random.choice(pool, size=count)
    npc = (random.random(count) < _sigmoid(logit)).astype(np.float64)
    if scenario.new_prevalence is not None:
        wanted = random.random(count) < prevalence
        positive = random.choice(pool, size=count, p=_sigmoid(pool) / _sigmoid(pool).sum())
        negative = random.choice(pool, size=count, p=_sigmoid(-pool) / _sigmoid(-pool).sum())
        logit = np.where(after, np.where(wanted, positive, negative), logit)
        npc = np.where(after, wanted, npc)
    if scenario.slope != 1.0:
        offset = _offset(pool, scenario.slope)
        drawn = random.random(count) < _sigmoid(scenario.slope * logit + offset)
        npc = np.where(after, drawn, npc)
    return logit, npc


def _log_odds(prevalence: float, size: int = 20_000) -> Floats:
    """Log odds of a population: a skewed spread, moved until the mean probability is the prevalence."""
    random = np.random.default_rng(5)
    diseased = random.random(size) < prevalence
    healthy = random.gamma(2.2, 1.0, size=size) - 2.2 - 2.6
    ill = 2.6 - (random.gamma(3.0, 1.0, size=size) - 3.0)
    spread = np.where(diseased, ill, healthy)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _sigmoid(spread + middle).mean() > prevalence else (middle, high)
    return np.asarray(spread + low)


def _offset(logit: Floats, slope: float) -> float:
    """What keeps the mean probability where it was under another slope."""
    wanted, low, high = _sigmoid(logit).mean(), -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _sigmoid(slope * logit + middle).mean() > wanted else (middle, high)
    return low


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5)


def _columns(
    scenario: Scenario,
    random: np.random.Generator,
    drawn: tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]],
    features: dict[str, Floats],
    logit: Floats,
    npc: Floats,
) -> Columns:
    station, suppressed, refused = drawn
    count = scenario.cases
    volume = np.where(npc > 0, random.lognormal(2.0, 0.9, size=count), 0.0)
    false_volume = (npc == 0) & (logit > 0)
    volume = np.where(false_volume, random.lognormal(0.5, 0.8, size=count), volume)
    latency = 900.0 * random.lognormal(0.0, 0.25, size=count) * np.array([1.0, 1.1, 0.95])[station]

    def unless(values: Floats) -> Floats:
        return np.where(refused, np.nan, values)

    told = suppressed.astype(np.int32) if scenario.header_tells else np.full(count, 2, np.int32)
    facts = {
        "outcome": Fact(refused.astype(np.int32), ("result", "no-result")),
        "vendor": Fact(_VENDORS[station].astype(np.int32), ("siemens", "ge")),
        "station": Fact(station.astype(np.int32), _STATIONS),
        "field strength": Fact((station == 2).astype(np.int32), ("3 T", "1.5 T")),
        "T2 fat suppression": Fact(told, ("no", "yes", "unknown")),
    }
    te = np.array([85.0, 92.0, 100.0])[station] + random.integers(-2, 3, size=count).astype(np.float64)
    at = START_MS + (np.arange(count) * DAY_MS) // CASES_A_DAY
    return Columns(
        at.astype(np.int64),
        tuple(f"case {index}" for index in range(count)),
        {"score": unless(logit), "volume_ml": unless(volume), "latency_ms": latency},
        {name: unless(values) for name, values in features.items()},
        {"T2 TE": te},
        facts,
        unless(_sigmoid(logit)),
    )
