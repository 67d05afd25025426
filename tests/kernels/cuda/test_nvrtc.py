"""The kernels compile for every GPU there is a target for, with none here; what came out is looked at."""

import subprocess
from pathlib import Path

import pytest
from outside import missing, package

from npc_edge.kernels.cuda import machine_code, nvrtc, source

WITH_DOUBLES = """extern "C" __global__ void doubled(float* x, int n) {
    float kept[8];
    for (int i = 0; i < 8; ++i) kept[i] = x[i] * 0.1;
    x[n] = kept[n & 7];
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
    kernels = {}
    for operation in source.OPERATIONS:
        cubin = tmp_path / f"{operation}.cubin"
        cubin.write_bytes(nvrtc.cubin(operation, target))
        kernels |= {code.name: code for code in machine_code.read(cubin, nvdisasm)}
    assert set(kernels) == {name for operation in source.OPERATIONS for name in source.kernels(operation)}
    assert min(code.instructions for code in kernels.values()) > 10
    assert {name: code.fp64 for name, code in kernels.items() if code.fp64} == {}
    assert {name: code.local for name, code in kernels.items() if code.local} == {}


def test_the_look_would_see_both(nvdisasm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "doubled.cu").write_text(WITH_DOUBLES, encoding="utf-8")
    monkeypatch.setattr(source, "HERE", tmp_path)
    cubin = tmp_path / "doubled.cubin"
    cubin.write_bytes(nvrtc.cubin("doubled", "sm_86"))
    (code,) = machine_code.read(cubin, nvdisasm)
    assert code.fp64
    assert code.local


def test_a_source_that_does_not_compile_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package("cuda.bindings")
    (tmp_path / "broken.cu").write_text("int main( {", encoding="utf-8")
    monkeypatch.setattr(source, "HERE", tmp_path)
    with pytest.raises(nvrtc.CompileError, match=r"broken\.cu\(1\)"):
        nvrtc.cubin("broken", "sm_86")


def test_a_cubin_that_is_none_is_refused(nvdisasm: Path, tmp_path: Path) -> None:
    (tmp_path / "no.cubin").write_bytes(b"nothing")
    with pytest.raises(subprocess.CalledProcessError):
        machine_code.read(tmp_path / "no.cubin", nvdisasm)
