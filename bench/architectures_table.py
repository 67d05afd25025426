"""What `bench architectures` measured, as a Markdown table: a column for each architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Found = Mapping[str, Any]

_RAN = (
    ("fp32", "fp32 on onnxruntime"),
    ("fp32", "fp32 on openvino"),
    ("fp16", "fp16 as stored"),
    ("int8", "int8-u8s8 on onnxruntime"),
    ("int8", "int8-u8s8 on openvino"),
    ("int8", "int8-s8s8 on onnxruntime"),
)
"""Step, and the name of what it ran."""


def markdown(found: Mapping[str, Found]) -> str:
    """found: architecture → its window and what each step returned."""
    rows: list[tuple[str, Callable[[Found], str]]] = [
        ("window; parameters", _size),
        ("exporter", lambda a: _told(a["export"], lambda step: str(step["exporter"]))),
        ("rewrites that found something", lambda a: _told(a["rewrite"], _rewrites)),
        (
            "fp16: nodes that stay in fp32",
            lambda a: _told(a["fp16"], lambda s: f"{s['islands']} of {s['nodes']}"),
        ),
        ("int8: layers", lambda a: _told(a["int8"], lambda step: str(step["layers"]))),
    ]
    rows += [(name, lambda a, step=step, name=name: _error(a[step], name)) for step, name in _RAN]
    precisions = dict.fromkeys(p for a in found.values() for p in a["rtx"].get("built", {"engines": {}}))
    rows += [
        (f"TensorRT-RTX, {p}", lambda a, p=p: _told(a["rtx"], lambda s: _built(s, p))) for p in precisions
    ]
    steps = (
        [name for name, value in next(iter(found.values())).items() if "seconds" in value] if found else []
    )
    rows += [(f"{name}: time, peak", lambda a, name=name: _cost(a[name])) for name in steps]
    lines = [f"| {title} | " + " | ".join(show(a) for a in found.values()) + " |" for title, show in rows]
    return "\n".join(["| | " + " | ".join(found) + " |", "|---" * (1 + len(found)) + "|", *lines])


def _told(step: Found, show: Callable[[Found], str]) -> str:
    """What a step found, or why it did not."""
    return (
        str(step["failed"]) if "failed" in step else str(step["skipped"]) if "skipped" in step else show(step)
    )


def _size(architecture: Found) -> str:
    window = "2×" + "×".join(str(size) for size in architecture["window"])
    return f"{window}; " + _told(architecture["export"], lambda step: f"{step['parameters'] / 1e6:.1f} M")


def _rewrites(step: Found) -> str:
    changed = [one for one in step["passes"] if one["nodes_before"] != one["nodes_after"] or one["error"] > 0]
    return (
        ", ".join(f"{o['name']} ({o['ms_before']:.0f} → {o['ms_after']:.0f} ms)" for o in changed) or "none"
    )


def _error(step: Found, name: str) -> str:
    ran = step.get("ran", {}).get(name, step)
    if "relative_error" not in ran:
        return _told(ran, lambda _: "not run")
    agreed = f", Dice {ran['dice']:.4f}" if "dice" in ran else ""
    return f"{ran['relative_error']:.1e}{agreed}"


def _built(step: Found, precision: str) -> str:
    """The targets it built for, and why not the others."""
    found = step["built"].get(precision, {})
    done = {target: one for target, one in found.items() if "failed" not in one}
    parts = []
    if done:
        sizes = [one["megabytes"] for one in done.values()]
        parts.append(f"{', '.join(done)}: {min(sizes):g}-{max(sizes):g} MB")
    parts += [f"{target}: {one['failed']}" for target, one in found.items() if target not in done]
    return "; ".join(parts) or "no file to build from"


def _cost(step: Found) -> str:
    return f"{step['seconds']:.0f} s, {step['peak_mb']:.0f} MB" if "seconds" in step else str(step["failed"])
