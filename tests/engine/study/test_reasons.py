"""docs/reasons.md has a row for every code that anything in the engine can raise."""

from __future__ import annotations

import re
from pathlib import Path

import npc_edge.engine.errors as errors

ENGINE = Path(errors.__file__).parent
PASSED_ON = r'"((?:NO|MULTIPLE|TOO|HOSTILE|CONTRAST|MIXED)_[A-Z0-9_]+|UNREADABLE|DEADLINE)"'
ROOT = Path(__file__).parents[3]


def raised() -> set[str]:
    found: set[str] = set()
    for path in sorted(ENGINE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        found |= set(re.findall(r'Refusal\(\s*"([A-Z0-9_]+)"', source))
        found |= set(
            re.findall(
                r'"((?:NO|MULTIPLE|TOO|HOSTILE|CONTRAST|MIXED)_[A-Z0-9_]+|UNREADABLE|DEADLINE)"', source
            )
        )
    return found - {"NO_FS"}


def test_every_code_has_its_row() -> None:
    rows = re.findall(
        r"^\| `([A-Z0-9_]+)` \| (.+?) \| (.+?) \|$", (ROOT / "docs" / "reasons.md").read_text(), re.M
    )
    documented = {code for code, _, _ in rows}
    assert len(rows) == len(documented)
    assert {"MISSING_SLICES", "HOSTILE_FILE", "CONTRAST_ONLY", "NO_T1", "DEADLINE"} <= raised()
    assert raised() <= documented
