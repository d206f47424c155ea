"""Being asked to stop: signals set a flag and nothing else; the second one means now."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


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

    def listen(self) -> Stopping:
        """Turn SIGTERM and SIGINT into the wish; must be called from the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.event.is_set():
            os._exit(128 + number)  # the second signal: do not wait for anybody
        self.event.set()
