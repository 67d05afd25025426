"""The store: what was acknowledged is there, whatever ended the process; what is damaged says so."""

import random
import sqlite3
import stat
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from npc_edge.calibration.record import Acquired, CaseRecord, Truth
from npc_edge.calibration.schema import MIGRATIONS
from npc_edge.calibration.store import Acknowledgement, Store, StoreError

DAY = 86_400_000


def record(case: str = "c1", at: int = 1_000, **changes: object) -> CaseRecord:
    """A run of which every field says something."""
    t1 = Acquired("T1", "ge", "m1", "s1", 3.0, "no", 600.0, 12.5, None, spacing_mm=(4.0, 0.5, 0.5), slices=36)
    made = CaseRecord(
        case_key=case,
        accession_key=f"a-{case}",
        at=at,
        version="0.1.0",
        bundle="npc-demo 1",
        bundle_sha256="ab" * 32,
        artefact="artefacts/npc.fp32.onnx",
        backend="onnxruntime",
        precision="fp32",
        outcome="result",
        reasons=(),
        acquired=(t1, replace(t1, role="T2FS", fat_suppression="yes", vendor="siemens", station_key="s2")),
        features={"t1.median": 512.25, "t1.iqr": 0.1 + 0.2},
        score=-1.25,
        probability=0.25,
        finding="suspicious",
        volume_ml=12.5,
        category_ajcc8="T3",
        category_ajcc9="T2",
        distribution={"T1": 0.1, "T2": 0.2, "T3": 0.6, "T4": 0.1},
        evidence={"clivus.midline": "unequivocal", "hypopharynx": "not_assessable"},
        quality={"age": None, "domain": True, "alignment": False},
        timings_ms={"read": 12.5, "total": 1234.5},
        peak_rss_mb=612.5,
        quality_control=True,
        operating_point={"threshold": 0.5, "sensitivity": 0.95},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def label(case: str = "c1", at: int = 1, **says: object) -> Truth:
    return Truth(case, at, "biopsy", "2026-05-12", **says)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "monitor.sqlite"


def test_a_record_comes_back_as_it_went_in(path: Path) -> None:
    nothing = CaseRecord("", "", 2_000, "1", "b", "", "", "", "", "no-result", ("NO_T2", "UNREADABLE"))
    with Store.open(path) as store:
        store.add(record())
        store.add(nothing)
        assert list(store.records()) == [record(), nothing]
        found = next(store.records())
        store.add(replace(found, at=3_000))  # what was read can be added again
    with Store.open(path) as store:
        assert [r.at for r in store.records()] == [1_000, 2_000, 3_000]
        assert store.last() == record(at=3_000)
        empty = {f.name for f in fields(CaseRecord) if getattr(record(), f.name) in (None, "", {})}
        assert empty == set(), "the record of this test must say something in every field"


def test_runs_come_in_the_order_of_their_time_between_limits(path: Path) -> None:
    with Store.open(path) as store:
        store.add_all([record(case=str(at), at=at) for at in (30, 10, 20, 40)])
        assert [r.at for r in store.records()] == [10, 20, 30, 40]
        assert [r.at for r in store.records(since=20, until=40)] == [20, 30]
        assert store.columns(["at"], since=20)["at"].tolist() == [20, 30, 40]


def test_columns_are_what_the_records_say(path: Path) -> None:
    names = ("score", "at", "finding", "features.t1.median", "features.t2.median", "timings_ms.total")
    names += ("quality.alignment", "quality.age", "evidence.clivus.midline", "acquired.T2FS.vendor")
    names += ("acquired.T1.repetition_time_ms", "acquired.T1.inversion_time_ms", "reasons", "quality_control")
    with Store.open(path) as store:
        store.add(record())
        store.add(record(at=2_000, score=None, finding=None, acquired=(), reasons=("NO_T1", "X")))
        found = store.columns(names)
    assert list(found) == list(names)
    np.testing.assert_array_equal(found["score"], [-1.25, np.nan])
    np.testing.assert_array_equal(found["features.t1.median"], [512.25, 512.25])
    assert np.isnan(found["features.t2.median"]).all()
    assert np.isnan(found["quality.age"]).all()
    assert np.isnan(found["acquired.T1.inversion_time_ms"]).all()
    assert found["quality.alignment"].tolist() == [0.0, 0.0]
    assert found["at"].dtype == np.int64
    assert found["finding"].tolist() == ["suspicious", None]
    assert found["evidence.clivus.midline"].tolist() == ["unequivocal", "unequivocal"]
    assert found["acquired.T2FS.vendor"].tolist() == ["siemens", None]
    np.testing.assert_array_equal(found["acquired.T1.repetition_time_ms"], [600.0, np.nan])
    assert found["reasons"].tolist() == [(), ("NO_T1", "X")]
    assert found["quality_control"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "name", ["name", "features", "score.x", "acquired.T1.name", "acquired.T1", "id", "at; DROP", ""]
)
def test_a_column_that_is_none_is_refused(path: Path, name: str) -> None:
    with Store.open(path) as store, pytest.raises(StoreError, match="no column"):
        store.columns([name])


def test_a_number_that_is_none_is_refused_whole(path: Path) -> None:
    with Store.open(path) as store:
        with pytest.raises(StoreError):
            store.add_all([record(), record(features={"t1.median": float("nan")})])
        assert store.counts().runs == 0


def test_later_truth_supersedes_and_history_stays(path: Path) -> None:
    said = [
        label(at=1, npc=True, category="T2", criteria={"clivus": False}),
        label(at=2, category="T3", criteria={"clivus": True}),
        label(at=3, review="corrected", dice=0.8),
        label(at=4, review="accept"),
    ]
    with Store.open(path) as store:
        store.add(record())
        for truth in said:
            store.add_truth(truth)
        assert store.truths(current=False) == tuple(said)
        (now,) = store.truths()
        expected = label(at=4, npc=True, category="T3", criteria={"clivus": True}, review="accept")
        assert now == expected
        store.add_truth(label(at=5, npc=False))
        (now,) = store.truths()
        assert now == label(at=5, npc=False, review="accept"), "no NPC has no category and nothing involved"
        assert store.counts().truths == 5
        assert store.counts().labelled == 1


@pytest.mark.parametrize(
    "wrong",
    [
        label(npc=False, category="T1"),
        label(npc=False, criteria={"clivus": True}),
        label(category="T5"),
        label(npc=True, dice=0.5),
        label(review="corrected", dice=1.5),
        label(),
        replace(label(npc=True), on="12.05.2026"),
        replace(label(npc=True), source="hearsay"),
        label(case="never run", npc=True),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_all_beside_it(path: Path, wrong: Truth) -> None:
    with Store.open(path) as store:
        store.add(record())
        with pytest.raises(StoreError, match="a label cannot be kept"):
            store.add_truths([label(npc=True), wrong])
        assert store.truths(current=False) == ()


def test_an_accession_key_finds_its_cases(path: Path) -> None:
    with Store.open(path) as store:
        store.add_all([record(), record(at=2), record("c2", accession_key="a-c1"), record("c3")])
        store.add(record("", accession_key="a-c1"))
        assert store.cases("a-c1") == ("c1", "c2")
        assert store.cases("a-c3") == ("c3",)
        assert store.cases("") == store.cases("nobody's") == ()


def test_names_and_acknowledgements(path: Path) -> None:
    seen = Acknowledgement(
        "score.cusum", "vendor=ge", "watch", 5, 9, "fat suppression changed", "a physicist"
    )
    other = Acknowledgement("volume.ewma", "all", "act", 6, 9)
    with Store.open(path) as store:
        store.alias("s1", "scanner A")
        store.alias("s1", "scanner B")
        store.alias("s2", "gone")
        store.alias("s2", "")
        store.acknowledge(seen)
        store.acknowledge(other)
        assert store.aliases() == {"s1": "scanner B"}
        assert store.acknowledgements() == (seen, other)
        store.end([seen], 7)
        assert store.acknowledgements() == (other,)
        assert store.acknowledgements(current=False) == (seen, other)


def test_scanners_are_counted(path: Path) -> None:
    with Store.open(path) as store:
        store.add_all([record(at=1), record(at=2), record(at=3, acquired=record().acquired[:1])])
        found = [(s.key, s.vendor, s.runs, s.last) for s in store.scanners()]
    assert found == [("s1", "ge", 3, 3), ("s2", "siemens", 2, 2)]


def test_what_is_forgotten_is_gone_from_the_file_too(path: Path) -> None:
    with Store.open(path) as store:
        store.add_all([record("ORPHANED" * 4, at=1 * DAY), record("STILLHERE" * 4, at=1 * DAY)])
        store.add(record("STILLHERE" * 4, at=9 * DAY))
        store.add_truths([label("ORPHANED" * 4, npc=True), label("STILLHERE" * 4, npc=True)])
        assert store.forget(5 * DAY) == 2
        assert [r.case_key for r in store.records()] == ["STILLHERE" * 4]
        assert [t.case_key for t in store.truths()] == ["STILLHERE" * 4]
        on_disk = b"".join(p.read_bytes() for p in path.parent.iterdir())
    assert b"STILLHERE" in on_disk
    assert b"ORPHANED" not in on_disk


def test_a_backup_is_whole_and_never_overwrites(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy.sqlite"
    copy.parent.mkdir()
    with Store.open(path) as store:
        store.add(record())
        store.backup(copy)
        store.add(record(at=2_000))
        with pytest.raises(StoreError, match="already"):
            store.backup(copy)
        with pytest.raises(StoreError, match="cannot write the backup"):
            store.backup(tmp_path / "nowhere" / "copy.sqlite")
    assert [p.name for p in copy.parent.iterdir()] == ["copy.sqlite"]
    with Store.open(copy) as restored:
        assert list(restored.records()) == [record()]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_files_are_their_owners_alone(path: Path) -> None:
    path.touch(0o644)
    with Store.open(path) as store:
        store.add(record())
        store.backup(path.with_name("copy"))
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    assert {"monitor.sqlite", "monitor.sqlite-wal", "copy"} <= set(modes)
    assert set(modes.values()) == {0o600}


# --- schema -------------------------------------------------------------------------------------------------


def test_an_older_database_is_brought_to_the_newest_schema(path: Path) -> None:
    with Store.open(path) as store:
        store.add(record())
    extended = (*MIGRATIONS, ("ALTER TABLE runs ADD COLUMN extra TEXT NOT NULL DEFAULT 'x'",))
    with Store.open(path, extended) as store:
        assert list(store.records()) == [record()]
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT extra FROM runs").fetchall() == [("x",)]
    assert raw.execute("PRAGMA user_version").fetchone() == (3,)
    raw.close()
    with pytest.raises(StoreError, match="schema 3, this npc-edge knows 2"):
        Store.open(path)


def test_acknowledgements_of_the_first_schema_are_those_of_the_usual_options(path: Path) -> None:
    with Store.open(path, MIGRATIONS[:1]) as store:
        store.add(record())
    raw = sqlite3.connect(path)
    values = ("score.cusum", "all", "act", 5, 9, "", "ana")
    raw.execute(
        "INSERT INTO acknowledgements (watcher, grouped, level, at, until, note, who)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    raw.commit()
    raw.close()
    with Store.open(path) as store:
        assert store.acknowledgements() == (Acknowledgement(*values),)
        assert store.acknowledgements()[0].view == ""
        other = Acknowledgement(*values[:6], "ben", "--since 2026-05-01")
        store.acknowledge(other)
        store.end([other], 7)
        assert store.acknowledgements() == (Acknowledgement(*values),)


def test_a_migration_that_fails_leaves_the_old_schema(path: Path) -> None:
    with Store.open(path) as store:
        store.add(record())
    broken = (*MIGRATIONS, ("CREATE TABLE more (x)", "CREATE TABLE runs (x)"))
    with pytest.raises(StoreError, match="already exists"):
        Store.open(path, broken)
    with Store.open(path) as store:
        assert list(store.records()) == [record()]
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'").fetchone() == (0,)
    raw.close()


def test_what_is_no_store_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"a thesis, years of work" * 100)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)
    assert path.read_bytes() == b"a thesis, years of work" * 100
    path.unlink()
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE runs (x)")
    raw.close()
    with pytest.raises(StoreError, match="another program"):
        Store.open(path)


def test_a_damaged_page_is_found_when_opening(path: Path) -> None:
    with Store.open(path) as store:
        store.add_all([record(str(at), at=at) for at in range(200)])
    content = bytearray(path.read_bytes())
    content[8192:12288] = random.Random(1).randbytes(4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        Store.open(path)
    assert "backup" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open the monitor's database"):
        Store.open(tmp_path / "nowhere" / "monitor.sqlite")


# --- ends of a process --------------------------------------------------------------------------------------
