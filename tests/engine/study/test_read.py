"""The reader and its child: what it takes and refuses; nothing a file does reaches this process."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian

from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.study.block import KEPT_BYTES
from npc_edge.engine.study.read import Reader, ReadLimits

from .dicom_files import ROOT, T1, WHOLE, picture, summary, write_stack

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as opened:
        yield opened


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_folder_recursively(reader: Reader, folder: Path) -> None:
    before = hashes(folder)
    study = reader.read(folder)
    assert summary(study) == WHOLE
    assert study.skipped == {"not DICOM": 2}
    assert study.problems == ()
    assert study.study_instance_uid == f"{ROOT}.0"
    assert study.patient_age_years == 45
    assert study.series[0].acquisition.echo_time_ms == 12
    assert study.series[0].acquisition.vendor == "siemens"
    first = reader.pixels(study.series[0], study.series[0].frames)
    assert first.dtype == np.uint16
    assert np.array_equal(first, [picture(1, i, (16, 20)) for i in range(10)])
    real = reader.pixels(study.series[0], study.series[0].frames, dtype=np.float32)
    assert real.dtype == np.float32
    assert np.array_equal(real, first)
    assert hashes(folder) == before


@pytest.mark.parametrize(
    "size", [(900, 700), (1500, 1450)], ids=["frames in turns", "a frame larger than that"]
)
def test_a_series_larger_than_what_is_handed_over_at_once(
    reader: Reader, tmp_path: Path, size: tuple[int, int]
) -> None:
    assert size[0] * size[1] * 2 * 5 > KEPT_BYTES
    write_stack(tmp_path, 4, 5, size=size)
    study = reader.read(tmp_path)
    for _ in range(2):
        found = reader.pixels(study.series[0], study.series[0].frames, dtype=np.float32)
        assert np.array_equal(found, [picture(4, i, size) for i in range(5)])


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm")
def test_closing_gives_the_shared_memory_back(folder: Path) -> None:
    with Reader() as opened:
        study = opened.read(folder)
        opened.pixels(study.series[0], study.series[0].frames)
        mine = [f"/dev/shm/{name}" for name in _blocks(opened.child_pid)]
    assert mine
    assert not any(Path(path).exists() for path in mine)


def _blocks(pid: int | None) -> set[str]:
    """Shared memory that a process has in its address space."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.rpartition("/dev/shm/")[2] for line in lines if "/dev/shm/psm_" in line}


def test_a_zip_without_unpacking_it(reader: Reader, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, f"../../../escape/{path.relative_to(folder)}")
    before = sorted(tmp_path.rglob("*"))
    study = reader.read(archive)
    assert summary(study) == WHOLE
    assert np.array_equal(
        reader.pixels(study.series[1], study.series[1].frames), [picture(2, i, (16, 20)) for i in range(10)]
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_zip(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04" + bytes(500))
    with pytest.raises(Refusal) as refused:
        reader.read(tmp_path / "x.zip")
    assert refused.value.code == "UNREADABLE"


def test_a_zip_larger_than_any_study(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb", bytes(8 << 20))
    with Reader(ReadLimits(max_bytes=4 << 20)) as small, pytest.raises(Refusal) as refused:
        small.read(archive)
    assert refused.value.code == "TOO_LARGE"


def test_a_folder_larger_than_any_study(folder: Path) -> None:
    with Reader(ReadLimits(max_files=5)) as small, pytest.raises(Refusal) as refused:
        small.read(folder)
    assert refused.value.code == "TOO_LARGE"


def test_a_dicomdir(reader: Reader) -> None:
    study = reader.read(TEST_FILES / "dicomdirtests" / "DICOMDIR")
    assert {s.modality for s in study.series} == {"MR"}
    assert ("MULTIPLE_PATIENTS", "it mixes 2 patients") in study.problems


def test_a_dicomdir_with_a_file_missing_means_its_folder(reader: Reader, tmp_path: Path) -> None:
    copy = tmp_path / "disc"
    shutil.copytree(TEST_FILES / "dicomdirtests", copy)
    whole = len(reader.read(copy / "DICOMDIR").series)
    victim = next(p for p in sorted(copy.rglob("*")) if p.is_file() and p.parent.name.startswith("CT"))
    victim.unlink()
    study = reader.read(copy / "DICOMDIR")
    assert len(study.series) >= whole


def test_a_single_file(reader: Reader) -> None:
    study = reader.read(TEST_FILES / "MR_small.dcm")
    assert [len(s.frames) for s in study.series] == [1]


def test_a_path_that_is_not_there(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        reader.read(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 200])
def test_nothing_that_is_mr(reader: Reader, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(Refusal) as refused:
        reader.read(tmp_path)
    assert refused.value.code == "NO_MR"


@pytest.mark.parametrize(
    "name",
    ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"],
)
def test_every_encoding_gives_the_same_pixels(reader: Reader, name: str) -> None:
    expected = dcmread(TEST_FILES / "MR_small.dcm").pixel_array
    study = reader.read(TEST_FILES / f"MR_small_{name}.dcm")
    assert np.array_equal(reader.pixels(study.series[0], study.series[0].frames)[0], expected)


def test_jpeg_through_gdcm(reader: Reader, tmp_path: Path) -> None:
    data = dcmread(TEST_FILES / "JPGExtended.dcm")
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    data.RescaleSlope, data.RescaleIntercept = "2", "-5"
    data.save_as(tmp_path / "x.dcm")
    study = reader.read(tmp_path / "x.dcm")
    found = reader.pixels(study.series[0], study.series[0].frames)[0]
    assert found.shape == (1024, 256)
    assert 0 < int(found.max()) < 4096
    assert len(np.unique(found)) > 100


def test_deflated_pixels(reader: Reader, tmp_path: Path) -> None:
    def deflate(data: Dataset, _: int) -> None:
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    write_stack(tmp_path, 1, change=deflate, **T1)
    study = reader.read(tmp_path)
    frames = study.series[0].frames
    assert np.array_equal(reader.pixels(study.series[0], frames[3:5])[1], picture(1, 4, (16, 20)))


def test_bits_beyond_bits_stored_are_cleared(reader: Reader, tmp_path: Path) -> None:
    """Old overlays live in the upper bits; signed values of 12 bits are extended."""

    def overlay(data: Dataset, _: int) -> None:
        data.PixelData = (picture(1, 0, (16, 20)) | 0xA000).astype("<u2").tobytes()

    def signed(data: Dataset, _: int) -> None:
        data.PixelRepresentation = 1

    write_stack(tmp_path / "a", 1, count=1, change=overlay)
    write_stack(tmp_path / "b", 2, count=1, change=signed)
    study = reader.read(tmp_path)
    values = [reader.pixels(s, s.frames)[0] for s in study.series]
    assert np.array_equal(values[0], picture(1, 0, (16, 20)))
    stored = picture(2, 0, (16, 20)).astype(np.int16)
    assert np.array_equal(values[1], np.where(stored >= 2048, stored - 4096, stored))


def test_a_copied_file_counts_once(reader: Reader, folder: Path) -> None:
    shutil.copytree(folder / "a", folder / "copy")
    study = reader.read(folder)
    assert summary(study) == WHOLE
    assert study.skipped["a copy"] == 10


def test_other_contents_under_the_same_uid_are_no_copy(reader: Reader, folder: Path) -> None:
    other = folder / "other"
    shutil.copy(folder / "a" / "1_003", other)
    raw = bytearray(other.read_bytes())
    raw[-1] ^= 1
    other.write_bytes(raw)
    assert summary(reader.read(folder))[0][1] == 11


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [("PatientID", "P2", "MULTIPLE_PATIENTS"), ("StudyInstanceUID", f"{ROOT}.77", "MULTIPLE_STUDIES")],
)
def test_mixed_studies(reader: Reader, folder: Path, keyword: str, value: str, code: str) -> None:
    write_stack(folder / "third", 3, count=3, **{keyword: value})
    problems = reader.read(folder).problems
    assert [p[0] for p in problems] == [code]
    assert value not in str(problems)


def test_another_patients_ct_counts_too(reader: Reader, folder: Path) -> None:
    write_stack(folder / "ct", 3, count=2, SOPClassUID=CTImageStorage, Modality="CT", PatientID="P2")
    study = reader.read(folder)
    assert study.skipped["not an MR image"] == 2
    assert [p[0] for p in study.problems] == ["MULTIPLE_PATIENTS"]


def test_the_quality_control_mark_must_be_on_every_image(reader: Reader, folder: Path) -> None:
    assert not reader.read(folder).quality_control_subject
    write_stack(folder / "a", 1, QualityControlSubject="YES")
    assert not reader.read(folder).quality_control_subject
    write_stack(folder / "b" / "c", 2, QualityControlSubject="YES")
    assert reader.read(folder).quality_control_subject


def test_the_patient_module_is_copied_byte_for_byte(reader: Reader, tmp_path: Path) -> None:
    name = "张^三".encode("gbk")
    paths = write_stack(tmp_path, 1, count=1, PatientName="??^??x")
    raw = paths[0].read_bytes().replace(b"??^??x", name + b" ")
    paths[0].write_bytes(raw)
    module = reader.read(tmp_path).patient_module
    assert b"\x10\x00\x10\x00PN\x06\x00" + name + b" " in module
    assert b"\x10\x00\x20\x00LO\x02\x00P1" in module
    assert b"t1_tse" not in module


def test_an_unreadable_dicom_file_is_a_problem_of_the_study(reader: Reader, folder: Path) -> None:
    victim = folder / "a" / "1_009"
    victim.write_bytes(victim.read_bytes()[:300])
    study = reader.read(folder)
    assert [p[0] for p in study.problems] == ["UNREADABLE"]


def test_pixels_cut_short(reader: Reader, folder: Path) -> None:
    victim = folder / "a" / "1_004"
    victim.write_bytes(victim.read_bytes()[:-50])
    study = reader.read(folder)
    with pytest.raises(Refusal) as refused:
        reader.pixels(study.series[0], study.series[0].frames)
    assert refused.value.code == "UNREADABLE"


@pytest.mark.parametrize("fate", ["vanishes", "changes"])
def test_a_file_that_changes_after_its_header_was_read(reader: Reader, folder: Path, fate: str) -> None:
    study = reader.read(folder)
    victim = folder / "a" / "1_004"
    if fate == "vanishes":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes() + b"\0\0")
    with pytest.raises(Refusal) as refused:
        reader.pixels(study.series[0], study.series[0].frames)
    assert refused.value.code == "UNREADABLE"


def test_frames_of_an_earlier_study_are_not_served(reader: Reader, folder: Path) -> None:
    study = reader.read(folder)
    reader.read(folder)
    with pytest.raises(UsageError):
        reader.pixels(study.series[0], study.series[0].frames)


def test_too_many_voxels(folder: Path) -> None:
    with Reader(ReadLimits(max_voxels=1000)) as small:
        study = small.read(folder)
        with pytest.raises(Refusal) as refused:
            small.pixels(study.series[0], study.series[0].frames)
    assert refused.value.code == "TOO_LARGE"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in the file system are POSIX")
def test_a_pipe_in_the_folder_is_not_waited_on(reader: Reader, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert summary(reader.read(folder)) == WHOLE
    with pytest.raises(Refusal):
        reader.read(folder / "pipe")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="file permissions do not bind this user")
def test_a_file_one_may_not_read(reader: Reader, folder: Path) -> None:
    (folder / "a" / "1_004").chmod(0)
    assert [p[0] for p in reader.read(folder).problems] == ["UNREADABLE"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda b: bytes(128) + b"DICM" + b)),
        max_size=4,
    )
)
def test_any_files_are_read_or_refused(reader: Reader, tmp_path: Path, contents: list[bytes]) -> None:
    place = tmp_path / "any"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for index, content in enumerate(contents):
        (place / str(index)).write_bytes(content)
    with pytest.raises(Refusal):
        reader.read(place)
