"""What is remembered of a machine: whole or not at all, never trusted when damaged, shared by processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from npc_edge.engine.remembered import NAME, Key, Remembered, Row

KEY = Key(
    bundle_sha256="a" * 64,
    network="npc",
    artefact="fp32",
    backend="onnxruntime",
    precision="fp32",
    runtime="1.0",
    machine="a processor",
    isa="avx2",
    threads=2,
)
ROW = Row(key=KEY, status="passed", why="1 golden cases", ms=12.5)


def test_what_is_added_is_found_by_the_next_process(tmp_path: Path) -> None:
    Remembered(tmp_path).add([ROW])
    again = Remembered(tmp_path)
    assert again.find(KEY) == ROW
    assert again.notes == []
    assert json.loads((tmp_path / NAME).read_text())["schema_version"] == "1"


@pytest.mark.parametrize(
    "other",
    [
        {"bundle_sha256": "b" * 64},
        {"network": "locator"},
        {"precision": "bf16"},
        {"backend": "openvino"},
        {"runtime": "1.1"},
        {"machine": "another processor"},
        {"isa": "avx512"},
        {"threads": 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_row_holds_for_exactly_what_was_measured(tmp_path: Path, other: dict[str, object]) -> None:
    Remembered(tmp_path).add([ROW])
    assert Remembered(tmp_path).find(KEY.model_copy(update=other)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema_version": "2", "rows": []}',
        '{"schema_version": "1", "rows": [{"key": {}}]}',
        '{"schema_version": "1", "rows": [], "more": 1}',
        "\0" * 100,
        "\udcff",
    ],
    ids=range(8),
)
def test_a_damaged_or_foreign_file_is_put_aside_and_said_once(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_bytes(text.encode(errors="surrogateescape"))
    remembered = Remembered(tmp_path)
    assert remembered.rows == ()
    assert len(remembered.notes) == 1
    assert "\n" not in remembered.notes[0]
    aside = [path for path in tmp_path.iterdir() if "damaged" in path.name]
    assert [path.read_bytes() for path in aside] == [text.encode(errors="surrogateescape")]
    assert aside[0].name in remembered.notes[0]
    remembered.add([ROW])
    assert Remembered(tmp_path).find(KEY) == ROW


def test_half_a_file_is_not_believed_in_part(tmp_path: Path) -> None:
    Remembered(tmp_path).add([ROW])
    whole = (tmp_path / NAME).read_bytes()
    for length in (1, len(whole) // 2, len(whole) - 2):
        (tmp_path / NAME).write_bytes(whole[:length])
        assert Remembered(tmp_path).rows == ()


def test_what_another_process_measured_first_stands(tmp_path: Path) -> None:
    first, second = Remembered(tmp_path), Remembered(tmp_path)
    first.add([ROW])
    second.add([ROW.model_copy(update={"ms": 1.0})])
    assert second.find(KEY) == ROW
    assert Remembered(tmp_path).rows == (ROW,)


def test_processes_that_add_together_lose_nothing(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from npc_edge.engine.remembered import Key, Remembered, Row
held = Remembered(Path(sys.argv[1]))
key = Key.model_validate_json(sys.argv[2])
sys.stdin.readline()
for n in range(5):
    held.add([Row(key=key.model_copy(update={"network": f"{sys.argv[3]}-{n}"}), status="passed", why="")])
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), KEY.model_dump_json(), str(n)],
            stdin=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for child in children:
        child.communicate("go\n", timeout=120)
    assert all(child.returncode == 0 for child in children)
    assert len(Remembered(tmp_path).rows) == 15
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_costs_a_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    remembered = Remembered(tmp_path)
    remembered.add([ROW])
    assert remembered.find(KEY) == ROW
    assert len(remembered.notes) == 1


def test_a_folder_that_is_gone_costs_a_line(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path / "gone")
    with remembered.measuring():
        remembered.add([ROW])
    assert remembered.find(KEY) == ROW
    assert len(remembered.notes) == 1


def test_a_file_that_is_a_folder_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    remembered = Remembered(tmp_path)
    remembered.add([ROW])
    assert Remembered(tmp_path).find(KEY) == ROW
    assert len(remembered.notes) == 1
