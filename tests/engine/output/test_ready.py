"""What writes DICOM is loaded while a study is looked at, and only then."""

import subprocess
import sys

_RUN = """
import sys
from npc_edge.engine.output.ready import get_ready, while_it_runs
from npc_edge.engine.types import Progress

seen = []
on_progress = while_it_runs(seen.append)
on_progress(Progress("read", 0.0))
assert "highdicom" not in sys.modules, "loaded before the study was read"
on_progress(Progress("align", 0.2))
assert get_ready() is get_ready()
get_ready().join()
assert "highdicom" in sys.modules and "npc_edge.engine.output.sr" in sys.modules
assert [step.station for step in seen] == ["read", "align"]
while_it_runs(None)(Progress("output", 0.8))
"""


def test_modules_load_once_the_study_is_read() -> None:
    ran = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
