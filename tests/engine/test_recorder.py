"""The recorder keeps a record of every run, and its failures never are the run's."""

import sys
from pathlib import Path

import output_cases as cases
import pytest

from npc_edge.calibration.store import Store
from npc_edge.engine.errors import OutputError
from npc_edge.engine.output.result import document
from npc_edge.engine.recorder import FILE, Recorder, open_store


def test_results_and_refusals_are_kept(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    kept = [recorder.keep(run, document(run)) for run in (cases.outcome(), cases.refusal())]
    recorder.close()
    assert [k.failure for k in kept] == ["", ""]
    assert all(k.took_ms >= 0.5 * k.cpu_ms > 0 for k in kept)
    with open_store(tmp_path) as store:
        assert [r.outcome for r in store.records()] == ["result", "no-result"]
        assert list(store.records()) == [k.record for k in kept]


def test_a_damaged_database_is_a_value_and_the_next_run_tries_again(tmp_path: Path) -> None:
    run = cases.outcome()
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    recorder = Recorder(tmp_path)
    failed = recorder.keep(run, document(run))
    assert failed.record is None
    assert "damaged" in failed.failure
    assert "\n" not in failed.failure
    (tmp_path / FILE).unlink()
    assert recorder.keep(run, document(run)).failure == ""
    recorder.close()


def test_a_folder_that_is_gone_is_a_value(tmp_path: Path) -> None:
    run = cases.outcome()
    failed = Recorder(tmp_path / "gone").keep(run, document(run))
    assert failed.failure.startswith("cannot open the monitor's database")


def test_a_bug_of_the_monitor_is_a_value_that_names_it(tmp_path: Path) -> None:
    run = cases.outcome()
    object.__setattr__(run.facts, "version", object())  # nothing a database can hold
    failed = Recorder(tmp_path).keep(run, document(cases.outcome()))
    assert failed.record is None
    assert failed.failure
    with Store.open(tmp_path / FILE) as store:
        assert store.counts().runs == 0


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_nobody_elses_eyes(tmp_path: Path) -> None:
    run = cases.outcome()
    recorder = Recorder(tmp_path)
    recorder.keep(run, document(run))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    recorder.close()


def test_a_person_asking_for_records_that_are_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no run has been recorded"):
        open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []
