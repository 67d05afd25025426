"""Engines of a bundle: never said to have run where none did; where their GPU is, run and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_qdq

from npc_edge.engine.errors import BackendError
from npc_edge.engine.model import acceptance
from npc_edge.engine.model.acceptance import ArtefactResult, Runtimes
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.engines import verify_engines
from npc_edge.engine.model.runner import Arrays, FakeRunner, Runner
from npc_edge.engine.model.runners import open_pair
from npc_edge.engine.model.runners.devices import Gpu, runtime_version
from npc_edge.engine.model.runners.pairs import REFERENCE, Pair
from npc_edge.engine.remembered import Remembered
from npc_edge.engine.types import Options, RunnerInfo
from npc_edge.export.pack import pack

RTX = Pair("fp16", "tensorrt-rtx", "fp16")
GPU = Gpu(0, "sm86", "a card", "13.0", 8000.0)
FILE = "artefacts/npc.fp16.sm86.tensorrt-rtx-1.engine"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """With an engine for sm86 and the runtime of this machine, "unknown" where it is not installed."""
    root = tiny_qdq.write_parts(tmp_path / "bundle", ("fp32", "fp16"))
    (root / FILE).write_bytes(b"an engine")
    manifest = tiny_qdq.manifest(("fp32", "fp16"), {"fp16": [("onnxruntime", "fp16", "avx2")]})
    spec = {"runtime": RTX.backend, "runtime_version": runtime_version(RTX), "compute_capability": "sm86"}
    engine = {"precision": "fp16", "file": FILE, "format": "engine", "engine": spec}
    manifest["networks"][0]["artefacts"] = [*manifest["networks"][0]["artefacts"], engine]
    pack(root, manifest, None)
    return load(root, allow_unsigned=True)


class OnCard(FakeRunner):
    """The shipped fake runner, which says that it ran in fp16."""

    def describe(self) -> RunnerInfo:
        return replace(super().describe(), precision="fp16")


def card(factor: float, log: list[Pair], missing: str = "") -> Runtimes:
    """A card that says what the original says, times a factor."""

    def opened(bundle: Bundle, network: str, pair: Pair, threads: int, gpu: Gpu | None) -> Runner:
        log.append(pair)

        def answer(inputs: dict[str, np.ndarray]) -> Arrays:
            with open_pair(bundle, network, REFERENCE, 1) as original:
                return {name: factor * values for name, values in original.infer(inputs).items()}

        return OnCard(answer)  # type: ignore[arg-type]

    return Runtimes(lambda pair, isa, gpu: missing, opened)


def only(results: tuple[ArtefactResult, ...]) -> ArtefactResult:
    (result,) = results
    assert (result.file, result.backend, result.precision) == (FILE, "tensorrt-rtx", "fp16")
    return result


def test_where_no_such_gpu_is_it_is_built_and_not_executed(bundle: Bundle, tmp_path: Path) -> None:
    log: list[Pair] = []
    for gpu, why in (
        (None, "built, not executed: no GPU answers here"),
        (replace(GPU, capability="sm120"), "built, not executed: the GPU here is an sm120"),
    ):
        found = only(verify_engines(bundle, Remembered(tmp_path), gpu, card(1.0, log)))
        assert (found.status, found.why, found.cases, found.isa) == ("skipped", why, (), "sm86")
    assert log == []
    assert not (tmp_path / "acceptance.json").exists()
    assert bundle.find("npc", "fp16") is not None
    assert FILE not in {r.file for r in acceptance.verify(bundle, Options(threads=1))}


def test_an_engine_of_another_version_is_not_tried(
    bundle: Bundle, tmp_path: Path, repacked: Callable[[Bundle, str], Bundle]
) -> None:
    log: list[Pair] = []
    other = repacked(bundle, "0.0.1")
    found = only(verify_engines(other, Remembered(tmp_path), GPU, card(1.0, log)))
    here = runtime_version(RTX)
    assert found.why == f"built, not executed: made with tensorrt-rtx 0.0.1, here is tensorrt-rtx {here}"
    assert log == []


@pytest.fixture
def repacked() -> Callable[[Bundle, str], Bundle]:
    def again(bundle: Bundle, version: str) -> Bundle:
        manifest = bundle.manifest.model_dump(mode="json", exclude={"files"})
        manifest["networks"][0]["artefacts"][-1]["engine"]["runtime_version"] = version
        pack(bundle.root, manifest, None)
        return load(bundle.root, allow_unsigned=True)

    return again


def test_an_engine_that_ran_here_is_remembered_in_the_state_directory_alone(
    bundle: Bundle, tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in bundle.root.rglob("*") if p.is_file()}
    log: list[Pair] = []
    found = only(verify_engines(bundle, Remembered(tmp_path), GPU, card(1.0, log)))
    assert (found.status, found.isa, found.allowed, len(found.cases)) == ("passed", "sm86", True, 1)
    assert found.ms is not None
    assert log == [RTX]
    assert {p: p.read_bytes() for p in bundle.root.rglob("*") if p.is_file()} == before
    (row,) = Remembered(tmp_path).rows
    assert (row.status, row.key.machine, row.key.isa) == ("passed", "a card, CUDA 13.0", "sm86")
    assert row.ms is not None, "a session that opens next may choose by it"
    assert row.key.runtime.endswith(f" {bundle.manifest.files[FILE]}")
    away = only(verify_engines(bundle, Remembered(tmp_path), None, card(1.0, log)))
    told = "executed here on a card, CUDA 13.0, passed: no GPU answers here"
    assert (away.status, away.why) == ("skipped", told)


def test_an_engine_that_says_something_else_fails_and_could_have_been_chosen(
    bundle: Bundle, tmp_path: Path
) -> None:
    found = only(verify_engines(bundle, Remembered(tmp_path), GPU, card(2.0, [])))
    assert (found.status, found.allowed) == ("failed", True)
    assert [row.status for row in Remembered(tmp_path).rows] == ["failed"]


def test_what_cannot_be_tried_was_not_executed(bundle: Bundle, tmp_path: Path) -> None:
    found = only(verify_engines(bundle, Remembered(tmp_path), GPU, card(1.0, [], "cuda-core is not here")))
    assert (found.status, found.why) == ("skipped", "built, not executed: cuda-core is not here")

    def refused(*_: object) -> Runner:
        raise BackendError("the driver is too old")

    found = only(verify_engines(bundle, Remembered(tmp_path), GPU, Runtimes(lambda *_: "", refused)))
    assert (found.status, found.why) == ("skipped", "built, not executed: the driver is too old")
    assert Remembered(tmp_path).rows == ()
