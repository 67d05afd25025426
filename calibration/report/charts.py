"""The charts of the report as inline SVG: a quantity over time, reliability, an interval in a table cell.

Every chart has a label that says in words what it shows, for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npc_edge.calibration.markup import Child, Markup, tag
from npc_edge.calibration.report.axes import bin_means, date_ticks, number, round_ticks, thinned
from npc_edge.calibration.report.values import Floats, Reliability, Trend, Watch
from npc_edge.calibration.report.wording import day, percent
from npc_edge.calibration.watch.estimate import Estimate

_BINS = 52
_LABEL = 150.0  # wide is what is written at a change
_FARTHEST = 2.0
"""A watcher's path is drawn up to so many limits; beyond, it runs along the edge."""


@dataclass(frozen=True)
class Frame:
    """Where a chart's data lie in its picture, and what ranges they have."""

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(self.left + (self.right - self.left) * (value - low) / (high - low), 2)

    def y(self, value: float) -> float:
        """Values beyond the range are drawn on its edge."""
        low, high = self.y_range
        inside = min(max(value, low), high)
        return round(self.bottom - (self.bottom - self.top) * (inside - low) / (high - low), 2)

    def line(self, xs: Floats, ys: Floats) -> str:
        return " ".join(f"{self.x(float(x))},{self.y(float(y))}" for x, y in zip(xs, ys, strict=True))


def trend(item: Trend) -> Markup:
    """A quantity over time, and below it on the same dates what its watcher made of it."""
    first, last = int(item.at[0]), int(item.at[-1])
    middles, means = bin_means(item.at, item.values, _BINS)
    window = (float(first), float(max(last, first + 1)))
    normal = _normal(item)
    above = Frame(46, 470, 22, 118, window, _range(means, normal, item.share))
    below = Frame(46, 470, 132, 192, window, _reach(item.watch))
    points = above.line(middles, means)
    parts: list[Child] = [
        _reference(item, above, below),
        _value_axis(above, percent if item.share else number),
        _level_line(above, normal, "centre"),
        tag("polyline", points=points, class_="through"),
        [
            tag("circle", cx=x, cy=y, r=2.4, class_="dot")
            for x, y in (point.split(",") for point in points.split())
        ],
        _watched(item, below),
        _time_axis(below if item.watch is not None else above, first, last),
        _change(item, above, below),
    ]
    height = 214 if item.watch is not None else 140
    return tag("svg", parts, viewBox=f"0 0 480 {height}", role="img", aria_label=_in_words(item))


def _normal(item: Trend) -> float | None:
    """The mean of the baseline."""
    first = item.values[: item.reference]
    return float(np.nanmean(first)) if np.isfinite(first).any() else None


def _range(means: Floats, normal: float | None, share: bool) -> tuple[float, float]:
    """From what is drawn, of the dots the middle 96 %: one odd week must not flatten a year."""
    shown = [] if normal is None else [normal]
    if means.size:
        shown += [float(v) for v in np.quantile(means, (0.02, 0.98))]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    pad = 0.15 * (high - low) or max(abs(high) * 0.1, 0.05)
    bottom = low - pad
    return (max(bottom, 0.0) if share or low >= 0 else bottom), high + pad


def _reach(watch: Watch | None) -> tuple[float, float]:
    """The watcher's scale: a little more than its limits, at most twice as far."""
    farthest = float(np.abs(watch.path).max()) if watch is not None and watch.path.size else 0.0
    reach = min(max(farthest, 1.25), _FARTHEST)
    return -reach, reach


def _reference(item: Trend, above: Frame, below: Frame) -> Child:
    """The baseline's cases, as a wash behind both."""
    if not 0 < item.reference < len(item.at):
        return None
    width = round(above.x(float(item.at[item.reference])) - above.left, 2)
    frames = (above, below) if item.watch is not None else (above,)
    washes = [
        tag("rect", x=f.left, y=f.top, width=width, height=f.bottom - f.top, class_="reference")
        for f in frames
    ]
    words = tag("text", "baseline", x=above.left + 4, y=above.top - 4, class_="tick") if width > 40 else None
    return [washes, words]


def _level_line(frame: Frame, value: float | None, kind: str) -> Child:
    if value is None:
        return None
    y = frame.y(value)
    return tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_=kind)


def _value_axis(frame: Frame, words: Callable[[float], str]) -> list[Child]:
    parts: list[Child] = []
    for value in round_ticks(*frame.y_range):
        y = frame.y(value)
        parts.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", words(value), x=frame.left - 5, y=y + 3.5, class_="tick end"))
    return parts


def _time_axis(frame: Frame, first: int, last: int) -> list[Child]:
    bottom = frame.bottom
    parts: list[Child] = [tag("line", x1=frame.left, x2=frame.right, y1=bottom, y2=bottom, class_="axis")]
    for at, label in date_ticks(first, last):
        x = frame.x(float(at))
        anchor = "tick end" if x > frame.right - 18 else "tick middle"
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", label, x=x, y=bottom + 16, class_=anchor))
    return parts


def _watched(item: Trend, frame: Frame) -> Child:
    """The watcher's path between its limits; what is beyond one, once more in the colour of an alarm."""
    watch = item.watch
    if watch is None:
        return None
    kept = thinned(watch.path)
    times, line = item.at[kept].astype(np.float64), watch.path[kept]
    outside = np.abs(line) > 1
    edges = np.flatnonzero(np.diff(np.concatenate([[0], outside.view(np.int8), [0]])))
    beyond = [
        tag("polyline", points=frame.line(times[cut], line[cut]), class_="path out")
        for cut in (slice(max(a - 1, 0), b) for a, b in zip(edges[::2], edges[1::2], strict=True))
    ]
    limits = [_level_line(frame, v, "limit") for v in (-1.0, 1.0)]
    softer = [_level_line(frame, v, "limit soft") for v in (-watch.watch, watch.watch) if 0 < v * v < 1]
    names = [
        tag("text", words, x=frame.left - 5, y=frame.y(value) + 3.5, class_="tick end")
        for words, value in (("limit", 1.0), (watch.method, 0.0), ("limit", -1.0))
    ]
    path = tag("polyline", points=frame.line(times, line), class_="path")
    return [
        _level_line(frame, 0.0, "grid"),
        limits,
        softer,
        names,
        path,
        beyond,
        _off_the_scale(watch, frame),
    ]


def _off_the_scale(watch: Watch, frame: Frame) -> Child:
    """How far a path went that runs along the edge."""
    place = int(np.abs(watch.path).argmax())
    farthest = float(watch.path[place])
    if abs(farthest) <= _FARTHEST:
        return None
    y = frame.top + 12 if farthest > 0 else frame.bottom - 5
    words = f"up to {abs(farthest):.0f} times its limit"
    return tag("text", words, x=frame.right - 2, y=y, class_="tick end")


def _change(item: Trend, above: Frame, below: Frame) -> Child:
    if item.watch is None or item.watch.change is None:
        return None
    at = int(item.at[item.watch.change])
    x = above.x(float(at))
    right = x + _LABEL <= above.right
    return [
        tag("line", x1=x, x2=x, y1=above.top - 10, y2=below.bottom, class_="change"),
        tag(
            "text",
            f"changed about {day(at)}",
            x=x + (5 if right else -5),
            y=above.top - 6,
            class_="mark" if right else "mark end",
        ),
    ]


def _in_words(item: Trend) -> str:
    words = f"{item.title} of {len(item.at):,} cases from {day(int(item.at[0]))} to {day(int(item.at[-1]))}"
    normal = _normal(item)
    if normal is not None:
        shown = percent(normal) if item.share else f"{number(normal)} {item.unit}".strip()
        words += f", {shown} on average in the baseline"
    if item.watch is None:
        return words
    change = item.watch.change
    changed = f", changed about {day(int(item.at[change]))}" if change is not None else ""
    return f"{words}{changed}; its {item.watch.method} says {item.watch.level}"


def reliability(item: Reliability) -> Markup:
    """Observed share of NPC against predicted probability with its band; below, how many cases lie where."""
    frame = Frame(52, 350, 12, 310, (0.0, 1.0), (0.0, 1.0))
    ticks: list[Child] = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = frame.x(value), frame.y(value)
        ticks.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        ticks.append(tag("text", percent(value), x=frame.left - 6, y=y + 3.5, class_="tick end"))
        ticks.append(tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="grid"))
        ticks.append(tag("text", percent(value), x=x, y=398, class_="tick middle"))
    band = (
        frame.line(item.predicted, item.high) + " " + frame.line(item.predicted[::-1], item.low[::-1])
        if item.predicted.size
        else ""
    )
    middle = (frame.top + frame.bottom) / 2
    parts: list[Child] = [
        ticks,
        tag("polygon", points=band, class_="band") if band else None,
        tag("line", x1=frame.x(0), y1=frame.y(0), x2=frame.x(1), y2=frame.y(1), class_="ideal"),
        tag("polyline", points=frame.line(item.predicted, item.observed), class_="curve") if band else None,
        _histogram(item, frame),
        tag("text", "predicted probability of NPC", x=frame.x(0.5), y=416, class_="axis-name middle"),
        tag(
            "text",
            "observed share of NPC",
            x=12,
            y=middle,
            transform=f"rotate(-90 12 {middle})",
            class_="axis-name middle",
        ),
    ]
    return tag("svg", parts, viewBox="0 0 372 422", role="img", aria_label=_reliability_words(item))


def _histogram(item: Reliability, frame: Frame) -> Child:
    """Cases with NPC above a line, cases without below it, on one scale each."""
    if not item.npc.size:
        return None
    parts: list[Child] = []
    base, height = 350.0, 30.0
    width = (frame.right - frame.left) / item.npc.size
    for counts, kind, up in ((item.npc, "npc", True), (item.not_npc, "not-npc", False)):
        tallest = max(int(counts.max()), 1)
        for i, count in enumerate(counts):
            if count:
                size = max(round(height * float(count) / tallest, 2), 0.8)
                y = base - size if up else base
                parts.append(
                    tag(
                        "rect",
                        x=round(frame.left + i * width + 0.5, 2),
                        y=round(y, 2),
                        width=round(width - 1, 2),
                        height=size,
                        class_=kind,
                    )
                )
    return [
        parts,
        tag("line", x1=frame.left, x2=frame.right, y1=base, y2=base, class_="axis"),
        tag("text", "NPC", x=frame.left - 6, y=base - 8, class_="tick end"),
        tag("text", "not NPC", x=frame.left - 6, y=base + 16, class_="tick end"),
    ]


def _reliability_words(item: Reliability) -> str:
    cases = int(item.npc.sum()), int(item.not_npc.sum())
    words = f"Reliability of {item.artefact} on {cases[0]} cases with NPC and {cases[1]} without"
    if not item.predicted.size:
        return words
    places = [0, item.predicted.size // 2, item.predicted.size - 1]
    points = [
        f"where {percent(item.predicted[i])} is predicted {percent(item.observed[i])} have NPC"
        f" ({percent(item.low[i])} to {percent(item.high[i])})"
        for i in places
    ]
    return f"{words}: {'; '.join(points)}"


def interval(estimate: Estimate, low: float, high: float, mark: float | None) -> Markup:
    """An estimate with its interval on a scale from low to high; mark: a line to compare it with."""
    frame = Frame(3, 97, 0, 14, (low, high), (0.0, 1.0))

    def place(value: float) -> float:
        return frame.x(min(max(value, low), high))

    parts: list[Child] = [
        tag("line", x1=3, x2=97, y1=7, y2=7, class_="track"),
        tag("line", x1=place(mark), x2=place(mark), y1=1, y2=13, class_="overall")
        if mark is not None
        else None,
        tag("line", x1=place(estimate.low), x2=place(estimate.high), y1=7, y2=7, class_="span")
        if np.isfinite(estimate.low)
        else None,
        tag("circle", cx=place(estimate.value), cy=7, r=3, class_="point"),
    ]
    return tag("svg", parts, viewBox="0 0 100 14", class_="interval", aria_hidden="true")
