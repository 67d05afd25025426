"""A bounded DICOM header parser for the reading child: raw bytes of whitelisted elements, nothing else.

Written for hostile input, where a general parser is not bounded: it never recurses deeper than `MAX_DEPTH`,
never holds more than `MAX_HEADER` bytes, inflates a deflated data set only as far as it must, skips what is
not asked for without looking inside, and stops at the pixel data. Values stay undecoded bytes.
Source: DICOM PS3.5 sections 7 and A; PS3.10 section 7. Errors: `Unreadable`, `Hostile`, `NotDicom`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Union

MAX_DEPTH = 16
MAX_HEADER = 64 << 20
MAX_ELEMENTS = 1_000_000
CHUNK = 1 << 14
UNDEFINED = 0xFFFFFFFF

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

Spec = Mapping[int, Union["Spec", None]]
"""Which elements to keep: tag → None for a value, or the Spec of a sequence's items."""


class NotDicom(Exception):
    """The bytes are not a DICOM object."""


class Unreadable(Exception):
    """A DICOM object that is damaged or that this reader has no decoder for."""


class Hostile(Exception):
    """A DICOM object made to exhaust its reader."""


@dataclass
class Elements:
    """values: tag → raw bytes. sequences: tag → items."""

    values: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, list[Elements]] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What was asked for of one object, and where its pixel data lies.

    pixel_offset: of the first pixel byte, counted in the inflated stream for a deflated object; None when it
    has no pixel data. pixel_length: UNDEFINED for encapsulated pixel data.
    """

    elements: Elements
    transfer_syntax: str
    little_endian: bool
    pixel_tag: int | None
    pixel_offset: int | None
    pixel_length: int


class Window:
    """The beginning of a stream, read as far as asked and no further than `limit` bytes."""

    def __init__(self, read: Callable[[int], bytes], limit: int = MAX_HEADER) -> None:
        self._read, self._limit = read, limit
        self.data = bytearray()

    def need(self, end: int) -> bool:
        """Hold bytes up to `end`; False where the stream ends before. Raises Hostile beyond the limit."""
        while len(self.data) < end:
            if end > self._limit:
                raise Hostile("its header is larger than any real one")
            piece = self._read(max(CHUNK, min(end - len(self.data), 1 << 20)))
            if not piece:
                return False
            self.data += piece
        return True


def inflater(stream: IO[bytes]) -> Callable[[int], bytes]:
    """A `read` that inflates a raw deflate stream, never more than asked for at once."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    pending = b""

    def read(size: int) -> bytes:
        nonlocal pending
        while not engine.eof:
            pending = pending or stream.read(CHUNK)
            try:
                piece = engine.decompress(pending, size)
            except zlib.error as error:
                raise Unreadable("its deflated data set is damaged") from error
            was_fed, pending = bool(pending), engine.unconsumed_tail
            if piece or not was_fed:
                return piece
        return b""

    return read


def parse(stream: IO[bytes], spec: Spec) -> Header:
    """Parse the header of one object from a binary stream at its beginning, up to the pixel data."""
    window = Window(stream.read)
    start = 132 if window.need(132) and bytes(window.data[128:132]) == b"DICM" else 0
    if start == 0:
        _plausible(window)
    meta, position = file_meta(window, start)
    syntax = meta.get(0x00020010, b"").strip(b" \0").decode("latin-1")
    if syntax == DEFLATED:
        stream.seek(position)
        window, position = Window(inflater(stream)), 0
    big, explicit = _encoding(window, position, syntax)
    walker = _Walker(window, ">" if big else "<")
    elements = Elements(values=dict(meta))
    walker.dataset(position, None, explicit, spec, elements, 0)
    if not syntax:
        syntax = BIG_ENDIAN if big else EXPLICIT if explicit else IMPLICIT
    return Header(elements, syntax, not big, walker.pixel_tag, walker.pixel_offset, walker.pixel_length)


def _plausible(window: Window) -> None:
    """No preamble: the first element must be one that a data set can begin with."""
    if not window.need(8):
        raise NotDicom
    group, element, vr, _ = struct.unpack_from("<HH2sH", window.data)
    (length,) = struct.unpack_from("<I", window.data, 4)
    known_vr = vr in LONG_VRS or vr in SHORT_VRS
    little = group in (0x0002, 0x0008) and element <= 0x0100 and (known_vr or length <= 256)
    big = group in (0x0200, 0x0800) and known_vr
    if not little and not big:
        raise NotDicom


def file_meta(window: Window, position: int) -> tuple[dict[int, bytes], int]:
    """Group 0002, always Explicit VR Little Endian. Returns its values and where the data set begins."""
    meta: dict[int, bytes] = {}
    while window.need(position + 8):
        group, element, vr, length = struct.unpack_from("<HH2sH", window.data, position)
        if group != 0x0002:
            break
        position += 8
        if vr in LONG_VRS:
            if not window.need(position + 4):
                break
            (length,) = struct.unpack_from("<I", window.data, position)
            position += 4
        if length > 1 << 16 or not window.need(position + length):
            raise Unreadable("its file meta information is damaged")
        meta[group << 16 | element] = bytes(window.data[position : position + length])
        position += length
    return meta, position


def _encoding(window: Window, position: int, syntax: str) -> tuple[bool, bool]:
    """(big endian, explicit VR) of the data set; its bytes settle a missing or a lying transfer syntax."""
    if not window.need(position + 6):
        raise Unreadable("it ends before its data set")
    group, _, vr = struct.unpack_from("<HH2s", window.data, position)
    explicit = vr in LONG_VRS or vr in SHORT_VRS
    big = syntax == BIG_ENDIAN or (not syntax and explicit and group >= 0x0100)
    return big, explicit


class _Walker:
    """Walks data sets within a window; remembers where the pixel data of the outermost one begins."""

    def __init__(self, window: Window, endian: str) -> None:
        self.window = window
        self.pixel_tag: int | None = None
        self.pixel_offset: int | None = None
        self.pixel_length = 0
        self._count = 0
        self._explicit = struct.Struct(endian + "HH2sH").unpack_from
        self._implicit = struct.Struct(endian + "HHI").unpack_from
        self._long = struct.Struct(endian + "I").unpack_from

    def element(self, position: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """(tag, VR or b'', length, position of the value) of the element at `position`."""
        window = self.window
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise Hostile("it has more elements than any real header")
        if not window.need(position + 8):
            raise Unreadable("it is cut short")
        if explicit:
            group, element, vr, length = self._explicit(window.data, position)
            if vr in LONG_VRS:
                if not window.need(position + 12):
                    raise Unreadable("it is cut short")
                return group << 16 | element, vr, self._long(window.data, position + 8)[0], position + 12
            if vr in SHORT_VRS:
                return group << 16 | element, vr, length, position + 8
            # Delimiters have no VR, and some writers switch to implicit VR within sequences.
        group, element, length = self._implicit(window.data, position)
        return group << 16 | element, b"", length, position + 8

    def dataset(
        self, position: int, end: int | None, explicit: bool, spec: Spec, into: Elements, depth: int
    ) -> int:
        """Read one data set into `into`. `end` None: to the end of the stream or an item's delimiter.

        Returns the position after it.
        """
        if depth > MAX_DEPTH:
            raise Hostile("its sequences are nested deeper than any real one's")
        while end is None or position < end:
            if depth == 0 and not self.window.need(position + 1):
                return position
            tag, vr, length, value = self.element(position, explicit)
            if tag == ITEM_END:
                return value
            if depth == 0 and tag in PIXELS:
                self.pixel_tag, self.pixel_offset, self.pixel_length = tag, value, length
                return position
            if tag in spec and (inner := spec[tag]) is not None:
                inside_explicit = explicit and vr != b"UN"
                items = into.sequences.setdefault(tag, [])
                position = self._items(value, length, inside_explicit, inner, items, depth)
            elif length == UNDEFINED:
                position = self._skip(value, explicit and vr != b"UN")
            else:
                if tag in spec:
                    if not self.window.need(value + length):
                        raise Unreadable("it is cut short")
                    into.values[tag] = bytes(self.window.data[value : value + length])
                position = value + length
        return position

    def _items(
        self, position: int, length: int, explicit: bool, spec: Spec, items: list[Elements], depth: int
    ) -> int:
        end = None if length == UNDEFINED else position + length
        while end is None or position < end:
            inner, _, size, value = self.element(position, explicit=False)
            if inner == SEQUENCE_END:
                return value
            if inner != ITEM:
                raise Unreadable("a sequence in it is damaged")
            item = Elements()
            stop = None if size == UNDEFINED else value + size
            position = self.dataset(value, stop, explicit, spec, item, depth + 1)
            items.append(item)
        return position

    def _skip(self, position: int, explicit: bool) -> int:
        """Skip a value of undefined length, without recursion. Returns the position after it."""
        # Each open level: explicit VR inside, and whether it is an item (elements) or a sequence (items).
        levels = [(explicit, False)]
        while levels:
            if len(levels) > 2 * MAX_DEPTH:
                raise Hostile("its sequences are nested deeper than any real one's")
            inside_explicit, in_item = levels[-1]
            tag, vr, length, value = self.element(position, inside_explicit and in_item)
            position = value
            if tag == (ITEM_END if in_item else SEQUENCE_END):
                levels.pop()
            elif not in_item and tag != ITEM:
                raise Unreadable("a sequence in it is damaged")
            elif length != UNDEFINED:
                position = value + length
            elif in_item:
                levels.append((inside_explicit and vr != b"UN", False))
            else:
                levels.append((inside_explicit, True))
        return position
