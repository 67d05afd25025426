"""The reading child: warm, replaced when killed, ended in time, limited, and the only one to open files."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from npc_edge.engine.errors import Cancelled, DeadlineExceeded, Refusal
from npc_edge.engine.study.read import Reader, ReadLimits
from npc_edge.engine.types import Watch

from .dicom_files import ROOT, WHOLE, summary


def test_the_child_stays_warm_and_ends(folder: Path) -> None:
    with Reader() as reader:
        reader.read(folder)
        pid = reader.child_pid
        reader.read(folder)
        assert pid is not None
        assert reader.child_pid == pid
    assert not psutil.pid_exists(pid)


def test_a_killed_child_is_replaced(folder: Path) -> None:
    with Reader() as reader:
        first = reader.child_pid
        assert first is not None
        psutil.Process(first).kill()
        psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], 5)
        assert summary(reader.read(folder)) == WHOLE
        assert reader.child_pid != first


@pytest.mark.skipif(sys.platform == "win32", reason="stopping a process is POSIX")
def test_a_child_that_hangs_is_ended_in_time(folder: Path) -> None:
    with Reader(ReadLimits(file_s=1.0)) as reader:
        reader.read(folder)
        pid = reader.child_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(Refusal) as refused:
            reader.read(folder)
        assert time.monotonic() - begin < 5
        assert refused.value.code == "HOSTILE_FILE"
        assert not psutil.pid_exists(pid)
        assert summary(reader.read(folder)) == WHOLE


@pytest.mark.skipif(sys.platform == "win32", reason="stopping a process is POSIX")
@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_reading_stops_when_asked(folder: Path, how: str) -> None:
    cancel = threading.Event()
    with Reader() as reader:
        reader.read(folder)
        pid = reader.child_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        if how == "cancel":
            threading.Timer(0.3, cancel.set).start()
        watch = Watch(time.monotonic() + 0.3 if how == "deadline" else None, cancel)
        with pytest.raises(DeadlineExceeded if how == "deadline" else Cancelled):
            reader.read(folder, watch)
        assert summary(reader.read(folder)) == WHOLE


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited where rlimits work")
def test_memory_is_limited_and_the_parent_unharmed(folder: Path) -> None:
    """A decoder that wants more than the child may have is refused, and the next study is read."""
    big = folder / "big"
    data = dcmread(folder / "a" / "1_000")
    data.Rows = data.Columns = 4000
    data.PixelData = bytes(2 * 4000 * 4000)
    data.SOPInstanceUID, data.SeriesInstanceUID = f"{ROOT}.8.1", f"{ROOT}.8"
    data.compress(RLELossless, generate_instance_uid=False)
    big.mkdir()
    data.save_as(big / "x")
    with Reader(ReadLimits(memory_mb=160)) as reader:
        study = reader.read(big)
        with pytest.raises(Refusal) as refused:
            reader.pixels(study.series[0], study.series[0].frames)
        assert refused.value.code in ("HOSTILE_FILE", "UNREADABLE")
        assert summary(reader.read(folder / "a")) == WHOLE[:1]


@pytest.mark.skipif(sys.platform != "linux", reason="rlimits")
def test_the_child_can_write_no_file(folder: Path) -> None:
    with Reader() as reader:
        reader.read(folder)
        child = psutil.Process(reader.child_pid)
        assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert child.rlimit(psutil.RLIMIT_AS) == (1024 << 20, 1024 << 20)
        assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_only_the_child_opens_source_files(folder: Path) -> None:
    opened: list[str] = []

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(folder)):
            opened.append(str(arguments[0]))

    sys.addaudithook(listen)
    with Reader() as reader:
        study = reader.read(folder)
        reader.pixels(study.series[0], study.series[0].frames)
    assert opened == []
