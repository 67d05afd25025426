"""The charts of the report as inline SVG: a quantity over time, reliability, an interval in a table cell.

Every chart has a label that says in words what it shows, for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npc_edge.calibration.markup import Child, Markup, tag
from npc_edge.calibration.report.axes import bin_means, date_ticks, number, round_ticks, thinned
from npc_edge.calibration.report.values import Estimate, Floats, Reliability, Trend
from npc_edge.calibration.report.wording import day

_BINS = 52


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
    """A quantity over time: means of equal spans as dots, its EWMA as a line, limits and change point."""
    first, last = int(item.at[0]), int(item.at[-1])
    middles, means = bin_means(item.at, item.values, _BINS)
    window = (float(first), float(max(last, first + 1)))
    frame = Frame(44, 470, 22, 168, window, _range(item, means))
    dots = [
        tag("circle", cx=frame.x(float(x)), cy=frame.y(float(y)), r=2.1, class_="dot")
        for x, y in zip(middles, means, strict=True)
    ]
    parts: list[Child] = [
        _reference(item, frame),
        _limits(item, frame),
        _value_axis(frame, (lambda v: f"{v * 100:.3g} %") if item.share else number),
        _time_axis(frame, first, last),
        dots,
        _smooth(item, frame),
        _change(item, frame),
    ]
    return tag("svg", parts, viewBox="0 0 480 190", role="img", aria_label=_in_words(item))


def _range(item: Trend, means: Floats) -> tuple[float, float]:
    """From what is drawn: limits and line whole, of the dots the middle nine tenths."""
    shown = [v for v in (item.low, item.high, item.centre) if v is not None and np.isfinite(v)]
    if means.size:
        shown += [float(v) for v in np.quantile(means, (0.05, 0.95))]
    if item.smooth is not None and np.isfinite(item.smooth).any():
        shown += [float(np.nanmin(item.smooth)), float(np.nanmax(item.smooth))]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    pad = 0.12 * (high - low) or max(abs(high) * 0.1, 0.05)
    bottom = low - pad
    if item.share or (low >= 0 and bottom < 0):
        bottom = max(bottom, 0.0)
    return bottom, high + pad


def _reference(item: Trend, frame: Frame) -> Child:
    """The cases the limits were set on, as a wash behind them."""
    if not 0 < item.reference < len(item.at):
        return None
    width = frame.x(float(item.at[item.reference])) - frame.left
    height = frame.bottom - frame.top
    words = (
        tag("text", "reference", x=frame.left + 4, y=frame.bottom - 5, class_="tick") if width > 58 else None
    )
    return [
        tag("rect", x=frame.left, y=frame.top, width=round(width, 2), height=height, class_="reference"),
        words,
    ]


def _limits(item: Trend, frame: Frame) -> Child:
    parts: list[Child] = []
    for value in (item.low, item.high):
        if value is not None and np.isfinite(value):
            y = frame.y(value)
            parts.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="limit"))
    if item.centre is not None and np.isfinite(item.centre):
        y = frame.y(item.centre)
        parts.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="centre"))
    return parts


def _value_axis(frame: Frame, words: Callable[[float], str]) -> list[Child]:
    parts: list[Child] = []
    for value in round_ticks(*frame.y_range):
        y = frame.y(value)
        parts.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", words(value), x=frame.left - 5, y=y + 3, class_="tick end"))
    return parts


def _time_axis(frame: Frame, first: int, last: int) -> list[Child]:
    bottom = frame.bottom
    parts: list[Child] = [tag("line", x1=frame.left, x2=frame.right, y1=bottom, y2=bottom, class_="axis")]
    for at, label in date_ticks(first, last):
        x = frame.x(float(at))
        anchor = "tick end" if x > frame.right - 18 else "tick middle"
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", label, x=x, y=bottom + 15, class_=anchor))
    return parts


def _smooth(item: Trend, frame: Frame) -> Child:
    """The EWMA; its points beyond a limit once more, in the colour of an alarm and dotted on."""
    if item.smooth is None:
        return None
    kept = thinned(item.smooth)
    times, line = item.at[kept].astype(np.float64), item.smooth[kept]
    low = -np.inf if item.low is None else item.low
    high = np.inf if item.high is None else item.high
    outside = (line < low) | (line > high)
    beyond = []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], outside.view(np.int8), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        stretch = slice(max(start - 1, 0), stop)
        beyond.append(tag("polyline", points=frame.line(times[stretch], line[stretch]), class_="ewma out"))
    return [tag("polyline", points=frame.line(times, line), class_="ewma"), beyond]


def _change(item: Trend, frame: Frame) -> Child:
    if item.change is None:
        return None
    at = int(item.at[item.change])
    x = frame.x(float(at))
    right = x < (frame.left + frame.right) / 2
    return [
        tag("line", x1=x, x2=x, y1=frame.top - 8, y2=frame.bottom, class_="change"),
        tag(
            "text",
            f"changed about {day(at)}",
            x=x + (4 if right else -4),
            y=frame.top - 9,
            class_="mark" if right else "mark end",
        ),
    ]


def _in_words(item: Trend) -> str:
    span = f"{item.title} from {day(int(item.at[0]))} to {day(int(item.at[-1]))}"
    limits = ""
    if item.low is not None and item.high is not None:
        limits = f", limits of its moving average {number(item.low)} to {number(item.high)} {item.unit}"
    changed = f", changed about {day(int(item.at[item.change]))}" if item.change is not None else ""
    return f"{span}: {len(item.at):,} cases{limits}{changed}, {item.level}"


def reliability(item: Reliability) -> Markup:
    """Observed share of NPC against predicted probability with its band; below, how many cases lie where."""
    frame = Frame(52, 350, 12, 310, (0.0, 1.0), (0.0, 1.0))
    ticks: list[Child] = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = frame.x(value), frame.y(value)
        ticks.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        ticks.append(tag("text", f"{value:.0%}", x=frame.left - 6, y=y + 3.5, class_="tick end"))
        ticks.append(tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="grid"))
        ticks.append(tag("text", f"{value:.0%}", x=x, y=398, class_="tick middle"))
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
        tag("polyline", points=frame.line(item.predicted, item.observed), class_="ewma") if band else None,
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
        f"where {item.predicted[i]:.0%} is predicted {item.observed[i]:.0%} have NPC"
        f" ({item.low[i]:.0%} to {item.high[i]:.0%})"
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
