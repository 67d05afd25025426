"""The header parser against pydicom on pydicom's own files, and against bytes that mean harm."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import RawDataElement

from npc_edge.engine.study.headers import SPEC, Skip, read_record
from npc_edge.engine.study.parse import Hostile, NotDicom, Unreadable, parse

from .dicom_files import image

PLAIN = [tag for tag, inner in SPEC.items() if inner is None and tag >> 16 != 2]


def sound_files() -> list[Path]:
    """pydicom's whole, image-bearing test files that are in the wheel."""
    names = ("MR_small", "emri_small", "CT_small", "JPEG", "rtplan", "image_dfl", "MR2_", "SC_rgb", "ExplVR")
    found = (Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")
    return sorted(f for f in found if f.name.startswith(names) and "trunc" not in f.name)


@pytest.mark.filterwarnings("ignore:Expected explicit VR")  # pydicom's, on a file that lies about itself
@pytest.mark.parametrize("path", sound_files(), ids=lambda p: p.name)
def test_agrees_with_pydicom(path: Path) -> None:
    with path.open("rb") as stream:
        header = parse(stream, dict.fromkeys(PLAIN))
    data = dcmread(path, stop_before_pixels=True, force=True)
    compared = 0
    for tag in PLAIN:
        element = data.get_item(tag)
        if isinstance(element, RawDataElement) and element.value is not None:
            assert header.elements.values[tag] == element.value
            compared += 1
        elif element is None:
            assert tag not in header.elements.values
    assert compared > 3
    said = data.file_meta.get("TransferSyntaxUID")
    assert said is None or header.transfer_syntax == said


def test_there_are_files_to_agree_on() -> None:
    assert len(sound_files()) >= 10


def sound_bytes() -> bytes:
    buffer = io.BytesIO()
    image(1, 1, (16, 20)).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


SOUND = sound_bytes()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
@example(b"")
@example(b"\0" * 128 + b"DICM")
@example(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100")
def test_any_bytes_only_raise_the_three_errors(raw: bytes) -> None:
    for payload in (raw, b"\0" * 128 + b"DICM" + raw, SOUND[:400] + raw):
        with contextlib.suppress(NotDicom, Unreadable, Hostile, Skip):
            read_record(io.BytesIO(payload))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SOUND) - 1), st.binary(min_size=1, max_size=8))
def test_a_sound_file_with_bytes_overwritten(at: int, patch: bytes) -> None:
    raw = SOUND[:at] + patch + SOUND[at + len(patch) :]
    try:
        record, _ = read_record(io.BytesIO(raw))
    except (NotDicom, Unreadable, Hostile, Skip):
        return
    assert len(record["frames"]) == record["pixels"]["frames"]


@pytest.mark.parametrize("cut", [133, 140, 200, 400, 700])
def test_a_file_cut_within_its_header_is_unreadable(cut: int) -> None:
    with pytest.raises(Unreadable):
        read_record(io.BytesIO(SOUND[:cut]))


def at_pixels() -> int:
    return SOUND.index(b"\xe0\x7f\x10\x00OW")


@pytest.mark.parametrize("tag", [b"\x40\x00\x30\xa7", b"\x00\x52\x30\x92", b"\x09\x00\x10\x10"])
@pytest.mark.parametrize("depth", [60, 400, 100_000])
def test_nested_sequences_are_hostile(tag: bytes, depth: int) -> None:
    opened = tag + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    begin = time.perf_counter()
    with pytest.raises(Hostile):
        read_record(io.BytesIO(SOUND[: at_pixels()] + opened * depth + SOUND[at_pixels() :]))
    assert time.perf_counter() - begin < 2


def test_real_nesting_is_skipped() -> None:
    opened = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    raw = SOUND[: at_pixels()] + opened * 8 + closed * 8 + SOUND[at_pixels() :]
    assert read_record(io.BytesIO(raw))[0]["pixels"]["rows"] == 16


def test_a_deflate_bomb_is_hostile_and_cheap() -> None:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = 400 << 20
    body = squeeze.compress(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\x09\x00\x10\x10OB\0\0")
    body += squeeze.compress(struct.pack("<I", size))
    block = bytes(1 << 20)
    body += b"".join(squeeze.compress(block) for _ in range(size >> 20)) + squeeze.flush()
    uid = b"1.2.840.10008.1.2.1.99"
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(uid)) + uid
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(Hostile):
        read_record(io.BytesIO(b"\0" * 128 + b"DICM" + meta + body))
    took, (_, peak) = time.perf_counter() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 5
    assert peak < 200e6


@pytest.mark.parametrize("uid", ["../../x", "1.2..3", "9" * 2000, "1.2/3", "1\0.2"])
def test_an_identifier_that_is_none_is_hostile(uid: str) -> None:
    raw = SOUND[: at_pixels()]
    start = raw.index(b"\x20\x00\x0e\x00UI")
    length = int.from_bytes(raw[start + 6 : start + 8], "little")
    value = uid.encode() + b"\0" * (len(uid) % 2)
    forged = raw[: start + 6] + struct.pack("<H", len(value)) + value + raw[start + 8 + length :]
    with pytest.raises(Hostile):
        read_record(io.BytesIO(forged + SOUND[at_pixels() :]))
