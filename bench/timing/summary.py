"""A report in a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]


def summary(report: Report) -> str:
    """The report as plain text."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    machine, engine, study = report["machine"], report["engine"], report["study"]
    z, y, x = study["shape"]
    words = f"{machine['processor']}, {machine['cores']} cores, {machine['instruction_set']}"
    yield f"{words}; load {_load(report)}"
    words = f"{study['files']} files, reference {z} x {y} x {x}"
    yield f"{words}; {report['bundle']['name']} as {_runs_as(report)}"
    loop = report["reference_loop"]
    yield f"the machine's noise (reference loop): {100 * loop['noise']:.0f} %, p99/p50 {_steady(loop):.2f}"
    yield ""
    sides = {"npc-edge": engine, **({"PyTorch + MONAI": report["peer"]} if "peer" in report else {})}
    yield f"{'seconds':24} {'p50':>8} {'p90':>8} {'p99':>8} {'runs':>5}"
    for kind in ("warm", "cold"):
        for name, side in sides.items():
            row = side[kind]["seconds"]
            numbers = " ".join(f"{row[p]:8.3f}" for p in ("p50", "p90", "p99"))
            yield f"{kind + ', ' + name:24} {numbers} {row['runs']:5}"
    for name, side in sides.items():
        first = side["first_run"]
        yield f"first run, {name}: {first['open_s']:.2f} s to open, {first['run_s']:.2f} s to run"
        peak = side["memory"]["peak_mb"]
        yield f"peak memory, {name}: {'not measured here' if peak is None else f'{peak:.0f} MB'}"
    yield ""
    yield f"{'stage, ms (p50, warm)':24}" + "".join(f" {name:>16}" for name in sides)
    for stage in engine["warm"]["stages_ms"]:
        values = "".join(f" {side['warm']['stages_ms'][stage]['p50']:16.1f}" for side in sides.values())
        yield f"{stage:24}{values}"
    yield ""
    yield from _achieved(report)
    yield from _network(report)
    yield from _ratios(report)


def _runs_as(report: Report) -> str:
    engine = report["engine"]
    return f"{engine['backend']} {engine['precision']} on {engine['device']}, {engine['threads']} threads"


def _load(report: Report) -> str:
    return f"{report['load']['before']} before, {report['load']['after']} after"


def _steady(loop: Report) -> float:
    return float(loop["p99"]) / float(loop["p50"])


def _achieved(report: Report) -> Iterator[str]:
    held, warm = report["achieved"], report["engine"]["warm"]
    yield (
        f"{warm['studies_an_hour']:.0f} studies an hour; {held['ms_a_window']} ms a window "
        f"({held['windows']} windows); {held['mvoxel_s']} Mvoxel/s; p99/p50 {warm['p99_over_p50']}"
    )
    if "gflop_s" in held:
        yield (
            f"network: {held['gflop_s']} GFLOP/s{_of(held['gflop_percent'])} of the "
            f"{held['peak_used']} peak; "
            f"{held['network_gb_s']} GB/s{_of(held['network_gb_percent'])} of copying"
        )
    if "reading_gb_s" in held:
        yield f"reading: {held['reading_gb_s']} GB/s{_of(held['reading_gb_percent'])} of copying"
    peaks = ", ".join(f"{name} {value}" for name, value in report["peaks"].items() if value is not None)
    yield f"this machine's peaks (GFLOP/s; copy GB/s): {peaks}"


def _of(percent: float | None) -> str:
    return "" if percent is None else f", {percent} %"


def _network(report: Report) -> Iterator[str]:
    held = report["network"]
    if not held["ways"]:
        return
    yield ""
    yield f"{'network alone, one window':40} {'p50 ms':>8} {'GFLOP/s':>8}"
    for way, row in sorted(held["ways"].items(), key=lambda item: float(item[1]["p50"])):
        yield f"{way:40} {1e3 * row['p50']:8.1f} {row.get('gflop_s', ''):>8}"
    for way, why in {**held["left_out"], **report.get("peer", {}).get("left_out", {})}.items():
        yield f"{way} does not run here: {why}"
    for kind, row in held.get("ratios", {}).items():
        yield f"{held['engine']} against {row['way']} ({kind}): {_ratio(row)}"


def _ratios(report: Report) -> Iterator[str]:
    if "ratios" not in report:
        return
    yield ""
    yield f"PyTorch + MONAI ({report['peer']['chosen']}) takes, times npc-edge:"
    for name, row in report["ratios"].items():
        yield f"  {name.replace('_', '-'):14} {_ratio(row)}"
    held = report["agreement"]
    yield (
        f"their results: tumour Dice {held['tumour_dice']}, structures equal at "
        f"{100 * held['structures_equal']:.1f} % of voxels, "
        f"{'the same files' if held['same_files'] else 'not the same files'}"
    )


def _ratio(row: Report) -> str:
    return f"{row['median']:.2f} (95 % {row['low']:.2f}-{row['high']:.2f}, {row['pairs']} pairs)"
