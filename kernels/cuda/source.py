"""The kernels' source: which files there are, which kernels each holds, and one text for a compiler."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
"""The folder of the .cu and .cuh files; they are installed with the package."""

OPERATIONS = ("blend", "filter", "gather", "labels", "margin", "normalise", "resample", "statistics")
"""One .cu file each; its bodies lie in a .cuh of the same name."""

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
"""What the kernels are compiled for in the tests; any newer one works too."""

_INCLUDE = re.compile(r'^#include "([a-z_]+\.cuh)"$', re.MULTILINE)
_KERNEL = re.compile(r"^NPC_(ROWS|EACH|REDUCE)\((npc_[a-z0-9_]+), ", re.MULTILINE)


@cache
def kernels(operation: str) -> dict[str, str]:
    """The kernels of an operation and how each is launched: ROWS, EACH or REDUCE (see common.cuh)."""
    return {name: kind for kind, name in _KERNEL.findall(_read(operation + ".cu"))}


def home(kernel: str) -> tuple[str, str]:
    """The operation a kernel belongs to, and how it is launched. KeyError for a name that no file has."""
    for operation in OPERATIONS:
        found = kernels(operation)
        if kernel in found:
            return operation, found[kernel]
    raise KeyError(kernel)


def text(*operations: str) -> str:
    """The operations' .cu files with their headers written in: no compiler needs a path to look in."""
    included: set[str] = set()

    def header(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in included:
            return ""
        included.add(name)
        return _INCLUDE.sub(header, _read(name).replace("#pragma once\n", ""))

    return "\n".join(_INCLUDE.sub(header, _read(operation + ".cu")) for operation in operations)


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
