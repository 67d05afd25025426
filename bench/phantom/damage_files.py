"""Damage below the headers: encodings, broken files, and files made to hurt whoever parses them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from openjpeg import utils as openjpeg_utils
from pydicom import dcmread, dcmwrite
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from npc_edge.bench.phantom.damage import Rng, edit, files, middle, series, unchecked

_openjpeg: Any = openjpeg_utils  # carries no types
_PIXEL_DATA = b"\xe0\x7f\x10\x00OW"
_BOMB_BYTES = 400 << 20
_LARGE = 8192


def no_preamble(study: Path, rng: Rng) -> None:
    """The file begins with its meta information: no 128 bytes, no DICM."""
    for path in files(study):
        path.write_bytes(path.read_bytes()[132:])


def bare_dataset(study: Path, rng: Rng) -> None:
    """No preamble, no meta information: an implicit little-endian data set, as old exports have it."""
    with unchecked():
        for path in files(study):
            data = dcmread(path)
            del data.file_meta
            data.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
            raw = path.read_bytes()
            path.write_bytes(raw[132:] if raw[128:132] == b"DICM" else raw)


def truncated(study: Path, rng: Rng) -> None:
    """A copy that broke off: one T1 slice ends within its pixels."""
    paths = series(study, "T1")
    path = paths[middle(paths)]
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * 0.6)])


def big_endian(study: Path, rng: Rng) -> None:
    with unchecked():
        for path in files(study):
            data = dcmread(path)
            for _ in data.iterall():  # decodes every element, so that each is written the other way round
                pass
            data.PixelData = np.frombuffer(data.PixelData, dtype="<u2").astype(">u2").tobytes()
            data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            dcmwrite(path, data, implicit_vr=False, little_endian=False, force_encoding=True)


def implicit_vr(study: Path, rng: Rng) -> None:
    _transcode(study, ImplicitVRLittleEndian)


def deflated(study: Path, rng: Rng) -> None:
    _transcode(study, DeflatedExplicitVRLittleEndian)


def rle(study: Path, rng: Rng) -> None:
    _compress(study, RLELossless)


def jpegls(study: Path, rng: Rng) -> None:
    _compress(study, JPEGLSLossless)


def j2k(study: Path, rng: Rng) -> None:
    with unchecked():
        for path in files(study):
            data = dcmread(path)
            frame: bytes = _openjpeg.encode_pixel_data(
                data.PixelData,
                rows=data.Rows,
                columns=data.Columns,
                samples_per_pixel=1,
                bits_stored=data.BitsStored,
                pixel_representation=data.PixelRepresentation,
                photometric_interpretation="MONOCHROME2",
            )
            data.PixelData = encapsulate([bytes(frame)])
            data["PixelData"].VR = "OB"
            data["PixelData"].is_undefined_length = True
            _save_as(data, path, JPEG2000Lossless)


def _transcode(study: Path, syntax: UID) -> None:
    with unchecked():
        for path in files(study):
            _save_as(dcmread(path), path, syntax)


def _save_as(data: FileDataset, path: Path, syntax: UID) -> None:
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=True)


def _compress(study: Path, syntax: UID) -> None:
    for path in files(study):
        data = dcmread(path)
        data.compress(syntax, generate_instance_uid=False)
        data.save_as(path, enforce_file_format=True)


def nested_sequences(study: Path, rng: Rng) -> None:
    """Sequences in sequences, 400 deep, in one T1 slice; written by hand, as libraries refuse to."""
    depth = 400
    opened = b"\x40\x00\x30\xa7SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00" + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    paths = series(study, "T1")
    path = paths[middle(paths)]
    raw = path.read_bytes()
    at = raw.index(_PIXEL_DATA)
    path.write_bytes(raw[:at] + opened * depth + closed * depth + raw[at:])


def deflate_bomb(study: Path, rng: Rng) -> None:
    """One deflated T1 slice with 400 MB of zeros before its pixels: a few hundred kB on disk."""
    paths = series(study, "T1")
    path = paths[middle(paths)]
    with unchecked():
        data = dcmread(path)
        plain = path.read_bytes()
        _save_as(data, path, DeflatedExplicitVRLittleEndian)
    packed = path.read_bytes()
    meta_end = _meta_end(packed)
    body = plain[_meta_end(plain) :]
    at = body.index(_PIXEL_DATA)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = (
        b"\x09\x70\x10\x00LO\x04\x00BOMB" + b"\x09\x70\x00\x10OB\x00\x00" + _BOMB_BYTES.to_bytes(4, "little")
    )
    parts = [squeeze.compress(body[:at] + head)]
    block = bytes(1 << 20)
    parts += [squeeze.compress(block) for _ in range(_BOMB_BYTES >> 20)]
    parts += [squeeze.compress(body[at:]), squeeze.flush()]
    deflated_body = b"".join(parts)
    path.write_bytes(packed[:meta_end] + deflated_body + b"\0" * (len(deflated_body) % 2))


def _meta_end(raw: bytes) -> int:
    """Offset of the data set: after the preamble and group 2, whose length is its first element."""
    return 132 + 12 + int.from_bytes(raw[140:144], "little")


def rle_forged_size(study: Path, rng: Rng) -> None:
    """One T1 slice in RLE that claims 60000 x 60000 pixels."""
    paths = series(study, "T1")
    path = paths[middle(paths)]
    with unchecked():
        data = dcmread(path)
        data.compress(RLELossless, generate_instance_uid=False)
        data.Rows = data.Columns = 60_000
        data.save_as(path, enforce_file_format=True)


def too_large(study: Path, rng: Rng) -> None:
    """A T1 of 8192 x 8192 pixels a slice, all there: gigabytes once it is unpacked."""
    runs = b"\x81\x00" * (_LARGE * _LARGE // 128)
    header = np.zeros(16, dtype="<u4")
    header[:3] = (2, 64, 64 + len(runs))
    frame = encapsulate([header.tobytes() + runs + runs])

    def change(data: FileDataset, _: int) -> None:
        data.PixelSpacing = [float(v) * int(data.Rows) / _LARGE for v in data.PixelSpacing]
        data.Rows = data.Columns = _LARGE
        data.PixelData = frame
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = RLELossless

    edit(series(study, "T1"), change)
