"""The exposition as Prometheus' own parser reads it."""

import math
from dataclasses import replace

import pytest
from monitor_content import CONTENT, NOW, OVERVIEW, VERDICTS
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from npc_edge.calibration.alarms import acknowledge, open_alarms
from npc_edge.calibration.prometheus import exposition
from npc_edge.calibration.record import Verdict
from npc_edge.calibration.report.values import Overview

HOSTILE = 'scanner "B"\\\nup{x="1"} 1'


def parsed(text: str) -> dict[str, Metric]:
    """Family name → family; a family that comes twice would hide the first, so that fails."""
    families = list(text_string_to_metric_families(text))
    found = {family.name: family for family in families}
    assert len(found) == len(families)
    return found


def values(metric: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in metric.samples}


@pytest.fixture
def families() -> dict[str, Metric]:
    alarms = open_alarms(VERDICTS, [acknowledge(VERDICTS[0], NOW)], NOW)
    text = exposition(OVERVIEW, VERDICTS, alarms, CONTENT.headline_measures, CONTENT.groups)
    return parsed(text)


def test_every_family_has_help_a_type_and_the_prefix(families: dict[str, Metric]) -> None:
    assert len(families) >= 12
    for name, family in families.items():
        assert name.startswith("npc_edge_monitor_")
        assert family.documentation
        assert family.type == ("counter" if name.endswith("runs_recorded") else "gauge")
        assert family.samples


def test_counts_and_levels_come_through(families: dict[str, Metric]) -> None:
    prefix = "npc_edge_monitor_"
    assert values(families[prefix + "runs"]) == {("result",): 2373, ("no-result",): 58}
    assert values(families[prefix + "refusals"])[("FOV_TRUNCATED",)] == 31
    assert values(families[prefix + "runs_recorded"]) == {(): 2431}
    assert values(families[prefix + "level"]) == {(): 1}, "act is acknowledged, watch is left"
    levels = values(families[prefix + "watcher_level"])
    assert levels["t2.median.cusum", "station=scanner B"] == 2
    assert values(families[prefix + "watcher_acknowledged"])["t2.median.cusum", "station=scanner B"] == 1
    assert values(families[prefix + "measure"])["AUC", "low"] == pytest.approx(0.90)
    assert values(families[prefix + "group_runs"])["Vendor", "ge"] == 918


def test_labels_are_escaped_and_odd_numbers_written_as_prometheus_does() -> None:
    odd = replace(VERDICTS[0], group=HOSTILE, statistic=math.inf, limit=math.nan)
    found = parsed(exposition(OVERVIEW, (odd,), open_alarms((odd,), [], NOW)))
    assert values(found["npc_edge_monitor_watcher_statistic"]) == {(odd.watcher, HOSTILE): math.inf}
    assert math.isnan(values(found["npc_edge_monitor_watcher_limit"])[odd.watcher, HOSTILE])
    assert "up" not in found


def test_nothing_recorded_is_still_an_exposition() -> None:
    empty = Overview(NOW, 0, 0, 0, 0, 0, 0)
    nobody: tuple[Verdict, ...] = ()
    found = parsed(exposition(empty, nobody, ()))
    assert values(found["npc_edge_monitor_runs"]) == {("result",): 0, ("no-result",): 0}
    assert "npc_edge_monitor_last_run_timestamp_seconds" not in found


def test_it_ends_with_a_line_feed_and_has_no_empty_line() -> None:
    text = exposition(OVERVIEW, VERDICTS, open_alarms(VERDICTS, [], NOW))
    assert text.endswith("\n")
    assert "" not in text.split("\n")[:-1]
