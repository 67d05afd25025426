"""`npc-edge bench` without its options: a study to run, a report, its files, the check against a baseline."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.bench.timing.check import Compared, check
from npc_edge.bench.timing.measure import Report, measure
from npc_edge.bench.timing.order import Order
from npc_edge.bench.timing.page import page
from npc_edge.engine.errors import OutputError, UsageError

_PHANTOM = PhantomSpec("T3", seed=700_001, fat_sat=False, matrix=512, slices=36)
"""Two sequences of 36 slices of 512 x 512."""


def bench(order: Order, small: bool = False, say: Callable[[str], None] = lambda line: None) -> Report:
    """Measure an order; without a study (Path()) a phantom is made first. small: one of 192 x 192 x 24."""
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as folder:
        scratch = Path(folder)
        if order.study == Path():
            say("a phantom is made")
            spec = replace(_PHANTOM, matrix=192, slices=24) if small else _PHANTOM
            made = write_phantom(spec, scratch / "phantom") / "study"
            order = replace(order, study=made)
        return measure(order, scratch, say)


def read_baseline(path: Path) -> dict[str, Any]:
    """A report written earlier; UsageError when the file is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no baseline that can be read", "name a file --out wrote") from error
    if not isinstance(held, dict):
        raise UsageError(f"{path} is no baseline that can be read", "name a file --out wrote")
    return held


def publish(report: Report, out: Path) -> tuple[Path, Path]:
    """Write FILE.json and its page, FILE.html, beside it; each whole or not at all. OutputError."""
    files = (out, out.with_suffix(".html"))
    texts = (json.dumps(report, indent=1) + "\n", page(report))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, text in zip(files, texts, strict=True):
            staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                staged.write_text(text, encoding="utf-8", newline="\n")
                staged.replace(path)
            finally:
                staged.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    return files


def judged(report: Report, baseline: dict[str, Any] | None) -> tuple[Compared, ...]:
    """The comparisons with a baseline, none without one."""
    return () if baseline is None else check(report, baseline)
