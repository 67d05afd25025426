"""A session from Python: a refusal is a value, a fault an error; deadlines, cancellation, progress."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import quantizable
import tiny_bundle

from npc_edge.bench.phantom.study import PhantomSpec, write_phantom
from npc_edge.engine import Options, Session
from npc_edge.engine.errors import BackendError, BundleError, Cancelled, OutputError, UsageError
from npc_edge.engine.model.metrics import dice
from npc_edge.engine.remembered import Remembered
from npc_edge.engine.state import State
from npc_edge.engine.types import Progress
from npc_edge.export.pack import pack

_SPEC = PhantomSpec(stage="T2", seed=41, vendor="siemens", matrix=160, slices=24)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(_SPEC, tmp_path_factory.mktemp("session") / "phantom") / "study"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with Session(options=Options(state=tmp_path_factory.mktemp("state") / "s")) as opened:
        yield opened


def test_without_an_output_folder_nothing_is_written(session: Session, study: Path) -> None:
    before = sorted(study.parent.parent.iterdir())
    result = session.run(study)
    assert result.outcome == "result"
    assert result.files == ()
    assert result.findings is not None
    assert sorted(study.parent.parent.iterdir()) == before


def test_what_the_parity_table_allows_is_what_runs_and_is_said(
    session: Session, study: Path, tmp_path: Path
) -> None:
    """The embedded bundle with OpenVINO in its table: it runs, the result says so, and it finds the same."""
    root = tmp_path / "bundle"
    shutil.copytree(session.bundle.root, root)
    manifest = session.bundle.manifest.model_dump(mode="json", exclude={"files"})
    row = {"backend": "openvino", "precision": "fp32", "isa": "another", "max_relative_error": 1e-5}
    for network in manifest["networks"]:
        network["artefacts"] = [
            {**a, "parity": [row]} for a in network["artefacts"] if a["precision"] == "fp32"
        ]
    pack(root, manifest, None)
    with Session(root, Options(allow_unsigned=True, state=tmp_path / "state")) as other:
        found = other.run(study)
    with Session(
        root, Options(backend="onnxruntime", allow_unsigned=True, state=tmp_path / "state")
    ) as reference:
        expected = reference.run(study)
    assert (found.document.runtime.backend, found.document.runtime.precision) == ("openvino", "fp32")
    assert (expected.document.runtime.backend, expected.document.runtime.precision) == ("onnxruntime", "fp32")
    assert found.document.runtime.fingerprint != expected.document.runtime.fingerprint
    assert found.findings is not None
    assert expected.findings is not None
    assert found.findings.segmentation.tumour.shape == expected.findings.segmentation.tumour.shape
    assert dice(found.findings.segmentation.tumour > 0, expected.findings.segmentation.tumour > 0) > 0.999


def test_a_run_on_openvino_alone_loads_no_second_runtime(
    session: Session, study: Path, tmp_path: Path
) -> None:
    """The embedded bundle, with all that this machine measured of it remembered, and OpenVINO the faster."""
    assert {choice.network for choice in session.choices} == {"locator", "npc"}
    told = Remembered(State.open(tmp_path / "state").root)
    for choice in session.choices:
        assert any(p.backend == "openvino" and row.status == "passed" for p, row in choice.rows)
        faster = [(row, 1.0 if pair.backend == "openvino" else 9.0) for pair, row in choice.rows]
        told.add([row.model_copy(update={"ms": ms, "busy": False}) for row, ms in faster])
    code = f"""
import sys
from pathlib import Path
from npc_edge.engine import Options, Session
with Session(options=Options(state=Path({str(tmp_path / "state")!r}))) as session:
    assert [(c.pair.backend, c.fresh) for c in session.choices] == [("openvino", False)] * 2
    result = session.run(Path({str(study)!r}), Path({str(tmp_path / "out")!r}), then="nothing")
assert result.outcome == "result" and len(result.files) > 4, result.files
assert "openvino" in sys.modules
assert "onnxruntime" not in sys.modules, "a runtime that runs nothing was loaded"
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_progress_walks_through_the_stations_in_order(session: Session, study: Path) -> None:
    steps: list[Progress] = []
    session.run(study, on_progress=steps.append)
    stations = [step.station for step in steps]
    assert stations == ["read", "select", "assemble", "align", "locate", "prepare", "infer", "findings"]
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)


def test_a_refusal_is_a_value_with_its_reason(session: Session, study: Path, tmp_path: Path) -> None:
    only_t2 = tmp_path / "only-t2"
    only_t2.mkdir()
    for folder in study.iterdir():
        if "t1" not in folder.name.lower():
            shutil.copytree(folder, only_t2 / folder.name)
    result = session.run(only_t2, tmp_path / "out")
    assert result.outcome == "no-result"
    assert [reason.code for reason in result.document.reasons] == ["NO_T1"]
    assert sorted(path.name for path in result.files) == ["report.html", "result.json"]
    assert result.document.detection is None
    assert result.document.staging is None
    assert result.recorded is not None
    assert result.recorded.record is not None
    assert (result.recorded.record.outcome, result.recorded.record.reasons) == ("no-result", ("NO_T1",))
    assert {series.role for series in result.recorded.record.acquired} == {"T2"}


def test_a_deadline_that_passes_is_a_no_result_and_is_published(
    session: Session, study: Path, tmp_path: Path
) -> None:
    result = session.run(study, tmp_path / "out", deadline_s=1e-6)
    assert [reason.code for reason in result.document.reasons] == ["DEADLINE"]
    assert sorted(path.name for path in result.files) == ["report.html", "result.json"]


def test_cancellation_is_raised_and_leaves_nothing(session: Session, study: Path, tmp_path: Path) -> None:
    cancel = Event()

    def stop(step: Progress) -> None:
        if step.station == "locate":
            cancel.set()

    with pytest.raises(Cancelled):
        session.run(study, tmp_path / "out", on_progress=stop, cancel=cancel)
    assert list(tmp_path.iterdir()) == []


def test_the_same_study_twice_gives_the_same_bits(session: Session, study: Path) -> None:
    first, second = session.run(study), session.run(study)
    assert first.findings is not None
    assert second.findings is not None
    assert np.array_equal(first.findings.segmentation.tumour, second.findings.segmentation.tumour)
    assert np.array_equal(first.findings.segmentation.structures, second.findings.segmentation.structures)
    assert first.document.runtime.fingerprint == second.document.runtime.fingerprint
    assert first.document.detection == second.document.detection


def test_options_that_change_a_number_change_the_fingerprint(
    session: Session, study: Path, tmp_path: Path
) -> None:
    palsy = Options(state=tmp_path / "s", cranial_nerves="palsy", record=False)
    with Session(options=palsy) as other:
        unrecorded = other.run(study)
    recorded = session.run(study)
    assert unrecorded.document.runtime.fingerprint != recorded.document.runtime.fingerprint
    assert unrecorded.recorded is None
    assert not (tmp_path / "s" / "monitor.sqlite").exists()
    assert recorded.recorded is not None
    assert recorded.recorded.record is not None
    assert recorded.recorded.record.features.keys() >= {"t1.median", "t2.iqr"}


@pytest.mark.parametrize("prevalence", [0.0, 1.0, 5.0, -0.1, float("nan")])
def test_a_prevalence_that_cannot_be_is_a_usage_error(tmp_path: Path, prevalence: float) -> None:
    with (
        pytest.raises(UsageError, match="between 0 and 1"),
        Session(options=Options(state=tmp_path / "s", prevalence=prevalence)),
    ):
        pass


def test_a_bundle_without_a_probability_takes_no_prevalence(tmp_path: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    pack(root, tiny_bundle.manifest(), None)
    options = Options(state=tmp_path / "s", allow_unsigned=True, prevalence=0.05)
    with pytest.raises(UsageError, match="no probability"), Session(root, options):
        pass


def test_a_full_output_folder_is_left_alone(session: Session, study: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError):
        session.run(study, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_a_session_that_is_not_open_says_so(study: Path) -> None:
    with pytest.raises(UsageError, match="not open"):
        Session().run(study)


def test_what_is_not_there_is_an_error_when_opening(tmp_path: Path) -> None:
    with pytest.raises(BundleError), Session(tmp_path):
        pass
    with pytest.raises(BackendError), Session(options=Options(backend="tensorrt", state=tmp_path / "s")):
        pass


def test_studies_one_after_the_other_are_read_ahead_and_answer_alike(
    session: Session, study: Path, tmp_path: Path
) -> None:
    """a, one that is refused, a again: with the next one read meanwhile, and each by itself."""
    empty = tmp_path / "empty"
    empty.mkdir()
    gone = tmp_path / "gone"
    alone = session.run(study)
    first = session.run(study, then=empty)
    second = session.run(empty, then=gone)
    with pytest.raises(UsageError, match="gone"):
        session.run(gone, then=study)
    third = session.run(study)
    assert [reason.code for reason in second.document.reasons] == ["NO_MR"]
    for other in (first, third):
        assert other.document.runtime.fingerprint == alone.document.runtime.fingerprint
        assert other.document.detection == alone.document.detection
        assert other.document.quality == alone.document.quality
        assert other.document.study == alone.document.study
        assert other.findings is not None
        assert alone.findings is not None
        assert np.array_equal(other.findings.segmentation.tumour, alone.findings.segmentation.tumour)
    assert third.document.runtime.timings_ms["read"] > 0, "what reading took is told although it was hidden"


def test_a_study_that_was_read_ahead_and_is_not_run_harms_no_other(session: Session, study: Path) -> None:
    expected = session.run(study).document.runtime.fingerprint
    session.run(study, then=study.parent / "truth")
    assert session.run(study).document.runtime.fingerprint == expected


def test_cancelling_does_not_leave_the_reader_busy(session: Session, study: Path) -> None:
    cancel = Event()
    cancel.set()
    with pytest.raises(Cancelled):
        session.run(study, cancel=cancel, then=study)
    assert session.run(study).outcome == "result"


def test_the_progress_of_a_study_read_ahead_walks_through_the_same_stations(
    session: Session, study: Path
) -> None:
    session.run(study, then=study)
    steps: list[Progress] = []
    session.run(study, on_progress=steps.append)
    assert [s.station for s in steps][:4] == ["read", "select", "assemble", "align"]


def test_what_ran_and_what_it_took_is_in_the_result(session: Session, study: Path) -> None:
    runtime = session.run(study).document.runtime
    chosen = {choice.network: choice.pair for choice in session.choices}["npc"]
    assert (runtime.backend, runtime.precision, runtime.fallback) == (chosen.backend, chosen.precision, None)
    assert set(runtime.memory_plan) == {"locator", "npc"}
    assert runtime.memory_plan["npc"].startswith("1 windows, 1 at once: ")


def test_after_the_last_study_the_networks_are_gone_and_the_files_are_not(
    session: Session, study: Path, tmp_path: Path
) -> None:
    with Session(options=Options(state=session.options.state)) as own:
        result = own.run(study, tmp_path / "out", then="nothing")
        assert result.outcome == "result"
        assert result.document.runtime.backend == own.choices[-1].pair.backend
        with pytest.raises(BackendError, match="not open"):
            own.run(study)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_does_not_grow_over_many_runs(tmp_path: Path) -> None:
    """Twenty small runs in one session, after a few that fill what is kept on purpose."""
    root = quantizable.write_parts(tmp_path / "bundle")
    pack(root, quantizable.manifest(), None)
    small = write_phantom(PhantomSpec("T2", seed=5, matrix=96, slices=16), tmp_path / "phantom") / "study"
    with Session(root, Options(allow_unsigned=True, state=tmp_path / "s", threads=1)) as own:
        for _ in range(5):
            own.run(small, then=small)
        before = resident_mb()
        for _ in range(20):
            own.run(small, then=small)
        assert resident_mb() - before < 25


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
