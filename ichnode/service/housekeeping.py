"""What no patient waits for: retention and the disk guard, triggered by APScheduler.

Jobs live in memory and may be missed without harm: each looks at the state of things and does what
is due. APScheduler drops a job that is more than a second late unless told otherwise, and keeps
quiet about failures unless somebody listens; both are set here. A job that failed is named in the
role's heartbeat until it succeeds.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
)
from apscheduler.schedulers.background import BackgroundScheduler

from ichnode.domain.errors import Transient
from ichnode.settings import HousekeepSettings
from ichnode.spool import resolve
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

SWEEP_EVERY = timedelta(minutes=10)
GUARD_EVERY = timedelta(seconds=30)  # scanners fill less than the low-water mark in that time
TIDY_EVERY = timedelta(days=1)
HALF_WRITTEN = timedelta(days=1)  # a file that is still written aside is of this second
BATCH = 500  # instances per transaction
LOW_WATER_RESERVES = 2.0  # of the reserve at which the receiver refuses
LOW_WATER_SHARE = 0.05  # of the disk


Measure = Callable[[Path], tuple[int, int, int]]
"""Tells of a folder's disk how many bytes it has, how many are used and how many are free."""


class Housekeeping:
    """Deletes what may go, oldest first, and never what is not yet delivered.

    Three jobs: `sweep` deletes what is old enough; `guard` deletes earlier while the disk budget is
    exceeded or the disk is below its low-water mark: twice the receiver's reserve or 5 % of the
    disk, whichever is more, so that room is made before the receiver has to refuse; `tidy` deletes
    what was never finished.

    Parameters
    ----------
    worklist : Worklist
        Knows what is delivered.
    spool : Path
        Where the files are.
    settings : HousekeepSettings
        How long things are kept.
    reserve_bytes : int
        With less free space than this the receiver refuses; 0 when it never does, and then only
        the budget is guarded.
    measure : callable
        Measures the disk of a folder.
    sweep_every, guard_every : timedelta
        From one run of a job to the next.
    batch : int
        Instances that go in one transaction; the guard looks again after each.
    others : sequence of (timedelta, callable)
        Further jobs and how often they run; each is named by its function.
    """

    def __init__(
        self,
        worklist: Worklist,
        spool: Path,
        settings: HousekeepSettings,
        reserve_bytes: int,
        *,
        measure: Measure = shutil.disk_usage,
        sweep_every: timedelta = SWEEP_EVERY,
        guard_every: timedelta = GUARD_EVERY,
        batch: int = BATCH,
        others: Sequence[tuple[timedelta, Callable[[], object]]] = (),
    ) -> None:
        self._others = others
        self._worklist, self._spool, self._settings = worklist, spool, settings
        self._reserve_bytes, self._measure = reserve_bytes, measure
        self._sweep_every, self._guard_every, self._batch = sweep_every, guard_every, batch
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._scheduler = BackgroundScheduler(timezone=UTC)

    def start(self) -> None:
        """Start the schedule, with every job right away."""
        self._scheduler.add_listener(
            self._note,
            EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES,
        )
        self._every(self._sweep_every, self.sweep)
        self._every(self._guard_every, self.guard)
        self._every(TIDY_EVERY, self.tidy)
        for interval, job in self._others:
            self._every(interval, job)
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the schedule after the job in hand."""
        self._scheduler.shutdown(wait=True)

    def failing(self) -> list[str]:
        """Return the jobs that failed the last time they ran."""
        with self._lock:
            return sorted(self._failing)

    def _every(self, interval: timedelta, job: Callable[[], object]) -> None:
        self._scheduler.add_job(
            job,
            "interval",
            id=job.__name__,
            seconds=interval.total_seconds(),
            next_run_time=datetime.now(UTC),
            misfire_grace_time=None,  # late is better than not at all
            coalesce=True,
            max_instances=1,
        )

    def sweep(self) -> int:
        """Purge what is old enough.

        Returns
        -------
        int
            How many instances were purged.
        """
        purged = self._purge(self._settings.retention_days, self._settings.label_wait_days)
        if purged:
            log.info("instances.purged", count=purged)
        return purged

    def guard(self) -> int:
        """Purge delivered studies, the oldest first, while there is too little room.

        Returns
        -------
        int
            How many instances were purged.
        """
        purged = 0
        while self._over_budget():
            more = self._purge(0.0, 0.0, limit=self._batch)
            if not more:
                log.warning("disk.over_budget", free_bytes=self._measure(self._spool)[2])
                break
            purged += more
        if purged:
            log.warning("instances.purged_early", count=purged)
        return purged

    def tidy(self) -> int:
        """Delete the files that processes which were killed had begun to write aside.

        By their name and age alone, which is safe: nothing refers to a file before it has its own
        name, and whoever should still be writing after a day does it again.

        Returns
        -------
        int
            How many files were deleted.
        """
        before = (datetime.now(UTC) - HALF_WRITTEN).timestamp()
        left = [
            file
            for folder in ("instances", "documents")
            for file in (self._spool / folder).glob("*/.*.part")
            if _changed_at(file) < before
        ]
        self._delete(left)
        if left:
            log.info("files.tidied", count=len(left))
        return len(left)

    def _over_budget(self) -> bool:
        used = self._worklist.spool_bytes()
        return used > self._settings.disk_budget_bytes or (used > 0 and self._is_short())

    def _is_short(self) -> bool:
        if not self._reserve_bytes:
            return False
        total, _, free = self._measure(self._spool)
        return free < max(LOW_WATER_RESERVES * self._reserve_bytes, LOW_WATER_SHARE * total)

    def _purge(self, days: float, label_days: float, limit: int | None = None) -> int:
        done = 0
        while limit is None or done < limit:
            batch = self._worklist.purgeable(
                timedelta(days=days), label_wait=timedelta(days=label_days), limit=self._batch
            )
            if not batch:
                break
            # Marked first: what is owed something again by now is left out. A crash in between
            # leaves a file without a purpose, never a row without its file.
            marked = self._worklist.mark_purged(item.instance_id for item in batch)
            self._delete([resolve(self._spool, item.path) for item in marked])
            done += len(batch)
        return done

    @staticmethod
    def _delete(files: list[Path]) -> None:
        """Delete files; one that cannot be deleted does not save the others."""
        failure: OSError | None = None
        for file in files:
            try:
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
            except OSError as error:
                failure = error
        if failure:
            raise failure

    def _note(self, event: Any) -> None:
        """Remember which jobs fail, and turn a scheduler event into a log line."""
        if event.code == EVENT_JOB_EXECUTED:
            with self._lock:
                self._failing.discard(event.job_id)
        elif event.code == EVENT_JOB_ERROR:
            with self._lock:
                self._failing.add(event.job_id)
            known = isinstance(event.exception, Transient)
            log.error(
                "job.failed",
                job=event.job_id,
                error=type(event.exception).__name__,
                exc_info=None if known else event.exception,
            )
        else:
            log.warning("job.missed", job=event.job_id)


def _changed_at(file: Path) -> float:
    """Return when a file was changed; one that has its name by now never counts as old."""
    try:
        return file.lstat().st_mtime
    except FileNotFoundError:
        return math.inf
