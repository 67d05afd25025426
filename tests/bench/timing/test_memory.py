"""Memory is watched from outside, children and all."""

import subprocess
import sys

import pytest

from npc_edge.bench.timing.memory import MemoryWatch, family

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

_CHILD = "import time; held = bytearray(b'x' * 80_000_000); print('held', flush=True); time.sleep(60)"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}])"


def test_the_memory_of_a_child_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        watch = MemoryWatch(process.pid, 0.01)
        members = family(process.pid)
        while watch.peak_mb < 80:
            assert process.poll() is None
        peak = watch.stop()
        for member in reversed(members):
            subprocess.run(["kill", str(member)], check=True)
    assert len(members) == 2
    assert peak is not None
    assert 80 < peak < 200


def test_a_process_that_has_ended_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert MemoryWatch(process.pid, 0.001).stop() is None
