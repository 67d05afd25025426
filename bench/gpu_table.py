"""The report of the GPU suite as Markdown, and whether it holds anything wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]

_WAYS = {
    "network": "network",
    "larger_network": "larger network",
    "end_to_end": "upload to labels",
    "run": "folder to files",
}


def passed(report: Row) -> bool:
    """True when no check failed, no sanitizer complained, no step broke, and nothing but a peer was wrong."""
    ways = [way for key in _WAYS for way in report.get(key, {}).get("ways", [])]
    return (
        all(row["passed"] for row in report.get("checks", []))
        and all(row["passed"] is not False for row in report.get("sanitizer", []))
        and all(step["status"] != "failed" for step in report["steps"].values())
        and not any("wrong" in way and not way["peer"] for way in ways)
    )


def table(report: Row) -> str:
    """Everything a person wants to see, what was not run included."""
    lines = [*_head(report), *_checks(report), *_bandwidth(report)]
    for key, title in _WAYS.items():
        if key in report:
            lines += ["", *_ways(report[key], title, key)]
    return "\n".join(lines)


def _head(report: Row) -> Iterator[str]:
    yield report["device"]
    if (smi := report.get("gpu", {}).get("smi_before")) is not None:
        clocks = f"clocks {smi['clocks.sm']} of {smi['clocks.max.sm']}, memory {smi['clocks.mem']}"
        yield f"driver {smi['driver_version']}, power limit {smi['power.limit']}, {clocks}"
    for name, step in report["steps"].items():
        if step["status"] != "done":
            yield f"step {name}: {step['status']}: {step['why']}"
    for row in report.get("tensorrt", []):
        verdict = {True: "takes the card", False: "does not take the card", None: "not asked"}[row["accepts"]]
        yield f"TensorRT ({row['runtime']} {row.get('version', '')}): {verdict}: {row['words']}"


def _checks(report: Row) -> Iterator[str]:
    if "checks" in report:
        failed = [row for row in report["checks"] if not row["passed"]]
        yield f"{len(report['checks'])} checks, {len(failed)} failed"
        for row in failed:
            yield (
                f"FAILED {row['operation']}, {row['case']}: {row['error']:.3g}, allowed {row['allowed']:.3g}"
            )
    said = {True: "clean", False: "FAILED", None: "not run"}
    for row in report.get("sanitizer", []):
        yield f"compute-sanitizer {row['tool']}: {said[row['passed']]}. {row['detail']}"


def _bandwidth(report: Row) -> Iterator[str]:
    if "bandwidth" in report:
        yield from ("", "| | ms | GB/s | % of a copy |", "| --- | --- | --- | --- |")
        for row in report["bandwidth"]:
            share = f"{row['gb_s']:.0f} | {row['percent_of_copy']:.0f}"
            yield f"| {row['operation']} | {row['ms']:.3f} | {share} |"
    if "stages_ms" in report:
        spent = ", ".join(f"{name} {value:.2f}" for name, value in report["stages_ms"].items())
        yield from ("", f"around a network, ms: {spent}")


def _ways(held: Row, title: str, key: str) -> Iterator[str]:
    what = held.get("name") or "x".join(str(n) for n in held["study"])
    flop = f", {held['gflop']:.1f} GFLOP a window" if "gflop" in held else ""
    against = "the processor's best" if key == "run" else "PyTorch's best"
    yield f"{title}: {what}{flop}"
    yield f"| | ms (p10-p90) | TFLOP/s | times {against} (95 %) | first, s | off by |"
    yield "| --- | --- | --- | --- | --- | --- |"
    timed = [way for way in held["ways"] if "ms" in way]
    for way in sorted(timed, key=lambda way: float(way["ms"]["p50"])):
        yield _timed(way)
    if held.get("no_file"):
        yield f"ONNX Runtime, TensorRT: not run: {held['no_file']}"
    for way in held["ways"]:
        if "wrong" in way:
            yield f"{way['way']}: WRONG, so it has no speed: {way['wrong']}"
        elif "ms" not in way:
            yield f"{way['way']}: not run: {way.get('not_run', 'stopped before it was timed')}"


def _timed(way: Row) -> str:
    ms, times = way["ms"], way.get("times")
    ratio = f"{times['median']:.2f} ({times['low']:.2f}-{times['high']:.2f})" if times else ""
    if "max_relative_error" in way:
        off = f"{way['max_relative_error']:.1e}"
    else:
        off = f"equal {way['structures_equal']:.4f}, Dice {way['tumour_dice']:.3f}"
    as_what = f", {way['runs_as']}" if "runs_as" in way else ""
    spread = f"{ms['p50']:.3f} ({ms['p10']:.3f}-{ms['p90']:.3f})"
    cells = (f"{way['way']}{as_what}", spread, way.get("tflop_s", ""), ratio, way["first_s"], off)
    return f"| {' | '.join(str(cell) for cell in cells)} |"
