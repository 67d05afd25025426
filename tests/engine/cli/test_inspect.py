"""`npc-edge inspect`: a table for people, JSON for programs, the exit code of what `run` would say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli import run

from npc_edge.bench.phantom.study import PhantomSpec, write_phantom


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec(seed=2, matrix=96, slices=12, with_contrast=True, fat_sat=False)
    return write_phantom(spec, tmp_path_factory.mktemp("inspect") / "phantom") / "study"


def test_json(study: Path) -> None:
    ran = run("inspect", study, "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["reasons"] == []
    rows = {row["kind"]: row for row in document["series"] if row["contrast"] != "post"}
    assert {"localizer", "T1", "T2"} <= set(rows)
    assert rows["T1"]["chosen"]
    assert rows["T1"]["why"] == "chosen as t1"
    assert rows["T1"]["evidence"]
    assert not rows["localizer"]["chosen"]
    assert [row["role"] for row in document["series"] if row["contrast"] == "post"] == ["T1C"]
    assert all(row["why"] for row in document["series"])


def test_table(study: Path) -> None:
    ran = run("inspect", study)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    for words in ("localizer", "chosen as t1", "chosen as t2", "contrast: post"):
        assert words in ran.stdout


def test_a_study_that_would_be_refused(study: Path, tmp_path: Path) -> None:
    only = tmp_path / "only"
    only.mkdir()
    for path in study.rglob("*"):
        if path.is_file() and "t2" in str(path.relative_to(study)).lower():
            (only / path.name).write_bytes(path.read_bytes())
    ran = run("inspect", only, "--json")
    assert ran.returncode == 3
    assert ran.stderr.count("\n") == 1
    document = json.loads(ran.stdout)
    assert [reason["code"] for reason in document["reasons"]] == ["NO_T1"]
    assert [row["kind"] for row in document["series"]] == ["T2"]


def test_nothing_to_inspect(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    ran = run("inspect", tmp_path, "--json")
    assert ran.returncode == 3
    assert json.loads(ran.stdout)["reasons"][0]["code"] == "NO_MR"
    assert run("inspect", tmp_path / "nothing").returncode == 2
