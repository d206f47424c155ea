"""Alerts to a program of the site's own, as JSON on its standard input.

No shell, a clean environment, nothing of its output kept (it may name a patient), and an end to it
and to what it started when its time is over.

References
----------
sysexits.h of BSD for the exit statuses that say what kind of failure it was.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ichnode.domain.work import Acknowledged, DeliveryItem, DeliveryResult, Undelivered
from ichnode.send.association import LONGEST_ROUND_S, FellSilent
from ichnode.send.sender import Echo
from ichnode.send.telling import whole
from ichnode.settings.commands import CommandSettings

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
FINAL = frozenset(
    (
        os.EX_USAGE,
        os.EX_DATAERR,
        os.EX_NOUSER,
        os.EX_NOPERM,
        os.EX_CONFIG,
        126,  # of a shell: found, and not to be run
        127,  # of a shell: not found
    )
)
"""Exit statuses that no repetition changes."""
_PASSES = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY))

LONGEST_END_S = 5.0  # of a program that was killed
_KILLED = Undelivered("The command did not end in time and was killed.")


class CommandMechanism:
    """Starts one program for each alert.

    Parameters
    ----------
    destination : CommandSettings
        The program, and what it may be told.
    """

    def __init__(self, destination: CommandSettings) -> None:
        self._destination = destination

    def deliver(self, items: Sequence[DeliveryItem]) -> Iterator[tuple[int, DeliveryResult]]:
        """Run the program for each alert, one after the other, and yield each row's result.

        After `LONGEST_ROUND_S` the rest is not tried: those rows get no result.

        Raises
        ------
        FellSilent
            After the result of the row for which the program did not end.
        """
        until_s = time.monotonic() + LONGEST_ROUND_S
        for item in items:
            result = self._run(self._content(item))
            yield item.delivery_id, result
            if result is _KILLED:
                raise FellSilent("The command does not end.")
            if time.monotonic() > until_s:
                return

    def preview(self, item: DeliveryItem) -> str:
        """Return the command line and its standard input."""
        return f"{shlex.join(self._destination.command)}\n\n{self._content(item).decode()}"

    def _content(self, item: DeliveryItem) -> bytes:
        told = whole(item, self._destination.name, phi=self._destination.phi)
        return json.dumps(told, ensure_ascii=False).encode()

    def _run(self, content: bytes) -> DeliveryResult:
        try:
            process = subprocess.Popen(
                self._destination.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,  # it leads a group, which can be ended as a whole
            )
        except OSError as error:
            why = error.strerror or type(error).__name__
            permanent = error.errno not in _PASSES
            return Undelivered(f"The command cannot be started: {why}.", permanent=permanent)
        try:
            process.communicate(content, self._destination.timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return _KILLED
        return judge(process.returncode)

    def look(self) -> Echo:
        """Ask whether the program is there and may be run; it is not run."""
        program = Path(self._destination.command[0])
        if not program.is_file():
            return Echo(False, "There is no such program.")
        if not os.access(program, os.X_OK):
            return Echo(False, "This user may not run the program.")
        return Echo(True, "The program is there.")


def judge(status: int) -> DeliveryResult:
    """Say what an exit status means for the delivery; a negative one is a signal's."""
    if status == 0:
        return Acknowledged()
    if status < 0:
        return Undelivered(f"The command was ended by signal {-status}.", status)
    said = f"The command ended with status {status}."
    return Undelivered(said, status, permanent=status in FINAL)


def _end(process: subprocess.Popen[bytes]) -> None:
    # One that runs as another user, such as by sudo, is not ours to kill; nor does every disk let
    # go of a process. It is not waited for: others are told meanwhile.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # what it did not read is flushed into a closed pipe
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LONGEST_END_S)
