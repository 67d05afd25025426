"""What a series is taken for, pre or post contrast, and which one is chosen."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npc_edge.engine.errors import Refusal
from npc_edge.engine.model.manifest import SequenceSpec
from npc_edge.engine.study import contrast
from npc_edge.engine.study.rules import words
from npc_edge.engine.study.select import judge, select
from npc_edge.engine.types import Selection, Series, SeriesVerdict

from .dicom_files import series, study

SE = {"sequence": ("SE",)}
T1 = {"description": "t1_tse_tra", "echo_time_ms": 12.0, "repetition_time_ms": 600.0, **SE}
T2 = {"description": "t2_tse_tra", "echo_time_ms": 90.0, "repetition_time_ms": 4000.0, **SE}
WANTED = (SequenceSpec(name="t1", roles=("T1",)), SequenceSpec(name="t2", roles=("T2", "T2FS")))
Fields = dict[str, Any]


def one(**fields: Any) -> SeriesVerdict:
    return judge(study(series(**fields)))[0]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("T1", T1),
        ("T1", {**T1, "description": "series 3"}),
        ("T1", {**T1, "sequence": ("GR",), "echo_time_ms": 2.4, "repetition_time_ms": 5.0}),
        ("T1", {**T1, "sequence": ("GR", "IR"), "echo_time_ms": 2.4, "inversion_time_ms": 900.0}),
        ("T1", {"description": "T1W TSE"}),
        ("T2", T2),
        ("T2", {**T2, "description": "sT2W_TSE_HR"}),
        ("T2", {**T2, "description": "", "sequence": ("RM",)}),
        ("T2", {"description": "t2_tse_tra"}),
        ("T2", {**T2, "enhanced_contrast": "T2"}),
        ("localizer", {**T1, "image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}),
        ("localizer", {**T1, "description": "AAHead_Scout"}),
        ("localizer", {**T1, "description": "3-pl Loc"}),
        ("localizer", {**T1, "description": "三平面定位"}),
        ("derived", {**T1, "image_type": ("DERIVED", "SECONDARY", "SUBTRACTION")}),
        ("derived", {**T1, "description": "t1_sub"}),
        ("derived", {**T1, "image_type": ("DERIVED", "SECONDARY", "MPR")}),
        ("derived", {**T1, "description": "T1 MIP"}),
        ("derived", {**T1, "image_type": ("ORIGINAL", "PRIMARY", "P", "ND")}),
        ("angiography", {**T1, "sequence": ("GR",), "echo_time_ms": 4.0, "description": "TOF_3D_multi"}),
        ("dynamic", {**T1, "sequence": ("GR",), "echo_time_ms": 2.0, "description": "t1_twist_dyn"}),
        ("dynamic", {**T1, "description": "动态增强"}),
        (
            "special sequence",
            {**T1, "sequence": ("GR",), "echo_time_ms": 2.0, "description": "t1_mp2rage_UNI"},
        ),
        ("special sequence", {**T2, "sequence": ("GR",), "variant": ("SK", "SS"), "echo_time_ms": 3.0}),
        ("ADC", {**T2, "image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")}),
        ("ADC", {**T2, "description": "ep2d_diff_ADC"}),
        ("DWI", {**T2, "description": "TSE_DWI"}),
        ("DWI", {**T2, "description": "resolve_b800"}),
        ("DWI", {**T2, "sequence": ("EP", "SE"), "description": "head"}),
        ("DWI", {**T2, "description": "弥散"}),
        ("STIR", {**T2, "sequence": ("SE", "IR"), "inversion_time_ms": 160.0, "echo_time_ms": 60.0}),
        ("STIR", {**T2, "description": "t2_tirm_tra"}),
        (
            "T1-FLAIR",
            {**T1, "sequence": ("SE", "IR"), "inversion_time_ms": 860.0, "repetition_time_ms": 2000.0},
        ),
        ("T1-FLAIR", {**T1, "description": "Ax T1 FLAIR", "repetition_time_ms": 2000.0}),
        ("FLAIR", {**T2, "sequence": ("SE", "IR"), "inversion_time_ms": 2500.0, "echo_time_ms": 120.0}),
        ("FLAIR", {**T2, "description": "t2_flair_dark_fluid"}),
        ("other", {**T1, "repetition_time_ms": 3000.0, "echo_time_ms": 30.0, "description": "pd_tse"}),
        ("other", {**T2, "sequence": ("GR",), "echo_time_ms": 25.0, "description": "t2star"}),
        ("other", {"description": "unnamed"}),
    ],
)
def test_what_a_series_is(kind: str, fields: Fields) -> None:
    assert one(**fields).kind == kind


def test_numbers_against_the_name_are_too_uncertain() -> None:
    verdict = one(**{**T1, "description": "t2_tse"})
    assert verdict.kind == "T1"
    assert verdict.confidence < 0.5
    assert "too uncertain" in verdict.why


def test_a_b_value_of_a_sibling_makes_the_b0_images_diffusion() -> None:
    b0 = series(uid="1.2", **T2)
    b800 = series(uid="1.2", **T2)
    b800 = replace(b800, frames=tuple(replace(f, b_value=800.0) for f in b800.frames))
    assert [v.kind for v in judge(study(b0, b800))] == ["DWI", "DWI"]


def test_a_stated_b_value_of_zero_proves_nothing() -> None:
    """Philips writes it on every series."""
    plain = series(**T2)
    zero = replace(plain, frames=tuple(replace(f, b_value=0.0) for f in plain.frames))
    assert judge(study(zero))[0].kind == "T2"


def test_several_phases_are_dynamic() -> None:
    plain = series(**T1)
    phases = replace(
        plain, frames=tuple(replace(f, temporal_position=i % 3) for i, f in enumerate(plain.frames))
    )
    assert judge(study(phases))[0].kind == "dynamic"


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ("yes", {"description": "t2_tse_fs_tra"}),
        ("yes", {"description": "T2W_SPAIR"}),
        ("yes", {"description": "T2FS"}),
        ("yes", {"description": "T2 压脂"}),
        ("yes", {"scan_options": ("FAST_GEMS", "FS")}),
        ("yes", {"description": "t2_tse_dixon_tra_W", "image_type": ("ORIGINAL", "PRIMARY", "M", "W")}),
        ("yes", {"description": "WATER: Ax T2 FSE IDEAL"}),
        ("no", {"description": "t2_tse_dixon_tra_in"}),
        ("no", {"description": "t2_tse_nofs"}),
        ("no", {"scan_options": ("NO_FS",)}),
        ("no", {"image_type": ("DERIVED", "PRIMARY", "IP")}),
        ("unknown", {"description": "t2_fse_tra"}),
    ],
)
def test_fat_suppression(state: str, fields: Fields) -> None:
    verdict = one(**{**T2, **fields})
    assert verdict.fat_suppression == state
    assert verdict.role == ("T2FS" if state == "yes" else "T2")


@pytest.mark.parametrize("image_type", [("DERIVED", "PRIMARY", "F"), ("DERIVED", "PRIMARY", "OP")])
def test_fat_and_opposed_dixon_images_play_no_role(image_type: tuple[str, ...]) -> None:
    assert one(**{**T1, "image_type": image_type}).role is None


@pytest.mark.parametrize(
    ("state", "texts"),
    [
        (
            "post",
            [
                "t1_tse_tra+C",
                "T1 +c",
                "AX T1+C",
                "t1_tse_tra_gd",
                "T1W_Gd",
                "t1 post",
                "T1CE",
                "t1c",
                "C+ T1",
            ],
        ),
        (
            "post",
            ["T1增强", "t1_ce_tra", "T1 KM", "T1 post contrast", "T1 Enhanced", "T1W_SPIR+C", "增强后T1"],
        ),
        ("pre", ["t1 pre", "T1 pre-contrast", "T1 平扫", "t1_native", "T1 non-contrast", "t1 w/o contrast"]),
        ("pre", ["增强前T1", "T1 without Gd", "T1 noncontrast", "unenhanced t1"]),
        (
            "unknown",
            ["t1_tse_tra", "Ax T1 FSE", "t1 post op", "t1_tse_tra_p2", "T1 post RT", "t1_tse_posterior"],
        ),
        ("unknown", ["T1 pre and post", "t1_acceleration", "cervical t1", "T1 space"]),
    ],
)
def test_what_the_words_say_of_contrast(state: str, texts: list[str]) -> None:
    assert {t: contrast.says(words(t)) for t in texts} == dict.fromkeys(texts, state)


def contrasts(*fields: Fields, apart: bool = False) -> list[str]:
    """Contrast of T1 series in one study; `apart` gives each its own place."""
    members = []
    for index, own in enumerate(fields):
        place = np.array([[0.0, 40.0 * index * apart, 4.0 * i] for i in range(20)])
        members.append(series(place, uid=f"1.{index}", number=index, **{**T1, **own}))
    return [v.contrast for v in judge(study(*members))]


def test_agent_and_times() -> None:
    given = {"contrast_agent": "Gadobutrol", "contrast_start_s": 1000.0}
    assert contrasts({**given, "time_s": 900.0}) == ["pre"]
    assert contrasts({**given, "time_s": 1100.0}) == ["post"]
    assert contrasts({**given, "time_s": 900.0, "description": "t1 +c"}) == ["unknown"]
    assert contrasts({"contrast_agent": "Gadobutrol"}) == ["post"]
    assert contrasts({"contrast_agent": "NONE"}) == ["pre"]
    assert contrasts({"contrast_agent": "Gadobutrol", "description": "t1 pre"}) == ["pre"]


def test_the_company_of_other_series() -> None:
    post = {"description": "t1 +c", "time_s": 1000.0}
    assert contrasts({"time_s": 500.0}, post) == ["pre", "post"]
    assert contrasts({"time_s": 1500.0}, post) == ["post", "post"]
    assert contrasts({}, {"description": "t1 +c"}) == ["pre", "post"]


def test_the_same_slices_again() -> None:
    assert contrasts({"time_s": 500.0}, {"time_s": 900.0}) == ["pre", "unknown"]
    assert contrasts({}, {}) == ["unknown", "unknown"]
    assert contrasts({"time_s": 500.0}, {"time_s": 900.0}, apart=True) == ["pre", "pre"]


def test_no_hint_at_all() -> None:
    assert contrasts({}) == ["pre"]
    assert contrasts({"description": "t1_tse_fs_tra"}) == ["unknown"]
    assert contrasts({"description": "t1_tse_fs_tra_pre"}) == ["pre"]


# --- choosing ---------------------------------------------------------------------------------------------


def chosen(*members: Series) -> Selection:
    return select(study(*members), WANTED, "t1")


def refusal(*members: Series, problems: tuple[tuple[str, str], ...] = ()) -> str:
    with pytest.raises(Refusal) as refused:
        select(study(*members, problems=problems), WANTED, "t1")
    return refused.value.code


def places(count: int = 20, step: float = 4.0, plane: str = "axial") -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    line = np.array([[0.0, 0.0, step * i] for i in range(count)])
    if plane == "axial":
        return line, np.array([[1.0, 0, 0], [0, 1, 0]])
    return line[:, [2, 1, 0]], np.array([[0, 1.0, 0], [0, 0, -1]])


def test_a_plain_study() -> None:
    found = chosen(
        series(uid="1", **T2), series(uid="2", number=2, **T1), series(uid="3", number=3, description="x")
    )
    assert dict(found.chosen) == {"t1": 1, "t2": 0}
    assert [v.chosen for v in found.verdicts] == [True, True, False]
    assert found.verdicts[1].why == "chosen as t1"
    assert all(v.why for v in found.verdicts)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (series(*places(), uid="a", **T1), series(*places(plane="sagittal"), uid="b", **T1)),
        (
            series(*places(), uid="a", **T1),
            series(*places(step=-3.0)[:1], uid="b", **{**T1, "sequence": ("GR",), "echo_time_ms": 3.0}),
        ),
        (
            series(*places(), uid="a", **T1, image_type=("ORIGINAL", "PRIMARY", "M", "DIS2D")),
            series(*places(), uid="b", **T1, image_type=("ORIGINAL", "PRIMARY", "M", "ND"), time_s=0.0),
        ),
        (series(*places(40), uid="a", **T1), series(*places(20, 4.0), uid="b", **T1)),
        (series(*places(20), uid="a", **T1), series(*places(16, 5.0), uid="b", **T1)),
        (series(*places(30), uid="a", **T1), series(*places(6), uid="b", **T1)),
    ],
    ids=["axial", "spin-echo", "DIS2D", "coverage", "thin", "regular"],
)
def test_the_better_of_two(better: Series, worse: Series) -> None:
    pre = {"description": "t1_tse_tra_pre"}
    better, worse = (replace(s, acquisition=replace(s.acquisition, **pre)) for s in (better, worse))
    t2 = series(uid="c", **T2)
    for members in ((better, worse, t2), (worse, better, t2)):
        found = chosen(*members)
        assert members[found.chosen["t1"]] is better


def test_t2_is_chosen_where_it_covers_the_t1() -> None:
    t1 = series(*places(30), uid="a", **T1)
    neck = series(places(40)[0] - [0, 0, 150.0], uid="b", **T2)
    here = series(*places(30), uid="c", **T2)
    assert chosen(t1, neck, here).chosen["t2"] == 2


def test_plain_t2_before_fat_suppressed_before_stir() -> None:
    t1, fat = series(uid="a", **T1), series(uid="b", **{**T2, "description": "t2_fs"})
    stir = series(uid="c", **{**T2, "sequence": ("SE", "IR"), "inversion_time_ms": 160.0})
    plain = series(uid="d", **T2)
    assert chosen(t1, stir, fat, plain).chosen["t2"] == 3
    assert chosen(t1, stir, fat).chosen["t2"] == 2
    assert chosen(t1, stir).chosen["t2"] == 1


def test_refusals() -> None:
    t1, t2 = series(uid="a", **T1), series(uid="b", **T2)
    assert refusal(t2) == "NO_T1"
    assert refusal(t1) == "NO_T2"
    assert refusal(t2, series(uid="c", **{**T1, "description": "t1 +c"})) == "CONTRAST_ONLY"
    assert refusal(t2, series(uid="c", **{**T1, "description": "t1_fs"})) == "CONTRAST_UNKNOWN"
    assert refusal(t2, series(uid="c", **{**T1, "description": "t2"})) == "NO_T1"
    assert refusal(t1, t2, problems=(("MULTIPLE_PATIENTS", "x"),)) == "MULTIPLE_PATIENTS"


def test_roles_of_other_bundles() -> None:
    post = series(uid="a", **{**T1, "description": "t1 +c"})
    adc = series(uid="b", **T2, image_type=("DERIVED", "PRIMARY", "ADC"))
    wanted = (SequenceSpec(name="c", roles=("T1C",)), SequenceSpec(name="adc", roles=("ADC",)))
    assert dict(select(study(post, adc), wanted, "c").chosen) == {"c": 0, "adc": 1}
    for missing, members in (("NO_T1C", (adc,)), ("NO_ADC", (post,))):
        with pytest.raises(Refusal) as refused:
            select(study(*members), wanted, "c")
        assert refused.value.code == missing


def test_verdicts_hold_no_free_text_of_the_header() -> None:
    secret = "Zhang San 19620101"
    verdicts = judge(
        study(series(**{**T1, "description": f"t1 {secret} +c"}), series(description=secret, uid="2"))
    )
    assert not re.search("zhang|san|1962", str(verdicts).lower())
