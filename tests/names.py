"""Names that code which cannot run here asks of a library: read from its source, looked for in there."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def asked(source: Path, owners: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(variable, attribute) of every `variable.attribute` in a file, of the variables named."""
    return {
        (ast.unparse(node.value), node.attr)
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in owners
    }


def absent(source: Path, owners: Mapping[str, Any]) -> list[str]:
    """Those that the library's class, or module, has not."""
    return sorted(f"{v}.{name}" for v, name in asked(source, owners) if not hasattr(owners[v], name))
