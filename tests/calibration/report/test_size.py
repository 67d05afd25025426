"""A report over 100,000 records takes no more than 10 s of processor time and 500 MB, reading included."""

import subprocess
import sys
from pathlib import Path

import pytest
from monitor_records import Department, records, truths

from npc_edge.calibration.store import Store

MAKE = """
import resource, sys, time
from pathlib import Path
begun = time.perf_counter()
from npc_edge.calibration.alarms import open_alarms
from npc_edge.calibration.report.gather import content_of
from npc_edge.calibration.report.page import render
from npc_edge.calibration.store import Store
from npc_edge.calibration.watch import Settings, watched

with Store.open(Path(sys.argv[1])) as store:
    records, known = list(store.records()), store.truths()
settings = Settings()
found = watched(records, known, settings, {})
content = content_of(records, found, settings, records[-1].at)
page = render(content, found.verdicts, open_alarms(found.verdicts, (), records[-1].at))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wall = time.perf_counter() - begun
print(len(records), len(page), time.process_time(), wall, peak / (1024 if sys.platform == "linux" else 2**20))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its peak memory is measured another way")
def test_a_report_over_100_000_records(tmp_path: Path) -> None:
    of = Department(100_000, seed=4, changed=0.8, labelled=0.05)
    with Store.open(tmp_path / "monitor.sqlite") as store:
        store.add_all(records(of))
        store.add_truths(list(truths(of)))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", MAKE, tmp_path / "monitor.sqlite"],
        capture_output=True,
        text=True,
        check=True,
    )
    count, size, seconds, wall, megabytes = map(float, ran.stdout.split())
    print(f"{seconds:.1f} s of processor time, {wall:.1f} s by the clock, {megabytes:.0f} MB,", end=" ")
    print(f"a page of {size / 1e3:.0f} kB")
    assert count == 100_000
    assert size < 400_000
    assert seconds <= 10
    assert megabytes <= 500
