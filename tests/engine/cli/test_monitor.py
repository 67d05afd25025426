"""`npc-edge monitor` on a store with a few runs, and what `run` keeps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import monitor_records
import pytest
from cli import run
from prometheus_client.parser import text_string_to_metric_families

from npc_edge.bench.phantom.study import PhantomSpec, write_phantom
from npc_edge.calibration.record import Acquired, CaseRecord
from npc_edge.calibration.store import Store
from npc_edge.engine.output.record import accession_key, model_key, station_key
from npc_edge.engine.recorder import FILE
from npc_edge.engine.state import State

DAY = 86_400_000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Three runs of two studies and one refusal, of two scanners."""
    opened = State.open(tmp_path / "state")
    series = Acquired("T1", "ge", "", station_key(opened.key_for, "MR7"), 3.0)
    first = CaseRecord(
        opened.key_for("1.2.3"),
        accession_key(opened.key_for, "ACC-1"),
        *(1_000, "0.1.0", "npc-demo 1", "ab", "npc.fp32.onnx", "onnxruntime", "fp32", "result"),
        acquired=(series,),
        finding="suspicious",
    )
    second = replace(
        first,
        case_key=opened.key_for("4.5"),
        accession_key=accession_key(opened.key_for, "ACC-2"),
        at=9 * DAY,
    )
    refused = replace(
        first,
        case_key="f" * 32,
        accession_key="",
        at=10 * DAY,
        outcome="no-result",
        reasons=("NO_T2",),
        finding=None,
        acquired=(replace(series, vendor="siemens", station_key="e" * 32),),
    )
    with Store.open(opened.root / FILE) as store:
        store.add_all([first, replace(first, at=2_000), second, refused])
    return opened.root


def test_status_says_what_there_is(state: Path) -> None:
    said = run("monitor", "status", "--state", state)
    assert said.returncode == 0, said.stderr
    assert "4: 3 with a result, 1 refused" in said.stdout
    assert "NO_T2" in said.stdout
    found = json.loads(run("monitor", "status", "--json", "--state", state).stdout)
    assert [found[k] for k in ("runs", "refused", "labels", "cases_with_truth")] == [4, 1, 0, 0]
    assert found["level"] == "quiet"
    assert [(s["vendor"], s["runs"]) for s in found["scanners"]] == [("ge", 3), ("siemens", 1)]


def test_a_state_without_runs_says_so_in_one_line(tmp_path: Path) -> None:
    said = run("monitor", "status", "--state", tmp_path / "empty")
    assert said.returncode == 6
    assert "no run has been recorded" in said.stderr
    assert said.stderr.count("\n") == 1


def test_a_table_is_taken_whole_once(state: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(
        "\ufeffaccession_number,source,date,npc,t_category\n"
        "ACC-1,biopsy,2026-05-12,yes,T3\nACC-2,radiologist,2026-05-13,no,\n",
        encoding="utf-8",
    )
    said = [run("monitor", "truth", "--csv", table, "--state", state) for _ in range(2)]
    assert [s.returncode for s in said] == [0, 0], said[0].stderr
    assert said[0].stdout.startswith("2 labels kept; 0 were known")
    assert said[1].stdout.startswith("0 labels kept; 2 were known")
    with Store.open(state / FILE) as store:
        truths = {truth.case_key: (truth.npc, truth.category) for truth in store.truths()}
    salt = State.open(state)
    assert truths == {salt.key_for("1.2.3"): (True, "T3"), salt.key_for("4.5"): (False, None)}


def test_a_table_with_one_bad_row_leaves_nothing(state: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(
        "accession_number,source,date,npc\nACC-1,biopsy,2026-05-12,yes\nACC-99,biopsy,2026-05-12,yes\n"
    )
    said = run("monitor", "truth", "--csv", table, "--state", state)
    assert said.returncode == 2
    assert "line 3" in said.stderr
    assert "ACC" not in said.stderr
    assert said.stderr.count("\n") == 1
    with Store.open(state / FILE) as store:
        assert store.truths() == ()
    said = run("monitor", "truth", "--csv", table, "--skip-unknown", "--state", state)
    assert said.stdout == "1 labels kept; 0 were known already, 1 are of studies never run here\n"


def test_one_label_by_accession_number_and_by_case_key(state: Path) -> None:
    says = ["--source", "biopsy", "--date", "2026-05-12", "--state", state]
    said = run("monitor", "truth", "--accession", "ACC-1", "--npc", "--criterion", "clivus=yes", *says)
    case = State.open(state).key_for("1.2.3")
    assert said.stdout == f"kept, for case {case}\n", said.stderr
    said = run("monitor", "truth", "--case", case, "--review", "corrected", "--dice", 0.7, *says)
    assert said.returncode == 0, said.stderr
    with Store.open(state / FILE) as store:
        (now,) = store.truths()
    assert (now.npc, dict(now.criteria), now.review, now.dice) == (True, {"clivus": True}, "corrected", 0.7)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--npc"],
        ["--npc", "--source", "biopsy", "--date", "2026-05-12"],
        ["--case", "x", "--accession", "y", "--npc", "--source", "biopsy", "--date", "2026-05-12"],
        ["--accession", "SECRET", "--npc", "--source", "biopsy", "--date", "2026-05-12"],
        ["--accession", "SECRET", "--npc", "--source", "biopsy", "--date", "yesterday"],
        ["--case", "x", "--source", "biopsy", "--date", "2026-05-12"],
        ["--accession", "SECRET", "--criterion", "spleen=yes", "--source", "biopsy", "--date", "2026-05-12"],
        ["--csv", "nowhere.csv"],
        ["--csv", "nowhere.csv", "--npc"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_what_cannot_be_meant_is_usage(state: Path, arguments: list[str]) -> None:
    said = run("monitor", "truth", *arguments, "--state", state)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "SECRET" not in said.stderr


def test_scanners_get_names(state: Path) -> None:
    opened = State.open(state)
    assert run("monitor", "alias", "scanner A", "--station", "MR7", "--state", state).returncode == 0
    assert run("monitor", "alias", "scanner B", "--key", "eeee", "--state", state).returncode == 0
    assert "scanner A" in run("monitor", "status", "--state", state).stdout
    with Store.open(state / FILE) as store:
        assert sorted(store.aliases().values()) == ["scanner A", "scanner B"]
    with Store.open(state / FILE) as store:
        (last,) = list(store.records())[-1:]
        nameless = replace(last.acquired[0], station_key="", model_key=model_key(opened.key_for, "Vida"))
        store.add(replace(last, case_key="ab" * 16, at=last.at + 1, acquired=(nameless,)))
    assert run("monitor", "alias", "the old one", "--model", "Vida", "--state", state).returncode == 0
    assert "the old one; 1 runs" in run("monitor", "status", "--state", state).stdout
    for wrong in (["--station", "NOBODY"], ["--key", ""], [], ["--key", "e", "--station", "MR7"]):
        assert run("monitor", "alias", "x", *wrong, "--state", state).returncode == 2


def test_forget_and_backup(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    assert run("monitor", "backup", copy, "--state", state).returncode == 0
    assert run("monitor", "backup", copy, "--state", state).returncode == 6
    said = run("monitor", "forget", "--older-than", 365, "--state", state)
    assert said.stdout.startswith("4 runs from before")
    with Store.open(state / FILE) as store, Store.open(copy) as kept:
        assert store.counts().runs == 0
        assert kept.counts().runs == 4


# --- alarms -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A department whose scanner B began to suppress fat on T2; and as many phantoms as it has scanners."""
    department = monitor_records.Department(500, changed=0.6)
    opened = State.open(tmp_path_factory.mktemp("changed") / "state")
    runs = list(monitor_records.records(department))
    with Store.open(opened.root / FILE) as store:
        store.add_all(runs)
        store.add_all([replace(run, case_key=f"p{run.at}", quality_control=True) for run in runs[:2]])
        store.add_truths(list(monitor_records.truths(department)))
    return opened.root


def test_an_alarm_is_said_acknowledged_and_quiet(changed: Path, tmp_path: Path) -> None:
    said = run("monitor", "status", "--exit-code", "--state", changed)
    assert said.returncode == 11, said.stderr
    assert "level     act\n" in said.stdout
    assert "check first: T2 fat suppression changed on station b2b2b2" in said.stdout
    line = json.loads(run("monitor", "status", "--json", "--state", changed).stdout)
    assert (line["level"], line["exit_code"], line["runs"], line["runs_held"]) == ("act", 11, 500, 502)
    acknowledged = 0
    while unseen := [alarm for alarm in line["alarms"] if alarm["acknowledged"] is None]:
        named = [
            unseen[0]["watcher"],
            "--group",
            unseen[0]["group"],
            "--by",
            "a physicist",
            "--note",
            "looked",
        ]
        assert run("monitor", "acknowledge", *named, "--state", changed).returncode == 0
        line = json.loads(run("monitor", "status", "--json", "--state", changed).stdout)
        acknowledged += 1
    assert 1 <= acknowledged < len(line["alarms"]), "what saw the same change is acknowledged with it"
    said = run("monitor", "status", "--exit-code", "--state", changed)
    assert said.returncode == 0
    assert "Acknowledged by a physicist until" in said.stdout
    assert run("monitor", "acknowledge", "nobody.saw", "--by", "x", "--state", changed).returncode == 2


def test_an_acknowledgement_belongs_to_the_options_it_was_given_under(changed: Path, tmp_path: Path) -> None:
    """Looking at the department in another way, under which nothing alarms, forgets nothing."""
    state = tmp_path / "state"
    shutil.copytree(changed, state)
    with Store.open(state / FILE) as store:
        store.end(store.acknowledgements(), 1)
    status = ["monitor", "status", "--json", "--state", state]

    def seen(*options: str | int) -> list[str]:
        line = json.loads(run(*status, *options).stdout)
        return [a["watcher"] for a in line["alarms"] if a["acknowledged"]]

    name = "T2 fat suppression=any other.cusum"
    assert run("monitor", "acknowledge", name, "--by", "ana", "--state", state).returncode == 0
    assert name in seen()
    assert seen("--since", "2026-08-01") == []
    assert seen("--baseline", "450") == []
    assert name in seen(), "neither ended it"
    assert name not in seen("--false-alarm-rate", "0.04")
    said = run("monitor", "acknowledge", name, "--by", "ben", "--false-alarm-rate", "0.04", "--state", state)
    assert said.stdout.endswith("with --false-alarm-rate 0.04\n"), said.stderr
    assert name in seen("--false-alarm-rate", "0.04")
    page = tmp_path / "other.html"
    assert run("monitor", "report", page, "--baseline", "200", "--state", state).returncode == 0
    assert "--by NAME --baseline 200" in page.read_text(encoding="utf-8")
    assert run("monitor", "report", page, "--phantoms", "--replace", "--state", state).returncode == 0
    assert "--by NAME" not in page.read_text(encoding="utf-8")
    wrong = run("monitor", "acknowledge", name, "--by", "ana", "--phantoms", "--state", state)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_the_report_is_one_private_page(changed: Path, tmp_path: Path) -> None:
    page = tmp_path / "monitor.html"
    assert run("monitor", "report", page, "--state", changed).returncode == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert page.stat().st_mode & 0o077 == 0
    assert run("monitor", "report", page, "--state", changed).returncode == 6
    assert run("monitor", "report", page, "--replace", "--state", changed).returncode == 0
    assert run("monitor", "report", tmp_path / "no" / "x.html", "--state", changed).returncode == 6
    assert [path.name for path in tmp_path.iterdir()] == ["monitor.html"]


def test_phantoms_are_never_counted_with_patients(changed: Path, tmp_path: Path) -> None:
    said = run("monitor", "export", "--prometheus", "--state", changed).stdout
    samples = [sample for family in text_string_to_metric_families(said) for sample in family.samples]
    assert sum(s.value for s in samples if "outcome" in s.labels) == 500
    assert [s.value for s in samples if s.name == "npc_edge_monitor_runs_recorded_total"] == [502]
    out = tmp_path / "npc.prom"
    ran = run("monitor", "export", "--prometheus", "--phantoms", "--out", out, "--state", changed)
    assert (ran.returncode, ran.stdout) == (0, "")
    families = text_string_to_metric_families(out.read_text())
    assert sum(s.value for f in families for s in f.samples if "outcome" in s.labels) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["export"],
        ["status", "--since", "May"],
        ["status", "--baseline", "3"],
        ["status", "--false-alarm-rate", "2"],
    ],
    ids=" ".join,
)
def test_what_the_watchers_cannot_be_asked_is_usage(state: Path, arguments: list[str]) -> None:
    said = run("monitor", *arguments, "--state", state)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1


# --- run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return (
        write_phantom(PhantomSpec("T2", 41, matrix=160, slices=24), tmp_path_factory.mktemp("p") / "p")
        / "study"
    )


def test_run_records_unless_told_not_to_and_never_fails_for_it(phantom: Path, tmp_path: Path) -> None:
    def study(name: str, *more: str) -> tuple[int, str, set[str]]:
        ran = run("run", phantom, "--out", tmp_path / name, "--state", tmp_path / "state", "--quiet", *more)
        return ran.returncode, ran.stderr, {path.name for path in (tmp_path / name).iterdir()}

    code, said, files = study("first", "--no-record")
    assert (code, said) == (0, "")
    assert not (tmp_path / "state" / FILE).exists()
    assert study("second") == (0, "", files)
    with Store.open(tmp_path / "state" / FILE) as store:
        (record,) = store.records()
    written = json.loads((tmp_path / "second" / "result.json").read_text())
    assert record.case_key == written["study"]["key"]
    assert record.finding == written["detection"]["finding"]
    assert record.timings_ms == written["runtime"]["timings_ms"]
    assert record.timings_ms["output"] > 0
    (tmp_path / "state" / FILE).write_bytes(b"damaged" * 1000)
    code, said, found = study("third")
    assert (code, found) == (0, files)
    assert said.count("\n") == 1
    assert "the run is not in the monitor" in said
