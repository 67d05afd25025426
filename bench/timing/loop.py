"""A reference loop: always the same work, none of it ours. What its time varies by is the machine's noise.

A product of matrices on all cores, copies of memory, a sort, and plain Python: what a run is made of.
"""

from __future__ import annotations

import time

import numpy as np

_SIDE = 512
_BYTES = 32 * 2**20


class ReferenceLoop:
    """`run` does a fixed number of rounds and returns seconds a round. aim_s: how long a run shall take."""

    def __init__(self, aim_s: float = 0.25) -> None:
        rng = np.random.default_rng(0)
        self._matrix = rng.standard_normal((_SIDE, _SIDE), dtype=np.float32)
        self._from = np.ones(_BYTES // 4, dtype=np.float32)
        self._to = np.empty_like(self._from)
        self._unsorted = rng.standard_normal(200_000)
        self._round()
        self.rounds = max(1, round(aim_s / max(self._timed_round(), 1e-6)))

    def run(self) -> float:
        """Seconds a round, over all rounds."""
        begun = time.perf_counter()
        for _ in range(self.rounds):
            self._round()
        return (time.perf_counter() - begun) / self.rounds

    def _timed_round(self) -> float:
        begun = time.perf_counter()
        self._round()
        return time.perf_counter() - begun

    def _round(self) -> None:
        product = self._matrix
        for _ in range(4):
            product = product @ self._matrix
            product /= np.float32(_SIDE)
        np.copyto(self._to, self._from)
        np.sort(self._unsorted)
        total = 0
        for number in range(20_000):
            total += number & 7
