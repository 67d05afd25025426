"""The memory through which the reading child hands over pixels, kept from one time to the next."""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory

KEPT_BYTES = 4 << 20
"""A block is no larger unless one frame is. The pages of a new one cost more time than what is read into
them, so a series goes through one that stays, some frames at a time."""


class Block:
    """One shared block at most. To be closed."""

    def __init__(self) -> None:
        self._held: SharedMemory | None = None

    def holding(self, size: int) -> SharedMemory:
        """A block of at least `size` bytes: the one there is, or a new one in its place."""
        if self._held is None or self._held.size < size:
            self.close()
            self._held = SharedMemory(create=True, size=max(size, KEPT_BYTES))
        return self._held

    def leave(self) -> None:
        """Give back a block that is larger than what is kept; what stays holds no pixel of a patient."""
        if self._held is None:
            return
        if self._held.size > KEPT_BYTES:
            self.close()
        elif self._held.buf is not None:
            self._held.buf[:] = bytes(self._held.size)

    def close(self) -> None:
        """Give back the block."""
        held, self._held = self._held, None
        if held is not None:
            try:
                held.close()
            finally:
                held.unlink()
