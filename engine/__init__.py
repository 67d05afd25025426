"""npc-edge's runtime: a study goes in, a result comes out. Research use only.

from npc_edge.engine import Session, Options
with Session() as session:
    result = session.run(Path("study"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npc_edge.engine.session import RunResult, Session
    from npc_edge.engine.types import Options

__all__ = ["Options", "RunResult", "Session"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `npc-edge --help` imports this package and must not pay for numpy.
    if name in ("Session", "RunResult"):
        from npc_edge.engine import session

        return getattr(session, name)
    if name == "Options":
        from npc_edge.engine.types import Options

        return Options
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
