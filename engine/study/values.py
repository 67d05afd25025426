"""Raw DICOM values → text and numbers, leniently: a damaged value is None, never an error."""

from __future__ import annotations

import math
import re
import struct

# Defined terms of (0008,0005) that are not simply a Python codec's name. Source: PS3.3 C.12.1.1.2.
_CODECS = {
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gb18030",
    "ISO 2022 IR 58": "iso2022_cn_gb",
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 149": "euc_kr",
}
_DIGITS = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def text(raw: bytes | None, charset: bytes = b"") -> str:
    """Decode leniently: the declared character set, then UTF-8, then GB18030 (untagged GBK), then Latin-1."""
    if not raw:
        return ""
    stripped = raw.strip(b" \0\r\n\t")
    declared = charset.decode("latin-1").split("\\")[-1].strip(" \0")
    if declared == "ISO 2022 IR 58":  # GB 2312 in ISO 2022 form is EUC-CN once its escapes are dropped
        stripped = stripped.replace(b"\x1b$)A", b"")
        declared = "GB18030"
    for codec in (_CODECS.get(declared), "utf-8", "gb18030"):
        if codec is None or codec == "iso2022_cn_gb":
            continue
        try:
            return stripped.decode(codec)
        except (UnicodeDecodeError, LookupError):
            continue
    return stripped.decode("latin-1")


def code_strings(raw: bytes | None) -> tuple[str, ...]:
    """CS values, upper case, without empty ones at the end."""
    return tuple(part.strip(" \0").upper() for part in text(raw).split("\\")) if raw else ()


def numbers(raw: bytes | None) -> tuple[float, ...]:
    """DS or IS values; () when any of them is not a finite number."""
    if not raw:
        return ()
    found = []
    for part in raw.decode("latin-1").strip(" \0").split("\\"):
        if not _DIGITS.fullmatch(part.strip(" \0")):
            return ()
        value = float(part.strip(" \0"))
        if not math.isfinite(value):
            return ()
        found.append(value)
    return tuple(found)


def number(raw: bytes | None) -> float | None:
    """The first DS or IS value."""
    found = numbers(raw)
    return found[0] if found else None


def integer(raw: bytes | None) -> int | None:
    """The first IS value."""
    found = number(raw)
    return None if found is None or abs(found) > 1e12 else int(found)


def binary(raw: bytes | None, kind: str, little: bool) -> tuple[float, ...]:
    """FD ('d'), FL ('f') or US ('H') values; non-finite ones make it ()."""
    size = struct.calcsize(f"<{kind}")
    if not raw or len(raw) % size:
        return ()
    found = struct.unpack(f"{'<' if little else '>'}{len(raw) // size}{kind}", raw)
    return tuple(float(v) for v in found) if all(math.isfinite(v) for v in found) else ()


def private_number(raw: bytes | None, little: bool) -> float | None:
    """The first number of a private element whose VR may be lost: text, FL or FD."""
    found = numbers(raw)
    if not found and raw is not None and len(raw) in (4, 8):
        found = binary(raw, "d" if len(raw) == 8 else "f", little)
    return found[0] if found else None


def seconds(raw: bytes | None) -> float | None:
    """TM, or the time of a DT, as seconds since midnight; None for "anonymized" and the like."""
    value = text(raw)
    if re.fullmatch(r"\d{14}(\.\d+)?([+-]\d{4})?", value):
        value = re.split(r"[+-]", value[8:])[0]
    value = value.replace(":", "")
    match = re.fullmatch(r"(\d{2})(\d{2})?(\d{2}(?:\.\d+)?)?", value)
    if match is None:
        return None
    hours, minutes, rest = int(match[1]), int(match[2] or 0), float(match[3] or 0)
    return hours * 3600 + minutes * 60 + rest if hours < 24 and minutes < 60 and rest < 61 else None


def age_years(age: bytes | None, born: bytes | None, studied: bytes | None) -> float | None:
    """PatientAge (nnnY, nnnM, nnnW, nnnD), else the years between birth and study dates."""
    match = re.fullmatch(r"(\d{3})([YMWD])", text(age))
    if match is not None:
        return int(match[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[match[2]]
    dates = [re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text(d)) for d in (born, studied)]
    if dates[0] is None or dates[1] is None:
        return None
    first, last = (int(d[1]) + (int(d[2]) - 1) / 12 + (int(d[3]) - 1) / 365 for d in dates if d is not None)
    return last - first if 0 <= last - first < 130 else None
