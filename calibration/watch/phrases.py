"""What the watchers say, in words that need no statistics: what moved, from where to where, since when."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.columns import OTHER, UNKNOWN, Columns, Fact

Floats = NDArray[np.float64]

_LONG_MS = 300 * 86_400_000
_WORDS = {
    "score": "the score",
    "high scores": "the share of high scores",
    "volume_ml": "the tumour volume",
    "latency_ms": "the time a run takes",
    "all features": "the overall image intensity",
    "all columns": "all measurements together",
    "calibration level": "the share of NPC found, against what the probabilities say",
    "calibration slope": "the slope of the calibration",
    "outcome=no-result": "the share of refused studies",
    "outcome=result": "the share of studies with a result",
    f"outcome={OTHER}": "the share of refused studies",
    f"station={OTHER}": "the share of cases from other scanners than the usual",
    f"vendor={OTHER}": "the share of cases from other vendors than the usual",
    f"artefact={OTHER}": "the share of cases run with another artefact than usual",
    f"field strength={OTHER}": "the share of cases at another field strength than usual",
    f"station={UNKNOWN}": "the share of cases whose headers name no scanner",
    f"vendor={UNKNOWN}": "the share of cases whose headers name no vendor",
    f"field strength={UNKNOWN}": "the share of cases whose headers give no field strength",
}
_LEVELS = {
    "station": "from {}",
    "vendor": "from the vendor {}",
    "artefact": "run with {}",
    "field strength": "at {}",
}
_FEATURES = {
    "median": "the median intensity of {}",
    "iqr": "the spread of intensities of {}",
    "bright": "the brightness of the brightest parts of {}, against its median,",
    "dark": "the brightness of the darkest parts of {}, against its median,",
    "tumour_contrast": "the contrast of the tumour mask on {}",
}
_SUPPRESSED = {
    "yes": "is fat-suppressed",
    "no": "is not fat-suppressed",
    OTHER: "has another fat suppression than usual",
    UNKNOWN: "may or may not be fat-suppressed (the headers do not tell)",
}
_UNITS = {"volume_ml": (1.0, " ml"), "latency_ms": (1e-3, " s")}


def named(stream: str) -> str:
    """A stream in words: "the share of cases from scanner B", "the median intensity of T2"."""
    if stream in _WORDS:
        return _WORDS[stream]
    fact, _, level = stream.partition("=")
    if level:
        return _share_of(fact, level)
    sequence, _, feature = stream.partition(".")
    if feature:
        words = _FEATURES.get(feature, "the value of " + feature.replace("_", " ") + " of {}")
        return words.format(sequence.upper())
    sequence, _, number = stream.partition(" ")
    return f"the {number} of {sequence}" if number else stream


def _share_of(fact: str, level: str) -> str:
    sequence, _, what = fact.partition(" ")
    if what == "fat suppression":
        return f"the share of cases whose {sequence} {_SUPPRESSED.get(level, level)}"
    if level == OTHER:
        return f"the share of cases with another {fact} than usual"
    return f"the share of cases {_LEVELS.get(fact, fact + ' {}').format(level)}"


def plainly(fact: Fact, level: str, yes: NDArray[np.bool_], since: int) -> str:
    """The level to speak of: for `OTHER` the one that nine of ten such cases since then have, where there is
    one. yes (N,): the cases at `level`."""
    if level != OTHER or not yes[since:].any():
        return level
    counts = np.bincount(fact.codes[since:][yes[since:]])
    most = int(counts.argmax())
    return fact.levels[most] if counts[most] >= 0.9 * counts.sum() else level


def heading(stream: str) -> str:
    """A stream as a title."""
    words = named(stream).removeprefix("the ").removesuffix(",")
    return words[0].upper() + words[1:]


def day(columns: Columns, index: int) -> str:
    """The day of a case, as "12 May" (UTC); with its year where there are cases of nearly a year or more."""
    at = datetime.fromtimestamp(int(columns.at[index]) / 1000, UTC)
    year = f" {at.year}" if int(columns.at[-1]) - int(columns.at[0]) > _LONG_MS else ""
    return f"{at.day} {at:%B}{year}"


def moved(stream: str, rises: bool, sure: bool) -> str:
    """What a chart saw: "The score has risen"; when not `sure`, it seems to have."""
    if stream == "calibration slope":
        how = "timid: low ones too high, high ones too low"
        if not rises:
            how = "sure of themselves: low ones too low, high ones too high"
        return f"The probabilities {'have' if sure else 'seem to have'} been too {how},"
    has = "has" if sure else "seems to have"
    if stream == "calibration level":
        return f"{'More' if rises else 'Less'} NPC {has} been found than the probabilities foretold"
    words = named(stream)
    return f"{words[0].upper()}{words[1:]} {has} {'risen' if rises else 'fallen'}"


def from_to(columns: Columns, stream: str, yes: NDArray[np.bool_] | None, since: int, rises: bool) -> str:
    """ " from 2 % to 41 %": before and after `since`, in the quantity's own unit. "" where it has none, or
    where the middle did not go the way of the ranks. yes (N,): of which cases this is the share."""
    if yes is not None:
        values, (factor, unit), averaged = yes.astype(np.float64), (100.0, " %"), True
    else:
        found = {**columns.outputs, **columns.features}.get(stream)
        if found is None:
            return ""
        values, (factor, unit) = found, _UNITS.get(stream, (1.0, ""))
        averaged = stream == "volume_ml"  # most volumes are 0
    parts = [part[np.isfinite(part)] for part in (values[:since], values[since:])]
    if not all(len(part) for part in parts):
        return ""
    before, after = (factor * float(part.mean() if averaged else np.median(part)) for part in parts)
    words = [_digits(value, unit) for value in (before, after)]
    if (after > before) != rises or words[0] == words[1]:
        return ""
    return f" from {words[0]} to {words[1]}{unit}"


def _digits(value: float, unit: str) -> str:
    if unit == " %":
        return f"{value:.1f}" if 0 < value < 9.95 else f"{value:.0f}"
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}").replace("-", "−")
