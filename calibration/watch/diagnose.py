"""What to check first: which fact of the acquisition changed when the series did, and on which scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.columns import UNKNOWN, Columns, Fact
from npc_edge.calibration.watch.phrases import day
from npc_edge.calibration.watch.ranks import full_scores

Floats = NDArray[np.float64]

CLEAR = 4.0
"""Standard errors by which a fact must have changed to be named: some thirty are looked at."""
_SEEN = 2.0  # the same for the fact that an alarm is about: its chart has found the change already


@dataclass(frozen=True)
class Changed:
    """A fact, as "T2 fat suppression", in numbers before and after in words, and how clearly (in standard
    errors). station: where it changed most, "" when it changed everywhere alike or that is not known."""

    fact: str
    words: str
    clearly: float
    station: str = ""


def what_changed(columns: Columns, since: int) -> Changed | None:
    """The acquisition fact or number that differs most between the cases before `since` and from it on."""
    found = [_share_change(name, fact, since) for name, fact in columns.facts.items() if name != "outcome"]
    found += [_number_change(name, values, since) for name, values in columns.numbers.items()]
    clear = [change for change in found if change is not None and change.clearly >= CLEAR]
    if not clear:
        return None
    # A scanner that came or went changes all its numbers too: where the stations themselves changed as
    # clearly as anything, they are the cause.
    best = max(clear, key=lambda change: change.clearly)
    stations = next((change for change in clear if change.fact == "station"), None)
    if stations is not None and stations.clearly >= 0.8 * best.clearly:
        return stations
    return Changed(best.fact, best.words, best.clearly, station_of(columns, best.fact, since))


def _own_change(columns: Columns, stream: str, since: int) -> Changed | None:
    """How the fact that a stream is the share of changed, if clearly; of refusals, their reasons."""
    name, _, level = stream.partition("=")
    name = "reason" if name == "outcome" else name
    if not level or name not in columns.facts:
        return None
    change = _share_change(name, columns.facts[name], since)
    if change is None or change.clearly < _SEEN:
        return None
    station = "" if name == "station" else station_of(columns, name, since)
    return Changed(name, change.words, change.clearly, station)


def _share_change(name: str, fact: Fact, since: int) -> Changed | None:
    clearly, code, before, after = share_differences(fact.codes, len(fact.levels), since)
    if clearly == 0:
        return None
    shares = f"{100 * before:.0f} % to {100 * after:.0f} % of cases"
    return Changed(name, f"{_LEVELS.get((name, fact.levels[code]), fact.levels[code])}: {shares}", clearly)


def share_differences(codes: NDArray[np.int32], levels: int, since: int) -> tuple[float, int, float, float]:
    """Standard errors, code, share before and after of the level whose share changed most."""
    n, m = since, len(codes) - since
    if n == 0 or m == 0:
        return 0.0, 0, 0.0, 0.0
    before = np.bincount(codes[:since], minlength=levels)
    after = np.bincount(codes[since:], minlength=levels)
    pooled = (before + after + 0.5) / (n + m + 1)
    z = (after / m - before / n) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    z[before + after < 5] = 0.0
    code = int(np.argmax(np.abs(z) + 0.01 * np.sign(z)))  # of two levels, name the one that rose
    return float(abs(z[code])), code, float(before[code] / n), float(after[code] / m)


def _number_change(name: str, values: Floats, since: int) -> Changed | None:
    clearly = mean_difference(full_scores(values), np.isfinite(values), since)
    if clearly == 0:
        return None
    before, after = (float(np.nanmedian(part)) for part in (values[:since], values[since:]))
    return Changed(name, f"median {before:g} to {after:g}", clearly)


def mean_difference(scores: Floats, known: NDArray[np.bool_], since: int) -> float:
    """Standard errors between the means of standardised scores before and after, known cases only."""
    n, m = int(known[:since].sum()), int(known[since:].sum())
    if min(n, m) < 5:
        return 0.0
    difference = scores[since:][known[since:]].mean() - scores[:since][known[:since]].mean()
    return float(abs(difference)) / sqrt(1 / n + 1 / m)


def station_of(columns: Columns, name: str, since: int) -> str:
    """The station on which a fact, number, feature or output changed most clearly; "" without one."""
    stations = columns.facts.get("station")
    if stations is None:
        return ""
    found: list[tuple[float, str]] = []
    for code, station in enumerate(stations.levels):
        here = stations.codes == code
        within = int(here[:since].sum())
        if station != UNKNOWN and within and within < here.sum():
            found.append((_change_within(columns, name, here, within), station))
    clear = sorted(pair for pair in found if pair[0] >= CLEAR)
    everywhere = len(clear) > 1 and len(clear) == len(found) and clear[0][0] > 0.5 * clear[-1][0]
    return clear[-1][1] if clear and not everywhere else ""


def _change_within(columns: Columns, name: str, here: NDArray[np.bool_], since: int) -> float:
    if name in columns.facts:
        fact = columns.facts[name]
        return share_differences(fact.codes[here], len(fact.levels), since)[0]
    series: Mapping[str, Floats] = {**columns.numbers, **columns.features, **columns.outputs}
    if name not in series:
        return 0.0
    values = series[name][here]
    return mean_difference(full_scores(values), np.isfinite(values), since)


def check_first(columns: Columns, stream: str, since: int) -> str:
    """One sentence: the fact that changed, or, when none did, what the stream itself points to. Where the
    stream is a fact, that one first; what else changed by then has an alarm of its own."""
    changed = _own_change(columns, stream, since) or what_changed(columns, since)
    if changed is not None:
        where = f" on {changed.station}" if changed.station else ""
        what = _CHANGED.get(changed.fact, f"{changed.fact} changed")
        return f"{what}{where} on {day(columns, since)} ({changed.words})."
    where = station_of(columns, stream, since)
    at = f" It changed most on {where}." if where else ""
    return "Nothing recorded of the acquisition changed with it." + at + " " + _advice(columns, stream)


_CHANGED = {
    "station": "The mix of scanners changed",
    "vendor": "The mix of vendors changed",
    "reason": "The reasons of refusals changed",
    "artefact": "The artefact that runs changed",
    "field strength": "The mix of field strengths changed",
}
_LEVELS = {("reason", "none"): "not refused"}


def _advice(columns: Columns, stream: str) -> str:
    name = stream.split("=")[0]
    if name in ("score", "high scores", "volume_ml"):
        return "Ask whether other patients are referred than before, then look at the newest cases' masks."
    if name == "latency_ms":
        return "Look at what else the computer runs, and at the backend in the newest results."
    if name == "outcome":
        return "Look at the reasons of the newest refusals."
    if name == "calibration level":
        return "Ask whether the share of patients with NPC changed; if so, adjust the prevalence offset."
    if name == "calibration slope":
        return "Have the newest disagreements read again, then refit the calibrator on these cases."
    if name in columns.features or name in ("all features", "all columns"):
        return "Ask for changes of coil, reconstruction or software at the scanner."
    return "Ask what changed in the protocol or the booking of patients."
