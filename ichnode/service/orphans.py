"""No process outlives the one that started it: the kernel sends it a signal when that one dies.

This holds for a parent that was killed with SIGKILL, too, which can tell nobody.

References
----------
prctl(2), PR_SET_PDEATHSIG. It is set by the child, so that a parent that died before is noticed by
its number.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading

from ichnode.domain.errors import Fatal

SUPERVISOR_VARIABLE = "ICHNODE_SUPERVISOR"  # its process number, in the environment of its children
_PR_SET_PDEATHSIG = 1


class Orphaned(Fatal):
    """Whoever started this process is gone."""


def die_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send us a signal when our parent dies.

    Parameters
    ----------
    parent : int
        Who that is.
    number : signal.Signals
        The signal.

    Raises
    ------
    Orphaned
        When the parent is dead already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise Orphaned("The process that started this one is gone.")


def die_with_supervisor() -> None:
    """Be asked to stop (SIGTERM) when the supervisor that started us dies, if one did."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE, "")
    if supervisor.isdigit():
        die_with(int(supervisor), signal.SIGTERM)


def end_at_last(asked: threading.Event, within_s: float) -> None:
    """End this process the hard way when it has not ended so long after it was asked to.

    A supervisor that is gone can no longer kill a role that hangs. Where systemd started the role,
    or a person, they do that themselves, and this does nothing.
    """
    if SUPERVISOR_VARIABLE not in os.environ:
        return

    def wait() -> None:
        asked.wait()
        threading.Event().wait(within_s)
        os._exit(1)

    threading.Thread(target=wait, name="end-at-last", daemon=True).start()
