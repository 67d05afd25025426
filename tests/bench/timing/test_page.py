"""The page holds the numbers, draws them to scale, and lets nothing of them become markup."""

import re
from xml.etree import ElementTree

import pytest
from bench_reports import report

from npc_edge.bench.timing.page import page
from npc_edge.bench.timing.summary import summary


def drawings(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.S)]


def widths(text: str) -> dict[str, list[float]]:
    """Stage → the widths of its parts, one a bar, in the bars' order."""
    found: dict[str, list[float]] = {}
    for part in drawings(text)[0].iter("rect"):
        title = part.find("title")
        if title is not None and title.text is not None:
            found.setdefault(title.text.split()[0], []).append(float(part.attrib["width"]))
    return found


def test_bars_are_to_scale_between_stages_and_between_sides() -> None:
    found = widths(page(report(peer=True)))
    assert len(found["infer"]) == 4  # warm and cold, ours and the peer's
    ours, theirs = found["infer"][:2]
    assert theirs == pytest.approx(4 * ours, rel=1e-3)
    assert found["output"][0] == pytest.approx(ours * 500 / 300, rel=1e-2)


def test_a_report_without_a_peer_has_no_ratios() -> None:
    text = page(report())
    assert len(widths(text)["infer"]) == 2
    assert "PyTorch" not in text


def test_names_are_escaped() -> None:
    text = page(report(peer=True))
    assert "torch &lt;fast&gt;" in text
    assert "<fast>" not in text


def test_nothing_is_loaded_from_anywhere() -> None:
    assert not re.search(r"(src|href)=|url\(|@import", page(report(peer=True)))


def test_every_drawing_says_in_words_what_it_shows() -> None:
    assert all(drawing.attrib["aria-label"] for drawing in drawings(page(report(peer=True))))


def test_the_summary_says_what_was_measured() -> None:
    text = summary(report(peer=True))
    for expected in (
        "A CPU, 2 cores",
        "p99/p50",
        "studies an hour",
        "total          4.00",
        "tumour Dice 0.99",
        "onnxruntime-cuda fp16 does not run here: no CUDAExecutionProvider",
    ):
        assert expected in text
