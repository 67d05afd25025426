"""What writes DICOM gets ready while a study is looked at, and only then."""

import subprocess
import sys

_RUN = """
import sys
from npc_edge.engine.output.ready import get_ready, while_it_runs
from npc_edge.engine.output.scribe import Scribe
from npc_edge.engine.types import Progress

seen = []
with Scribe() as scribe:
    on_progress = while_it_runs(seen.append, scribe)
    on_progress(Progress("read", 0.0))
    assert "pydicom" not in sys.modules and scribe.pid is None, "loaded before the study was read"
    on_progress(Progress("align", 0.2))
    assert get_ready() is get_ready()
    get_ready().join()
    first = scribe.pid
    assert first is not None and "npc_edge.engine.output.sr_content" in sys.modules
    assert "highdicom" not in sys.modules, "that is the scribe's"
    on_progress(Progress("align", 0.2))
    assert scribe.pid == first
    assert [step.station for step in seen] == ["read", "align", "align"]
    while_it_runs(None, scribe)(Progress("output", 0.8))
assert scribe.pid is None
"""


def test_modules_load_and_the_scribe_starts_once_the_study_is_read() -> None:
    ran = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
