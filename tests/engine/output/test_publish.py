"""All files together or none, whatever is in the way."""

import dataclasses
import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import output_cases as cases
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from npc_edge.engine.clock import Clock
from npc_edge.engine.errors import Cancelled, DeadlineExceeded, OutputError
from npc_edge.engine.output import folder, publish
from npc_edge.engine.output.result import Outcome, ResultDocument
from npc_edge.engine.types import Watch

WITH_DICOM = {
    "result.json",
    "report.html",
    "tumour.nii.gz",
    "structures.nii.gz",
    "seg.dcm",
    "rtstruct.dcm",
    "sr.dcm",
}


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def test_a_run_leaves_its_files_and_nothing_beside_them(tmp_path: Path) -> None:
    files = publish.write(cases.outcome(), tmp_path / "deep" / "out", False).files
    assert {path.name for path in files} == WITH_DICOM == names(tmp_path / "deep" / "out")
    assert names(tmp_path / "deep") == {"out"}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (cases.refusal(), {"result.json", "report.html"}),
        (cases.outcome(finding="not_suspicious"), WITH_DICOM - {"rtstruct.dcm"}),
        (cases.outcome(finding="indeterminate"), WITH_DICOM - {"rtstruct.dcm"}),
        (cases.outcome(marked=False), {n for n in WITH_DICOM if not n.endswith(".dcm")}),
        (dataclasses.replace(cases.outcome(marked=False), demo_dicom=True), WITH_DICOM),
        (cases.outcome(marked=False, evidence="retrospective"), WITH_DICOM),
    ],
)
def test_which_files_a_run_leaves(tmp_path: Path, run: Outcome, expected: set[str]) -> None:
    publish.write(run, tmp_path / "out", False)
    assert names(tmp_path / "out") == expected


def test_the_masks_lie_on_the_source_grid_as_nifti_sees_it(tmp_path: Path) -> None:
    run = cases.outcome(cases.Shape(tilt_deg=11.0))
    publish.write(run, tmp_path / "out", False)
    image = sitk.ReadImage(str(tmp_path / "out" / "tumour.nii.gz"))
    voxels = sitk.GetArrayFromImage(image)
    assert voxels.dtype == np.uint8
    assert np.array_equal(voxels, run.segmentation.tumour)
    z, y, x = (int(v) for v in np.argwhere(voxels)[0])
    world = image.TransformIndexToPhysicalPoint((x, y, z))
    assert np.allclose(world, run.reference_volume.geometry.to_world([[x, y, z]])[0], atol=1e-3)


def test_the_same_run_twice_gives_the_same_bytes_but_for_the_clock(tmp_path: Path) -> None:
    publish.write(cases.outcome(), tmp_path / "a", False)
    publish.write(cases.outcome(), tmp_path / "b", False)
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {n for n in first if first[n] != second[n]} <= {"result.json"}


def test_output_time_is_in_the_timings(tmp_path: Path) -> None:
    publish.write(cases.outcome(), tmp_path / "out", False)
    timings = ResultDocument.model_validate_json(
        (tmp_path / "out" / "result.json").read_bytes()
    ).runtime.timings_ms
    assert timings["output"] > 0
    assert timings["total"] == pytest.approx(4200 + timings["output"], abs=0.11)


def uids(path: Path) -> set[str]:
    return {str(dcmread(path / n).SOPInstanceUID) for n in ("seg.dcm", "rtstruct.dcm", "sr.dcm")}


def predecessors(path: Path) -> list[str]:
    return [
        str(instance.ReferencedSOPInstanceUID)
        for item in dcmread(path / "sr.dcm").get("PredecessorDocumentsSequence", [])
        for series in item.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def test_another_run_has_new_uids_and_its_report_names_the_one_it_replaces(tmp_path: Path) -> None:
    run, out = cases.outcome(), tmp_path / "out"
    later = dataclasses.replace(run, facts=dataclasses.replace(run.facts, fingerprint="12" * 32))
    publish.write(run, out, False)
    before, old_report = uids(out), str(dcmread(out / "sr.dcm").SOPInstanceUID)
    assert predecessors(out) == []
    publish.write(later, out, True)
    assert not before & uids(out)
    assert predecessors(out) == [old_report]
    written = contents(out)
    publish.write(later, out, True)
    again = contents(out)
    assert {n for n in written if written[n] != again[n]} <= {"result.json"}


def test_a_full_folder_is_not_touched_without_leave(tmp_path: Path) -> None:
    publish.write(cases.refusal(), tmp_path / "out", False)
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match="not empty"):
        publish.write(cases.outcome(), tmp_path / "out", False)
    assert contents(tmp_path / "out") == before
    publish.write(cases.outcome(), tmp_path / "out", True)
    assert names(tmp_path / "out") == WITH_DICOM


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    publish.write(cases.refusal(), tmp_path / "out", False)
    assert names(tmp_path) == {"out"}


def test_files_that_are_not_ours_are_never_replaced(tmp_path: Path) -> None:
    publish.write(cases.refusal(), tmp_path / "out", False)
    (tmp_path / "out" / "thesis.docx").write_text("years of work")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match="did not write"):
        publish.write(cases.outcome(), tmp_path / "out", True)
    assert contents(tmp_path / "out") == before
    assert names(tmp_path) == {"out"}


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    for replace in (False, True):
        with pytest.raises(OutputError, match="is a file"):
            publish.write(cases.refusal(), tmp_path / "out", replace)


def test_a_failing_run_leaves_the_folder_it_would_have_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish.write(cases.outcome(), out, False)
    before = contents(out)
    with pytest.raises(DeadlineExceeded):
        publish.write(cases.outcome(), out, True, Clock(Watch(deadline=0.0)))
    run = cases.outcome()
    assert run.study is not None
    broken = dataclasses.replace(run, study=dataclasses.replace(run.study, study_instance_uid="1.2.3"))
    with pytest.raises(OutputError):
        publish.write(broken, out, True)
    assert contents(out) == before
    assert names(tmp_path) == {"out"}
    assert issubclass(DeadlineExceeded, Cancelled)


def test_two_runs_on_one_folder_do_not_mix(tmp_path: Path) -> None:
    place = folder.Place(tmp_path / "out")
    with place.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another run"):
            publish.write(cases.refusal(), tmp_path / "out", False)
    publish.write(cases.refusal(), tmp_path / "out", False)
    assert names(tmp_path) == {"out"}


def _killed_while_staging(out: Path) -> None:
    with folder.staged(out, True) as stage:
        (stage / "result.json").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish.write(cases.refusal(), out, False)
    before = contents(out)
    child = multiprocessing.get_context("spawn").Process(target=_killed_while_staging, args=(out,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert contents(out) == before
    assert len(names(tmp_path)) > 1
    publish.write(cases.outcome(), out, True)
    assert names(tmp_path) == {"out"}


def test_a_folder_moved_aside_by_a_killed_run_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish.write(cases.refusal(), out, False)
    out.rename(tmp_path / ".out.npc-edge-old-1")
    with pytest.raises(OutputError, match="not empty"):
        publish.write(cases.refusal(), out, False)
    assert names(out) == {"result.json", "report.html"}


def test_a_place_that_cannot_hold_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        publish.write(cases.refusal(), tmp_path / "file" / "out", False)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """A file-size limit in a child stands in for the disk: every write past it fails as on a full one."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_run_with_little_room, args=(tmp_path / "out", answers))
    child.start()
    said = answers.get(timeout=60)
    child.join()
    assert said == "OutputError"
    assert names(tmp_path) == set()


def _run_with_little_room(out: Path, answers: "multiprocessing.Queue[str]") -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    run = cases.outcome()
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
    try:
        publish.write(run, out, False)
        answers.put("published")
    except OutputError:
        answers.put("OutputError")
