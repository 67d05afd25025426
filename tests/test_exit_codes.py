"""Every exit code of the command line, each from the real thing in a new process.

On every code but 0: one line on standard error, no traceback.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli import PROGRAM, run

import npc_edge.engine


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom study."""
    folder = tmp_path_factory.mktemp("exit-codes") / "phantom"
    made = run("phantom", folder, "--stage", "T2", "--seed", 11, "--matrix", 192, "--slices", 24)
    assert made.returncode == 0, made.stderr
    return folder / "study"


@pytest.fixture
def state(tmp_path: Path) -> list[str | Path]:
    """A state directory of its own."""
    return ["--state", tmp_path / "state"]


def complained(ran: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on standard error; fails on any other code, any other number of lines, or a traceback."""
    assert ran.returncode == code, (ran.returncode, ran.stderr)
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("npc-edge: ")
    assert ran.stderr.endswith("\n")
    assert ran.stderr.count("\n") == 1, ran.stderr
    return ran.stderr


def test_0_is_a_result_with_every_file(study: Path, tmp_path: Path, state: list[str | Path]) -> None:
    ran = run("run", study, "--out", tmp_path / "out", "--json", *state)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == json.loads((tmp_path / "out" / "result.json").read_text())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    always = {"result.json", "report.html", "tumour.nii.gz", "structures.nii.gz", "seg.dcm", "sr.dcm"}
    suspicious = json.loads(ran.stdout)["detection"]["finding"] == "suspicious"
    assert names == always | ({"rtstruct.dcm"} if suspicious else set())


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "there/is/no/such/study"],
        ["run"],
        ["run", "--image", "t1"],
        ["run", "--image", "t1=no-such-file.nii.gz"],
        ["run", "--backend", "abacus", "."],
        ["run", "--prevalence", "5", "."],
        ["run", "--no-such-option"],
        ["run", ".", "--deadline", "-1"],
        ["no-such-command"],
        [],
        ["phantom"],
        ["phantom", "out", "--stage", "T9"],
        ["inspect", "there/is/no/such/study"],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_2_is_usage_typers_own_errors_too(arguments: list[str]) -> None:
    complained(run(*arguments), 2)


def test_3_is_a_refusal_with_its_reason_and_a_report(
    study: Path, tmp_path: Path, state: list[str | Path]
) -> None:
    no_t2 = tmp_path / "no-t2"
    shutil.copytree(study, no_t2)
    for folder in no_t2.rglob("*"):
        if folder.is_dir() and "t2" in folder.name.lower():
            shutil.rmtree(folder)
    line = complained(run("run", no_t2, "--out", tmp_path / "out", *state), 3)
    assert "NO_T2" in line
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"result.json", "report.html"}
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert document["outcome"] == "no-result"
    assert document["reasons"][0]["code"] == "NO_T2"
    assert document["detection"] is document["tumour"] is document["staging"] is None


def test_3_with_json_still_prints_the_document(tmp_path: Path, state: list[str | Path]) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("run", tmp_path / "empty", "--out", tmp_path / "out", "--json", *state)
    assert ran.returncode == 3
    assert json.loads(ran.stdout)["reasons"][0]["code"] == "NO_MR"
    assert ran.stderr.count("\n") == 1


def test_4_is_a_bundle_that_is_altered_or_not_there(
    study: Path, tmp_path: Path, state: list[str | Path]
) -> None:
    altered = tmp_path / "bundle"
    shutil.copytree(Path(npc_edge.engine.__file__).parent / "demo_bundle", altered)
    artefact = next((altered / "artefacts").glob("*.onnx"))
    content = bytearray(artefact.read_bytes())
    content[len(content) // 2] ^= 1
    artefact.write_bytes(content)
    complained(run("run", study, "--out", tmp_path / "out", "--bundle", altered, *state), 4)
    complained(run("run", study, "--out", tmp_path / "out", "--bundle", tmp_path / "nowhere", *state), 4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "asked",
    [["--backend", "tensorrt"], ["--device", "cuda:0"], ["--backend", "onnxruntime", "--precision", "bf16"]],
)
def test_5_is_a_backend_that_is_not_there(
    study: Path, tmp_path: Path, state: list[str | Path], asked: list[str]
) -> None:
    complained(run("run", study, "--out", tmp_path / "out", *asked, *state), 5)


def test_6_is_a_folder_that_is_not_empty(study: Path, tmp_path: Path, state: list[str | Path]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    complained(run("run", study, "--out", out, *state), 6)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_7_is_a_deadline_that_passed(study: Path, tmp_path: Path, state: list[str | Path]) -> None:
    line = complained(run("run", study, "--out", tmp_path / "out", "--deadline", 0.001, *state), 7)
    assert "DEADLINE" in line


def test_several_studies_each_get_a_folder_and_the_worst_code_wins(
    study: Path, tmp_path: Path, state: list[str | Path]
) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("run", tmp_path / "empty", study, "--out", tmp_path / "out", "--json", *state)
    assert ran.returncode == 3
    assert [json.loads(line)["outcome"] for line in ran.stdout.splitlines()] == ["no-result", "result"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"empty", "study"}


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    ran = run("run", tmp_path / "nothing", "--debug")
    assert ran.returncode != 0
    assert "Traceback" in ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_what_could_not_be_printed_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 6
    assert b"cannot print" in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's redirection")
def test_a_closed_output_changes_no_code() -> None:
    command = shlex.join([*map(str, PROGRAM), "run"]) + " >&-"
    ran = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
