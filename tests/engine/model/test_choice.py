"""`auto`: only what is allowed and passes here, the fastest of it, the same ever after; and it says so."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_qdq
from parity_rows import SET, bundle, on

from npc_edge.engine.errors import BackendError
from npc_edge.engine.model.acceptance import ArtefactResult
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.choice import Candidates, Choice, candidates, decide, fallback, fastest, survey
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.devices import Gpu
from npc_edge.engine.model.runners.engine_cache import EngineCache
from npc_edge.engine.model.runners.pairs import CPU_PAIRS, REFERENCE, Pair
from npc_edge.engine.remembered import Remembered, Row
from npc_edge.engine.session import Session
from npc_edge.engine.types import Options
from npc_edge.export.pack import pack

INT8, BF16, FP32 = CPU_PAIRS[1:4]
ORT8 = Pair("int8-u8s8", "onnxruntime", "int8-u8s8")
ONE = Options(threads=1)


def row(pair: Pair, ms: float | str) -> Row:
    key = {
        **{
            "bundle_sha256": "0" * 64,
            "network": "npc",
            "runtime": "1",
            "machine": "m",
            "isa": SET,
            "threads": 1,
        },
        **{"artefact": pair.artefact, "backend": pair.backend, "precision": pair.precision},
    }
    status = ms if isinstance(ms, str) else "passed"
    return Row.model_validate(
        {"key": key, "status": status, "why": "a reason", "ms": None if isinstance(ms, str) else ms}
    )


def measured(times: Mapping[Pair, float | str]) -> list[tuple[Pair, Row]]:
    return [(pair, row(pair, ms)) for pair, ms in times.items()]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({INT8: 10.0, BF16: 20.0, REFERENCE: 50.0}, INT8),
        ({INT8: 30.0, BF16: 20.0, REFERENCE: 50.0}, BF16),
        ({INT8: 21.0, BF16: 20.0}, INT8),  # within the noise of timing: the order decides
        ({INT8: "failed", BF16: 20.0, REFERENCE: 5.0}, REFERENCE),
        ({INT8: "failed", BF16: "skipped"}, None),
        ({}, None),
    ],
)
def test_the_fastest_of_what_passed_is_taken(
    times: Mapping[Pair, float | str], expected: Pair | None
) -> None:
    assert fastest(measured(times)) == expected


def test_on_a_busy_machine_processor_time_decides() -> None:
    """Others took the cores while int8 was timed: on the clock it looks slower than it is."""
    quiet = measured({INT8: 30.0, BF16: 20.0})
    assert fastest(quiet) == BF16
    cpu = {INT8: 20.0, BF16: 40.0}
    busy = [(p, r.model_copy(update={"cpu_ms": cpu[p], "busy": p == INT8})) for p, r in quiet]
    assert fastest(busy) == INT8
    assert "busy" in Choice("npc", INT8, rows=tuple(busy)).sentence()


def test_without_golden_cases_only_the_table_speaks() -> None:
    untested = [(INT8, row(INT8, 1.0).model_copy(update={"status": "untested"})), (BF16, row(BF16, 9.0))]
    assert fastest(untested) == INT8
    assert fastest(untested, frozenset({INT8})) == BF16


def test_a_slow_pair_is_told_how_fast_the_others_are() -> None:
    told = []

    def measure(pair: Pair, best: float | None) -> ArtefactResult:
        told.append(best)
        ms = {INT8: 10.0, BF16: None, REFERENCE: 7.0}[pair]
        return ArtefactResult("npc", "f", "fp32", pair.backend, SET, "passed", "", ms=ms)

    assert [pair for pair, _ in survey([INT8, BF16, REFERENCE], measure)] == [INT8, BF16, REFERENCE]
    assert told == [None, 10.0, 10.0]


@pytest.mark.parametrize(
    ("taken", "absent", "failed", "expected"),
    [
        (INT8, {}, {}, None),
        (BF16, {}, {}, None),  # int8 was slower here: no failure
        (ORT8, {INT8: "openvino is not installed"}, {}, "openvino is not installed"),
        (BF16, {}, {INT8: "failed"}, "openvino int8-u8s8 cannot serve (a reason): openvino bf16 does"),
        (INT8, {REFERENCE: "gone"}, {}, None),  # what comes after it is not missed
    ],
    ids=range(5),
)
def test_the_fallback_names_the_first_that_should_have_served(
    taken: Pair, absent: dict[Pair, str], failed: Mapping[Pair, str], expected: str | None
) -> None:
    found = Candidates(CPU_PAIRS[1:], (), absent, frozenset())  # a CPU without bf16 has no int8-bf16
    said = fallback(taken, measured({**failed, taken: 1.0}), found)
    assert said == expected or (expected is not None and said is not None and expected in said)


def test_auto_measures_once_and_keeps_its_choice(tmp_path: Path) -> None:
    made = bundle(tmp_path, ("fp32", "fp16", "int8-u8s8"), on(instruction_set()))
    said: list[str] = []
    first = decide(made, "npc", ONE, Remembered(tmp_path), said.append)
    assert first.fresh
    assert len(said) == 1
    tried = [pair for pair, _ in first.rows]
    assert REFERENCE in tried
    assert not any(pair.artefact == "fp16" for pair in tried), "an fp16 file runs here as the fp32 one does"
    assert all(r.status == "passed" and r.ms is not None and r.ms > 0 for _, r in first.rows)
    assert str(first.pair) in first.sentence()
    for _ in range(3):
        again = decide(made, "npc", ONE, Remembered(tmp_path), said.append)
        assert (again.pair, again.fresh, again.rows) == (first.pair, False, first.rows)
    assert len(said) == 1
    assert decide(made, "npc", Options(threads=2), Remembered(tmp_path), said.append).fresh


def test_a_remembered_time_is_what_decides(tmp_path: Path) -> None:
    """The same machine, told that its reference is the fastest: it takes that, and does not measure again."""
    made = bundle(tmp_path, ("fp32", "int8-u8s8"), on(instruction_set()))
    first = decide(made, "npc", ONE, Remembered(tmp_path), str)
    other = tmp_path / "other"
    other.mkdir()
    told = [{"ms": 0.001 if p == REFERENCE else 9.0, "busy": False} for p, _ in first.rows]
    Remembered(other).add([r.model_copy(update=t) for t, (_, r) in zip(told, first.rows, strict=True)])
    chosen = decide(made, "npc", ONE, Remembered(other), str)
    assert (chosen.pair, chosen.fresh, chosen.fallback) == (REFERENCE, False, None)


def test_a_later_run_imports_no_runtime_that_loses(tmp_path: Path) -> None:
    made = bundle(tmp_path, ("fp32",), {"fp32": [("openvino", "fp32", "any")]})
    first = decide(made, "npc", ONE, Remembered(tmp_path), str)
    loser = {"openvino": "onnxruntime", "onnxruntime": "openvino"}[first.pair.backend]
    code = f"""
import sys
from pathlib import Path
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.choice import decide
from npc_edge.engine.model.runners import open_pair
from npc_edge.engine.remembered import Remembered
from npc_edge.engine.types import Options
made = load(Path({str(made.root)!r}), allow_unsigned=True)
choice = decide(made, "npc", Options(threads=1), Remembered(Path({str(tmp_path)!r})), sys.exit)
assert "onnxruntime" not in sys.modules and "openvino" not in sys.modules, "choosing imports nothing"
with open_pair(made, "npc", choice.pair, 1):
    assert {loser!r} not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_int8_of_another_instruction_set_may_run_where_golden_cases_pass(tmp_path: Path) -> None:
    made = bundle(tmp_path, ("fp32", "int8-u8s8"), on("some_other_set"))
    chosen = decide(made, "npc", Options(precision="int8", threads=1), Remembered(tmp_path), str)
    assert chosen.pair.precision == "int8-u8s8"
    assert INT8 in [pair for pair, _ in chosen.rows]
    with Session(made.root, Options(precision="int8", allow_unsigned=True, state=tmp_path / "state")):
        pass


def broken(folder: Path) -> Bundle:
    """A bundle whose int8 artefact says something else than its original."""
    kinds = ("fp32", "int8-u8s8")
    root = tiny_qdq.write_parts(folder / "bundle", kinds)
    model = tiny_qdq.network("u8s8")
    weights = next(t for t in model.graph.initializer if t.name == "second_w")
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), "second_w"))
    onnx.save(model, str(root / "artefacts" / "npc.int8-u8s8.onnx"))
    pack(root, tiny_qdq.manifest(kinds, on(instruction_set())), None)
    return load(root, allow_unsigned=True)


def test_what_fails_its_golden_cases_is_never_taken_and_that_is_said(tmp_path: Path) -> None:
    made = broken(tmp_path)
    chosen = decide(made, "npc", ONE, Remembered(tmp_path), str)
    assert chosen.pair.artefact == "fp32"
    assert chosen.fallback is not None
    assert chosen.fallback.startswith("openvino int8-u8s8 cannot serve (out of tolerance: a): ")
    again = decide(made, "npc", ONE, Remembered(tmp_path), str)
    assert (again.pair, again.fallback, again.fresh) == (chosen.pair, chosen.fallback, False)


def test_asked_for_by_name_it_is_refused(tmp_path: Path) -> None:
    made = broken(tmp_path)
    for _ in range(2):  # measured, then remembered
        with pytest.raises(BackendError, match="out of tolerance") as caught:
            decide(made, "npc", Options(precision="int8", threads=1), Remembered(tmp_path), str)
        assert "\n" not in caught.value.one_line()
    with pytest.raises(BackendError):
        Session(
            made.root, Options(precision="int8", allow_unsigned=True, state=tmp_path / "state")
        ).__enter__()


def test_the_result_says_what_ran_and_why_not_the_best(tmp_path: Path) -> None:
    with Session(
        broken(tmp_path).root, Options(allow_unsigned=True, state=tmp_path / "s", threads=1)
    ) as session:
        assert session._opened().fallback == session.choices[0].fallback
        assert session._opened().fallback
        info = session._opened().runners["npc"].describe()
    assert (info.backend, info.precision) == (
        session.choices[0].pair.backend,
        session.choices[0].pair.precision,
    )


def test_a_damaged_memory_is_said_and_measured_again(tmp_path: Path) -> None:
    made = bundle(tmp_path, ("fp32",))
    options = Options(allow_unsigned=True, state=tmp_path / "s", threads=1)
    with Session(made.root, options) as session:
        assert session.notes == ()
    (tmp_path / "s" / "acceptance.json").write_text("{")
    with Session(made.root, options) as session:
        assert len(session.notes) == 1
        assert session.choices[0].fresh
    with Session(made.root, options) as session:
        assert (session.notes, session.choices[0].fresh) == ((), False)


def test_two_that_start_together_measure_once(tmp_path: Path) -> None:
    made = bundle(tmp_path, ("fp32",), {"fp32": [("openvino", "fp32", "any")]})
    code = f"""
import sys
from pathlib import Path
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.choice import decide
from npc_edge.engine.remembered import Remembered
from npc_edge.engine.types import Options
made = load(Path({str(made.root)!r}), allow_unsigned=True)
remembered = Remembered(Path({str(tmp_path)!r}))
sys.stdin.readline()
choice = decide(made, "npc", Options(threads=1), remembered, lambda _: None)
print(choice.pair, *(row.ms for _, row in choice.rows))
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = {child.communicate(timeout=120)[0] for child in children}
    assert len(said) == 1, "both chose from the same times"
    assert said.pop().strip()


GPU = Gpu(0, "sm86", "a card", "13.0", 8000.0)


def test_a_gpu_without_its_runtimes_is_a_fallback_that_says_so(tmp_path: Path) -> None:
    made = bundle(tmp_path, ("fp32", "fp16"), {"fp16": [("onnxruntime", "fp16", SET)]})
    found = candidates(made, "npc", Options(), SET, GPU)
    assert [str(pair) for pair in found.ranked[:2]] == ["tensorrt fp16", "tensorrt-rtx fp16"]
    assert REFERENCE in found.open
    ort = Pair("fp16", "onnxruntime-cuda", "fp16")
    assert "CUDAExecutionProvider" in found.absent[ort]
    said = fallback(REFERENCE, measured({REFERENCE: 1.0}), found)
    assert said is not None
    assert said.startswith("tensorrt fp16 cannot serve (tensorrt is not installed")
    assert candidates(made, "npc", Options(device="cpu"), SET, None).absent == {}


def test_an_engine_that_is_not_built_is_served_for_meanwhile(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    made = bundle(tmp_path, ("fp32", "fp16"), {"fp16": [("onnxruntime", "fp16", SET)]})
    gpu = Gpu(0, "sm86", "a card", "13.0", 8000.0, tmp_path / "engines")
    rtx = Pair("fp16", "tensorrt-rtx", "fp16")
    found = candidates(made, "npc", Options(), SET, gpu)
    assert found.build == (rtx,)
    assert "not built yet" in found.absent[rtx]
    EngineCache(tmp_path / "engines").publish(gpu.engine_key(made, "npc", rtx), b"a plan")
    found = candidates(made, "npc", Options(), SET, gpu)
    assert found.build == ()
    assert rtx in found.open
    assert rtx in found.unproven, "golden cases on this GPU come first"


def test_timing_needs_no_golden_case(tmp_path: Path) -> None:
    root = tiny_qdq.write_parts(tmp_path / "bundle", ("fp32",))
    (root / "golden" / "npc.a.npz").unlink()
    pack(root, tiny_qdq.manifest(("fp32",)), None)
    chosen = decide(load(root, allow_unsigned=True), "npc", ONE, Remembered(tmp_path), str)
    assert chosen.pair == REFERENCE
    assert chosen.rows[0][1].status == "untested"
    assert chosen.rows[0][1].ms is not None
    assert np.isfinite(chosen.rows[0][1].ms)
