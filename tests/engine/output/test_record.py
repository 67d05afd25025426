"""The monitor's record of a run: everything it wants, under keys that match no other kind's."""

import dataclasses

import numpy as np
import output_cases as cases
import pytest

from npc_edge.calibration.record import Acquired, CaseRecord
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.output.record import accession_key, case_record, station_key
from npc_edge.engine.output.result import Outcome, document
from npc_edge.engine.output.summary import intensity_summary
from npc_edge.engine.types import QualityCheck, Volume


def record(run: Outcome) -> CaseRecord:
    return case_record(run, document(run), 1_000)


def identified(run: Outcome) -> Outcome:
    """With an accession number, a station and a model."""
    assert run.study is not None
    named = {
        "vendor": "ge",
        "model": "SIGNA X",
        "station": "MR7",
        "field_strength_t": 1.5,
        "echo_time_ms": 12.0,
    }
    series = tuple(
        dataclasses.replace(s, acquisition=dataclasses.replace(s.acquisition, **named))
        for s in run.study.series
    )
    study = dataclasses.replace(run.study, series=series, accession_number="A1")
    window = Geometry.centred(run.reference_volume.geometry.centre, (2.0, 2.0, 4.0), (8, 20, 20))
    return dataclasses.replace(run, study=study, window=window)


def test_a_run_as_a_record() -> None:
    run = identified(cases.outcome())
    found = record(run)
    assert found.case_key == run.key_for(cases.STUDY_UID) == document(run).study.key  # type: ignore[union-attr]
    assert found.accession_key == accession_key(run.key_for, " A1 ")
    keys = {station_key(run.key_for, "A1"), found.accession_key, run.key_for("A1")}
    assert len(keys) == 3, "the same text as two kinds of key must not match"
    grid = run.reference_volume.geometry
    x, y, z = grid.spacing
    assert found.acquired[0] == Acquired(
        "T1",
        "ge",
        run.key_for("model:SIGNA X"),
        station_key(run.key_for, "MR7"),
        1.5,
        "no",
        None,
        12.0,
        None,
        pytest.approx((z, y, x), abs=1e-4),  # type: ignore[arg-type]
        grid.shape[0],
    )
    assert [series.role for series in found.acquired] == ["T1", "T2"]
    assert (found.at, found.bundle, found.artefact) == (1_000, "npc-demo 1", cases.ARTEFACT)
    assert (found.score, found.probability, found.finding) == (2.7, 0.93, "suspicious")
    assert (found.category_ajcc8, found.category_ajcc9) == ("T2", "T2")
    assert found.distribution == {"T1": 0.05, "T2": 0.31, "T3": 0.59, "T4": 0.05}
    assert found.evidence == {
        "parapharyngeal.left": "unequivocal",
        "clivus.midline": "equivocal",
        "hypopharynx": "not_assessable",
    }
    assert found.quality["alignment"] is False
    assert found.timings_ms["infer"] == 2100.5
    assert {name.partition(".")[0] for name in found.features} == {"t1", "t2"}
    assert found.quality_control
    assert found.operating_point == {"threshold": 0.5, "sensitivity": 0.95, "specificity": 0.9}
    texts = ("SIGNA", "MR7", cases.STUDY_UID, "PID-0042", "Phantom", "20260102", "19700101", "script")
    assert [text for text in texts if text in repr(found)] == []


def test_a_refusal_is_a_record_that_says_which_scanner() -> None:
    refused = dataclasses.replace(identified(cases.outcome()), outcome="no-result", reasons=(("NO_T2", "x"),))
    assert refused.selection is not None
    nothing = dataclasses.replace(refused.selection, chosen={})
    refused = dataclasses.replace(
        refused, findings=None, reference=None, volumes={}, window=None, selection=nothing
    )
    found = record(refused)
    assert (found.outcome, found.reasons, found.score, found.features) == ("no-result", ("NO_T2",), None, {})
    assert [(series.role, series.vendor, series.slices) for series in found.acquired] == [
        ("T1", "ge", 14),
        ("T2", "ge", 14),
    ]


def test_what_could_not_be_read_is_a_case_of_its_own() -> None:
    unread = dataclasses.replace(cases.refusal("UNREADABLE", "x"), study=None, selection=None)
    first, second = record(unread), record(unread)
    assert first.case_key != second.case_key
    assert (first.accession_key, first.acquired) == ("", ())


def test_nifti_images_have_a_key_of_their_content() -> None:
    run = cases.outcome()
    bare = {k: dataclasses.replace(v, slices=(), series=None) for k, v in run.volumes.items()}
    run = dataclasses.replace(run, study=None, selection=None, volumes=bare)
    moved = {**bare, "t1": dataclasses.replace(bare["t1"], voxels=bare["t1"].voxels + 1)}
    assert record(run).case_key == record(run).case_key
    assert record(run).case_key != record(dataclasses.replace(run, volumes=moved)).case_key


def test_of_several_lines_of_a_check_the_worst_counts() -> None:
    run = cases.outcome()
    assert run.findings is not None
    lines = tuple(QualityCheck("alignment", passed, "") for passed in (True, False, True))
    run = dataclasses.replace(run, findings=dataclasses.replace(run.findings, quality=lines))
    assert record(run).quality == {"alignment": False}


# --- intensities --------------------------------------------------------------------------------------------


def test_intensities_are_those_of_the_window() -> None:
    """A known distribution inside of the window, anything outside; the second sequence on a finer grid."""
    grid = Geometry.from_parts((20, 60, 60), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    fine = Geometry.from_parts((40, 120, 120), (0.5, 0.5, 1.0), (-0.25, -0.25, -0.5))
    window = Geometry.from_parts((10, 24, 24), (1.0, 1.0, 2.0), (10.0, 10.0, 6.0))
    inside = np.zeros(grid.shape, bool)
    inside[3:13, 10:34, 10:34] = True
    rng = np.random.default_rng(1)
    values = np.where(inside, rng.gamma(4.0, 50.0, grid.shape), 9e6).astype(np.float32)
    second = np.repeat(np.repeat(np.repeat(values, 2, 0), 2, 1), 2, 2) * 3
    volumes = {"t1": Volume(values, grid), "t2": Volume(second, fine)}
    found = intensity_summary(volumes, window, None)
    p1, p25, p50, p75, p99 = np.percentile(values[inside], [1, 25, 50, 75, 99])
    expected = {"median": p50, "iqr": p75 - p25, "bright": p99 / p50, "dark": p1 / p50}
    for name, value in expected.items():
        assert found[f"t1.{name}"] == pytest.approx(value, rel=1e-4)
        factor = 3 if name in ("median", "iqr") else 1
        assert found[f"t2.{name}"] == pytest.approx(value * factor, rel=1e-4)
    assert not any(name.endswith("tumour_contrast") for name in found)


def test_a_tumour_is_compared_with_what_is_around_it() -> None:
    run = cases.outcome()
    masks = run.segmentation
    voxels = np.where(masks.tumour > 0, 300, 100).astype(np.float32)
    volume = dataclasses.replace(run.reference_volume, voxels=voxels)
    found = intensity_summary({"t1": volume}, masks.geometry, masks)
    assert found["t1.tumour_contrast"] == pytest.approx(3.0)


def test_a_sequence_outside_of_the_window_or_without_signal_gives_no_ratio() -> None:
    grid = Geometry.from_parts((10, 20, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    far = Geometry.from_parts((10, 20, 20), (1.0, 1.0, 1.0), (900.0, 0.0, 0.0))
    black = Volume(np.zeros(grid.shape, np.float32), grid)
    assert intensity_summary({"t1": black}, far, None) == {}
    assert intensity_summary({"t1": black}, grid, None) == {"t1.median": 0.0, "t1.iqr": 0.0}
