"""What this process asks of the machine."""

import subprocess
import sys

import pytest

_AGAIN = """
import resource
import numpy as np
from npc_edge.engine import machine

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(50_000_001, dtype=np.uint8)[::4096].sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

np.ones(50_000_001, dtype=np.uint8)
first = faults()
machine.keep_memory()
faults()
print(first, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_memory_that_is_kept_is_not_asked_for_again() -> None:
    ran = subprocess.run([sys.executable, "-c", _AGAIN], capture_output=True, text=True, check=True)
    before, after = map(int, ran.stdout.split())
    assert after < before / 10, "pages of what was freed come anew, until they are kept"
