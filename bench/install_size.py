"""What weighs what in an installation: megabytes by distribution, and whether torch can be imported there.

Measured on an environment that is there, by its own Python. Run it as

    python -m npc_edge.bench install-size --python .venv/bin/python
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from npc_edge.bench.machine import describe

_ASK = """
import importlib.metadata, importlib.util, json, os, re, sys
def name(text): return re.sub(r"[-_.]+", "-", text).lower()
def size(dist):
    places = {os.path.realpath(dist.locate_file(f)) for f in dist.files or ()}
    return sum(os.stat(p).st_size for p in places if os.path.isfile(p))
held = {}
for dist in importlib.metadata.distributions():
    wants = [name(re.match(r"[A-Za-z0-9._-]+", r)[0]) for r in dist.requires or () if "extra ==" not in r]
    held.setdefault(name(dist.metadata["Name"]), [dist.version, size(dist), wants])
absent = [m for m in sys.argv[1].split(",") if importlib.util.find_spec(m) is None]
print(json.dumps({"distributions": held, "absent": absent}))
"""
"""Run by the other Python, which need not have this package."""

_NEVER = ("torch", "onnx", "scipy", "monai")
"""What the plain install does without."""


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="of the environment to weigh"
    )
    parser.add_argument("--of", default="", help="comma-separated: only these and what they require")
    parser.add_argument("--most", type=float, default=None, help="MB; exit code 1 when it weighs more")
    parser.add_argument("--plain", action="store_true", help=f"exit code 1 when one of {_NEVER} is there")
    parser.add_argument("--out", type=Path, default=None, help="write JSON there too")


def main(given: Namespace) -> int:
    """Print what weighs what, the heaviest first; judge what was asked."""
    report = weigh(given.python, tuple(filter(None, given.of.split(","))))
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps({**report, "machine": describe()}, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    wrong = []
    if given.most is not None and report["total_mb"] > given.most:
        wrong.append(f"it weighs {report['total_mb']:.0f} MB, more than {given.most:.0f}")
    if given.plain and report["importable"]:
        wrong.append(f"{', '.join(report['importable'])} can be imported in it")
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


def weigh(python: Path, of: tuple[str, ...] = ()) -> dict[str, Any]:
    """What each distribution's files weigh, compiled modules among them, the heaviest first.

    distributions: name → version, MB; pip and setuptools, which a new environment holds anyway, left out.
    of: count these and what they require, of what is there. total_mb: the sum. importable: which of torch,
    onnx, scipy and monai that Python can import.
    """
    ran = subprocess.run(
        [str(python), "-c", _ASK, ",".join(_NEVER)], stdout=subprocess.PIPE, text=True, check=True
    )
    held = json.loads(ran.stdout)
    there = held["distributions"]
    counted = _needed(of, there) if of else set(there) - {"pip", "setuptools"}
    rows = {
        name: {"version": version, "mb": round(size / 1e6, 1)}
        for name, (version, size, _) in sorted(there.items(), key=lambda item: -item[1][1])
        if name in counted
    }
    return {
        "distributions": rows,
        "total_mb": round(sum(row["mb"] for row in rows.values()), 1),
        "importable": [module for module in _NEVER if module not in held["absent"]],
    }


def _needed(of: tuple[str, ...], there: dict[str, Any]) -> set[str]:
    """These and everything they require, of what is there."""
    found: set[str] = set()
    unseen = [name for name in of if name in there]
    while unseen:
        name = unseen.pop()
        if name not in found:
            found.add(name)
            unseen += [wanted for wanted in there[name][2] if wanted in there]
    return found


def table(report: dict[str, Any], least_mb: float = 1.0) -> str:
    """Markdown: what weighs at least so much, the rest in one line, and the sum."""
    rows = report["distributions"].items()
    lines = ["| distribution | version | MB |", "| --- | --- | ---: |"]
    lines += [f"| {n} | {row['version']} | {row['mb']:.0f} |" for n, row in rows if row["mb"] >= least_mb]
    small = [row["mb"] for _, row in rows if row["mb"] < least_mb]
    lines += [f"| {len(small)} smaller ones | | {sum(small):.0f} |"] if small else []
    return "\n".join([*lines, f"| **all** | | **{report['total_mb']:.0f}** |"])
