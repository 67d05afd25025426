"""Slices to volumes: geometry from positions alone, rescale per frame, every irregularity named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from npc_edge.engine.errors import Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.study.assemble import assemble
from npc_edge.engine.study.read import Reader
from npc_edge.engine.study.records import Image, split
from npc_edge.engine.study.stack import arrange
from npc_edge.engine.types import Series

from .dicom_files import T1, picture, series, write_stack

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as opened:
        yield opened


def rotation(angles: tuple[float, float, float]) -> Floats:
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


angle = st.floats(-3.1, 3.1)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(angle, angle, angle),
    st.tuples(*[st.floats(-200, 200)] * 3),
    st.tuples(st.floats(0.2, 2), st.floats(0.2, 2), st.floats(0.6, 8)),
    st.integers(8, 60),
    st.randoms(use_true_random=False),
)
def test_any_oriented_stack_gives_back_its_affine(angles, origin, spacing, count, random) -> None:  # type: ignore[no-untyped-def]
    """Whatever the order of the files, and with positions of six decimals as scanners write them."""
    expected = Geometry.from_parts((count, 16, 20), spacing, origin, rotation(angles))
    positions = np.round(expected.to_world([[0, 0, z] for z in range(count)]), 6)
    order = list(range(count))
    random.shuffle(order)
    axes = np.round(expected.direction[:, :2].T, 6)
    given_series = series(positions[order], axes, spacing=(spacing[1], spacing[0]))
    found = arrange(given_series)
    assert [order[i] for i in found.order] == list(range(count))
    corners = Geometry((count, 16, 20), found.affine).corners()
    assert np.abs(corners - expected.corners()).max() < 0.002


def moved(positions: Floats, index: int, by: float) -> Floats:
    out = positions.copy()
    out[index, 2] += by
    return out


LINE = np.array([[0.0, 0.0, 4.0 * i] for i in range(20)])
TILTED = np.array([[1.0, 0, 0], [0, np.cos(0.1), np.sin(0.1)]])


def tilted_one(given: Series) -> Series:
    frames = list(given.frames)
    frames[5] = replace(frames[5], column=tuple(map(float, TILTED[1])))
    return replace(given, frames=tuple(frames))


def with_first(**changes: object) -> Callable[[Series], Series]:
    def change(given: Series) -> Series:
        return replace(given, frames=(replace(given.frames[0], **changes), *given.frames[1:]))  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    ("code", "given_series"),
    [
        ("MISSING_SLICES", series(np.delete(LINE, 7, axis=0))),
        ("MISSING_SLICES", series(np.delete(LINE, [7, 8, 13], axis=0))),
        ("DUPLICATE_SLICES", series(np.insert(LINE, 7, LINE[7], axis=0))),
        ("DUPLICATE_SLICES", series(moved(LINE, 7, 3.95))),
        ("NON_UNIFORM_SPACING", series(moved(LINE, 7, 0.6))),
        ("NON_UNIFORM_SPACING", series(LINE * (1 + np.arange(20) / 60)[:, None])),
        ("NON_UNIFORM_SPACING", series(LINE * [[0, 0, 12.0]])),
        ("NON_UNIFORM_SPACING", series(LINE + np.outer(np.arange(20), [0.4, 0, 0]))),
        ("TOO_FEW_SLICES", series(LINE[:7])),
        ("TOO_FEW_SLICES", replace(series(), frames=())),
        ("MIXED_ORIENTATION", tilted_one(series())),
        ("MIXED_MATRIX", with_first(shape=(16, 18))(series())),
        ("MIXED_MATRIX", with_first(pixel_spacing=(0.5, 0.6))(series())),
        ("TOO_LARGE", replace(series(), frames=tuple(replace(f, shape=(9000, 20)) for f in series().frames))),
        ("UNREADABLE", with_first(position=None)(series())),
        ("UNREADABLE", with_first(row=None)(series())),
        ("UNREADABLE", with_first(pixel_spacing=None)(series())),
        ("UNREADABLE", series(axes=np.array([[1.0, 0, 0], [1, 0, 0]]))),
        ("UNREADABLE", series(axes=np.zeros((2, 3)))),
        ("UNREADABLE", series(spacing=(0.0, 0.5))),
        ("MOSAIC", series(image_type=("ORIGINAL", "PRIMARY", "M", "MOSAIC"))),
    ],
)
def test_irregular_stacks_are_refused_by_name(code: str, given_series: Series) -> None:
    with pytest.raises(Refusal) as refused:
        arrange(given_series)
    assert refused.value.code == code


def test_rounding_and_jitter_are_no_irregularity() -> None:
    jitter = np.random.default_rng(1).uniform(-0.05, 0.05, 20)
    stack = arrange(series(LINE + np.outer(jitter, [0, 0, 1])))
    assert stack.spacing[2] == pytest.approx(4.0, abs=0.01)


def test_values_and_places_of_a_read_series(reader: Reader, tmp_path: Path) -> None:
    """Reversed order, slope and intercept of each slice its own, SliceThickness unlike the spacing."""

    def change(data: Dataset, index: int) -> None:
        data.ImagePositionPatient = [-5.0, -4.0, 100.0 - 4.0 * index]
        data.RescaleSlope, data.RescaleIntercept = 1 + index, -index

    write_stack(tmp_path, 1, change=change, **T1)
    study = reader.read(tmp_path)
    volume = assemble(study.series[0], 0, reader, "no")
    assert volume.voxels.dtype == np.float32
    assert volume.voxels.shape == (10, 16, 20)
    for z in range(10):
        index = 9 - z
        assert np.array_equal(
            volume.voxels[z], picture(1, index, (16, 20)).astype(np.float32) * (1 + index) - index
        )
        assert volume.slices[z].instance_number == index + 1
        assert volume.geometry.to_world([[0, 0, z]])[0].tolist() == list(volume.slices[z].position)
    assert volume.geometry.spacing == (0.5, 0.5, 4.0)
    assert volume.gap_mm == pytest.approx(0.5)
    assert volume.fat_suppression == "no"


def test_no_rescale_tags_mean_identity(reader: Reader, tmp_path: Path) -> None:
    write_stack(tmp_path, 1, **T1)
    volume = assemble(reader.read(tmp_path).series[0], 0, reader, "unknown")
    assert np.array_equal(volume.voxels[0], picture(1, 0, (16, 20)))


@pytest.mark.parametrize("blank", [False, True])
def test_the_same_picture_twice(reader: Reader, tmp_path: Path, blank: bool) -> None:
    """A repeated picture is a fault; two blank slices are air."""

    def change(data: Dataset, index: int) -> None:
        if index in (2, 6):
            data.PixelData = bytes(2 * 16 * 20) if blank else picture(1, 0, (16, 20)).tobytes()

    write_stack(tmp_path, 1, change=change, **T1)
    study = reader.read(tmp_path)
    if blank:
        assert assemble(study.series[0], 0, reader, "no").voxels.shape == (10, 16, 20)
        return
    with pytest.raises(Refusal) as refused:
        assemble(study.series[0], 0, reader, "no")
    assert refused.value.code == "DUPLICATE_SLICES"


def test_a_blank_series(reader: Reader, tmp_path: Path) -> None:
    write_stack(tmp_path, 1, PixelData=bytes(2 * 16 * 20), **T1)
    study = reader.read(tmp_path)
    with pytest.raises(Refusal) as refused:
        assemble(study.series[0], 0, reader, "no")
    assert refused.value.code == "UNREADABLE"


# --- splitting --------------------------------------------------------------------------------------------


def images(given_series: Series, **own: object) -> list[Image]:
    head = (given_series.series_instance_uid, "", "MR", "", "")
    made = (Image(f, ("ORIGINAL",), "", None, given_series.acquisition, head, 1) for f in given_series.frames)
    return [replace(image, **own) for image in made]  # type: ignore[arg-type]


def echo(given: list[Image], te: float) -> list[Image]:
    return [replace(i, frame=replace(i.frame, echo_time_ms=te)) for i in given]


def test_two_echoes_of_one_series_are_two_series() -> None:
    assert [len(p) for p in split(echo(images(series()), 12.0) + echo(images(series()), 90.0))] == [20, 20]


def test_an_echo_time_that_wavers_is_one_echo() -> None:
    wavering = [echo([image], 100 + 0.2 * (n % 3))[0] for n, image in enumerate(images(series()))]
    assert len(split(wavering)) == 1


def test_dixon_components_in_one_series_are_parted() -> None:
    parts = split([*images(series(), image_type=("W",)), *images(series(), image_type=("F",))])
    assert [p[0].image_type for p in parts] == [("W",), ("F",)]


def test_two_whole_stacks_of_different_planes_are_parted() -> None:
    sagittal = series(LINE[:, [2, 1, 0]], np.array([[0, 1.0, 0], [0, 0, -1]]))
    assert [len(p) for p in split(images(series()) + images(sagittal))] == [20, 20]


def test_one_stray_slice_is_not_parted_away() -> None:
    """Else its stack would lose a slice without anybody noticing."""
    assert [len(p) for p in split(images(tilted_one(series())))] == [20]
    shapes = images(with_first(shape=(16, 18))(series()))
    assert [len(p) for p in split(shapes)] == [20]


def test_acquisitions_at_the_same_places_are_parted_by_their_number() -> None:
    twice = [*images(series(), acquisition_number=1), *images(series(), acquisition_number=2)]
    assert [len(p) for p in split(twice)] == [20, 20]
    interleaved = [replace(i, acquisition_number=n % 2) for n, i in enumerate(images(series()))]
    assert [len(p) for p in split(interleaved)] == [20]
