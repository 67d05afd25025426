"""The patient and study module of a source object, copied byte for byte.

Text is never decoded: an untagged GBK name stays what it was, or the archive would split the patient.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

# Tag → VR. Source: PS3.6. Sequences and pictures of the patient are left out.
PATIENT_TAGS: dict[int, str] = {
    0x00080005: "CS",
    0x00080020: "DA",
    0x00080030: "TM",
    0x00080050: "SH",
    0x00080090: "PN",
    0x00081030: "LO",
    0x00081048: "PN",
    0x00081060: "PN",
    0x00100010: "PN",
    0x00100020: "LO",
    0x00100021: "LO",
    0x00100022: "CS",
    0x00100030: "DA",
    0x00100032: "TM",
    0x00100040: "CS",
    0x00100200: "CS",
    0x00101000: "LO",
    0x00101001: "PN",
    0x00101010: "AS",
    0x00101020: "DS",
    0x00101030: "DS",
    0x00102160: "SH",
    0x001021B0: "LT",
    0x00104000: "LT",
    0x00120062: "CS",
    0x00120063: "LO",
    0x0020000D: "UI",
    0x00200010: "SH",
}


def patient_module(values: Mapping[int, bytes]) -> bytes:
    """Explicit VR Little Endian elements in ascending order, without preamble; oversized ones are dropped.

    Every VR here is text, so the bytes are the same in every transfer syntax.
    """
    out = bytearray()
    for tag, vr in sorted(PATIENT_TAGS.items()):
        value = values.get(tag)
        if value is None or len(value) > 0xFFFE:
            continue
        if len(value) % 2:
            value += b"\0" if vr == "UI" else b" "
        out += struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
    return bytes(out)
