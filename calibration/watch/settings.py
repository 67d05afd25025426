"""What a department decides about its monitor: how often it may cry wolf, and what it compares with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """false_alarm_rate: the chance that anything reaches "act" within `horizon` cases while nothing changes,
    all watchers together: within the first `horizon`, the baseline among them, and within any later.
    watch_rate: the same for "watch".

    baseline: the first cases, which say what is normal; nothing alarms among them. start: leave out what is
    older (UTC, milliseconds since 1970), as after a change that is meant to stay. window: cases in a
    comparison of distributions. labelled_minimum: labelled cases before calibration is judged.
    threshold: the operating point on the probability. sensitivity, specificity: what was declared for it.
    null_runs: simulations behind every limit; seed: of these, so that the same records give the same limits.
    """

    false_alarm_rate: float = 0.05
    watch_rate: float = 0.25
    horizon: int = 1000
    baseline: int = 250
    start: int = 0
    window: int = 100
    labelled_minimum: int = 50
    threshold: float = 0.5
    sensitivity: float | None = None
    specificity: float | None = None
    null_runs: int = 1000
    seed: int = 20_251

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm_rate < self.watch_rate < 1:
            raise ValueError("0 < false_alarm_rate < watch_rate < 1 is wanted")
        if self.baseline < 50 or self.horizon <= self.baseline or self.window < 20:
            raise ValueError("at least 50 baseline cases, a longer horizon and windows of 20 are wanted")
        if self.null_runs < 200:
            raise ValueError("at least 200 null runs are wanted: limits are quantiles of them")

    @property
    def monitored(self) -> int:
        """Cases of the horizon after the baseline."""
        return self.horizon - self.baseline


@dataclass(frozen=True)
class Shares:
    """How the false-alarm rate is divided: charts of measurements, shares of acquisition facts, comparisons
    of windows, calibration. They add up to 1; without labels the others take calibration's part."""

    charts: float
    facts: float
    windows: float
    labels: float


WITHOUT_LABELS = Shares(charts=0.70, facts=0.20, windows=0.10, labels=0.0)
WITH_LABELS = Shares(charts=0.33, facts=0.11, windows=0.06, labels=0.50)


def share_of(rate: float, share: float) -> float:
    """The part of a rate: the parts' chances of no alarm multiply to the whole's."""
    return float(1 - (1 - rate) ** share)
