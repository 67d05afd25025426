"""What the commands of `npc-edge monitor` share: the store of a state directory, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from npc_edge.calibration.store import Store
    from npc_edge.engine.state import State

StateFolder = Annotated[Path | None, typer.Option("--state", help="State directory; default: the user's.")]


@contextmanager
def opened(folder: Path | None) -> Iterator[tuple[State, Store]]:
    """The state directory and its store, closed when the block ends. OutputError when it cannot be used."""
    from npc_edge.calibration.store import StoreError
    from npc_edge.engine.errors import OutputError
    from npc_edge.engine.recorder import open_store
    from npc_edge.engine.state import State

    state = State.open(folder)
    with open_store(state.root) as store:
        try:
            yield state, store
        except StoreError as error:
            raise OutputError(error.message, error.hint) from error


def now_ms() -> int:
    """UTC, milliseconds since 1970."""
    import time

    return time.time_ns() // 1_000_000


def utc(at: int) -> str:
    """UTC, milliseconds since 1970 → a time to read."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC"
