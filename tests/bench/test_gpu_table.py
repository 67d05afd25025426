"""The table shows what is wrong and what was not run beside what was, and gives nothing wrong a speed."""

from typing import Any

from npc_edge.bench.gpu_table import passed, table

MS = {"p50": 2.0, "p10": 1.5, "p90": 2.5}
TIMES = {"of": "torch", "median": 1.5, "low": 1.4, "high": 1.6}


def report(**more: Any) -> dict[str, Any]:
    return {"device": "NVIDIA H100", "steps": {}, **more}


def network(*ways: dict[str, Any]) -> dict[str, Any]:
    return report(network={"name": "npc-demo 1, npc", "gflop": 33.4, "ways": list(ways)})


def test_a_way_is_a_row_with_its_spread_ratio_and_error() -> None:
    way = {"way": "onnxruntime-cuda fp16", "peer": False, "ms": MS, "tflop_s": 16.7, "times": TIMES}
    shown = table(network({**way, "first_s": 1.2, "max_relative_error": 2e-3}))
    assert "network: npc-demo 1, npc, 33.4 GFLOP a window" in shown
    row = "| onnxruntime-cuda fp16 | 2.000 (1.500-2.500) | 16.7 | 1.50 (1.40-1.60) | 1.2 | 2.0e-03 |"
    assert row in shown


def test_what_is_wrong_has_no_row_and_only_a_peer_may_be_wrong() -> None:
    way = {"way": "tensorrt fp16", "peer": False, "first_s": 1.0, "wrong": "differs by 0.3 of the range"}
    shown = table(network(way))
    assert "| tensorrt fp16" not in shown
    assert "tensorrt fp16: WRONG, so it has no speed: differs by 0.3 of the range" in shown
    assert not passed(network(way))
    assert passed(network({**way, "peer": True}))


def test_what_was_not_run_says_why() -> None:
    gone = {"way": "tensorrt-rtx fp16", "peer": False, "not_run": "it does not build for sm90"}
    shown = table(network(gone, {"way": "torch compiled", "peer": True, "first_s": 3.0}))
    assert "tensorrt-rtx fp16: not run: it does not build for sm90" in shown
    assert "torch compiled: not run: stopped before it was timed" in shown
    steps = {"run": {"status": "not run", "why": "SimpleITK is not installed"}, "kernels": {"status": "done"}}
    held = report(steps=steps)
    assert "step run: not run: SimpleITK is not installed" in table(held)
    assert passed(held)
    steps["kernels"] = {"status": "failed", "why": "it ended with code -11"}
    assert not passed(held)


def test_the_cards_state_and_what_tensorrt_said_are_shown() -> None:
    smi = {"driver_version": "580.1", "power.limit": "700 W", "clocks.sm": "345 MHz"}
    smi |= {"clocks.max.sm": "1980 MHz", "clocks.mem": "2619 MHz"}
    said = [{"runtime": "rtx", "version": "1.7", "accepts": False, "words": "sm90 is not supported"}]
    shown = table(report(gpu={"smi_before": smi}, tensorrt=said))
    assert "driver 580.1, power limit 700 W, clocks 345 MHz of 1980 MHz" in shown
    assert "TensorRT (rtx 1.7): does not take the card: sm90 is not supported" in shown


def test_a_study_shows_how_far_its_labels_agree() -> None:
    way = {"way": "kernels + onnxruntime-cuda fp16", "peer": False, "ms": MS, "first_s": 1.0}
    way |= {"structures_equal": 0.9987, "tumour_dice": 0.991}
    shown = table(report(end_to_end={"study": [2, 36, 512, 512], "ways": [way]}))
    assert "upload to labels: 2x36x512x512" in shown
    assert "equal 0.9987, Dice 0.991" in shown


def test_sanitizers_count_only_when_they_ran() -> None:
    rows = [{"tool": "memcheck", "passed": None, "detail": "not installed"}]
    assert passed(report(sanitizer=rows))
    assert not passed(report(sanitizer=[*rows, {"tool": "racecheck", "passed": False, "detail": "hazard"}]))
