"""Housekeeping's part in retraining: it starts one when it is time, and never waits for it.

Under systemd the run belongs into a unit of its own, with a share of the machine of its own: a
request is left in a file that ``ichnode-retrain.path`` watches. Elsewhere the run is a process in a
session of its own, as nice as can be.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import structlog

from ichnode.domain.errors import ModelUnusable, Transient
from ichnode.nets.registry import Registry
from ichnode.service.orphans import SUPERVISOR_VARIABLE
from ichnode.service.retraining import REQUEST, due_again, is_running
from ichnode.settings import Settings
from ichnode.spool import write_durable
from ichnode.worklist.history import RETRAINING, Noted
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

MOST_TRIES = 3  # of a run that was cut short each time
UNHEARD_S = 3600.0
NICENESS = 19


class RetrainingStands(Transient):
    """A scheduled retraining does not get on."""


class RetrainSchedule:
    """Starts a retraining when it is time.

    Parameters
    ----------
    arguments : sequence of str
        The global options by which the run finds the same settings.
    environment : mapping
        Says whether systemd started this role.
    program : sequence of str
        How ichnode is started.
    local_hour : callable
        Tells the hour of the day at this place.
    """

    def __init__(
        self,
        settings: Settings,
        worklist: Worklist,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] = os.environ,
        program: Sequence[str] = (sys.executable, "-m", "ichnode"),
        local_hour: Callable[[], int] = lambda: time.localtime().tm_hour,
    ) -> None:
        self._settings, self._worklist = settings.retrain, worklist
        self._registry = Registry(settings.infer.models)
        self._command = [*program, *arguments, "retrain"]
        self._by_systemd = "INVOCATION_ID" in environment and (
            SUPERVISOR_VARIABLE not in environment
        )
        self._local_hour = local_hour
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = -math.inf  # monotonic
        self._said = ""

    def retrain(self) -> bool:
        """Look whether it is time, and start a run if so; a job of housekeeping.

        Returns
        -------
        bool
            Whether one was started or asked for.

        Raises
        ------
        RetrainingStands
            When the last one failed, or nobody took the request.
        """
        if not self._settings.every_days:
            return False
        if self._process is not None:
            self._process.poll()  # so that nothing is left of one that has ended
        if is_running(self._settings.folder) or self._was_just_started():
            return False
        if self._in_hours() and not self._is_undecided() and self._is_time():
            self._start()
            return True
        self._complain()
        return False

    def _was_just_started(self) -> bool:
        """Say whether one was started lately that has not even begun, or ended at once."""
        requested = (self._settings.folder / REQUEST).exists()
        if requested and time.time() - self._requested_at() > UNHEARD_S:
            raise self._standing(
                "Nobody takes the request for a retraining; run: "
                "systemctl enable --now ichnode-retrain.path"
            )
        return requested or time.monotonic() - self._started_at < UNHEARD_S

    def _requested_at(self) -> float:
        with contextlib.suppress(FileNotFoundError):
            return (self._settings.folder / REQUEST).stat().st_mtime
        return time.time()

    def _complain(self) -> None:
        """Fail, so that the health check shows it, for as long as the last run counts as failed."""
        last = self._worklist.history.latest(RETRAINING, "began", "ended")
        if last and last[0].detail.get("outcome") == "failed":
            raise self._standing("The last retraining failed; its log says why.")
        self._said = ""

    def _standing(self, sentence: str) -> RetrainingStands:
        """Return the failure of this job; say it in the log once, and not every minute."""
        if sentence != self._said:
            self._said = sentence
            log.error("retraining.stands", sentence=sentence)
        return RetrainingStands(sentence)

    def _is_time(self) -> bool:
        lines = self._worklist.history.latest(RETRAINING, "began", "ended", limit=MOST_TRIES)
        if lines and lines[0].verb == "began":
            return self._may_go_on(lines)
        return due_again(
            lines[0].at if lines else None, self._worklist.cases.now(), self._settings.every_days
        )

    def _may_go_on(self, lines: Sequence[Noted]) -> bool:
        """Say whether a run that was cut short is to go on; not one that is cut short each time."""
        if len(lines) < MOST_TRIES or any(line.verb != "began" for line in lines):
            return True
        now: datetime = self._worklist.cases.now()
        if due_again(lines[0].at, now, self._settings.every_days):
            return True
        raise self._standing(f"A retraining was cut short {MOST_TRIES} times in a row.")

    def _in_hours(self) -> bool:
        first, last, hour = (
            self._settings.from_hour,
            self._settings.until_hour,
            self._local_hour(),
        )
        if first == last:
            return True
        return first <= hour < last if first < last else hour >= first or hour < last

    def _is_undecided(self) -> bool:
        """Say whether a challenger waits for a person: another one would begin its shadow anew."""
        try:
            return self._registry.challenger() is not None
        except ModelUnusable:
            return False

    def _start(self) -> None:
        self._started_at = time.monotonic()
        if self._by_systemd:
            write_durable(self._settings.folder / REQUEST, b"")
            log.info("retraining.requested")
            return
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, start_new_session=True
        )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)
        log.info("retraining.started", pid=self._process.pid)
