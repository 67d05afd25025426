"""Engines: built without a GPU, never said to have run, all or none; refusals are one clear line."""

import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tiny_bundle
import tiny_qdq
from cli import PROGRAM, run
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import BackendError, BundleError, UsageError
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.engines import verify_engines
from npc_edge.engine.model.manifest import Artefact
from npc_edge.engine.model.runners.tensorrt_build import TensorRt, load_tensorrt
from npc_edge.engine.remembered import Remembered
from npc_edge.export.compile import Wanted, Watching, compile_bundle, engine_file
from npc_edge.export.pack import pack
from npc_edge.export.sign import public_bytes, write_keys

KINDS = ("fp32", "int8-u8s8", "int8-s8s8")
KEY = Ed25519PrivateKey.generate()
ENGINE = {
    "precision": "fp16",
    "format": "engine",
    "engine": {"runtime": "tensorrt", "runtime_version": "11.0", "compute_capability": "sm89"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tiny_qdq.write_parts(tmp_path / "bundle", KINDS)
    pack(made, tiny_qdq.manifest(KINDS), KEY)
    return made


@pytest.fixture
def rtx() -> TensorRt:
    """TensorRT-RTX itself: 95 MB that nothing else needs, so CI does without."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    return load_tensorrt("rtx")


def opened(root: Path) -> Bundle:
    return load(root, [public_bytes(KEY)])


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_engines_join_the_bundle_as_built_and_never_executed(root: Path, rtx: TensorRt) -> None:
    before = digests(root)
    told: list[tuple[str, float]] = []
    wanted = Wanted(("sm86", "sm120"), ("fp32", "int8-s8s8"))
    done: list[str] = []
    watching = Watching(lambda file, all_: told.append((file, all_)), lambda b: done.append(b.artefact.file))
    built = compile_bundle(opened(root), wanted, rtx, KEY, watching)
    names = [engine_file("npc", p, sm, rtx) for p in wanted.precisions for sm in wanted.targets]
    assert names[0] == f"artefacts/npc.fp32.sm86.tensorrt-rtx-{rtx.version}.engine"
    assert [one.artefact.file for one in built] == names == done
    assert sorted(path.name for path in root.parent.iterdir()) == ["bundle"]
    after = digests(root)
    same = set(before) - {"manifest.json", "SIGNATURE"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert set(after) == {*before, *names}
    manifest = json.loads((root / "manifest.json").read_text())
    engines = [a for a in manifest["networks"][0]["artefacts"] if a["format"] == "engine"]
    assert [(a["file"], a["precision"], a["engine"]["compute_capability"]) for a in engines] == [
        (engine_file("npc", p, sm, rtx), p, sm) for p in wanted.precisions for sm in wanted.targets
    ]
    for engine, one in zip(engines, built, strict=True):
        assert manifest["files"][engine["file"]] == after[engine["file"]]
        assert set(engine["engine"]) == {"runtime", "runtime_version", "compute_capability"}
        assert engine["engine"]["runtime"] == "tensorrt-rtx"
        assert engine["engine"]["runtime_version"] == rtx.version
        assert engine["parity"] == []
        assert (root / engine["file"]).stat().st_size == one.size > 1000
    skipped = verify_engines(opened(root), Remembered(root.parent))
    assert [result.file for result in skipped] == names
    assert all(r.status == "skipped" and r.why.startswith("built, not executed: no ") for r in skipped)
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    for number, name in enumerate(names):
        own = [fraction for file, fraction in told if file == name]
        assert (own[0], own[-1]) == (number / 4, (number + 1) / 4)
        assert len(own) > 2  # told on the way, too


def test_a_locator_without_the_precision_is_built_in_fp32(tmp_path: Path, rtx: TensorRt) -> None:
    """As the engine runs it: what is asked is asked of the network that decides."""
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    half = {"precision": "fp16", "file": "artefacts/npc.fp16.onnx"}
    (root / half["file"]).write_bytes((root / "artefacts" / "npc.fp32.onnx").read_bytes())
    made = tiny_bundle.manifest()
    made["networks"][1]["artefacts"].append(half)
    pack(root, made, KEY)
    for precisions in ((), ("fp16",)):
        built = compile_bundle(opened(root), Wanted(("sm86",), precisions), rtx, KEY)
        assert [(one.network, one.artefact.precision) for one in built] == [
            ("locator", "fp32"),
            ("npc", "fp16"),
        ]
    with pytest.raises(BundleError, match="network npc of tiny 1 holds no int8-s8s8 artefact"):
        compile_bundle(opened(root), Wanted(("sm86",), ("int8-s8s8",)), rtx, KEY)


def test_building_again_replaces_the_engine_and_another_version_stands_beside_it(
    root: Path, rtx: TensorRt
) -> None:
    """A site that has the older runtime goes on with the engine that fits it."""
    newer = TensorRt(rtx.module, rtx.name, "9.9")
    for trt in (rtx, rtx, newer):
        compile_bundle(opened(root), Wanted(("sm86",)), trt, KEY)
    engines = [a for a in opened(root).manifest.networks[0].artefacts if a.engine is not None]
    assert [a.file for a in engines] == [engine_file("npc", "int8-s8s8", "sm86", t) for t in (rtx, newer)]
    assert [a.engine.runtime_version for a in engines if a.engine] == [rtx.version, "9.9"]
    assert len(list((root / "artefacts").glob("*.engine"))) == 2


@pytest.mark.parametrize(
    ("version", "named"), [("10.3.0.post1", "10.3.0.post1"), ("11.0+cu13_a", "11.0.cu13.a")]
)
def test_the_name_says_what_the_engine_fits(version: str, named: str) -> None:
    trt = TensorRt(None, "tensorrt", version)
    file = engine_file("npc", "fp16", "sm89", trt)
    assert file == f"artefacts/npc.fp16.sm89.tensorrt-{named}.engine"
    assert Artefact.model_validate({**ENGINE, "file": file}).file == file


@pytest.mark.parametrize("target", ["sm90", "sm999"])
def test_a_target_it_does_not_know_is_refused_before_anything_is_built(
    root: Path, rtx: TensorRt, target: str
) -> None:
    before = digests(root)
    with pytest.raises(BackendError, match=f"does not build for {target}") as caught:
        compile_bundle(opened(root), Wanted(("sm86", target)), rtx, KEY)
    assert "sm86" in caught.value.hint
    assert digests(root) == before


def test_an_operator_the_parser_refuses_is_named_and_nothing_is_written(
    tmp_path: Path, rtx: TensorRt, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second artefact is refused: the first was built already, and none of it may stay."""
    root = tiny_qdq.write_parts(tmp_path / "bundle", ("fp32", "int8-s8s8"))
    model = tiny_qdq.network("s8s8")
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain, relu.name = "Frobnicate", "mine", "strange"
    model.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    onnx.save(model, str(root / "artefacts" / "npc.int8-s8s8.onnx"))
    pack(root, tiny_qdq.manifest(("fp32", "int8-s8s8")), KEY)
    before = digests(root)
    with pytest.raises(BundleError, match=r"refuses artefacts/npc\.int8-s8s8\.onnx: operator Frobnicate"):
        compile_bundle(opened(root), Wanted(("sm86",), ("fp32", "int8-s8s8")), rtx, KEY)
    assert digests(root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    assert capfd.readouterr() == ("", "")


def test_unsigned_activations_with_an_offset_are_tensorrt_s_to_refuse(tmp_path: Path, rtx: TensorRt) -> None:
    root = tiny_qdq.write_parts(tmp_path / "bundle", ("fp32", "int8-s8s8"))
    model = tiny_qdq.network("u8s8")
    zero = next(t for t in model.graph.initializer if t.name == "first_zero")
    zero.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.uint8), "first_zero"))
    onnx.save(model, str(root / "artefacts" / "npc.int8-s8s8.onnx"))
    pack(root, tiny_qdq.manifest(("fp32", "int8-s8s8")), KEY)
    with pytest.raises(BundleError, match=r"QuantizeLinear.*zero point") as caught:
        compile_bundle(opened(root), Wanted(("sm86",)), rtx, KEY)
    assert "\n" not in caught.value.one_line()


def test_the_command_signs_anew_and_says_what_it_built(root: Path, tmp_path: Path, rtx: TensorRt) -> None:
    private, _ = write_keys(tmp_path / "site")
    state = ["--state", tmp_path / "state"]
    asked = ["--target", "SM86", "--precision", "int8", "--key", private]
    refused = run("compile", root, *asked, *state)
    assert refused.returncode == 4
    assert "trusted key" in refused.stderr
    ran = run("compile", root, *asked, *state, "--allow-unsigned")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert engine_file("npc", "int8-s8s8", "sm86", rtx) in ran.stdout
    assert "built, not executed" in ran.stdout
    told = run("verify", root, *state, "--allow-unsigned", "--json")
    assert told.returncode == 0, told.stderr
    engine = [a for a in json.loads(told.stdout)["artefacts"] if a["file"].endswith(".engine")]
    assert [(a["status"], a["why"].partition(": ")[0]) for a in engine] == [
        ("skipped", "built, not executed")
    ]


def test_a_full_disk_leaves_the_bundle_as_it_was(root: Path, tmp_path: Path, rtx: TensorRt) -> None:
    """A limit on the size of a file fails a write as a full disk does."""
    private, _ = write_keys(tmp_path / "site")
    before, state = digests(root), ["--state", tmp_path / "state"]
    asked = ["--target", "sm86", "--precision", "int8", "--key", private, "--allow-unsigned"]
    ran = subprocess.run(
        ["bash", "-c", 'ulimit -f 4; exec "$@"', "bash", *PROGRAM, "compile", root, *asked, *state],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 6, ran.stderr
    assert ran.stderr == "npc-edge: the engines cannot be written: File too large\n"
    assert digests(root) == before
    assert sorted(path.name for path in root.parent.iterdir()) == ["bundle", "site.key", "site.pub", "state"]


def test_a_terminal_sees_a_bar_and_the_lines_after_it(root: Path, tmp_path: Path, rtx: TensorRt) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    private, _ = write_keys(tmp_path / "site")
    asked = ["--target", "sm86,sm89", "--precision", "int8", "--key", private, "--allow-unsigned"]
    ours, theirs = pty.openpty()
    ran = subprocess.Popen(
        [*PROGRAM, "compile", root, *asked, "--state", tmp_path / "state"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "140"},
    )
    os.close(theirs)
    read = b""
    with suppress(OSError):  # how Linux ends a terminal whose other side is closed
        while part := os.read(ours, 1 << 16):
            read += part
    os.close(ours)
    told, _ = ran.communicate()
    assert ran.returncode == 0
    shown = read.decode()
    assert f"{engine_file('npc', 'int8-s8s8', 'sm89', rtx)} ━" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert [line.split(":")[0] for line in told.splitlines()[:2]] == [
        engine_file("npc", "int8-s8s8", sm, rtx) for sm in ("sm86", "sm89")
    ]


class Capability(Enum):
    """The capabilities of a TensorRT that is never reached: what is refused is refused before."""

    NONE = 0
    SM120 = 1
    SM86 = 2


NEVER = TensorRt(SimpleNamespace(ComputeCapability=Capability), "tensorrt-rtx", "0")


def test_a_precision_that_is_not_there_is_named(root: Path, tmp_path: Path) -> None:
    before = digests(root)
    with pytest.raises(
        BundleError, match="holds no fp16 artefact, only fp32, int8-s8s8, int8-u8s8"
    ) as caught:
        compile_bundle(opened(root), Wanted(("sm86",), ("fp16",)), NEVER, KEY)
    assert "quantize" in caught.value.hint
    plain = tiny_qdq.write_parts(tmp_path / "plain", ("fp32",))
    pack(plain, tiny_qdq.manifest(("fp32",)), KEY)
    with pytest.raises(BundleError, match="holds no fp16 or int8-s8s8 artefact, only fp32"):
        compile_bundle(opened(plain), Wanted(("sm86",)), NEVER, KEY)
    assert digests(root) == before


def test_targets_are_listed_in_order_and_unknown_ones_refused() -> None:
    assert NEVER.targets() == ("sm86", "sm120")
    with pytest.raises(BackendError, match="sm90"):
        NEVER.check("sm90")


def test_the_embedded_bundle_is_not_compiled_in_place() -> None:
    with pytest.raises(UsageError, match="embedded"):
        compile_bundle(load(None), Wanted(("sm86",)), NEVER, KEY)


@pytest.mark.parametrize(("runtime", "module"), [("rtx", "tensorrt_rtx"), ("tensorrt", "tensorrt")])
def test_without_the_runtime_it_is_exit_5_and_says_how_to_get_it(
    root: Path, tmp_path: Path, runtime: str, module: str
) -> None:
    private, _ = write_keys(tmp_path / "site")
    before = digests(root)
    arguments = ["compile", str(root), "--target", "sm86", "--runtime", runtime, "--key", str(private)]
    code = f"import sys; sys.modules[{module!r}] = None\n"
    code += f"from npc_edge.engine.cli.app import main; main({arguments})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 5, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "is not installed" in ran.stderr
    assert "pip install" in ran.stderr
    assert digests(root) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--target", "ampere"],
        ["--target", ""],
        ["--target", "sm86", "--precision", "int4"],
        ["--target", "sm86", "--runtime", "abacus"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_usage(root: Path, tmp_path: Path, arguments: list[str]) -> None:
    private, _ = write_keys(tmp_path / "site")
    ran = run("compile", root, *arguments, "--key", private)
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.count("\n") == 1
