"""What no patient waits for: retention and the disk guard, triggered by APScheduler.

Jobs live in memory and may be missed without harm: each looks at the state of things and does what
is due. APScheduler drops a job that is more than a second late unless told otherwise, and keeps
quiet about failures unless somebody listens; both are set here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.schedulers.background import BackgroundScheduler

from ichnode.domain.errors import Transient
from ichnode.settings import HousekeepSettings
from ichnode.spool import free_bytes, resolve
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

SWEEP_MINUTES = 10
BATCH = 500  # instances per transaction


class Housekeeping:
    """Deletes what may go, oldest first, and never what is not yet delivered.

    Parameters
    ----------
    worklist : Worklist
        Knows what is delivered.
    spool : Path
        Where the files are.
    settings : HousekeepSettings
        How long things are kept.
    reserve_bytes : int
        With less free space than this the receiver refuses; sweeping then begins at once.
    """

    def __init__(
        self, worklist: Worklist, spool: Path, settings: HousekeepSettings, reserve_bytes: int
    ) -> None:
        self._worklist, self._spool, self._settings = worklist, spool, settings
        self._reserve_bytes = reserve_bytes
        self._scheduler = BackgroundScheduler(timezone=UTC)

    def start(self) -> None:
        """Start the schedule, with a sweep right away."""
        self._scheduler.add_listener(
            _report, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES
        )
        self._every(timedelta(minutes=SWEEP_MINUTES), self.sweep)
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the schedule after the job in hand."""
        self._scheduler.shutdown(wait=True)

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
        """Purge what is old enough, and more while the disk budget is exceeded.

        Returns
        -------
        int
            How many instances were purged.
        """
        purged = self._purge(self._settings.retention_days, self._settings.label_wait_days)
        while self._over_budget():
            more = self._purge(0.0, 0.0, limit=BATCH)
            if not more:
                log.warning("disk.over_budget", free_bytes=free_bytes(self._spool))
                break
            purged += more
        if purged:
            log.info("instances.purged", count=purged)
        return purged

    def _over_budget(self) -> bool:
        used = self._worklist.spool_bytes()
        short = free_bytes(self._spool) < self._reserve_bytes
        return used > self._settings.disk_budget_bytes or (short and used > 0)

    def _purge(self, days: float, label_days: float, limit: int | None = None) -> int:
        done = 0
        while limit is None or done < limit:
            batch = self._worklist.purgeable(
                timedelta(days=days), label_wait=timedelta(days=label_days), limit=BATCH
            )
            if not batch:
                break
            # Marked first: what is owed something again by now is left out. A crash in between
            # leaves a file without a purpose, never a row without its file.
            for item in self._worklist.mark_purged(item.instance_id for item in batch):
                with contextlib.suppress(FileNotFoundError):
                    resolve(self._spool, item.path).unlink()
            done += len(batch)
        return done


def _report(event: Any) -> None:
    """Turn a scheduler event into a log line."""
    if event.code == EVENT_JOB_ERROR:
        transient = isinstance(event.exception, Transient)
        log.error("job.failed", job=event.job_id, error=type(event.exception).__name__)
        if not transient:
            log.error("job.broke", job=event.job_id, exc_info=event.exception)
    else:
        log.warning("job.missed", job=event.job_id)
