"""The kernels compile for every GPU there is a target for, with none here; what came out is looked at."""

import subprocess
from pathlib import Path

import pytest
from outside import missing, package

from npc_edge.kernels.cuda import machine_code, nvrtc, source

WRONG = """
extern "C" __global__ void doubles(float* x) { x[threadIdx.x] *= 0.1; }
extern "C" __global__ void kept(float* x, int n) {
    float here[64];
    for (int i = 0; i < 64; ++i) here[(i * n) & 63] = x[i];
    for (int i = 0; i < 64; ++i) x[i + 64] = here[(i + n) & 63];
}"""


@pytest.fixture(scope="module")
def nvdisasm() -> Path:
    package("cuda.bindings")
    found = machine_code.disassembler()
    return found if found else missing("the Python package nvidia-cuda-nvdisasm is not installed")


@pytest.mark.parametrize("target", source.TARGETS)
def test_no_kernel_computes_in_double_precision_or_spills(
    target: str, nvdisasm: Path, tmp_path: Path
) -> None:
    cubin = tmp_path / "kernels.cubin"
    cubin.write_bytes(nvrtc.compiled(source.text(*source.OPERATIONS), "kernels.cu", target))
    kernels = {code.name: code for code in machine_code.read(cubin, nvdisasm)}
    assert set(kernels) == {name for operation in source.OPERATIONS for name in source.kernels(operation)}
    assert min(code.instructions for code in kernels.values()) > 10
    assert {name: code.fp64 for name, code in kernels.items() if code.fp64} == {}
    assert {name: code.local for name, code in kernels.items() if code.local} == {}


def test_the_look_would_see_both(nvdisasm: Path, tmp_path: Path) -> None:
    cubin = tmp_path / "wrong.cubin"
    cubin.write_bytes(nvrtc.compiled(WRONG, "wrong.cu", "sm_86"))
    kernels = {code.name: code for code in machine_code.read(cubin, nvdisasm)}
    assert kernels["doubles"].fp64
    assert not kernels["doubles"].local
    assert kernels["kept"].local
    assert not kernels["kept"].fp64


def test_every_operation_compiles_by_itself() -> None:
    package("cuda.bindings")
    assert all(nvrtc.cubin(operation, "sm_80").startswith(b"\x7fELF") for operation in source.OPERATIONS)


def test_a_source_that_does_not_compile_says_where() -> None:
    package("cuda.bindings")
    with pytest.raises(nvrtc.CompileError, match=r"broken\.cu\(1\)"):
        nvrtc.compiled("int main( {", "broken.cu", "sm_86")


def test_a_cubin_that_is_none_is_refused(nvdisasm: Path, tmp_path: Path) -> None:
    (tmp_path / "no.cubin").write_bytes(b"nothing")
    with pytest.raises(subprocess.CalledProcessError):
        machine_code.read(tmp_path / "no.cubin", nvdisasm)
