"""What `bench architectures` measured, as a Markdown table: a column for each architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
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
    """found: architecture → its window and what each step returned. Two errors: of the smooth windows, and of
    those with structure at every scale."""
    first = next(iter(found.values()))
    precisions = list(dict.fromkeys(p for a in found.values() for p in a["rtx"].get("built", ())))
    rows: list[tuple[str, Callable[[Found], str]]] = [
        ("window; parameters", _size),
        ("exporter", partial(_told, "export", lambda step: str(step["exporter"]))),
        ("norms taken apart in the export", partial(_told, "export", _taken_apart)),
        ("rewrites that found something", partial(_told, "rewrite", _rewrites)),
        (
            "fp16: nodes that stay in fp32",
            partial(_told, "fp16", lambda s: f"{s['islands']} of {s['nodes']}"),
        ),
        ("int8: layers", partial(_told, "int8", lambda step: str(step["layers"]))),
        (
            "PyTorch, from itself in float64",
            partial(_told, "export", lambda step: _apart(step["float64"])),
        ),
        *((name, partial(_told, step, partial(_error, name))) for step, name in _RAN),
        *((f"TensorRT-RTX, {p}", partial(_told, "rtx", partial(_built, p))) for p in precisions or [""]),
        *((f"{name}: time, peak", partial(_told, name, _cost)) for name in first if _is_step(first[name])),
    ]
    lines = [f"| {title} | " + " | ".join(show(a) for a in found.values()) + " |" for title, show in rows]
    return "\n".join(["| | " + " | ".join(found) + " |", "|---" * (1 + len(found)) + "|", *lines])


def _told(name: str, show: Callable[[Found], str], architecture: Found) -> str:
    """What a step found, or why it did not."""
    step = architecture[name]
    return next((str(step[why]) for why in ("failed", "skipped") if why in step), None) or show(step)


def _is_step(value: Any) -> bool:
    return isinstance(value, Mapping) and ("seconds" in value or "failed" in value)


def _size(architecture: Found) -> str:
    window = "2×" + "×".join(str(size) for size in architecture["window"])
    return f"{window}; " + _told("export", lambda step: f"{step['parameters'] / 1e6:.1f} M", architecture)


def _taken_apart(step: Found) -> str:
    """What it did to the difference from PyTorch and to the time, on ONNX Runtime."""
    done = step.get("rewritten")
    if done is None:
        return "none"
    (far, near), (before, after) = done["errors"], done["ms"]
    return f"{far:.1e} → {near:.1e} ({before:.0f} → {after:.0f} ms)"


def _rewrites(step: Found) -> str:
    changed = [one for one in step["passes"] if one["nodes_before"] != one["nodes_after"] or one["error"] > 0]
    return (
        ", ".join(f"{o['name']} ({o['ms_before']:.0f} → {o['ms_after']:.0f} ms)" for o in changed) or "none"
    )


def _error(name: str, step: Found) -> str:
    ran = step["ran"][name]
    if "failed" in ran:
        return str(ran["failed"])
    agreed = f", Dice {ran['dice']:.4f}" if "dice" in ran else ""
    return f"{_apart(ran['by_kind'])}{agreed}"


def _apart(by_kind: Mapping[str, float]) -> str:
    return " / ".join(f"{error:.1e}" for error in by_kind.values())


def _built(precision: str, step: Found) -> str:
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
    return f"{step['seconds']:.0f} s, {step['peak_mb']:.0f} MB"
