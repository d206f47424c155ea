"""Forked receiving processes: each ends with the first one, and the first one with any of them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

import structlog

from ichnode.domain.errors import IchnodeError
from ichnode.service import orphans
from ichnode.service.stopping import SIGNALS, Stopping

log = structlog.get_logger(__name__)

LOOK_S = 0.5


class SiblingDied(IchnodeError):
    """One of several processes of a role has ended by itself."""


class Siblings:
    """The processes that were forked from this one.

    Parameters
    ----------
    stopping : Stopping
        The wish to stop: it is handed on to them, and wished when one of them dies.
    """

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._alive: set[int] = set()
        self._died = False
        self._minder = threading.Thread(target=self._mind, name="siblings", daemon=True)

    def fork(self, work: Callable[[], None]) -> None:
        """Run `work` in a process of its own; call it before there are threads or connections.

        Not where it is wished to stop already. Signals wait until both processes are on their own:
        a new one forgets those that came while it was made, and one that was told in the first
        would be known in the second, without the thread that passes it on.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = None if self._stopping.is_wished() else self._fork(work)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if pid is not None:
            self._alive.add(pid)

    @staticmethod
    def _fork(work: Callable[[], None]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            # At once: the journal holds what was acknowledged, and the door must open again soon.
            orphans.die_with(parent, signal.SIGKILL)
            # Ctrl-C reaches the whole group; a second signal would mean "now".
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.environ.pop("NOTIFY_SOCKET", None)  # the first process speaks for the role
            work()
            code = 0
        except Exception as error:  # a forked process must not run its parent's code
            log.error("sibling.failed", error=type(error).__name__, exc_info=error)
        finally:
            os._exit(code)

    def start(self) -> None:
        """Begin to mind them."""
        self._minder.start()

    def join(self) -> None:
        """Ask them to stop and wait until they have.

        Raises
        ------
        SiblingDied
            When one had ended before it was asked to.
        """
        self._stopping.event.set()
        self._minder.join()
        for pid in self._alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if self._died:
            raise SiblingDied("A receiving process died; all of them start again.")

    def _mind(self) -> None:
        while not self._stopping.event.wait(LOOK_S):
            for pid in list(self._alive):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self._alive.discard(pid)
                    self._died = True
                    code = os.waitstatus_to_exitcode(status)
                    log.error("sibling.died", pid=pid, exit_code=code)
                    self._stopping.event.set()
        for pid in self._alive:
            os.kill(pid, signal.SIGTERM)
