"""A regression is what is slower than the machine's own noise can explain."""

from typing import Any

import pytest
from bench_reports import report

from npc_edge.bench.timing.check import check
from npc_edge.engine.errors import UsageError


def slower(factor: float, **how: Any) -> dict[str, Any]:
    """A report whose warm runs take `factor` times as long."""
    made = report(**how)
    made["engine"]["warm"]["seconds"]["p50"] *= factor
    return made


def regressed(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    return [found.what for found in check(now, then) if found.regressed]


def test_the_same_again_is_no_regression() -> None:
    assert regressed(report(), report()) == []


def test_slower_beyond_the_noise_is_one() -> None:
    assert regressed(slower(1.2), report()) == ["warm, all", "warm, all but the network"]


def test_slower_within_the_noise_of_either_report_is_none() -> None:
    assert regressed(slower(1.2), report(noise=0.4)) == []
    assert regressed(slower(1.2, noise=0.4), report()) == []


def test_a_machine_that_is_slower_as_a_whole_is_no_regression() -> None:
    """Everything twice as slow, the reference loop too."""
    made = slower(2.0, loop=0.02)
    made["engine"]["warm"]["stages_ms"]["infer"]["p50"] *= 2
    made["engine"]["cold"]["seconds"]["p50"] *= 2
    assert regressed(made, report()) == []


def test_as_slow_as_before_on_a_machine_that_became_faster_is_one() -> None:
    assert "warm, all" in regressed(report(loop=0.005), report())


def test_the_network_alone_can_regress() -> None:
    made = report()
    made["engine"]["warm"]["stages_ms"]["infer"]["p50"] *= 1.5
    assert regressed(made, report()) == ["warm, network"]


def test_memory_can_regress() -> None:
    made = report()
    made["engine"]["memory"]["peak_mb"] *= 1.3
    assert regressed(made, report()) == ["peak memory"]


def test_memory_that_was_not_measured_is_not_compared() -> None:
    made = report()
    made["engine"]["memory"]["peak_mb"] = None
    assert "peak memory" not in [found.what for found in check(made, report())]


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("machine", "processor", "Another CPU"), ("machine", "cores", 16), ("study", "files", 10)],
)
def test_another_machine_or_study_is_refused(part: str, key: str, value: object) -> None:
    then = report()
    then[part][key] = value
    with pytest.raises(UsageError, match=f"the baseline's {part} is another: {key}"):
        check(report(), then)


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(UsageError, match="no report"):
        check(report(), {"schema": 0})
