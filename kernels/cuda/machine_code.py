"""What a cubin would execute: its instructions, read with NVIDIA's disassembler (`nvidia-cuda-nvdisasm`).

The disassembly is what to trust. PTX is not: the assembler may still call a routine in double precision, for
a division say, or run out of registers. A kernel that computes in fp64 shows an instruction on doubles; one
that spills, or keeps an array that it indexes at run time, shows loads and stores of local memory. What is
absent from the disassembly is not executed. How fast the rest is, it does not say.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_SECTION = re.compile(r"^\.text\.(\S+):$")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\d\s+)?([A-Z][A-Z0-9_.]*)")
_FP64 = re.compile(r"^D(ADD|MUL|FMA|SETP|MNMX|MMA|SET)\b|\bF64\b|64H\b|^MUFU\.\w*64")
_LOCAL = re.compile(r"^(LDL|STL)\b")


@dataclass(frozen=True)
class KernelCode:
    """One kernel's instructions: how many, which on doubles, and how many that touch local memory."""

    name: str
    instructions: int
    fp64: tuple[str, ...]
    local: int


def disassembler() -> Path | None:
    """nvdisasm of its wheel; None where that is not installed."""
    try:
        listed = files("nvidia-cuda-nvdisasm") or []
    except PackageNotFoundError:
        return None
    for entry in listed:
        if entry.stem == "nvdisasm" and entry.parent.name == "bin":
            return Path(str(entry.locate()))
    return None


def read(cubin: Path, nvdisasm: Path) -> list[KernelCode]:
    """Every kernel of a cubin. CalledProcessError when it is none."""
    ran = subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    name = ""
    for line in ran.stdout.splitlines():
        if section := _SECTION.match(line):
            name = section.group(1)
            found[name] = []
        elif name and (instruction := _INSTRUCTION.match(line)):
            found[name].append(instruction.group(1))
    return [
        KernelCode(
            name,
            len(codes),
            tuple(sorted({code for code in codes if _FP64.search(code)})),
            sum(1 for code in codes if _LOCAL.match(code)),
        )
        for name, codes in found.items()
    ]
