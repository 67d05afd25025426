"""What is an alarm, what an acknowledgement keeps quiet and for how long, and what cron is told."""

import json
from dataclasses import replace

import pytest
from monitor_content import DAY, NOW, OVERVIEW, VERDICTS

from npc_edge.calibration.alarms import (
    EXIT_CODES,
    acknowledge,
    exit_code,
    incidents,
    open_alarms,
    over,
    worst,
)
from npc_edge.calibration.record import Verdict
from npc_edge.calibration.report.line import json_line

ACT, WATCH, LATENCY, QUIET = VERDICTS[:4]


def names(verdicts: tuple[Verdict, ...], *seen: Verdict, at: int = NOW) -> list[tuple[str, bool]]:
    """The alarms at a time, after these were acknowledged for 30 days; True: quiet by it."""
    given = [acknowledge(verdict, NOW) for verdict in seen]
    return [(a.verdict.watcher, a.acknowledged is not None) for a in open_alarms(verdicts, given, at)]


def test_alarms_are_what_is_not_quiet_the_worst_first() -> None:
    assert names((QUIET, WATCH, LATENCY, ACT)) == [
        (ACT.watcher, False),
        (WATCH.watcher, False),
        (LATENCY.watcher, False),
    ]


def test_an_acknowledged_alarm_comes_last_and_counts_no_more() -> None:
    alarms = open_alarms(VERDICTS, [acknowledge(ACT, NOW)], NOW)
    assert [a.verdict.watcher for a in alarms] == [LATENCY.watcher, ACT.watcher, WATCH.watcher]
    assert worst(alarms) == "watch"
    assert exit_code(alarms) == 10


def test_an_acknowledgement_is_of_one_watcher_and_one_group() -> None:
    other = replace(ACT, group="station=scanner A", since=10)
    assert names((ACT, other), ACT) == [(other.watcher, False), (ACT.watcher, True)]


def test_an_acknowledgement_ends_with_its_time() -> None:
    assert names((WATCH,), WATCH, at=NOW + 30 * DAY - 1) == [(WATCH.watcher, True)]
    assert names((WATCH,), WATCH, at=NOW + 30 * DAY) == [(WATCH.watcher, False)]


def test_an_alarm_that_gets_worse_speaks_up_again() -> None:
    worse = replace(WATCH, level="act")
    assert names((worse,), WATCH) == [(WATCH.watcher, False)]
    better = replace(ACT, level="watch")
    assert names((better,), ACT) == [(ACT.watcher, True)]


def test_over_are_those_whose_time_passed_that_fell_quiet_or_that_got_worse() -> None:
    given = acknowledge(WATCH, NOW)
    assert over([WATCH], [given], NOW) == ()
    assert over([replace(WATCH, level="quiet")], [given], NOW) == (given,)
    assert over([replace(WATCH, level="act")], [given], NOW) == (given,)
    assert over([WATCH], [given], NOW + 31 * DAY) == (given,)
    assert over([ACT], [given], NOW) == (), "a watcher that said nothing this time"


def test_what_saw_one_change_is_one_incident_and_acknowledged_together() -> None:
    near, far = replace(WATCH, since=(ACT.since or 0) + 100), replace(WATCH, group="vendor=ge", since=10)
    window = replace(ACT, watcher="t2.median.psi", level="watch", since=None, check_first="See its CUSUM.")
    alarms = open_alarms((ACT, near, far, LATENCY, window), [], NOW)
    shown = [[a.verdict for a in together] for together in incidents(alarms)]
    assert shown == [[ACT, near, window], [far], [LATENCY]]
    known = open_alarms((ACT, near, far, LATENCY, window), [acknowledge(ACT, NOW)], NOW)
    assert [a.verdict for a in known if a.acknowledged is None] == [far, LATENCY]
    assert exit_code(known) == 10


def test_a_timeless_alarm_goes_with_another_watcher_of_its_quantity() -> None:
    fact = replace(ACT, watcher="T2 fat suppression=yes.cusum", group="all")
    median = replace(WATCH, watcher="t2.median.cusum", since=ACT.since)
    psi = replace(WATCH, watcher="t2.median.psi", since=None, check_first="See its CUSUM.")
    assert names((fact, median, psi), fact) == [
        (fact.watcher, True),
        (median.watcher, True),
        (psi.watcher, True),
    ]


def test_change_points_of_a_long_series_may_lie_farther_apart() -> None:
    long = replace(ACT, cases=50_000, since=30_000)
    alarms = open_alarms((long, replace(WATCH, since=31_000), replace(LATENCY, since=31_001)), [], NOW)
    assert [len(together) for together in incidents(alarms)] == [2, 1]


def test_an_acknowledged_watch_does_not_cover_an_act_of_the_same_change() -> None:
    near = replace(WATCH, since=ACT.since)
    alarms = open_alarms((ACT, near), [acknowledge(near, NOW)], NOW)
    assert [(a.verdict.level, a.acknowledged is None) for a in alarms] == [("act", True), ("watch", False)]


@pytest.mark.parametrize("days", [0, -1, 367, float("nan")])
def test_an_acknowledgement_has_an_end(days: float) -> None:
    with pytest.raises(ValueError, match="days"):
        acknowledge(ACT, NOW, days)


def test_there_is_nothing_to_acknowledge_in_a_quiet_watcher() -> None:
    with pytest.raises(ValueError, match="quiet"):
        acknowledge(QUIET, NOW)


def test_exit_codes_stay_apart_from_those_of_the_command_line() -> None:
    assert [exit_code(open_alarms(v, [], NOW)) for v in ((QUIET,), (QUIET, WATCH), VERDICTS)] == [0, 10, 11]
    assert set(EXIT_CODES.values()) & set(range(1, 8)) == set()


def test_the_json_line_is_one_line_that_says_it_all() -> None:
    seen = acknowledge(LATENCY, NOW, 7, "backup at night,\nevery night")
    odd = replace(ACT, statistic=float("inf"), reason='a "quoted"\nreason')
    line = json_line(OVERVIEW, open_alarms((odd, LATENCY, QUIET), [seen], NOW))
    assert "\n" not in line
    told = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (told["level"], told["exit_code"], told["runs"], told["with_truth"]) == ("act", 11, 2431, 412)
    first, second = told["alarms"]
    assert (first["watcher"], first["statistic"], first["acknowledged"]) == (ACT.watcher, None, None)
    assert first["check_first"] == ACT.check_first
    assert second["acknowledged"]["until"] == "2026-12-02T00:00:00Z"
    assert second["acknowledged"]["note"] == seen.note
    assert told["at"] == "2026-11-25T00:00:00Z"
