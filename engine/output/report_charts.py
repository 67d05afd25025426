"""The two small charts of the report as vectors: the score against its threshold, the spread over T1-T4."""

from __future__ import annotations

from collections.abc import Mapping

from npc_edge.calibration.markup import Markup, tag

_SHADES = {"T1": "#c9d8e6", "T2": "#8fb0cc", "T3": "#4f7fa8", "T4": "#1f4e79"}
_DARK = frozenset({"T3", "T4"})


def gauge(probability: float, threshold: float, doubtful: tuple[float, float] | None) -> Markup:
    """A line from 0 to 1 with the score on it, the threshold, and the zone where no conclusion is drawn."""
    zone = None
    if doubtful is not None and doubtful[1] > doubtful[0]:
        zone = tag(
            "rect", x=_x(doubtful[0]), y=9, width=200 * (doubtful[1] - doubtful[0]), height=6, fill="#f0d9a8"
        )
    parts = [
        tag("rect", x=10, y=9, width=200, height=6, rx=3, fill="#dde3e9"),
        zone,
        tag("path", d=f"M{_x(threshold)} 4V20", stroke="#1c2530", stroke_width=1.2),
        tag(
            "text",
            f"threshold {threshold:.2f}",
            x=_x(threshold),
            y=29,
            font_size=7.5,
            text_anchor="middle",
            fill="#5a6673",
        ),
        tag("circle", cx=_x(probability), cy=12, r=5, fill="#1f4e79", stroke="#fff", stroke_width=1.2),
    ]
    words = f"score {probability:.2f} on a scale from 0 to 1, threshold {threshold:.2f}"
    return tag("svg", parts, viewBox="0 0 220 32", role="img", aria_label=words)


def _x(value: float) -> str:
    return f"{10 + 200 * value:.1f}"


def distribution(shares: Mapping[str, float]) -> Markup | None:
    """A stacked bar over T1-T4, its wide enough parts labelled; None when there is nothing to show."""
    total = sum(shares.values())
    if total <= 0:
        return None
    parts, start = [], 0.0
    for name in ("T1", "T2", "T3", "T4"):
        width = 220 * shares.get(name, 0.0) / total
        if width <= 0:
            continue
        parts.append(tag("rect", x=f"{start:.1f}", y=0, width=f"{width:.1f}", height=18, fill=_SHADES[name]))
        if width > 34:
            colour = "#fff" if name in _DARK else "#1c2530"
            text = f"{name} {shares[name] / total:.0%}"
            parts.append(
                tag(
                    "text",
                    text,
                    x=f"{start + width / 2:.1f}",
                    y=12.5,
                    font_size=8.5,
                    text_anchor="middle",
                    fill=colour,
                )
            )
        start += width
    words = ", ".join(f"{name} {share / total:.0%}" for name, share in sorted(shares.items()))
    return tag("svg", parts, viewBox="0 0 220 18", role="img", aria_label=f"distribution: {words}")
