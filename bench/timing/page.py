"""A report as one HTML file, nothing loaded from anywhere: where the time goes, ours and the peer's."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from npc_edge.bench.timing.summary import summary

Report = Mapping[str, Any]

_STAGES = {
    "start": "#b9c0c7",
    "read": "#1f4e79",
    "select": "#48708f",
    "assemble": "#5b8db8",
    "align": "#9dc0da",
    "locate": "#7a9a3d",
    "prepare": "#b5c878",
    "infer": "#c8553d",
    "findings": "#e0a458",
    "output": "#8b6aa8",
}
"""Stages in the order of a run. start: what is spent outside of every stage, in a new process mostly
before the first."""

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2530; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem }
svg { width: 100%; height: auto }
pre { font-size: 12px; overflow-x: auto; background: #f5f7f9; padding: 1rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem .9rem .2rem 0 }
td { font-variant-numeric: tabular-nums } .note { color: #5a6673 }
"""
_LEFT, _WIDTH, _RIGHT, _BAR, _STEP = 175, 560, 140, 24, 38


def page(report: Report) -> str:
    """The report as a document."""
    sides = {"npc-edge": report["engine"]}
    if "peer" in report:
        sides["PyTorch + MONAI"] = report["peer"]
    parts = [
        "<h1>Where the time of a study goes</h1>",
        f'<p class="note">{_text(_where(report))}</p>',
        "<h2>Latency by stage</h2>",
        _stages(sides),
        "<h2>Every warm run</h2>",
        _runs(report, sides),
        *(["<h2>PyTorch + MONAI, times npc-edge</h2>", _ratios(report)] if "ratios" in report else []),
        "<h2>All of it</h2>",
        f"<pre>{_text(summary(report))}</pre>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>npc-edge bench</title><style>{_STYLE}</style>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _where(report: Report) -> str:
    machine = report["machine"]
    words = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; {report['measured']}"
    )
    if "peer" in report:
        words += f". The peer ran as {report['peer']['chosen']}, its fastest way here."
    return words


def _stages(sides: Mapping[str, Report]) -> str:
    """Stacked bars of each side's median run, warm and cold; what no stage took ahead of them."""
    bars = []
    for kind in ("warm", "cold"):
        for name, side in sides.items():
            run = side[kind]["median_run"]
            spent = {stage: run["stages_ms"][stage] for stage in _STAGES if stage in run["stages_ms"]}
            rest = {"start": max(0.0, 1e3 * run["seconds"] - sum(spent.values()))}
            bars.append((f"{kind}, {name}", {**rest, **spent}, side[kind]["seconds"]))
    longest = max(max(sum(parts.values()), 1e3 * row["p90"]) for _, parts, row in bars)
    drawn = []
    for number, (label, parts, row) in enumerate(bars):
        y, left = 8 + number * _STEP, float(_LEFT)
        drawn.append(_label(_LEFT - 8, y + 16, label, "end"))
        for stage, value in parts.items():
            width = _WIDTH * value / longest
            title = f"<title>{stage} {value:.0f} ms</title>"
            drawn.append(
                f'<rect x="{left:.1f}" y="{y}" width="{width:.2f}" height="{_BAR}" '
                f'fill="{_STAGES[stage]}">{title}</rect>'
            )
            left += width
        low, high = (_LEFT + _WIDTH * 1e3 * row[p] / longest for p in ("min", "p90"))
        drawn.append(f'<path d="M{low:.1f} {y + 29}H{high:.1f}" stroke="#1c2530" stroke-width="1.5"/>')
        drawn.append(_label(max(left, high) + 6, y + 16, f"{row['p50']:.2f} s"))
    bottom = 8 + len(bars) * _STEP
    drawn.append(_axis(longest / 1e3, bottom))
    drawn.append(_legend(bottom + 40))
    words = "; ".join(f"{label}: {row['p50']:.2f} s" for label, _, row in bars)
    return _svg(
        drawn, bottom + 76, f"Median latency by stage. {words}. The line below each bar: fastest to p90."
    )


def _runs(report: Report, sides: Mapping[str, Report]) -> str:
    """Each run over its side's median, one strip a side, and the reference loop's beside them."""
    strips = {name: side["warm"]["samples"] for name, side in sides.items()}
    strips["reference loop"] = report["reference_loop"]["samples"]
    scaled = {name: _over_median(values) for name, values in strips.items()}
    most = max(1.2, *(max(values) for values in scaled.values()))
    least = min(0.9, *(min(values) for values in scaled.values()))

    def across(value: float) -> float:
        return _LEFT + _WIDTH * (value - least) / (most - least)

    drawn = [f'<path d="M{across(1):.1f} 4V{len(scaled) * _STEP}" stroke="#b9c0c7"/>']
    for number, (name, values) in enumerate(scaled.items()):
        y = 8 + number * _STEP
        drawn.append(_label(_LEFT - 8, y + 16, name, "end"))
        drawn += [
            f'<circle cx="{across(v):.1f}" cy="{y + 5 + 7 * (i % 3)}" r="3" fill="#1f4e79" opacity=".55"/>'
            for i, v in enumerate(values)
        ]
        steady = sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]
        drawn.append(_label(_LEFT + _WIDTH + 6, y + 16, f"slowest 1 %: {steady:.2f}"))
    bottom = 8 + len(scaled) * _STEP
    ticks = [least, 1.0, most]
    drawn += [_label(across(t), bottom + 12, f"{t:.2f}", "middle") for t in ticks]
    drawn.append(_label(_LEFT + _WIDTH / 2, bottom + 28, "times the median", "middle"))
    return _svg(drawn, bottom + 36, "Every run over its side's median; the loop is the machine's noise.")


def _over_median(values: Sequence[float]) -> list[float]:
    middle = sorted(values)[len(values) // 2]
    return [value / middle for value in values]


def _ratios(report: Report) -> str:
    rows = {name.replace("_", "-"): row for name, row in report["ratios"].items()}
    for kind, row in report["network"].get("ratios", {}).items():
        rows[f"network alone, {row['way']} ({kind})"] = row
    cells = "".join(
        f"<tr><td>{_text(name)}</td><td>{row['median']:.2f}</td>"
        f"<td>{row['low']:.2f} to {row['high']:.2f}</td>"
        f"<td>{row['p5']:.2f} to {row['p95']:.2f}</td><td>{row['pairs']}</td></tr>"
        for name, row in rows.items()
    )
    names = ("", "median", "95 % interval of it", "p5 to p95 of pairs", "pairs")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    return f"<table>{head}{cells}</table>"


def _axis(longest_s: float, y: float) -> str:
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if longest_s / s <= 8)
    ticks = [step * n for n in range(int(longest_s / step) + 1)]
    marks = "".join(
        f'<path d="M{_LEFT + _WIDTH * t / longest_s:.1f} {y}v4" stroke="#5a6673"/>'
        + _label(_LEFT + _WIDTH * t / longest_s, y + 16, f"{t:g} s", "middle")
        for t in ticks
    )
    return f'<path d="M{_LEFT} {y}H{_LEFT + _WIDTH}" stroke="#5a6673"/>{marks}'


def _legend(y: float) -> str:
    drawn, x = [], float(_LEFT)
    for number, (stage, colour) in enumerate(_STAGES.items()):
        if number == 6:
            x, y = float(_LEFT), y + 20
        drawn.append(f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="11" height="11" fill="{colour}"/>')
        drawn.append(_label(x + 16, y, "process start" if stage == "start" else stage))
        x += 100
    return "".join(drawn)


def _label(x: float, y: float, text: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="12" fill="#1c2530">{_text(text)}</text>'


def _svg(parts: Iterable[str], height: float, words: str) -> str:
    return (
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + _RIGHT} {height:.0f}" role="img" '
        f'aria-label="{html.escape(words)}" font-family="system-ui, sans-serif">{"".join(parts)}</svg>'
    )


def _text(words: str) -> str:
    return html.escape(words, quote=False)
