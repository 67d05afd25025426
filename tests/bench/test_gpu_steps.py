"""Each step is a process: it ends in time, says what it lacks, and what it found before stays."""

import json
import time
from pathlib import Path

import pytest

from npc_edge.bench import gpu_steps
from npc_edge.bench.gpu_place import Place, Row
from npc_edge.engine.errors import BackendError

HERE = Place(None, small=True)


def found_by(into: Path) -> Row:
    held: Row = json.loads(into.read_text(encoding="utf-8"))
    return held


def test_a_step_apart_answers_with_what_it_found() -> None:
    found, became = gpu_steps.run_apart("tensorrt", HERE, 120)
    assert became["status"] == "done"
    assert [row["runtime"] for row in found["tensorrt"]] == ["rtx", "tensorrt"]


def test_a_step_that_takes_too_long_is_stopped() -> None:
    begun = time.perf_counter()
    found, became = gpu_steps.run_apart("kernels", HERE, 0.2)
    assert became["status"] == "stopped"
    assert became["why"] == "it took longer than 0 s"
    assert found == {}
    assert time.perf_counter() - begun < 20


def test_what_was_found_stays_when_something_is_missing_later(tmp_path: Path) -> None:
    def do(place: Place, tell: gpu_steps.Tell) -> None:
        tell("first", 1)
        raise BackendError("the card is gone")

    assert gpu_steps.run_here(gpu_steps.Step(do, 10), HERE, tmp_path / "found.json") == 5
    assert found_by(tmp_path / "found.json") == {"first": 1, "not_run": "the card is gone"}


def test_a_step_that_breaks_is_no_step_that_lacks_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def do(place: Place, tell: gpu_steps.Tell) -> None:
        raise RuntimeError("an illegal memory access")

    assert gpu_steps.run_here(gpu_steps.Step(do, 10), HERE, tmp_path / "found.json") == 1
    assert found_by(tmp_path / "found.json") == {"failed": "an illegal memory access"}
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "passed"), [(0, True), (9, False)])
def test_a_sanitizer_is_believed_by_its_exit_code(tmp_path: Path, code: int, passed: bool) -> None:
    program = tmp_path / "sanitizer"
    program.write_text(f"#!/bin/sh\necho said $1 $2\nexit {code}\n", encoding="ascii")
    program.chmod(0o755)
    place = Place(0, until=time.monotonic() + 30)
    row = gpu_steps.sanitized("racecheck", place, str(program))
    assert (row["passed"], row["detail"]) == (passed, "said --tool racecheck")
    assert ("said" in row) is not passed  # all of it, when it complains


def test_a_sanitizer_that_does_not_end_is_not_believed(tmp_path: Path) -> None:
    program = tmp_path / "sanitizer"
    program.write_text("#!/bin/sh\nexec sleep 30\n", encoding="ascii")
    program.chmod(0o755)
    row = gpu_steps.sanitized("memcheck", Place(0, until=time.monotonic()), str(program))
    assert row["passed"] is None
    assert "time for this step was over" in row["detail"]


def test_without_a_sanitizer_or_a_gpu_it_says_so() -> None:
    assert "is not installed" in gpu_steps.sanitized("memcheck", Place(0), "no-such-sanitizer")["detail"]
    assert gpu_steps.sanitized("memcheck", HERE)["passed"] is None
