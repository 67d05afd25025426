"""Ways side by side: what is wrong has no speed, what fails says why, and neither stops the others."""

import time
from typing import Any

import pytest

from npc_edge.bench.gpu_rounds import Attempt, Judged, Plan, Row, Way, measure
from npc_edge.engine.errors import BackendError


def way(seconds: float, says: float = 1.0, **more: Any) -> Way:
    return Way(lambda: time.sleep(seconds), lambda: {"out": says}, **more)


def judge(one: Way) -> Judged:
    said = one.outputs()["out"]
    return Judged({"said": said}, "" if said == 1.0 else "it says something else")


def rows_of(attempts: list[Attempt], plan: Plan | None = None) -> dict[str, Row]:
    made = measure(attempts, judge, plan or Plan(rounds=4, warmups=1), lambda line: None)
    return {row["way"]: row for row in made}


def test_a_ratio_is_how_many_times_as_long_the_best_peer_takes() -> None:
    asked = [
        Attempt("peer", lambda: way(0.008), peer=True),
        Attempt("slower peer", lambda: way(0.02), peer=True),
        Attempt("ours", lambda: way(0.002)),
    ]
    found = rows_of(asked, Plan(rounds=4, flop=2e9))
    assert {row["times"]["of"] for row in found.values()} == {"peer"}
    assert found["ours"]["times"]["median"] > 2
    assert found["slower peer"]["times"]["median"] < 1
    assert found["peer"]["times"]["median"] == 1
    assert found["ours"]["ms"]["runs"] == 4
    assert found["ours"]["tflop_s"] == pytest.approx(2 / found["ours"]["ms"]["p50"], rel=0.01)


def test_what_is_wrong_or_not_here_has_no_speed_and_is_closed() -> None:
    closed: list[str] = []

    def missing() -> Way:
        raise BackendError("no such card", "buy one")

    def absent() -> Way:
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    asked = [
        Attempt("wrong", lambda: way(0, says=2.0, close=lambda: closed.append("wrong"))),
        Attempt("missing", missing),
        Attempt("absent", absent),
        Attempt("right", lambda: way(0, close=lambda: closed.append("right"))),
    ]
    found = rows_of(asked)
    assert found["wrong"]["wrong"] == "it says something else"
    assert found["missing"]["not_run"] == "no such card; buy one"
    assert found["absent"]["not_run"] == "monai is not installed"
    assert [name for name, row in found.items() if "ms" in row] == ["right"]
    assert closed == ["wrong", "right"]


def test_one_that_fails_under_the_clock_keeps_no_times() -> None:
    runs: list[int] = []

    def run() -> None:
        runs.append(1)
        if len(runs) > 4:
            raise RuntimeError("out of memory")

    failing = Way(run, lambda: {"out": 1.0})
    asked = [Attempt("fails", lambda: failing, peer=True), Attempt("goes on", lambda: way(0))]
    found = rows_of(asked)
    assert found["fails"]["not_run"] == "run 3 failed: out of memory"
    assert "ms" not in found["fails"]
    assert found["goes on"]["ms"]["runs"] == 4
    assert "times" not in found["goes on"]  # the peer is gone


def test_slow_ones_are_opened_when_the_others_are_timed_and_then_all_again() -> None:
    told: list[list[str]] = []

    def tell(rows: list[Row]) -> None:
        told.append([f"{row['way']} {row['ms']['runs'] if 'ms' in row else '-'}" for row in rows])

    asked = [Attempt("compiled", lambda: way(0), slow=True), Attempt("plain", lambda: way(0))]
    measure(asked, judge, Plan(rounds=3), lambda line: None, tell)
    assert told == [["plain -"], ["plain 3"], ["plain 3", "compiled -"], ["plain 3", "compiled 3"]]


def test_when_time_is_over_nothing_more_is_opened() -> None:
    opened: list[str] = []

    def late() -> Way:
        opened.append("late")
        return way(0)

    found = rows_of([Attempt("late", late)], Plan(until=time.monotonic() - 1))
    assert found["late"]["not_run"] == "the time for this step was over"
    assert opened == []


def test_stages_are_medians_of_the_timed_runs() -> None:
    spent = iter([9.0, 1.0, 3.0, 2.0])
    one = way(0, stages=lambda: {"upload": next(spent)})
    found = rows_of([Attempt("flow", lambda: one)], Plan(rounds=4, warmups=0))
    assert found["flow"]["stages_ms"] == {"upload": 2.5}
