"""How much memory the objects that are being received may take, all associations together."""

from __future__ import annotations

import os
import threading

GRAIN_BYTES = 256 << 10
MOST_BYTES = 2 << 30


class Budget:
    """Counts bytes that are held.

    Parameters
    ----------
    limit_bytes : int
        How many may be held at once.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """How many are held."""
        return self._held_bytes

    def take(self, size_bytes: int) -> bool:
        """Hold so many more, to be given back later; False where there are not so many left."""
        with self._lock:
            if self._held_bytes + size_bytes > self._limit_bytes:
                return False
            self._held_bytes += size_bytes
            return True

    def give_back(self, size_bytes: int) -> None:
        """Hold so many fewer."""
        with self._lock:
            self._held_bytes -= size_bytes


def sensible_budget_bytes(processes: int) -> int:
    """Return the share of one of so many processes: 2 GiB or a quarter of memory, if less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(MOST_BYTES, memory // 4) // processes
