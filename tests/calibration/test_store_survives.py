"""The monitor's store where processes are killed, run side by side, and find the disk full."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from watch_records import records

from npc_edge.calibration.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "monitor.sqlite"


_RECORDS = """
import sys
from pathlib import Path
from npc_edge.calibration.record import CaseRecord
from npc_edge.calibration.store import Store, StoreError
store, prefix = Store.open(Path(sys.argv[1])), sys.argv[2]
print("open", flush=True)
for number in range(int(sys.argv[3])):
    key = f"{prefix}.{number}"
    try:
        store.add(CaseRecord(key, "", number, "1", "b", "", "", "", "", "no-result", (key * 20,)))
    except StoreError as error:
        print("error", error.message, flush=True)
        sys.exit(9)
    print(key, flush=True)
"""


def recorder(path: Path, prefix: str, count: int, **how: object) -> subprocess.Popen[str]:
    """A process that records in a loop and prints the key of each run that was acknowledged."""
    command = [sys.executable, "-c", _RECORDS, str(path), prefix, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)  # type: ignore[call-overload, no-any-return]


def keys(path: Path, prefix: str = "") -> set[str]:
    with Store.open(path) as store:
        return {key for key in store.columns(["case_key"])["case_key"] if key.startswith(prefix)}


def kill_while_recording(path: Path, times: int) -> int:
    """SIGKILL a recorder at random moments; every acknowledged run must be there. Returns how many were."""
    chance, total = random.Random(20261125), 0
    for number in range(times):
        with recorder(path, f"k{number}", 1_000_000) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            printed = [process.stdout.readline() for _ in range(chance.randrange(4))]
            time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            printed += process.stdout.read().splitlines(keepends=True)
        acknowledged = {line.strip() for line in printed if line.endswith("\n")}  # the last is cut short
        assert acknowledged <= keys(path, f"k{number}.")
        total += len(acknowledged)
    assert len(keys(path)) >= total
    return total


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_no_acknowledged_run_is_lost_when_killed(path: Path) -> None:
    assert kill_while_recording(path, 12) > 12


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_500_kills_lose_nothing(path: Path) -> None:
    total = kill_while_recording(path, 500)
    print(f"500 kills, {total} acknowledged runs, none lost")
    assert total > 500


def test_two_processes_record_at_once(path: Path) -> None:
    """Both also make the file: neither is there first."""
    with recorder(path, "a", 60) as one, recorder(path, "b", 60) as other:
        said = [process.communicate(timeout=60)[0].split() for process in (one, other)]
    assert [process.returncode for process in (one, other)] == [0, 0]
    assert keys(path) == {key for lines in said for key in lines[1:]}
    assert len(keys(path)) == 120


def until_full(process: subprocess.Popen[str], path: Path) -> None:
    """The recorder meets the end of the disk: it is told so, and everything acknowledged stays."""
    printed = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 9
    assert printed[-1].startswith("error cannot keep the run: ")
    acknowledged = set(printed[1:-1])
    assert len(acknowledged) > 10
    assert acknowledged <= keys(path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_a_file_that_may_not_grow_keeps_what_was_acknowledged(path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    with recorder(path, "f", 1_000_000, preexec_fn=limit) as process:
        until_full(process, path)
    with Store.open(path) as store:
        store.add(replace(records(1)[0], case_key="c1"))
        assert store.holds("c1")


def test_a_full_disk_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    try:
        with recorder(disk / "monitor.sqlite", "d", 1_000_000) as process:
            printed = process.communicate(timeout=120)[0].splitlines()
        assert process.returncode == 9
        assert printed[-1].startswith("error cannot keep the run: the disk")
        (tmp_path / "roomy").mkdir()
        for file in disk.iterdir():
            (tmp_path / "roomy" / file.name).write_bytes(file.read_bytes())
        assert set(printed[1:-1]) <= keys(tmp_path / "roomy" / "monitor.sqlite")
        assert len(printed) > 12
    finally:
        subprocess.run(["umount", str(disk)], check=True)
