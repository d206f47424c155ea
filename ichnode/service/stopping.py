"""Being asked to stop: signals set a flag and nothing else; the second one means now."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LOOK_S = 0.5


class Stopping:
    """The wish to stop, as an event that everything waits on instead of sleeping.

    Examples
    --------
    >>> stopping = Stopping()
    >>> stopping.event.is_set()
    False
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._signalled = False

    def listen(self) -> Stopping:
        """Turn SIGTERM and SIGINT into the wish; must be called from the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        return self

    def wait(self) -> None:
        """Return when it is wished to stop; the main thread waits here.

        It looks up now and then: a signal that comes as it is about to sleep does not wake it, and
        its handler runs when it wakes.
        """
        while not self.is_wished(LOOK_S):
            pass

    def is_wished(self, within_s: float = 0.0) -> bool:
        """Say whether it is wished to stop, or comes to be so within a time; for the main thread.

        It sets the event where a signal came and no thread was to be had that would.
        """
        if not self.event.wait(within_s) and self._signalled:
            self.event.set()
        return self.event.is_set()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._signalled or self.event.is_set():
            os._exit(128 + number)  # the second signal: do not wait for anybody
        self._signalled = True
        # From another thread: the one that this handler has interrupted may hold the lock of the
        # event, in `wait`, and would wait for itself. A bare one: `Thread.start` has locks, too.
        with contextlib.suppress(RuntimeError):  # there are no more threads: see `is_wished`
            _thread.start_new_thread(self.event.set, ())
