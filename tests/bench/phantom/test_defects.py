import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from phantom_scene import write_study
from pydicom import dcmread
from pydicom.uid import UID

from npc_edge.bench.phantom.damage import series, unchecked
from npc_edge.bench.phantom.defects import DEFECTS, HANDLED, find
from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.engine.errors import UsageError

SPEC = PhantomSpec("T2", 5, "philips", matrix=64, slices=12)
SAME_PIXELS = ("no-preamble", "bare-dataset", "big-endian", "implicit-vr", "deflated", "rle", "jpegls", "j2k")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(SPEC, tmp_path_factory.mktemp("sound") / "study")


@pytest.fixture
def study(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "study"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def damaged(study: Path, name: str) -> dict[str, bytes]:
    find(name).damage(study, np.random.default_rng([SPEC.seed, 99]))
    return contents(study)


@pytest.mark.parametrize("name", [n for n in DEFECTS if n not in ("too-large", "deflate-bomb")])
def test_every_defect_changes_the_study_and_does_it_again_alike(
    name: str, sound: Path, study: Path, tmp_path: Path
) -> None:
    first = damaged(study, name)
    assert first != contents(sound)
    again = tmp_path / "again" / "study"
    shutil.copytree(sound, again)
    assert damaged(again, name) == first


def test_expectations_are_known_codes_or_handled() -> None:
    codes = {
        "NO_MR", "NO_T1", "NO_T2", "CONTRAST_ONLY", "MULTIPLE_PATIENTS", "MULTIPLE_STUDIES",
        "POPULATION_MISMATCH", "UNREADABLE", "MISSING_SLICES", "DUPLICATE_SLICES", "MIXED_ORIENTATION",
        "MOSAIC", "NON_UNIFORM_SPACING", "TOO_FEW_SLICES", "GEOMETRY_MISMATCH", "FOV_TRUNCATED",
        "OUT_OF_DOMAIN", "TOO_LARGE", "HOSTILE_FILE",
    }  # fmt: skip
    named = set().union(*(d.codes for d in DEFECTS.values()))
    assert named == codes
    for name, defect in DEFECTS.items():
        assert defect.name == name
        assert defect.expected, name
        assert defect.expected_words
        assert defect.handled == (HANDLED in defect.expected)
    with pytest.raises(UsageError, match="no defect"):
        find("nonsense")


@pytest.mark.parametrize("name", SAME_PIXELS)
def test_other_encodings_hold_the_same_pixels(name: str, sound: Path, study: Path) -> None:
    before = [dcmread(p).pixel_array for p in sorted(sound.rglob("*")) if p.is_file()]
    damaged(study, name)
    after = []
    for path in sorted(p for p in study.rglob("*") if p.is_file()):
        data = dcmread(path, force=True)
        if "TransferSyntaxUID" not in data.file_meta:
            data.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2")
        after.append(data)
    for data, pixels in zip(after, before, strict=True):
        if name == "j2k":
            # decoded by the codec itself: pydicom's own plug-in needs one more package
            from openjpeg.utils import decode
            from pydicom.encaps import get_frame

            decoded = decode(get_frame(data.PixelData, 0, number_of_frames=1))
        else:
            decoded = data.pixel_array
        np.testing.assert_array_equal(decoded, pixels)


def test_the_bomb_is_small_on_disk_and_large_in_memory(study: Path) -> None:
    before = contents(study)
    after = damaged(study, "deflate-bomb")
    bomb = [k for k in after if after[k] != before[k]]
    assert len(bomb) == 1
    assert len(after[bomb[0]]) < 1_000_000
    script = (
        "import sys, zlib\n"
        "raw = open(sys.argv[1], 'rb').read()\n"
        "start = 144 + int.from_bytes(raw[140:144], 'little')\n"
        "d, total, rest = zlib.decompressobj(-15), 0, raw[start:]\n"
        "while rest and not d.eof:\n"
        "    total += len(d.decompress(rest, 1 << 20)); rest = d.unconsumed_tail\n"
        "sys.stdout.write(str(total))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(study / bomb[0])], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) > 400_000_000


def test_too_large_says_so_in_its_headers(study: Path) -> None:
    t1 = series(study, "T1")
    for path in t1[2:]:
        path.unlink()
    damaged(study, "too-large")
    data = dcmread(t1[0])
    assert (data.Rows, data.Columns) == (8192, 8192)
    assert not data.pixel_array.any()


def test_nesting_is_as_deep_as_told(study: Path) -> None:
    after = damaged(study, "nested-sequences")
    assert sum(raw.count(b"\x40\x00\x30\xa7SQ") == 400 for raw in after.values()) == 1


def test_flipped_axes_keep_every_voxel_in_place(sound: Path, study: Path) -> None:
    damaged(study, "flipped-axes")

    def corner(path: Path, y: int) -> np.ndarray:
        data = dcmread(path, stop_before_pixels=True)
        column = np.array(data.ImageOrientationPatient[3:], dtype=float)
        return np.array(data.ImagePositionPatient, dtype=float) + y * float(data.PixelSpacing[0]) * column

    path = series(sound, "T1")[3]
    twin = study / path.relative_to(sound)
    rows = int(dcmread(path).Rows)
    np.testing.assert_allclose(corner(path, 5), corner(twin, rows - 6), atol=1e-4)
    np.testing.assert_array_equal(dcmread(path).pixel_array[5], dcmread(twin).pixel_array[rows - 6])


@pytest.fixture
def lenient() -> Iterator[None]:
    with unchecked():
        yield


@pytest.mark.usefixtures("lenient")
def test_text_that_should_never_become_a_path_is_there(study: Path) -> None:
    damaged(study, "path-uids")
    for path in (p for p in study.rglob("*") if p.is_file()):
        assert dcmread(path).StudyInstanceUID.startswith("../")


def test_a_defect_of_classic_images_says_so_of_enhanced_ones(tmp_path: Path) -> None:
    study = write_study(PhantomSpec("T2", 5, matrix=64, slices=8, enhanced=True), tmp_path / "study")
    with pytest.raises(UsageError, match="classic"):
        damaged(study, "missing-slice")
