"""From what was recorded and watched to what the report shows. Pure: no file, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from npc_edge.calibration.record import CaseRecord
from npc_edge.calibration.report.trends import trends_of
from npc_edge.calibration.report.values import (
    Agreement,
    AgreementRow,
    Confusion,
    Content,
    Floats,
    Grouping,
    GroupRow,
    Groups,
    Measure,
    Overview,
    Reliability,
)
from npc_edge.calibration.watch import Settings, Watched
from npc_edge.calibration.watch.curve import Curve, curve
from npc_edge.calibration.watch.estimate import Estimate, wilson
from npc_edge.calibration.watch.groups import Agreement as GroupAgreement
from npc_edge.calibration.watch.groups import Row, agreement, groups
from npc_edge.calibration.watch.measures import brier, spiegelhalter_z
from npc_edge.calibration.watch.normal import two_sided
from npc_edge.calibration.watch.pairs import Pair

_MOST_ROWS = 12
_BARS = 20
_DRAWN = ("auc", "brier", "calibration_slope")
_NAMES: Mapping[str, tuple[str, str, float | None]] = {
    "auc": ("AUC", "How well the score tells cases with NPC from those without; 0.5 is chance.", 1.0),
    "calibration_slope": ("Calibration slope", "Below 1: too sure of itself; above: too timid.", 1.0),
    "calibration_in_the_large": ("In the large (logit)", "Below 0: says too much; above: too little.", 0.0),
    "calibration_error": ("Calibration error", "Distance from the truth, chance taken off (ECE).", 0.0),
    "brier": ("Brier score", "Mean squared error of the probability.", 0.0),
    "log_loss": ("Log loss", "Punishes being sure and wrong.", 0.0),
    "sensitivity": ("Sensitivity", "Cases with NPC at or above the threshold, {threshold:.2f}.", 1.0),
    "specificity": ("Specificity", "Cases without NPC below the threshold, {threshold:.2f}.", 1.0),
}
_GROUPED = {"station": "Scanner", "vendor": "Vendor", "artefact": "Artefact"}


def overview_of(records: Sequence[CaseRecord], watched: Watched, now: int) -> Overview:
    """What there is. records: all runs; watched: what was made of them."""
    refused = [record for record in records if record.outcome == "no-result"]
    reasons = Counter(code for record in refused for code in record.reasons)
    known = watched.npc[np.isfinite(watched.npc)]
    times = [record.at for record in records]
    return Overview(
        made_at=now,
        runs=len(records),
        refused=len(refused),
        with_truth=len(watched.pairs),
        npc=int(known.sum()),
        not_npc=int(len(known) - known.sum()),
        watchers=sum(verdict.watcher != "baseline" for verdict in watched.verdicts),
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        bundles=tuple(sorted({record.bundle for record in records if record.bundle})),
        artefacts=tuple(sorted({record.artefact for record in records if record.artefact})),
        reasons=tuple(reasons.most_common()),
    )


def content_of(records: Sequence[CaseRecord], watched: Watched, settings: Settings, now: int) -> Content:
    """All the report shows besides alarms. records: all runs of patients, or all of phantoms."""
    overview = overview_of(records, watched, now)
    rows = {row.group: row for row in watched.rows}
    diagrams = _reliability(watched, rows, settings)
    return Content(
        overview,
        _headline_measures(rows.get("all"), settings),
        trends_of(watched, settings),
        diagrams,
        _groups(watched, rows),
        _agreement(watched),
        tuple(_not_assessed(records, watched, settings, bool(diagrams))),
    )


def _measure(row: Row, name: str, settings: Settings) -> Measure:
    title, words, target = _NAMES[name]
    meaning = words.format(threshold=settings.threshold)
    estimate = row.measures[name]
    if np.isnan(estimate.value):
        return Measure(title, None, f"{meaning} Not known: {estimate.warning or 'too few cases'}.", target)
    return Measure(title, estimate, meaning, target)


def _headline_measures(row: Row | None, settings: Settings) -> tuple[Measure, ...]:
    if row is None:
        unknown = "Known once cases of both kinds have a known truth."
        return tuple(
            Measure(_NAMES[n][0], None, unknown) for n in ("auc", "calibration_slope", "sensitivity")
        )
    return tuple(_measure(row, name, settings) for name in ("auc", "calibration_slope", "sensitivity"))


def _reliability(watched: Watched, rows: Mapping[str, Row], settings: Settings) -> tuple[Reliability, ...]:
    """One diagram an artefact with enough cases of either kind, the one with the most cases first."""
    fact = watched.columns.facts.get("artefact")
    if fact is None:
        return ()
    found: list[tuple[int, Reliability]] = []
    known = np.isfinite(watched.npc) & np.isfinite(watched.columns.probability)
    for code, artefact in enumerate(fact.levels):
        row = rows.get(f"artefact={artefact}")
        chosen = known & (fact.codes == code)
        p, y = watched.columns.probability[chosen], watched.npc[chosen]
        drawn = curve(p, y) if row is not None else None
        if row is None or drawn is None:
            continue
        measures = (*(_measure(row, name, settings) for name in _NAMES), *_more(p, y, drawn))
        diagram = Reliability(
            artefact,
            drawn.probability,
            drawn.found,
            drawn.low,
            drawn.high,
            np.histogram(p[y == 1], _BARS, (0.0, 1.0))[0].astype(np.int64),
            np.histogram(p[y == 0], _BARS, (0.0, 1.0))[0].astype(np.int64),
            measures,
            row.warning,
        )
        found.append((row.cases, diagram))
    return tuple(item for _, item in sorted(found, key=lambda pair: -pair[0]))


def _more(p: Floats, y: Floats, drawn: Curve) -> tuple[Measure, ...]:
    """What goes with the diagram: Brier's parts, Spiegelhalter's test, the curve's distance to the truth."""
    parts, z = brier(p, y), spiegelhalter_z(p, y)
    count, none = len(p), float("nan")
    return (
        Measure(
            "Brier score: miscalibration",
            Estimate(parts.reliability, none, none, count),
            f"Its part that a better calibrator could take away; resolution {parts.resolution:.3f},"
            f" uncertainty {parts.uncertainty:.3f} (Murphy).",
            0.0,
        ),
        Measure(
            "Spiegelhalter's z",
            None if np.isnan(z) else Estimate(z, none, none, count),
            f"Beyond ±1.96 the probabilities are not true; p = {two_sided(z):.2g}." if np.isfinite(z) else "",
            0.0,
        ),
        Measure(
            "Distance of the curve (ICI)",
            Estimate(drawn.ici, none, none, count),
            f"Mean over the cases; nine of ten lie within {drawn.e90:.3f}.",
            0.0,
        ),
    )


def _groups(watched: Watched, rows: Mapping[str, Row]) -> Groups | None:
    columns = watched.columns
    if not len(columns):
        return None
    outcome = columns.facts["outcome"]
    refused = np.isin(outcome.codes, [i for i, level in enumerate(outcome.levels) if level == "no-result"])
    made: dict[str, list[GroupRow]] = {}
    for group, inside in groups(columns).items():
        fact, _, level = group.partition("=")
        labels = watched.npc[inside]
        known = labels[np.isfinite(labels)]
        row = rows.get(group)
        made.setdefault(fact, []).append(
            GroupRow(
                level or "All cases",
                int(inside.sum()),
                int((refused & inside).sum()),
                int(known.sum()),
                int(len(known) - known.sum()),
                _estimates(row),
                _warning(row, fact),
            )
        )
    (overall,) = made.pop("all")
    groupings = tuple(Grouping(_grouped(fact), _largest(found)) for fact, found in made.items())
    return Groups(tuple(_NAMES[name][0] for name in _DRAWN), overall, groupings)


def _grouped(fact: str) -> str:
    return _GROUPED.get(fact, fact)


def _largest(rows: list[GroupRow]) -> tuple[GroupRow, ...]:
    """The groups with the most runs, and a row that says how many were left out."""
    ordered = sorted(rows, key=lambda row: (-row.runs, row.name))
    if len(ordered) <= _MOST_ROWS:
        return tuple(ordered)
    rest = ordered[_MOST_ROWS:]
    sums = [sum(getattr(row, name) for row in rest) for name in ("runs", "refused", "npc", "not_npc")]
    return (*ordered[:_MOST_ROWS], GroupRow(f"{len(rest)} others", *sums))


def _estimates(row: Row | None) -> tuple[Estimate | None, ...]:
    if row is None:
        return (None,) * len(_DRAWN)
    return tuple(None if np.isnan(row.measures[n].value) else row.measures[n] for n in _DRAWN)


def _warning(row: Row | None, fact: str) -> str:
    if row is None or not row.warning:
        return "" if row is not None or fact == "all" else "no labelled case with a score"
    return row.warning


def _agreement(watched: Watched) -> Agreement:
    every = agreement(watched.pairs, watched.columns)
    if not every:
        return Agreement()
    all_cases, *others = every
    levels = ("T1", "T2", "T3", "T4", "none")
    counts = all_cases.confusion
    kept = 5 if counts[-1].any() or counts[:, -1].any() else 4
    named = levels[:kept]
    table = Confusion("T category, in the edition of the truth", named, named, counts[:kept, :kept])
    criteria = tuple(
        Measure(name.replace("_", " ").replace(".", ", "), None if np.isnan(share.value) else share)
        for name, (share, _) in all_cases.criteria.items()
    )
    dice = None if np.isnan(all_cases.dice.value) else Measure("Dice", all_cases.dice)
    rows = tuple(_agreement_row(other) for other in others)
    return Agreement((table,) if counts.any() else (), criteria, _reviews(watched.pairs), dice, rows)


def _agreement_row(of: GroupAgreement) -> AgreementRow:
    fact, _, level = of.group.partition("=")
    shares = [share for share, _ in of.criteria.values()]
    equal, asked = sum(s.value * s.n for s in shares if s.n), sum(s.n for s in shares)
    cases = max((s.n for s in shares), default=0)
    # Structures of one case go together: the interval counts cases.
    criteria = wilson(round(cases * equal / asked) if asked else 0, cases)
    found = (of.category, criteria, of.accepted, of.dice)
    known = (None if np.isnan(estimate.value) else estimate for estimate in found)
    return AgreementRow(f"{_grouped(fact)}: {level}", *known)


def _reviews(pairs: Sequence[Pair]) -> tuple[tuple[str, int], ...]:
    words = {"accept": "accepted", "corrected": "corrected", "reject": "rejected"}
    counts: Counter[str] = Counter(pair.truth.review for pair in pairs if pair.truth.review is not None)
    return tuple((words[name], counts[name]) for name in words if counts)


def _not_assessed(
    records: Sequence[CaseRecord], watched: Watched, settings: Settings, drawn: bool
) -> list[str]:
    """What nobody should read into the page, in sentences."""
    cases = len(watched.columns)
    labelled = int(np.isfinite(watched.npc).sum())
    found = [
        "Whoever was never scanned or whose study was never given to the engine.",
        f"A fault that was there from the start: the first {settings.baseline} cases are what the rest is"
        " compared with, and without labels nobody can say that they were right.",
    ]
    repeated = len(records) - cases
    if repeated:
        found.append(
            f"{repeated:,} runs are counted but not watched: repeated runs of a case, of which the last"
            " counts, and runs under another bundle than the newest, whose scores are another measurement."
        )
    if labelled < cases:
        found.append(
            f"The {cases - labelled:,} cases whose truth is not known. Measures hold for them only if truth"
            " comes to light as readily for one kind of case as for another."
        )
    if labelled < settings.labelled_minimum:
        found.append(
            f"Calibration, by an alarm: that begins with {settings.labelled_minimum} labelled cases, there"
            f" are {labelled}."
        )
    if not drawn:
        found.append(
            "Reliability, as a diagram: it takes ten cases with NPC and ten without, under one artefact."
        )
    if not any(v.watcher == "artefacts.paired" and v.cases > 1 for v in watched.verdicts):
        found.append("What quantisation does by itself: no two cases ran through two artefacts.")
    found.append("N and M category and stage group.")
    return found
