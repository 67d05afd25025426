"""The report: one page that stands alone, says how things stand, and that no typed text can break."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from monitor_content import CONTENT, NOW, OVERVIEW, VERDICTS, trend

from npc_edge.calibration.alarms import acknowledge, open_alarms
from npc_edge.calibration.record import Verdict
from npc_edge.calibration.report.page import render
from npc_edge.calibration.report.values import Content, Overview

ACT, WATCH, LATENCY = VERDICTS[:3]
VOID = {"meta", "input", "br", "hr"}


class Page(HTMLParser):
    """Reads strictly: what opens closes, in order. texts: tag → what stood in it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)
            for tag in set(self.open):
                self.texts[tag][-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.words)


def page(content: Content = CONTENT, verdicts: tuple[Verdict, ...] = VERDICTS, *seen: Verdict) -> Page:
    given = [acknowledge(verdict, NOW - 1000, 30, "known <b>since</b> May") for verdict in seen]
    return Page(render(content, verdicts, open_alarms(verdicts, given, NOW)))


def test_it_stands_alone() -> None:
    source = render(CONTENT, VERDICTS, open_alarms(VERDICTS, [], NOW))
    found = Page(source)
    assert source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not {tag for tag, _ in found.tags} & {"script", "img", "link", "iframe", "object", "form"}
    assert not re.search(r"(https?:|url\(|@import|javascript:)", source)
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "@media print" in source
    assert len(source) < 400_000


def test_the_same_content_gives_the_same_bytes() -> None:
    pages = {render(CONTENT, VERDICTS, open_alarms(VERDICTS, [], NOW)) for _ in range(2)}
    assert len(pages) == 1


def test_every_picture_has_words_and_every_table_a_caption() -> None:
    found = page()
    pictures = [a for tag, a in found.tags if tag == "svg"]
    assert len(pictures) >= len(CONTENT.trends) + 1
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in pictures)
    assert len([1 for tag, _ in found.tags if tag == "table"]) == len(found.texts["caption"])
    labels = [a["aria-label"] or "" for a in pictures if a.get("aria-label")]
    assert any("changed about 12 May 2026; its CUSUM says act" in label for label in labels)


def test_headings_go_down_one_step_at_a_time() -> None:
    levels = [int(tag[1]) for tag, _ in page().tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize(
    ("verdicts", "seen", "words"),
    [
        (VERDICTS, (), "Act: one thing asks for a look before the scores are relied on"),
        (VERDICTS, (ACT,), "Watch: something has moved"),
        (VERDICTS, (ACT, LATENCY), "Quiet: nothing new; 2 alarms are acknowledged and not over"),
        (VERDICTS, (WATCH, LATENCY), "Act: one thing asks for a look before the scores are relied on"),
        (VERDICTS[3:], (), "Quiet: everything the monitor watches is within its limits"),
    ],
)
def test_the_headline_is_the_worst_that_nobody_acknowledged(
    verdicts: tuple[Verdict, ...], seen: tuple[Verdict, ...], words: str
) -> None:
    assert page(CONTENT, verdicts, *seen).texts["h1"] == [words]


def test_too_few_cases_are_not_called_quiet() -> None:
    empty = Content(Overview(NOW, 0, 0, 0, 0, 0, 0))
    found = page(empty, ())
    assert found.texts["h1"] == ["No statement yet: there are too few cases to watch anything"]
    assert "No run is recorded." in found.text
    assert "Alarms" not in found.texts["h2"]


def test_what_to_do_first_is_said_once_and_only_for_the_worst_that_is_new() -> None:
    assert page().texts["ol"] == [ACT.check_first]
    assert "1 more below." in page().text
    assert page(CONTENT, VERDICTS, ACT).texts["ol"] == [LATENCY.check_first]
    assert "ol" not in page(CONTENT, VERDICTS, ACT, LATENCY).texts


def test_alarms_of_one_change_share_a_card() -> None:
    found = page(CONTENT, VERDICTS, LATENCY)
    cards = found.texts["article"]
    assert len(cards) == 2
    assert ACT.reason in cards[0]
    assert f"watch: {WATCH.reason}" in cards[0]
    command = 'npc-edge monitor acknowledge "t2.median.cusum" --group "station=scanner B" --by NAME'
    assert command in cards[0]
    assert ACT.power in cards[0]
    assert "until 24 Dec 2026 unless it gets worse: known <b>since</b> May" in cards[1]


def test_every_watcher_shows_its_power() -> None:
    text = page().text
    for verdict in VERDICTS:
        assert verdict.power in text


def test_quiet_watchers_of_one_kind_share_a_row() -> None:
    many = tuple(replace(VERDICTS[3], watcher=f"t{i}.ks", statistic=i / 10) for i in range(9))
    text = page(CONTENT, (ACT, *many)).text
    assert text.count(VERDICTS[3].power) == 1
    assert "KS test of t0, t1, t2, t3, t4, t5, t6, t7, t8" in text
    assert "at most 0.8 / 5.1" in text


def test_what_people_typed_stays_text() -> None:
    hostile = "</style><script>alert(1)</script>&\"'"
    verdicts = (replace(ACT, group=f"station={hostile}", reason=hostile, check_first=hostile, power=hostile),)
    assert CONTENT.groups is not None
    row = replace(CONTENT.groups.overall, name=hostile, warning=hostile)
    content = replace(
        CONTENT,
        overview=replace(OVERVIEW, bundles=(hostile,), artefacts=(hostile,), reasons=((hostile, 3),)),
        trends=(replace(trend("x", ""), title=hostile, unit=hostile, words=hostile),),
        groups=replace(CONTENT.groups, overall=row),
        not_assessed=(hostile,),
    )
    found = page(content, verdicts)
    assert not [tag for tag, _ in found.tags if tag == "script"]
    assert found.text.count(hostile) >= 8


def test_what_it_says_of_patients_data_is_there() -> None:
    text = page().text
    assert "pseudonymous, not anonymous" in text
    assert "RESEARCH USE ONLY" in text
    assert "the salt lies in the same state directory" in text


def test_a_case_or_two_make_charts_without_odd_numbers() -> None:
    one = trend("Score", "logit")
    assert one.watch is not None
    short = [
        replace(
            one,
            at=one.at[:n],
            values=np.full(n, fill),
            reference=min(n, 250),
            watch=replace(one.watch, path=np.zeros(n)),
        )
        for n in (0, 1, 2)
        for fill in (0.5, np.nan)
    ]
    source = render(replace(CONTENT, trends=tuple(short)), VERDICTS, ())
    drawn = re.findall(r'(?:x|y|cx|cy|x1|x2|y1|y2|points|width|height|d)="([^"]*)"', source)
    assert drawn
    assert not [value for value in drawn if re.search(r"nan|inf", value)]
    assert source.count("No case yet.") == 2


def test_unknown_measures_say_so() -> None:
    found = page()
    assert "not known" in found.text
    assert "too few" in found.text
    assert "seen in 3 cases only" in found.text
