"""A process beside that makes the DICOM objects: the same bytes, and no run depends on it."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import output_cases as cases
import pytest

from npc_edge.engine.errors import Cancelled, OutputError
from npc_edge.engine.output import folder, objects, publish
from npc_edge.engine.output.scribe import Drafts, Scribe, ScribeLost
from npc_edge.engine.types import Watch


@pytest.fixture(scope="module")
def scribe() -> Iterator[Scribe]:
    with Scribe() as one:
        one.start()
        yield one


@contextmanager
def stopped() -> Iterator[Scribe]:
    """One that was started and does nothing any more."""
    with Scribe() as one:
        one.start()
        assert one.pid is not None
        os.kill(one.pid, signal.SIGSTOP)
        yield one


def contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir() if entry.suffix == ".dcm"}


@pytest.mark.parametrize("shape", [cases.Shape(), cases.Shape(enhanced=True, reversed_instances=True)])
def test_the_scribe_makes_the_same_bytes(scribe: Scribe, shape: cases.Shape, tmp_path: Path) -> None:
    outcome = cases.outcome(shape)
    publish.write(outcome, tmp_path / "here", False)
    drafts = Drafts(scribe, Watch())
    drafts.begin(outcome)
    publish.write(outcome, tmp_path / "there", False, drafts=drafts)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert set(contents(tmp_path / "there")) == {"seg.dcm", "rtstruct.dcm", "sr.dcm"}


def test_an_sr_names_the_one_it_replaces_wherever_it_is_made(scribe: Scribe, tmp_path: Path) -> None:
    first, second = cases.outcome(), cases.outcome(finding="indeterminate")
    facts = dataclasses.replace(second.facts, fingerprint="f" * 64)
    second = dataclasses.replace(second, facts=facts)
    for name, drafts in (("here", None), ("there", Drafts(scribe, Watch()))):
        publish.write(first, tmp_path / name, False)
        publish.write(second, tmp_path / name, True, drafts=drafts)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_what_was_begun_is_taken_for_these_masks_and_this_name_only(scribe: Scribe) -> None:
    outcome = cases.outcome()
    drafts = Drafts(scribe, Watch())
    drafts.begin(outcome)
    begun = drafts.object(folder.SEG, outcome, None)
    staged = dataclasses.replace(outcome, findings=dataclasses.replace(outcome.concluded, staging=None))
    assert drafts.object(folder.SEG, staged, None) is begun
    masks = outcome.segmentation
    other = dataclasses.replace(masks, tumour=np.roll(masks.tumour, 1, axis=2))
    moved = dataclasses.replace(outcome, findings=dataclasses.replace(outcome.concluded, segmentation=other))
    assert drafts.object(folder.SEG, moved, None).result() == objects.encoded(folder.SEG, moved)
    renamed = dataclasses.replace(outcome, facts=dataclasses.replace(outcome.facts, fingerprint="e" * 64))
    assert drafts.object(folder.SEG, renamed, None).result() == objects.encoded(folder.SEG, renamed)


def test_a_run_that_writes_no_dicom_asks_nothing_of_it() -> None:
    with Scribe() as idle:
        drafts = Drafts(idle, Watch())
        drafts.begin(cases.outcome(marked=False))
        with pytest.raises(ScribeLost):  # it was never started
            drafts.object(folder.SEG, cases.outcome(), None).result()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_scribe_that_is_killed_costs_time_and_nothing_else(tmp_path: Path) -> None:
    outcome = cases.outcome()
    with stopped() as one:
        drafts = Drafts(one, Watch())
        drafts.begin(outcome)
        assert one.pid is not None
        os.kill(one.pid, signal.SIGKILL)
        publish.write(outcome, tmp_path / "out", False, drafts=drafts)
        publish.write(outcome, tmp_path / "alone", False)
        assert contents(tmp_path / "out") == contents(tmp_path / "alone")
        one.start()
        assert Drafts(one, Watch()).object(folder.SR, outcome, None).result() == objects.encoded(
            folder.SR, outcome
        )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_scribe_that_hangs_is_waited_for_while_the_watch_allows(tmp_path: Path) -> None:
    outcome = cases.outcome()
    with stopped() as one:
        cancel = Event()
        cancel.set()
        with pytest.raises(Cancelled):
            publish.write(outcome, tmp_path / "no", False, drafts=Drafts(one, Watch(cancel=cancel)))
        assert not (tmp_path / "no").exists()
        publish.write(outcome, tmp_path / "out", False, drafts=Drafts(one, Watch(), patience_s=0.2))
        assert one.pid is None, "it was given up"
    publish.write(outcome, tmp_path / "alone", False)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_fault_ends_it_and_it_starts_again(scribe: Scribe) -> None:
    outcome = cases.outcome()
    nowhere = dataclasses.replace(outcome.reference_volume, series=None)
    odd = dataclasses.replace(outcome, volumes={outcome.reference or "": nowhere})
    with pytest.raises(ScribeLost):  # a fault, not an error: whoever asked meets it himself
        scribe.ask(folder.SR, odd).result()
    scribe.start()
    assert scribe.ask(folder.SR, outcome).result() == objects.encoded(folder.SR, outcome)


def test_nothing_that_no_object_needs_is_sent() -> None:
    sent = cases.outcome().for_dicom()
    assert sent.reference_volume.voxels.size == sent.segmentation.tumour_probability.size == 0
    assert list(sent.volumes) == [sent.reference]
    with pytest.raises(ValueError, match="no keys"):
        sent.key_for("1.2.3")
    with pytest.raises(ValueError, match="no findings"):
        cases.refusal().for_dicom()


def test_it_ends_with_whoever_started_it() -> None:
    child = (
        "import os; from npc_edge.engine.output.scribe import Scribe\n"
        "s = Scribe(); s.start(); print(s.pid, flush=True); os._exit(0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, check=True, timeout=60
    )
    pid = int(ran.stdout)
    # Its standard input ended with its parent. subprocess.run has waited for it: it holds no pipe of ours.
    for _ in range(200):
        if not _running(pid):
            return
        time.sleep(0.05)
    pytest.fail("the scribe outlived its session")


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_errors_travel() -> None:
    told = OutputError("no", "do")
    again = pickle.loads(pickle.dumps(told))
    assert (type(again), again.one_line()) == (OutputError, told.one_line())


def test_it_loads_no_more_than_it_needs() -> None:
    code = "import sys, npc_edge.engine.output.scribe_child; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "highdicom" in loaded
    assert not loaded & {"SimpleITK", "openvino", "onnxruntime", "scipy"}, "its start is part of a cold run"


def test_a_talk_that_breaks_off_is_no_answer_to_the_next_question() -> None:
    outcome = cases.outcome()
    with Scribe() as one:
        one.start()
        unsent = dataclasses.replace(outcome, reasons=((lambda: "no pickle"),))  # type: ignore[arg-type]
        with pytest.raises((AttributeError, pickle.PicklingError)):
            one.ask(folder.SR, unsent).result()
        assert one.pid is None, "half a question is in its pipe"
        one.start()
        assert one.ask(folder.SR, outcome).result() == objects.encoded(folder.SR, outcome)


def test_masks_with_nothing_on_them_are_not_begun() -> None:
    masks = cases.outcome().segmentation
    nothing = dataclasses.replace(
        masks, tumour=np.zeros_like(masks.tumour), structures=np.zeros_like(masks.structures)
    )
    outcome = cases.outcome()
    empty = dataclasses.replace(
        outcome, findings=dataclasses.replace(outcome.concluded, segmentation=nothing)
    )
    with Scribe() as idle:
        drafts = Drafts(idle, Watch())
        drafts.begin(empty)
        assert drafts._begun is None
