"""acceptance.json of the state directory: what this machine's golden cases came to, measured once.

A row says how one pair of one network fared here. It holds for exactly one bundle, runtime version,
processor, instruction set (or GPU and driver) and number of threads; whatever else is asked for is measured
anew. Rows are only added: the first to measure decides for everyone after, so a machine keeps its choice.

A file that is damaged or not ours is renamed aside, never trusted and never deleted.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from npc_edge.engine.files import exclusive, replace_whole
from npc_edge.engine.model.manifest import Sha256, Strict

NAME = "acceptance.json"
_MOST_BYTES = 8 << 20
_WRITE_S, _MEASURE_S = 10.0, 120.0  # how long to wait for another process


class Key(Strict):
    """What a row holds for. machine: the processor's name, or the GPU's capability and driver version.
    runtime: version of the runtime. isa: instruction set, or compute capability."""

    bundle_sha256: Sha256
    network: str
    artefact: str
    backend: str
    precision: str
    runtime: str
    machine: str
    isa: str
    threads: int


class Row(Strict):
    """What was measured. status, ms, cpu_ms, busy as in `ArtefactResult`; why: in words."""

    key: Key
    status: Literal["passed", "failed", "skipped", "untested"]
    why: str
    ms: float | None = None
    cpu_ms: float | None = None
    busy: bool = False


class _File(Strict):
    schema_version: Literal["1"] = "1"
    rows: tuple[Row, ...] = ()


class Remembered:
    """The rows of a state directory. notes: one line for everything odd that was met on the way.

    Reading and writing never raise: a machine that cannot remember measures again.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self._rows: dict[Key, Row] = {}
        self.notes: list[str] = []
        self.reload()

    @property
    def rows(self) -> tuple[Row, ...]:
        """Everything remembered."""
        return tuple(self._rows.values())

    def find(self, key: Key) -> Row | None:
        """The row of exactly this key."""
        return self._rows.get(key)

    def reload(self) -> None:
        """Read the file again; one that cannot be trusted is put aside."""
        try:
            with self._path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            self._put_aside(error.strerror or type(error).__name__)
            return
        try:
            held = _File.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            self._put_aside(" ".join(str(first["msg"]).split())[:80])
            return
        # The file's row stands where two processes measured the same.
        self._rows.update({row.key: row for row in held.rows if not self._failed(row.key)})

    def _failed(self, key: Key) -> bool:
        known = self._rows.get(key)
        return known is not None and known.status == "failed"

    def add(self, rows: Sequence[Row]) -> None:
        """Publish rows whole, with what others have published meanwhile: theirs stand where both have one. A
        failure stands whatever was there before."""
        self._rows.update({r.key: r for r in rows if r.key not in self._rows or r.status == "failed"})
        try:
            with exclusive(self._path.with_name("acceptance.lock"), _WRITE_S):
                self.reload()
                replace_whole(self._path, _File(rows=self.rows).model_dump_json(indent=1).encode())
        except OSError as error:
            self.notes.append(
                f"{NAME} cannot be written ({error.strerror}): this is measured again next time"
            )

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Hold while measuring: of several processes that start together one measures, the others read."""
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self._path.with_name("measuring.lock"), _MEASURE_S))
            except OSError:  # then each measures for itself
                pass
            else:
                self.reload()
            yield

    def _put_aside(self, why: str) -> None:
        aside = self._path.with_name(f"{NAME}.damaged-{secrets.token_hex(4)}")
        try:
            self._path.rename(aside)
        except FileNotFoundError:  # another process was quicker
            return
        except OSError:
            self.notes.append(f"{NAME} of the state directory cannot be used ({why}): measured again")
            return
        self.notes.append(f"{NAME} was damaged or not ours ({why}): now {aside.name}, and measured again")
