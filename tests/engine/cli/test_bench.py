"""`npc-edge bench` from the outside: a small study measured, and a baseline held against it."""

import json
import subprocess
from pathlib import Path

import cli
import pytest


def run(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    """Measuring takes its time on a machine that does other things too."""
    return cli.run(*map(str, arguments), timeout=290)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study, and the report of a short bench of it."""
    folder = tmp_path_factory.mktemp("bench")
    made = run("phantom", folder / "phantom", "--stage", "T2", "--seed", 11, "--matrix", 128, "--slices", 20)
    assert made.returncode == 0, made.stderr
    study, out = folder / "phantom" / "study", folder / "report.json"
    ran = run("bench", "--study", study, "--runs", 2, "--cold-runs", 1, "--out", out, "--quiet")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "studies an hour" in ran.stdout
    return study, out


def test_a_report_holds_what_was_asked_for(measured: tuple[Path, Path]) -> None:
    held = json.loads(measured[1].read_text())
    engine = held["engine"]
    assert engine["warm"]["seconds"]["runs"] == 2
    assert engine["warm"]["stages_ms"]["infer"]["p50"] > 0
    assert engine["cold"]["seconds"]["p50"] > engine["warm"]["seconds"]["min"]
    assert engine["first_run"]["open_s"] > 0
    assert held["study"]["shape"] == [20, 128, 128]
    assert held["achieved"]["windows"] == 1
    assert held["peaks"]["copy"] > 0
    assert held["reference_loop"]["noise"] >= 0
    assert set(held["machine"]["versions"]) >= {"npc-edge", "onnxruntime", "numpy"}
    page = measured[1].with_suffix(".html").read_text()
    assert "<svg" in page


def test_a_faster_baseline_is_exit_code_8(measured: tuple[Path, Path], tmp_path: Path) -> None:
    """The baseline is doctored: everything ten times as fast, the noise none."""
    study, out = measured
    held = json.loads(out.read_text())
    held["reference_loop"] |= {"noise": 0.0, "p50": held["reference_loop"]["p50"] * 1000}
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(held))
    arguments = ["--runs", 1, "--cold-runs", 1, "--out", tmp_path / "now.json", "--quiet"]
    ran = run("bench", "--study", study, *arguments, "--check", baseline)
    assert ran.returncode == 8
    assert ran.stderr.count("\n") == 1
    assert "slower than" in ran.stderr
    assert (tmp_path / "now.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--study", "there/is/none"], "there is no there/is/none"),
        (["--out", "report.txt"], "no FILE.json"),
        (["--check", "there-is-none.json"], "no baseline"),
        (["--out", "a.json", "--check", "a.json"], "overwrite the baseline"),
        (["--against", "abacus"], "abacus"),
        (["--runs", "0"], "runs"),
    ],
)
def test_what_cannot_be_meant_is_usage(arguments: list[str], said: str) -> None:
    ran = run("bench", *arguments)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert said in ran.stderr


def test_a_backend_that_is_not_there_is_exit_code_5(measured: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    ran = run("bench", "--study", measured[0], "--backend", "tensorrt", "--out", out, "--quiet")
    assert ran.returncode == 5, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not out.exists()
