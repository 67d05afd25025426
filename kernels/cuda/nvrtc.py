"""CUDA C++ to machine code for one GPU architecture, with no GPU present. The only importer of NVRTC.

NVRTC and its binding come as wheels (`nvidia-cuda-nvrtc`, `cuda-bindings`); no CUDA toolkit is needed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from npc_edge.kernels.cuda import source

OPTIONS = (
    "--std=c++17",
    "--fmad=true",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--ftz=false",
    "--diag-suppress=177",
)
"""No fast arithmetic: a voxel is the same to the last bits on a GPU and a CPU. Fusing a multiplication with
an addition only makes it more exact. 177: a function that this operation does not use."""


class CompileError(RuntimeError):
    """NVRTC is not installed, or it refused the source; says which."""


@lru_cache(maxsize=64)
def cubin(operation: str, target: str) -> bytes:
    """The machine code of one operation for a target such as "sm_86"."""
    return compiled(source.text(operation), f"{operation}.cu", target)


def compiled(text: str, name: str, target: str) -> bytes:
    """The machine code of a source; `name` is what the compiler's messages call it."""
    nvrtc = _nvrtc()
    program = _checked(nvrtc, nvrtc.nvrtcCreateProgram(text.encode(), name.encode(), 0, [], []))
    options = [option.encode() for option in (f"--gpu-architecture={target}", *OPTIONS)]
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"{name} does not compile for {target}: {_log(nvrtc, program)}")
        code = bytes(_checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program)))
        _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return code


def available() -> str | None:
    """None where NVRTC can be used, else what is missing."""
    try:
        _nvrtc()
    except CompileError as error:
        return str(error)
    return None


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        _checked(nvrtc, nvrtc.nvrtcVersion())
    except (ImportError, RuntimeError) as error:
        raise CompileError(f"NVRTC is not there ({error}); pip install 'npc-edge[gpu]'") from error
    return nvrtc


def _checked(nvrtc: Any, given: tuple[Any, ...]) -> Any:
    """The result of a call, after its status."""
    if given[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(f"NVRTC says {given[0].name}")
    return given[1] if len(given) > 1 else None


def _log(nvrtc: Any, program: Any) -> str:
    text = bytes(_checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program)))
    _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, text))
    return text.rstrip(b"\0").decode(errors="replace")
