"""The part of the report that shows numbers: key facts, reliability, trends, tables by group, agreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npc_edge.calibration.markup import Child, Markup, join, table, tag
from npc_edge.calibration.report import charts, wording
from npc_edge.calibration.report.axes import number
from npc_edge.calibration.report.values import (
    Agreement,
    AgreementRow,
    Confusion,
    Content,
    GroupRow,
    Groups,
    Measure,
    Reliability,
    Trend,
)
from npc_edge.calibration.watch.estimate import Estimate

_AUC_SCALE = (0.5, 1.0)


def section(title: str, *children: Child) -> Markup:
    return tag("section", tag("h2", title), children)


def interval(estimate: Estimate) -> str:
    """0.91 (0.87 to 0.94)."""
    if not np.isfinite(estimate.low):
        return _digits(estimate.value)
    return f"{_digits(estimate.value)} ({_digits(estimate.low)} to {_digits(estimate.high)})"


def _digits(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if abs(value) < 0.095 else f"{value:.2f}".replace("-", "−")


def facts(content: Content) -> Markup:
    """The few numbers that matter, as cards."""
    overview = content.overview
    reasons = ", ".join(f"{code} {count:,}" for code, count in overview.reasons[:3]) or "none"
    share = wording.percent(overview.refused / overview.runs) if overview.runs else "none"
    known = (
        f"{wording.percent(overview.with_truth / overview.runs)} of the runs"
        if overview.runs
        else "no run yet"
    )
    cards = [
        _card("Runs", f"{overview.runs:,}", f"latest on {wording.day(overview.last_at)}"),
        _card("Refused", share, f"reasons: {reasons}"),
        _card("Cases with known truth", f"{overview.with_truth:,}", known),
        *(_measure_card(measure) for measure in content.headline_measures),
    ]
    return tag("dl", cards, class_="facts")


def _card(title: str, big: str, small: str) -> Markup:
    value = tag("dd", tag("div", big, class_="big"), tag("p", small, class_="small soft"))
    return tag("div", tag("dt", title), value, class_="fact")


def _measure_card(measure: Measure) -> Markup:
    estimate = measure.estimate
    if estimate is None:
        return _card(measure.name, "not known", measure.meaning)
    spread = ""
    if np.isfinite(estimate.low):
        spread = f"95 % interval {_digits(estimate.low)} to {_digits(estimate.high)}; "
    small = f"{spread}{wording.count(estimate.n, 'case', 'cases')}. {measure.meaning}"
    return _card(measure.name, _digits(estimate.value), small)


def reliability(items: Sequence[Reliability]) -> Markup | None:
    """Does the probability mean what it says, for each artefact with enough labelled cases?"""
    if not items:
        return None
    words = (
        "On the dashed line the model means what it says. Below it, it says too much; above it, too little."
        " The band holds the true curve with 95 % confidence; bars count the cases at every probability."
    )
    return section(
        "Are the probabilities true?", tag("p", words, class_="soft small"), map(_reliability, items)
    )


def _reliability(item: Reliability) -> Markup:
    rows = [[m.name, _value(m.estimate, "too few cases"), _target(m), m.meaning] for m in item.measures]
    cases = int(item.npc.sum()), int(item.not_npc.sum())
    caption = f"{item.artefact}: {cases[0]:,} cases with NPC, {cases[1]:,} without"
    head = ("Measure", "Value (95 % interval)", "Perfect", "What it says")
    return tag(
        "div",
        tag("figure", charts.reliability(item), class_="square"),
        tag(
            "div",
            table(head, rows, caption) if rows else tag("p", caption),
            tag("p", item.warning, class_="note") if item.warning else None,
        ),
        class_="reliability",
    )


def _value(estimate: Estimate | None, otherwise: str) -> Markup:
    return tag("span", otherwise if estimate is None else interval(estimate), class_="value")


def _target(measure: Measure) -> str:
    return "" if measure.target is None else number(measure.target)


def trends(items: Sequence[Trend]) -> Markup | None:
    """One chart a quantity, the alarming ones first in the order given."""
    if not items:
        return None
    words = (
        "Above, the quantity itself; below, on the same dates, how near its watcher came to its limits, which"
        " are set by the chosen false-alarm rate. A CUSUM adds up deviations, so it goes on climbing while a"
        " change lasts."
    )
    legend = tag(
        "div",
        tag("span", tag("i", class_="key dots"), "mean of a span of time"),
        tag("span", tag("i", class_="key reference"), "baseline, its mean dotted on"),
        tag("span", tag("i", class_="key path"), "watcher"),
        tag("span", tag("i", class_="key out"), "beyond its limit"),
        tag("span", tag("i", class_="key limit"), "limit for act (finer: for watch)"),
        tag("span", tag("i", class_="key change"), "estimated change"),
        class_="legend",
    )
    body = tag("div", map(_trend, items), class_="charts")
    return section("Over time", tag("p", words, class_="soft small"), legend, body)


def _trend(item: Trend) -> Markup:
    level = item.watch.level if item.watch is not None else ""
    pill = tag("span", level, class_=f"pill {level}") if level else None
    name = tag("figcaption", tag("b", f"{item.title} ({item.unit})" if item.unit else item.title), " ", pill)
    words = tag("p", item.words, class_="small soft") if item.words else None
    if not len(item.at):
        return tag("figure", name, tag("p", "No case yet.", class_="soft"))
    return tag("figure", name, charts.trend(item), words)


def groups(item: Groups | None) -> Markup | None:
    """By site, vendor and so on, in one table: all cases first."""
    if item is None:
        return None
    words = (
        "Intervals are 95 %. The upright line in each picture is all cases together; an interval across it"
        " shows no difference, which is not to say that there is none."
    )
    scale = _scale(item)
    columns = ("", "Runs", "Refused", "Truth known (NPC)", *item.measures)
    head = tag("tr", [tag("th", name, scope="col") for name in columns])
    bodies = [tag("tbody", _group_row(item.overall, item, scale))]
    for grouping in item.groupings:
        title = tag("tr", tag("th", grouping.title, scope="rowgroup", colspan=len(columns)))
        bodies.append(tag("tbody", title, [_group_row(row, item, scale) for row in grouping.rows]))
    drawn = (
        f"; {item.measures[0]} is drawn from {number(scale[0])} to {number(scale[1])}"
        if item.measures
        else ""
    )
    caption = tag("caption", f"All cases, then each group{drawn}")
    shown = tag("table", caption, tag("thead", head), bodies, class_="groups")
    return section("By scanner, vendor and kind of study", tag("p", words, class_="soft small"), shown)


def _scale(item: Groups) -> tuple[float, float]:
    """Of the pictures: half to 1 for an AUC unless something is lower, else from the numbers."""
    rows = [item.overall, *(row for grouping in item.groupings for row in grouping.rows)]
    drawn = [row.estimates[0] for row in rows if row.estimates and row.estimates[0] is not None]
    ends = [v for e in drawn for v in (e.low, e.high, e.value) if np.isfinite(v)]
    if item.measures[:1] == ("AUC",):
        return (0.0 if ends and min(ends) < _AUC_SCALE[0] else _AUC_SCALE[0]), _AUC_SCALE[1]
    return (min(ends), max(ends)) if ends and max(ends) > min(ends) else (0.0, 1.0)


def _group_row(row: GroupRow, item: Groups, scale: tuple[float, float]) -> Markup:
    overall = item.overall.estimates[0] if item.overall.estimates else None
    mark = None if overall is None else overall.value
    cells: list[Child] = []
    for place in range(len(item.measures)):
        estimate = row.estimates[place] if place < len(row.estimates) else None
        if estimate is None:
            cells.append(tag("span", "too few", class_="soft"))
            continue
        picture = charts.interval(estimate, *scale, mark) if place == 0 else None
        cells.append([picture, tag("span", interval(estimate), class_="value")])
    share = wording.percent(row.refused / row.runs) if row.runs else ""
    known = f"{row.npc + row.not_npc:,} ({row.npc:,})"
    shown = tag(
        "tr",
        tag("th", row.name, scope="row"),
        [tag("td", cell) for cell in (f"{row.runs:,}", share, known, *cells)],
        class_="minded" if row.warning else None,
    )
    return join([shown, _mind(row.warning, len(cells) + 4) if row.warning else None])


def _mind(warning: str, columns: int) -> Markup:
    """What a row's number of cases does not allow, below it."""
    return tag("tr", tag("td", warning, colspan=columns, class_="small warn"), class_="mind")


def agreement(item: Agreement) -> Markup | None:
    """Categories, criteria and masks against what became known."""
    parts: list[Child] = [
        tag("div", map(_confusion, item.confusions), class_="confusions") if item.confusions else None,
        _criteria(item.criteria) if item.criteria else None,
        _reviews(item) if item.reviews or item.dice is not None else None,
        _agreement_groups(item.groups) if item.groups else None,
    ]
    if all(part is None for part in parts):
        return None
    return section("T category, criteria and masks against the truth", parts)


def _confusion(item: Confusion) -> Markup:
    largest = max(int(item.counts.max()), 1)
    rows = []
    for i, truth in enumerate(item.truth):
        cells = [tag("th", truth, scope="row")]
        for j, said in enumerate(item.said):
            count = int(item.counts[i, j])
            same = "same" if truth == said else "other"
            shade = round(0.08 + 0.34 * count / largest, 2) if count else 0
            cells.append(tag("td", f"{count:,}", class_=same, style=f"--shade: {shade}"))
        rows.append(tag("tr", cells))
    head = tag(
        "tr", tag("th", "truth \\ said", scope="col"), [tag("th", name, scope="col") for name in item.said]
    )
    total = int(item.counts.sum())
    agreed = sum(
        int(item.counts[i, j])
        for i, truth in enumerate(item.truth)
        for j, said in enumerate(item.said)
        if truth == said
    )
    caption = tag("caption", f"{item.title}: {agreed:,} of {total:,} the same")
    return tag("table", caption, tag("thead", head), tag("tbody", rows), class_="confusion")


def _criteria(items: Sequence[Measure]) -> Markup:
    rows = [
        [
            m.name,
            _value(m.estimate, "too few"),
            "" if m.estimate is None else f"{m.estimate.n:,}",
            m.meaning,
        ]
        for m in items
    ]
    head = ("Criterion", "Agreement (95 % interval)", "Cases", "Mind")
    return table(head, rows, "Involvement of each structure, as the engine and as the truth has it")


def _agreement_groups(rows: Sequence[AgreementRow]) -> Markup:
    head = ("Group", "T category the same", "Criteria the same", "Masks accepted", "Dice of corrected masks")
    cells = [
        [row.name, *(_of_cases(e) for e in (row.category, row.criteria, row.accepted, row.dice))]
        for row in rows
    ]
    return table(head, cells, "By scanner, vendor and kind of study, with 95 % intervals")


def _of_cases(estimate: Estimate | None) -> Markup:
    if estimate is None:
        return tag("span", "not known", class_="soft")
    return tag("span", f"{interval(estimate)}, n = {estimate.n:,}", class_="value")


def _reviews(item: Agreement) -> Markup:
    total = sum(count for _, count in item.reviews)
    words = (
        ", ".join(f"{name} {count:,} ({wording.percent(count / total)})" for name, count in item.reviews)
        if total
        else ""
    )
    dice = ""
    if item.dice is not None and item.dice.estimate is not None:
        e = item.dice.estimate
        dice = f"Dice of corrected masks {interval(e)} on {wording.count(e.n, 'case', 'cases')}."
    return tag("p", f"Masks reviewed: {words}. " if words else "", dice)


def not_assessed(sentences: Sequence[str]) -> Markup | None:
    """What nobody should read into this page."""
    if not sentences:
        return None
    return section("What was not assessed", tag("ul", [tag("li", sentence) for sentence in sentences]))
