"""The little HTML every report needs. Whatever is not `Markup` is escaped: no header text becomes markup.

It lies in the lowest layer: the run report, the parity report and the monitor report all write with it.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from importlib.resources import files

_VOID = frozenset({"meta", "input", "br", "hr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = object
"""Markup, a str (escaped), a number, None (left out), or an iterable of these."""


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """`<name attributes>children</name>`; a trailing underscore is dropped, others become a hyphen."""
    opening = f"<{name}{''.join(_attribute(k, v) for k, v in attributes.items())}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """Children one after the other, escaped where they are plain text."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, Iterable) and not isinstance(children, str):
        return Markup("".join(join(child) for child in children))
    return Markup(html.escape(str(children)))


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    plain = name.removesuffix("_").replace("_", "-")
    return f" {plain}" if value is True else f' {plain}="{html.escape(str(value))}"'


def pairs(rows: Iterable[tuple[str, Child]], caption: str) -> Markup:
    """A table of two columns whose first names the second."""
    body = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows]
    return tag("table", tag("caption", caption), tag("tbody", body))


def table(head: Iterable[str], rows: Iterable[Iterable[Child]], caption: str) -> Markup:
    """A table with a caption for those who cannot see it, and column headers."""
    header = tag("tr", [tag("th", name, scope="col") for name in head])
    body = [tag("tr", [tag("td", cell) for cell in row]) for row in rows]
    return tag("table", tag("caption", caption), tag("thead", header), tag("tbody", body))


def page_style() -> str:
    """The style sheet all reports start from: type, tables, cards and print; each adds its own after it."""
    return files("npc_edge.calibration").joinpath("page.css").read_text(encoding="utf-8")
