"""Strings in every identifying element of a study come out in the DICOM outputs' patient module alone."""

import gzip
import os
import threading
from io import BytesIO
from pathlib import Path

import canary
import pytest
from cli import run
from pydicom import dcmread

from npc_edge.bench.phantom.study import PhantomSpec, write_phantom
from npc_edge.calibration.store import Store
from npc_edge.engine.output.dicom import _STUDY_TAGS
from npc_edge.engine.state import State

ACCESSION = canary.PATIENT["AccessionNumber"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec("T2", seed=41, matrix=160, slices=24)
    made = write_phantom(spec, tmp_path_factory.mktemp("canary") / "phantom") / "study"
    canary.mark(made)
    return made


class Watch:
    """Reads every file below a folder again and again while something runs: what is seen is kept."""

    def __init__(self, folder: Path) -> None:
        self.seen: dict[Path, bytes] = {}
        self._folder, self._done = folder, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.005):
            for path in self._folder.rglob("*"):
                try:
                    content = path.read_bytes() if path.is_file() else b""
                except OSError:  # gone between the two
                    continue
                if len(content) >= len(self.seen.get(path, b"")):
                    self.seen[path] = content


def outside_of_the_patient_module(path: Path) -> bytes:
    """A DICOM output's bytes without what the patient's and study's modules hold."""
    data = dcmread(path)
    for element in list(data):
        if element.tag.group in (0x0010, 0x0012) or int(element.tag) in _STUDY_TAGS:
            del data[element.tag]
    buffer = BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def leaks(folder: Path) -> dict[str, list[str]]:
    """File → the strings it holds and must not."""
    found = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        if path.suffix == ".dcm":
            # References to the source images, and content dates, which are the source study's own.
            own = {uid.encode() for uid in canary.UIDS.values()} | dates_of_content(path)
            found[path.name] = canary.found_in(outside_of_the_patient_module(path), own)
        else:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found[path.name] = canary.found_in(content)
    return {name: strings for name, strings in found.items() if strings}


def dates_of_content(path: Path) -> set[bytes]:
    data = dcmread(path)
    return {str(data.get("StudyDate", "")).encode()}


def environment(tmp_path: Path) -> dict[str, str]:
    for name in ("tmp", "home"):
        (tmp_path / name).mkdir(exist_ok=True)
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(tmp_path / "tmp"))
    return {**os.environ, **places, "HOME": str(tmp_path / "home")}


def test_the_marked_study_would_be_noticed(study: Path) -> None:
    whole = b"".join(p.read_bytes() for p in study.rglob("*") if p.is_file())
    written = {text for text in canary.strings() if not set(b"-./") & set(text)}
    assert {text.encode() for text in canary.found_in(whole)} >= written | {canary.strings()[1]}


def test_nothing_that_identifies_a_patient_comes_out(study: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    with Watch(tmp_path / "tmp") as temporary:
        ran = run("run", study, "--out", tmp_path / "out", "--state", tmp_path / "state", env=env)
    assert ran.returncode == 0, ran.stderr
    printed = run("run", study, "--out", tmp_path / "json", "--state", tmp_path / "state", "--json", env=env)
    seen = run("inspect", study, "--json", env=env)
    for text in (ran.stdout, ran.stderr, printed.stdout, printed.stderr, seen.stdout, seen.stderr):
        assert canary.found_in(text.encode()) == []
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        "seg.dcm",
        "sr.dcm",
        "report.html",
        "result.json",
    }
    assert leaks(tmp_path / "out") == {}
    assert leaks(tmp_path / "state") == {}
    assert [path.name for path, content in temporary.seen.items() if canary.found_in(content)] == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "home").iterdir()) == []


def test_a_store_in_use_holds_pseudonyms_alone(study: Path, tmp_path: Path) -> None:
    """The database with its log and index as they lie on the disk while it is open, and a label by number."""
    env, state = environment(tmp_path), tmp_path / "state"
    refused = tmp_path / "one-series"
    refused.mkdir()
    for file in sorted(p for p in study.rglob("*") if p.is_file())[:4]:
        (refused / file.name).write_bytes(file.read_bytes())
    assert run("run", refused, "--out", tmp_path / "out", "--state", state, env=env).returncode == 3
    table = tmp_path / "labels.csv"
    table.write_text(
        f"accession_number,source,date,npc\n{ACCESSION},biopsy,2026-05-12,yes\n", encoding="utf-8"
    )
    with Store.open(state / "monitor.sqlite") as store:
        ran = run("monitor", "truth", "--csv", table, "--state", state, env=env)
        shown = run("monitor", "status", "--state", state, env=env)
        name = ["scanner A", "--station", f" {canary.DEVICE['StationName']}"]
        named = run("monitor", "alias", *name, "--state", state, env=env)
        page = run(
            "monitor", "report", tmp_path / "out" / "monitor.html", "--phantoms", "--state", state, env=env
        )
        numbers = run("monitor", "export", "--prometheus", "--phantoms", "--state", state, env=env)
        files = {path.name for path in state.iterdir()}
        assert {"monitor.sqlite", "monitor.sqlite-wal", "monitor.sqlite-shm"} <= files
        assert leaks(state) == {}
        (record,) = store.records()
        (truth,) = store.truths()
        assert list(store.aliases().values()) == ["scanner A"]
    for command in (ran, shown, named, page, numbers):
        assert command.returncode == 0, command.stderr
        assert canary.found_in((command.stdout + command.stderr).encode()) == []
    salt = State.open(state)
    assert record.case_key == salt.key_for(canary.UIDS["StudyInstanceUID"]) == truth.case_key
    assert record.accession_key == salt.key_for(f"accession:{ACCESSION}")
    assert record.acquired[0].station_key == salt.key_for(f"station:{canary.DEVICE['StationName']}")
    assert record.acquired[0].model_key == salt.key_for(f"model:{canary.DEVICE['ManufacturerModelName']}")
    assert leaks(tmp_path / "out") == {}
    assert list((tmp_path / "tmp").iterdir()) == []
