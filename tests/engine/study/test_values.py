"""Lenient decoding: what damaged headers hold becomes None, not an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npc_edge.engine.study import values


@pytest.mark.parametrize(
    ("raw", "charset", "expected"),
    [
        ("T1增强".encode("gbk"), b"", "T1增强"),
        ("T1增强".encode("gb18030"), b"GB18030", "T1增强"),
        ("T1增强".encode(), b"ISO_IR 192", "T1增强"),
        ("T1增强".encode(), b"", "T1增强"),
        (b"\x1b$)A" + "增强".encode("gb2312"), b"\\ISO 2022 IR 58", "增强"),
        ("Schädel".encode("latin-1"), b"ISO_IR 100", "Schädel"),
        (b"plain \0", b"nonsense", "plain"),
        (None, b"", ""),
    ],
)
def test_text(raw: bytes | None, charset: bytes, expected: str) -> None:
    assert values.text(raw, charset) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"101530.5", 36930.5),
        (b"1015", 36900.0),
        (b"10:15:30", 36930.0),
        (b"20240102101530.25+0100", 36930.25),
        (b"anonymized", None),
        (b"256199", None),
        (b"", None),
    ],
)
def test_seconds(raw: bytes, expected: float | None) -> None:
    assert values.seconds(raw) == expected


@pytest.mark.parametrize(
    ("age", "born", "studied", "expected"),
    [
        (b"045Y", None, None, 45.0),
        (b"018M", None, None, 1.5),
        (b"", b"19800101", b"20200101", 40.0),
        (b"", b"anonymized", b"20200101", None),
        (b"x", b"20200101", b"19800101", None),
    ],
)
def test_age(age: bytes, born: bytes | None, studied: bytes | None, expected: float | None) -> None:
    found = values.age_years(age, born, studied)
    assert found == (None if expected is None else pytest.approx(expected))


def test_numbers() -> None:
    assert values.numbers(b"1\\-2.5e1\\.5 ") == (1.0, -25.0, 0.5)
    for broken in (b"1\\\\2", b"nan", b"1e999", b"\xff", b"anonymized", None):
        assert values.numbers(broken) == ()


@given(st.binary(max_size=64), st.binary(max_size=16))
def test_nothing_raises(raw: bytes, charset: bytes) -> None:
    assert isinstance(values.text(raw, charset), str)
    values.seconds(raw), values.age_years(raw, raw, raw), values.integer(raw)
    values.private_number(raw, True), values.binary(raw, "d", False), values.code_strings(raw)
