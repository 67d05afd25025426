"""What the reading child asks of a header, and the plain record it makes of it: nothing else leaves it.

A record is JSON: numbers, short strings, lists. `records.py` turns it into the frozen values of `types.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import IO, Any

from npc_edge.engine.study.parse import Elements, Header, Hostile, NotDicom, Spec, Unreadable, parse
from npc_edge.engine.study.patient import PATIENT_TAGS, patient_module
from npc_edge.engine.study.values import (
    age_years,
    binary,
    code_strings,
    integer,
    number,
    numbers,
    private_number,
    seconds,
    text,
)

MR_CLASSES = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.4",  # MR Image
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image
    )
)
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
MAX_TEXT = 1024
MAX_FRAMES = 20_000
MAX_SIDE = 16_384

SHARED, PER_FRAME = 0x52009229, 0x52009230
AGENTS, ADMINISTRATION = 0x00180012, 0x00189340

# Elements of the macros of PS3.3 C.7.6.16.2 and C.8.13.5; no two macros share a tag.
# fmt: off
_FRAME_TAGS = (
    0x00200032, 0x00200037, 0x00280030, 0x00180050, 0x00281052, 0x00281053, 0x00180080, 0x00181314,
    0x00180091, 0x00189082, 0x00189079, 0x00189009, 0x00189025, 0x00189026, 0x00189087, 0x00189074,
    0x00209056, 0x00209128, 0x00089007, 0x00089209, 0x00189342,
)
_MACRO_TAGS = (
    0x00209113, 0x00209116, 0x00289110, 0x00289145, 0x00189112, 0x00189114, 0x00189115, 0x00189117,
    0x00209111, 0x00189226, 0x00189341,
)
_PLAIN_TAGS = (
    0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x00080070, 0x0008103E, 0x00080032, 0x0008002A,
    0x00081010, 0x00081090,
    0x00180010, 0x00180015, 0x00180020, 0x00180021, 0x00180022, 0x00180023, 0x00180024, 0x00180081,
    0x00180082, 0x00180087, 0x00181030, 0x00181042, 0x00189005, 0x00189008, 0x00189018, 0x0020000E,
    0x00200011, 0x00200012, 0x00200013, 0x00200052, 0x00200100, 0x00280002, 0x00280008, 0x00280010,
    0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103,
    # b-values and mosaics in vendors' private elements: GE, Siemens, United Imaging, Philips
    0x00431039, 0x0019100C, 0x0019100A, 0x00651009, 0x00651050, 0x20011003,
)
# fmt: on
_MACROS: dict[int, Spec | None] = dict.fromkeys(_MACRO_TAGS, dict.fromkeys(_FRAME_TAGS))
SPEC: dict[int, Spec | None] = {
    **dict.fromkeys((*PATIENT_TAGS, *_FRAME_TAGS, *_PLAIN_TAGS)),
    AGENTS: {0x00080104: None, ADMINISTRATION: {0x00181042: None}},
    SHARED: _MACROS,
    PER_FRAME: _MACROS,
}
_VENDORS = {
    "siemens": r"siemens",
    "ge": r"\bge\b|general electric",
    "philips": r"philips",
    "uih": r"uih|united imaging|联影",
    "canon": r"canon|toshiba",
}
Record = dict[str, Any]


def read_record(stream: IO[bytes]) -> tuple[Record, Header]:
    """The record of one MR image object. Raises NotDicom, Unreadable or Hostile; Skip for other objects."""
    header = parse(stream, SPEC)
    values = header.elements.values
    sop_class = text(values.get(0x00080016)) or text(values.get(0x00020002))
    if not sop_class and 0x00080060 not in values and 0x0020000D not in values:
        raise NotDicom
    record = _identity(header, sop_class)
    if sop_class == DICOMDIR_CLASS:
        raise Skip("a DICOMDIR", record)
    if sop_class not in MR_CLASSES:
        raise Skip("not an MR image", record)
    if _us(header, 0x00280002, 1) != 1:
        raise Skip("a colour picture", record)
    record["pixels"] = _pixels(header)
    shared = _flatten(header.elements.sequences.get(SHARED, ()))
    first = _flatten(header.elements.sequences.get(PER_FRAME, ()))
    record["acquisition"] = _acquisition(header, {**values, **shared, **first})
    record["frames"] = _frames(header, shared)
    return record, header


class Skip(Exception):
    """A sound DICOM object that is not for us; `record` still says which study and patient it belongs to."""

    def __init__(self, why: str, record: Record) -> None:
        super().__init__(why)
        self.why, self.record = why, record


def _identity(header: Header, sop_class: str) -> Record:
    values = header.elements.values
    uid = {
        name: _uid(values.get(tag))
        for name, tag in (
            ("sop", 0x00080018),
            ("series", 0x0020000E),
            ("study", 0x0020000D),
            ("frame_of_reference", 0x00200052),
        )
    }
    return uid | {
        "class": sop_class[:64],
        "patient": (values.get(0x00100020) or b"").strip(b" \0"),
        "accession": text(values.get(0x00080050), values.get(0x00080005, b""))[:64],
        "modality": text(values.get(0x00080060))[:16],
        "number": integer(values.get(0x00200011)),
        "syntax": header.transfer_syntax,
        "quality_control": text(values.get(0x00100200)).upper() == "YES",
        "age": age_years(values.get(0x00101010), values.get(0x00100030), values.get(0x00080020)),
        "module": patient_module(values),
    }


def _uid(raw: bytes | None) -> str:
    """A UID, leniently: anonymisers write letters and longer ones; a path or 2 kB of digits is none."""
    value = text(raw)
    if len(value) > 128 or re.fullmatch(r"[0-9A-Za-z._-]*", value) is None or ".." in value:
        raise Hostile("an identifier in it is none")
    return value


def _us(header: Header, tag: int, default: int) -> int:
    found = binary(header.elements.values.get(tag), "H", header.little_endian)
    return int(found[0]) if found else default


def _pixels(header: Header) -> Record:
    """How the pixels are stored: all that is needed to fetch a frame without parsing again."""
    rows, columns = _us(header, 0x00280010, 0), _us(header, 0x00280011, 0)
    frames = integer(header.elements.values.get(0x00280008)) or 1
    if header.pixel_offset is None or rows < 1 or columns < 1:
        raise Unreadable("it has no pixel data or is cut short before them")
    if max(rows, columns) > MAX_SIDE:
        raise Hostile("its matrix is larger than any scanner's")
    if not 1 <= frames <= MAX_FRAMES:
        raise Unreadable("its number of frames is impossible")
    allocated = _us(header, 0x00280100, 16)
    stored = _us(header, 0x00280101, allocated)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise Unreadable(f"{allocated} bits a pixel is not supported")
    return {
        "rows": rows,
        "columns": columns,
        "frames": frames,
        "allocated": allocated,
        "stored": stored,
        "shift": max(0, _us(header, 0x00280102, stored - 1) + 1 - stored),
        "signed": _us(header, 0x00280103, 0) == 1,
        "float": header.pixel_tag == 0x7FE00008,
        "little": header.little_endian,
        "offset": header.pixel_offset,
        "length": header.pixel_length,
    }


def _flatten(items: list[Elements] | tuple[Elements, ...]) -> dict[int, bytes]:
    """The values of every macro in the first item of a functional group, side by side."""
    flat: dict[int, bytes] = {}
    for macro in items[0].sequences.values() if items else ():
        for item in macro[:1]:
            flat |= item.values
    return flat


def _acquisition(header: Header, values: Mapping[int, bytes]) -> Record:
    charset, little = values.get(0x00080005, b""), header.little_endian
    agents = header.elements.sequences.get(AGENTS, ())
    given = [i.values.get(0x00181042) for a in agents for i in a.sequences.get(ADMINISTRATION, ())]
    agent = text(values.get(0x00180010), charset) or " ".join(
        text(item.values.get(0x00080104), charset) for item in agents
    )
    if code_strings(values.get(0x00189342)) == ("NO",):
        agent = ""

    def words(tag: int) -> str:
        return text(values.get(tag), charset)[:MAX_TEXT]

    def macro(tag: int, plain: int) -> float | None:
        found = binary(values.get(tag), "d", little)
        return found[0] if found else number(values.get(plain))

    vendor = words(0x00080070).lower()
    return {
        "description": words(0x0008103E),
        "protocol": words(0x00181030),
        "image_type": _image_type(values),
        "sequence": _sequence(values),
        "variant": code_strings(values.get(0x00180021)),
        "scan_options": _scan_options(values),
        "sequence_name": words(0x00180024) or words(0x00189005),
        "acquisition_type": words(0x00180023)[:16].upper(),
        "echo_time_ms": macro(0x00189082, 0x00180081),
        "repetition_time_ms": number(values.get(0x00180080)),
        "inversion_time_ms": macro(0x00189079, 0x00180082),
        "flip_angle_deg": number(values.get(0x00181314)),
        "echo_train": integer(values.get(0x00180091)),
        "field_strength_t": number(values.get(0x00180087)),
        "slice_thickness_mm": number(values.get(0x00180050)),
        "contrast_agent": agent[:64],
        "contrast_start_s": seconds(values.get(0x00181042) or next((g for g in given if g), None)),
        "time_s": _time(values),
        "enhanced_contrast": words(0x00089209)[:16].upper(),
        "body_part": words(0x00180015)[:64],
        "vendor": next((v for v, names in _VENDORS.items() if re.search(names, vendor)), "other"),
        "model": words(0x00081090)[:64],
        "station": words(0x00081010)[:64],
    }


def _image_type(values: Mapping[int, bytes]) -> tuple[str, ...]:
    """ImageType or FrameType; vendors' private marks of a mosaic are added as the word MOSAIC."""
    found = code_strings(values.get(0x00089007)) or code_strings(values.get(0x00080008))
    tiles = private_number(values.get(0x0019100A), True), private_number(values.get(0x00651050), True)
    grid = any(word in ("GRID", "VFRAME") or "_VFRAME" in word for word in found)
    if (grid or any((n or 0) > 1 for n in tiles)) and "MOSAIC" not in found:
        found += ("MOSAIC",)
    return found[:16]


def _sequence(values: Mapping[int, bytes]) -> tuple[str, ...]:
    """ScanningSequence; of an enhanced object, the same words from its pulse sequence attributes."""
    found = code_strings(values.get(0x00180020))
    if found:
        return found[:8]
    words = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}
    made = words.get(" ".join(code_strings(values.get(0x00189008))), ())
    if code_strings(values.get(0x00189018)) == ("YES",):
        made += ("EP",)
    if code_strings(values.get(0x00189009)) == ("YES",):
        made += ("IR",)
    return made


def _scan_options(values: Mapping[int, bytes]) -> tuple[str, ...]:
    """ScanOptions; an enhanced object's spectral suppression becomes FS or NO_FS, water excitation WE."""
    found = code_strings(values.get(0x00180022))
    suppressed = code_strings(values.get(0x00189025))
    if suppressed:
        found += ("FS",) if "FAT" in suppressed[0] else ("NO_FS",) if suppressed[0] == "NONE" else ()
    if code_strings(values.get(0x00189026)) == ("WATER",):
        found += ("WE",)
    return found[:16]


def _time(values: Mapping[int, bytes]) -> float | None:
    for tag in (0x00189074, 0x00080032, 0x0008002A):
        if (found := seconds(values.get(tag))) is not None:
            return found
    return None


def _frames(header: Header, shared: Mapping[int, bytes]) -> list[list[Any]]:
    """One list a frame, in the order of `records.FRAME_FIELDS`."""
    common = {**header.elements.values, **shared}
    groups = header.elements.sequences.get(PER_FRAME, [])
    count = integer(header.elements.values.get(0x00280008)) or 1
    if groups and len(groups) != count:
        raise Unreadable("its number of frames contradicts its frame descriptions")
    if count > 1 and not groups:
        raise Unreadable("it has several frames and does not say where they lie")
    per_frame = [_flatten([group]) for group in groups] or [{}]
    return [_frame(header, {**common, **own}, number) for number, own in enumerate(per_frame)]


def _frame(header: Header, values: Mapping[int, bytes], index: int) -> list[Any]:
    little = header.little_endian
    orientation = numbers(values.get(0x00200037))
    position = numbers(values.get(0x00200032))
    spacing = numbers(values.get(0x00280030))
    slope, intercept = number(values.get(0x00281053)), number(values.get(0x00281052))
    temporal = binary(values.get(0x00209128), "I", little)
    echo = binary(values.get(0x00189082), "d", little)
    return [
        index,
        integer(values.get(0x00200013)),
        position if len(position) == 3 else None,
        orientation if len(orientation) == 6 else None,
        spacing if len(spacing) == 2 else None,
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
        _time(values),
        _b_value(values, little),
        int(temporal[0]) if temporal else integer(values.get(0x00200100)),
        echo[0] if echo else number(values.get(0x00180081)),
        "\\".join(_image_type(values))[:256],
        text(values.get(0x00209056))[:16],
        integer(values.get(0x00200012)),
    ]


def _b_value(values: Mapping[int, bytes], little: bool) -> float | None:
    """The standard element, else the vendor's. GE adds 10⁹ to b-values it has scaled itself."""
    found = binary(values.get(0x00189087), "d", little)
    if found:
        return found[0]
    vendor = text(values.get(0x00080070)).lower()
    tag = next((t for name, t in _PRIVATE_B.items() if re.search(_VENDORS[name], vendor)), None)
    value = None if tag is None else private_number(values.get(tag), little)
    if value is None or value < 0:
        return None
    return value % 100_000 if value >= 1e8 else value


_PRIVATE_B = {"ge": 0x00431039, "siemens": 0x0019100C, "uih": 0x00651009, "philips": 0x20011003}
