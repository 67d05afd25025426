"""The newest cases against the baseline, window by window: KS per column, MMD of all, PSI by convention.

A discovery in one window is worth watching. Only the same discovery in two windows in a row is an alarm: two
windows see the same baseline, so that is rarer than one, but not as rare as its square.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log10

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.record import Level, Verdict
from npc_edge.calibration.watch.columns import Columns
from npc_edge.calibration.watch.diagnose import check_first
from npc_edge.calibration.watch.normal import quantile
from npc_edge.calibration.watch.phrases import day, named
from npc_edge.calibration.watch.power import ks_shift
from npc_edge.calibration.watch.settings import Settings
from npc_edge.calibration.watch.windows import benjamini_hochberg, ks, mmd, psi, psi_by_chance

Floats = NDArray[np.float64]

DISCOVERY = 0.005
"""False-discovery rate of the columns of one window (for MMD: the test's level)."""
_PERMUTATIONS = 6000
_ENOUGH = 20  # known values in a window


def window_verdicts(columns: Columns, settings: Settings) -> list[Verdict]:
    """Verdicts "<column>.ks", "all columns.mmd" and "<column>.psi"; [] before the first window is full.

    KS and MMD: statistic and limit are -log10 of the (adjusted) p-value and of DISCOVERY.
    """
    looks = _looks(len(columns), settings)
    series: Mapping[str, Floats] = {**columns.outputs, **columns.features, **columns.numbers}
    names = [name for name, values in series.items() if _known(values[: settings.baseline]) >= _ENOUGH]
    if not looks or not names:
        return []
    p = np.ones((len(looks), len(names)))
    p_all = np.ones(len(looks))
    for row, (start, stop) in enumerate(looks):
        windows = [(series[name][: settings.baseline], series[name][start:stop]) for name in names]
        p[row] = benjamini_hochberg(np.array([_ks_p(*pair, settings.seed) for pair in windows]))
        p_all[row] = _mmd_p(windows, settings.seed)
    shift = ks_shift(DISCOVERY / len(names), settings.baseline, settings.window)
    power = f"A shift of {shift:.2f} SD is seen in {settings.window} cases with 90 % power, if nothing else "
    power += "moves."
    joint = "Its power depends on how the measurements move together and is not stated."
    verdicts = [
        _verdict(f"{name}.ks", p[:, index], looks, power, (columns, settings))
        for index, name in enumerate(names)
    ]
    verdicts.append(_verdict("all columns.mmd", p_all, looks, joint, (columns, settings)))
    return verdicts + [_psi_verdict(name, series[name], looks[-1], settings) for name in names]


def _looks(count: int, settings: Settings) -> list[tuple[int, int]]:
    """Full windows after the baseline that begin in the last `horizon` cases."""
    ends = range(settings.baseline + settings.window, count + 1, settings.window)
    return [(end - settings.window, end) for end in ends if end - settings.window >= count - settings.horizon]


def _known(values: Floats) -> int:
    return int(np.isfinite(values).sum())


def _ks_p(baseline: Floats, window: Floats, seed: int) -> float:
    before, after = baseline[np.isfinite(baseline)], window[np.isfinite(window)]
    return ks(before, after, _PERMUTATIONS, seed).p if len(after) >= _ENOUGH else 1.0


def _mmd_p(windows: list[tuple[Floats, Floats]], seed: int) -> float:
    """MMD of the normal scores of all columns, of the cases that have all of them."""
    before, after = (np.stack(part, axis=1) for part in zip(*windows, strict=True))
    before, after = (part[np.isfinite(part).all(axis=1)] for part in (before, after))
    if min(len(before), len(after)) < _ENOUGH:
        return 1.0
    pooled = np.concatenate([before, after])
    ordered = np.sort(pooled, axis=0)
    ranks = np.stack(
        [
            0.5 * (np.searchsorted(o, x) + np.searchsorted(o, x, side="right"))
            for o, x in zip(ordered.T, pooled.T, strict=True)
        ],
        axis=1,
    )
    scores = quantile(np.clip(ranks / len(pooled), 1e-6, 1 - 1e-6))
    return mmd(scores[: len(before)], scores[len(before) :], _PERMUTATIONS, seed).p


def _verdict(
    watcher: str, p: Floats, looks: list[tuple[int, int]], power: str, given: tuple[Columns, Settings]
) -> Verdict:
    columns, settings = given
    found = p <= DISCOVERY
    twice = np.flatnonzero(found[1:] & found[:-1])
    level: Level = "act" if len(twice) else "watch" if found[-1] else "quiet"
    name = watcher.rsplit(".", 1)[0]
    since = alarmed = None
    words = named(name).removesuffix(",")
    reason, check = f"The newest {settings.window} cases are like the baseline in {words}.", ""
    if level != "quiet":
        first = int(twice[0]) if level == "act" else len(p) - 1
        since = looks[first][0]
        alarmed = (looks[first + 1] if level == "act" else looks[first])[1] - 1
        check = check_first(columns, name, since)
        windows, first_of = f"The newest {settings.window} cases", ""
        if level == "act":
            windows, first_of = f"Twice {settings.window} cases in a row", "the first "
        reason = f"{windows} differ from the baseline in {words}, "
        reason += f"{first_of}from {day(columns, since)} on (case {since + 1})."
    best = float(np.minimum.reduce(p)) if level == "act" else float(p[-1])
    return Verdict(
        watcher=watcher,
        group="all",
        level=level,
        statistic=-log10(best),
        limit=-log10(DISCOVERY),
        cases=len(columns) - settings.baseline,
        reason=reason,
        check_first=check,
        power=power,
        since=since,
        alarmed=alarmed,
    )


def _psi_verdict(name: str, values: Floats, look: tuple[int, int], settings: Settings) -> Verdict:
    """PSI of the newest window: never more than "watch", for 0.25 is a convention and no test."""
    before, after = values[: settings.baseline], values[look[0] : look[1]]
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    enough = min(len(before), len(after)) >= _ENOUGH
    value = psi(before, after) if enough else 0.0
    by_chance, rare = psi_by_chance(max(1, len(before)), max(1, len(after)))
    limit = max(0.25, rare)
    beyond = value > limit
    return Verdict(
        watcher=f"{name}.psi",
        group="all",
        level="watch" if beyond else "quiet",
        statistic=value,
        limit=limit,
        cases=len(after),
        reason=f"The newest {settings.window} cases {'differ from' if beyond else 'are like'} the baseline "
        f"in {named(name).removesuffix(',')}: PSI {value:.2f}, limit {limit:.2f}, by chance {by_chance:.2f}.",
        check_first="See whether the other watchers of this quantity have noticed: they say since when."
        if beyond
        else "",
        power=f"A convention: a shift of about {(limit - by_chance) ** 0.5:.1f} SD reaches it."
        if limit > by_chance
        else "A convention: with so few cases chance alone reaches it.",
        since=look[0] if beyond else None,
        alarmed=look[1] - 1 if beyond else None,
    )
