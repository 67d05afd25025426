"""report.html: self-contained, escaped, and in words that may be used."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import output_cases as cases
import pytest

from npc_edge.calibration.markup import tag
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.output import reason_texts, wording
from npc_edge.engine.output.figures import Frame, linear, on_reference
from npc_edge.engine.output.report import render
from npc_edge.engine.output.report_images import extent_slices
from npc_edge.engine.output.result import Outcome
from npc_edge.engine.output.schema import CategorySetEntry, TCategoryEntry
from npc_edge.engine.types import TCategory, Volume

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects tags, attributes and visible text; open tags must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


RUNS = {
    "suspicious": cases.outcome(),
    "not_suspicious": cases.outcome(finding="not_suspicious", evidence="retrospective"),
    "indeterminate": cases.outcome(finding="indeterminate"),
    "refused": cases.refusal(),
}


@pytest.mark.parametrize("name", RUNS)
def test_one_file_that_fetches_nothing(name: str) -> None:
    page = Page(render(RUNS[name]))
    assert not page.open
    assert not {"script", "link", "iframe", "object", "img", "base", "form"} & set(page.tags)
    for attribute, value in page.attributes:
        if attribute in ("href", "src"):
            assert value.startswith(("data:image/png;base64,", "#")), value[:40]
        assert not attribute.startswith("on")
    assert "http:" not in page.text
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    targets = {value for attribute, value in page.attributes if attribute == "id"}
    links = {value[1:] for attribute, value in page.attributes if attribute == "href" and value[0] == "#"}
    assert links <= targets


@pytest.mark.parametrize("name", RUNS)
def test_only_words_that_may_be_used(name: str) -> None:
    text = Page(render(RUNS[name])).text
    assert "RESEARCH USE ONLY" in text
    assert "not for filing" in text
    for forbidden in (r"\bnormal\b", r"\bno NPC\b", r"\bT stage\b", r"stage I", r"\bT0\b", r"diagnosed"):
        assert not re.search(forbidden, text, re.IGNORECASE), forbidden
    for secret in ("1.2.826", "Phantom^Test", "PID-0042", "1970"):
        assert secret not in text


def test_a_suspicious_finding_reads_as_a_radiologist_would_want_it() -> None:
    text = Page(render(RUNS["suspicious"])).text
    assert "Suspicious finding in the nasopharynx" in text
    assert "Model score" in text
    assert "Calibrated probability" not in text
    assert "≥ T2" in text
    assert "hypopharynx outside the field of view" in text.lower()
    assert "N, M and stage group not assessed" in text
    assert "Flagged: The rules give T2; the distribution over probability thresholds peaks at T3" in text
    assert "Se 3 / Im 8" in text


def test_nothing_suspicious_does_not_exclude_npc() -> None:
    text = Page(render(RUNS["not_suspicious"])).text
    assert "No suspicious lesion above the operating point; does not exclude NPC" in text
    assert "Calibrated probability" in text
    assert "No T category: there is no suspicious finding to categorise" in text
    assert "is involved" not in text


def test_a_refusal_says_why_and_what_to_do() -> None:
    text = Page(render(RUNS["refused"])).text
    assert "No T2-weighted series was recognised." in text
    assert "What to do:" in text
    assert "NO_T2" in text


def hostile() -> Outcome:
    run = cases.refusal(message=HOSTILE)
    assert run.selection is not None
    verdicts = tuple(dataclasses.replace(v, why=HOSTILE, kind=HOSTILE) for v in run.selection.verdicts)
    facts = dataclasses.replace(run.facts, correlation=HOSTILE)
    return dataclasses.replace(
        run, facts=facts, selection=dataclasses.replace(run.selection, verdicts=verdicts)
    )


def test_hostile_text_stays_text() -> None:
    page = Page(render(hostile()))
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert tag("p", "<b>", title='"x"') == '<p title="&quot;x&quot;">&lt;b&gt;</p>'


def test_every_reason_code_of_the_design_has_plain_words() -> None:
    codes = [
        "NO_MR",
        "NO_T1",
        "NO_T2",
        "NO_T1C",
        "CONTRAST_ONLY",
        "MULTIPLE_PATIENTS",
        "MULTIPLE_STUDIES",
        "CONTEXT_NOT_SUPPORTED",
        "POPULATION_MISMATCH",
        "UNREADABLE",
        "MISSING_SLICES",
        "DUPLICATE_SLICES",
        "MIXED_ORIENTATION",
        "MOSAIC",
        "NON_UNIFORM_SPACING",
        "TOO_FEW_SLICES",
        "GEOMETRY_MISMATCH",
        "FOV_TRUNCATED",
        "OUT_OF_DOMAIN",
        "TOO_LARGE",
        "HOSTILE_FILE",
        "DEADLINE",
    ]
    assert set(codes) <= set(reason_texts.REASONS)
    assert reason_texts.explain("SOMETHING_NEW")[1]


@pytest.mark.parametrize(
    "columns",
    [
        ([1, 0, 0], [0, 1, 0], [0, 0, 1]),  # axial as usual
        ([-1, 0, 0], [0, -1, 0], [0, 0, 1]),  # axial, turned by 180 degrees
        ([0, 1, 0], [1, 0, 0], [0, 0, -1]),  # axial, rows and columns exchanged
    ],
)
def test_the_patients_right_is_on_the_left_of_the_picture(columns: tuple[list[int], ...]) -> None:
    grid = Geometry.from_parts((4, 30, 40), (1.0, 2.0, 3.0), (0, 0, 0), np.array(columns, float).T)
    frame = Frame.around(grid, 1, (12, 21), 24.0)
    assert (frame.left, frame.right) == ("R", "L")
    xs = grid.to_world(
        np.stack(np.meshgrid(np.arange(40), np.arange(30), [1], indexing="xy"), -1).reshape(-1, 3)
    )
    leftward = xs[:, 0].reshape(30, 40).astype(np.float32)
    posterior = xs[:, 1].reshape(30, 40).astype(np.float32)
    cut = (slice(frame.y0, frame.y1), slice(frame.x0, frame.x1))
    assert (np.diff(frame.turn(leftward[cut]), axis=1) > 0).all()
    assert (np.diff(frame.turn(posterior[cut]), axis=0) > 0).all()
    corner = frame.place(np.array([[frame.x0 - 0.5, frame.y0 - 0.5]]), grid)[0]
    width, height = frame.size_mm(grid)
    assert corner[0] in (0, width)
    assert corner[1] in (0, height)


def test_another_sequence_is_shown_on_the_references_pixels() -> None:
    grid = Geometry.from_parts((6, 20, 22), (1.0, 1.0, 4.0), (-10, -10, 0))
    other = Geometry.from_parts((12, 50, 50), (0.5, 0.5, 2.0), (-12, -12, -1))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in other.shape), indexing="ij"), -1).reshape(-1, 3)
    ramp = other.to_world(index[:, ::-1]).sum(axis=1).reshape(other.shape).astype(np.float32)
    frame = Frame.around(grid, 2, (10, 10), 8.0)
    found = on_reference(Volume(ramp, other), grid, frame)
    y, x = np.meshgrid(np.arange(frame.y0, frame.y1), np.arange(frame.x0, frame.x1), indexing="ij")
    meant = grid.to_world(np.column_stack([x.ravel(), y.ravel(), np.full(x.size, 2)])).sum(axis=1)
    assert np.allclose(found.ravel(), meant, atol=1e-3)
    assert linear(ramp, np.array([[-5.0, 0, 0]])) == 0


def test_extent_shows_both_ends_and_the_largest_slice() -> None:
    tumour = np.zeros((30, 8, 8), np.uint8)
    tumour[5:21, 3:5, 3:5] = 1
    tumour[11] = 1
    slices = extent_slices(tumour)
    assert {5, 11, 20} <= set(slices)
    assert len(slices) == 5
    assert extent_slices(np.zeros_like(tumour)) == []


def test_a_lower_bound_names_what_it_hides_and_a_clear_category_stands_alone() -> None:
    staging = RUNS["suspicious"].concluded.staging
    assert staging is not None
    assert staging.ajcc8 is not None
    assert (
        wording.category(staging, staging.ajcc8)
        == "≥ T2 (hypopharynx outside the field of view; clivus equivocal)"
    )
    assert wording.category(staging, TCategory("T2", "exact", None, {})) == "T2"
    assert wording.disagreement(TCategory("T2", "exact", None, {"T2": 0.9, "T3": 0.1})) == ""


def test_a_set_of_categories_says_what_its_level_means() -> None:
    held = CategorySetEntry(level=0.9, categories=("T3", "T4"))
    item = TCategoryEntry(t="T3", bound="exact", could_be=None, distribution={"T3": 1.0}, set=held)
    words = wording.set_words(item)
    assert words == "T3 or T4 at 90 % (of the cases of each T category, so many have theirs in their set)"
    none = item.model_copy(update={"set": None, "set_not_given": "why"})
    assert wording.set_words(none) == "No set of categories: why"
