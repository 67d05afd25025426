"""What launchers share, the layout of arguments, half floats; and what happens where there is no GPU."""

import ast
import ctypes
from pathlib import Path
from types import SimpleNamespace

import names
import numpy as np
import pytest
from outside import package

from npc_edge.engine.gpu import find_gpus
from npc_edge.kernels import launch
from npc_edge.kernels.cuda import arguments
from npc_edge.kernels.cuda.cuda_core import CudaCoreLauncher
from npc_edge.kernels.cuda.host import HostLauncher, build
from npc_edge.kernels.cuda.py_cuda import PyCudaLauncher
from npc_edge.kernels.guarded import Guarded
from npc_edge.kernels.launch import CudaArray, DeviceArray, LaunchError

ROOT = Path(__file__).resolve().parents[3]


def test_structs_lie_as_the_headers_say(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    for name, struct in arguments.STRUCTS.items():
        assert getattr(loaded, f"sizeof_{name}")() == struct.itemsize, name
        for field, (_, offset, *_) in struct.fields.items():
            assert getattr(loaded, f"offset_{name}_{field}")() == offset, (name, field)
    assert arguments.FOUND.fields["range"][1] == arguments.RANGE_OFFSET


def test_halves_are_numpys(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    for name in ("to_half_bits", "from_half_bits"):
        getattr(loaded, name).restype = ctypes.c_uint32
    every = np.arange(2**16, dtype=np.uint16)
    back = np.array([loaded.from_half_bits(int(bits)) for bits in every], dtype=np.uint32)
    wanted = every.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(back, wanted.view(np.uint32))
    bits = wanted[np.isfinite(wanted)].view(np.uint32)
    # every half, what lies halfway to the next, and a hair to either side of it
    tried = np.concatenate([bits, bits + 0x1000, bits + 0xFFF, bits + 0x1001])
    got = np.array([loaded.to_half_bits(int(b)) for b in tried], dtype=np.uint16)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, tried.view(np.float32).astype(np.float16).view(np.uint16))
    assert np.isnan(np.uint16(loaded.to_half_bits(0x7FC00001)).view(np.float16))


def test_a_write_beside_an_array_is_seen(library: Path) -> None:
    launcher = Guarded(HostLauncher(library))
    array = launcher.empty((3, 5), np.float32)
    assert launcher.check_guards() == 1
    assert launcher.check_guards() == 0
    array = launcher.empty((3, 5), np.float32)
    ctypes.memset(array.pointer + array.nbytes, 0, 1)
    with pytest.raises(LaunchError, match="outside"):
        launcher.check_guards()


def test_a_host_compiler_that_refuses_says_why(tmp_path: Path, library: Path) -> None:
    with pytest.raises(LaunchError, match="unrecognized"):
        build(tmp_path, ["--no-such-option"])


def test_parts_and_shapes_share_memory() -> None:
    whole = DeviceArray(1000, (4, 3, 5), np.dtype(np.float32))
    assert whole.nbytes == 240
    part = whole.part(1, 3)
    assert (part.pointer, part.shape) == (1060, (2, 3, 5))
    assert whole.shaped(12, 5).pointer == 1000
    for wrong in (lambda: whole.part(2, 5), lambda: whole.shaped(7, 5)):
        with pytest.raises(ValueError, match=r"axis of 4|no shape"):
            wrong()


def test_a_cuda_array_goes_out_and_comes_in() -> None:
    ours = CudaArray(4096, (2, 3), np.dtype(np.float16))
    again = launch.from_interface(ours)
    assert (again.pointer, again.shape, again.dtype, again.owner) == (4096, (2, 3), np.float16, ours)
    interface = {"shape": (2, 3), "typestr": "<f4", "data": (64, False), "version": 3, "strides": (12, 4)}
    assert launch.from_interface(SimpleNamespace(__cuda_array_interface__=interface)).nbytes == 24
    for change, why in (({"strides": (4, 8)}, "contiguous"), ({"mask": ours}, "masked")):
        with pytest.raises(ValueError, match=why):
            launch.from_interface(SimpleNamespace(__cuda_array_interface__=interface | change))
    with pytest.raises(TypeError, match="ndarray has no"):
        launch.from_interface(np.zeros(3))


def test_grids_cover_the_work_and_no_more_than_the_gpu_holds() -> None:
    assert launch.blocks("ROWS", 1, 132) == 1
    assert launch.blocks("ROWS", 17, 132) == 3
    assert launch.blocks("EACH", 257, 132) == 2
    assert launch.blocks("EACH", 2**28, 132) == 132 * 32
    assert launch.blocks("REDUCE", 2**28, 132) == 132 * 4


def test_arguments_are_32_words() -> None:
    assert len(launch.packed(arguments.made(arguments.FILTER, axis=1))) == 256
    with pytest.raises(ValueError, match="at most 256"):
        launch.packed(arguments.made(arguments.FOUND))
    assert all(struct.itemsize <= 256 for name, struct in arguments.STRUCTS.items() if name != "Statistics")


def test_the_host_s_memory_has_an_end_and_is_given_back(library: Path) -> None:
    launcher = HostLauncher(library, memory_mb=1.0)
    first = launcher.empty((100_000,), np.float32)
    part = first.part(5, 9)
    assert launcher.held_bytes == 400_000
    assert launcher.free_mb() == pytest.approx(0.6)
    with pytest.raises(LaunchError, match=r"no memory for \(200000,\) float32"):
        launcher.empty((200_000,), np.float32)
    del first
    assert launcher.held_bytes == 400_000, "a part keeps the whole"
    del part
    assert launcher.held_bytes == 0
    assert HostLauncher(library).free_mb() is None


def test_what_does_not_fit_is_not_copied(library: Path) -> None:
    launcher = HostLauncher(library)
    target = launcher.empty((2, 3), np.float32)
    for wrong in (np.zeros((2, 3)), np.zeros((3, 2), dtype=np.float32)):
        with pytest.raises(ValueError, match="does not fit"):
            launcher.copy_in(target, wrong)
    with pytest.raises(ValueError, match="24 bytes"):
        launcher.copy(launcher.empty((2, 2), np.float32), target)


def test_without_a_gpu_the_launchers_say_so() -> None:
    if find_gpus().capabilities:
        pytest.skip("a GPU answers here")
    package("cuda.core")
    with pytest.raises(LaunchError, match="GPU 0 does not answer"):
        CudaCoreLauncher()
    with pytest.raises(LaunchError, match=r"PyCUDA is not there|does not answer"):
        PyCudaLauncher()


def test_all_that_is_asked_of_cuda_core_is_there() -> None:
    """It was never run: at least every name exists."""
    package("cuda.core")
    import cuda.core
    import cuda.core.graph
    from cuda.bindings import driver

    owners = {
        "self._core": cuda.core,
        "self._device": cuda.core.Device,
        "self.stream": cuda.core.Stream,
        "self._driver": driver,
        "self._driver.CUresult": driver.CUresult,
        "builder": cuda.core.graph.GraphBuilder,
        "builder.end_building()": cuda.core.graph.GraphBuilder,
        "graph": cuda.core.graph.Graph,
        "buffer": cuda.core.Buffer,
        "module": cuda.core.ObjectCode,
        "end": cuda.core.Event,
        "self._core.ObjectCode": cuda.core.ObjectCode,
        "self._core.LegacyPinnedMemoryResource()": cuda.core.LegacyPinnedMemoryResource,
    }
    source = ROOT / "kernels" / "cuda" / "cuda_core.py"
    assert {variable for variable, _ in names.asked(source, owners)} == set(owners)
    assert names.absent(source, owners) == []
    assert names.absent(source, owners | {"graph": cuda.core.Buffer}) == ["graph.launch"]


def test_each_library_is_imported_where_it_is_meant_to_be() -> None:
    allowed = {
        "cuda.core": ("cuda_core.py",),
        "cuda.bindings.nvrtc": ("nvrtc.py",),
        "pycuda": ("py_cuda.py",),
    }
    for folder in ("kernels", "engine", "export", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            for imported in _imported(ast.parse(path.read_text(encoding="utf-8"))):
                for library, owners in allowed.items():
                    if imported == library or imported.startswith(library + "."):
                        assert path.name in owners, (path, imported)


def _imported(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found
