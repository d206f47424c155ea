"""Behind the acknowledgement: files and rows follow the journal, in batches.

Two threads. The *recorder* files each durable instance under its digest and hands the batch to the
worklist: that is what a bleed waits for, so it starts at once and waits for no disk. The *keeper*
makes the files durable some time later and only then lets the journal forget them. Whatever
happens in between, the next start replays; filing and recording twice is harmless.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Protocol

import structlog

from ichnode.domain.errors import OutOfSpace, Transient
from ichnode.domain.retry import RetryPolicy
from ichnode.domain.series import SET_ASIDE, Arrival, Refusal
from ichnode.receive.filing import Filing, Stored
from ichnode.receive.journal import Journal
from ichnode.receive.segment import Place

log = structlog.get_logger(__name__)

BATCH = 64
PACE_S = 0.1
"""While images stream in, a batch begins no sooner than this after the one before: a transaction
costs the interpreter more than an image does. The first after a pause, and the last of an
association, do not wait."""
KEEP_EVERY_S = 0.5
KEEP_BYTES = 48 << 20
REFUSALS_KEPT = 1000
_RETRY = RetryPolicy(first=timedelta(seconds=0.1), longest=timedelta(seconds=5))
_TRIES_OF_ONE = 3  # of an instance that the worklist rejects though it answers


class Recording(Protocol):
    """The worklist, as the receiver needs it."""

    def record(self, arrivals: Sequence[Arrival]) -> object:
        """Record instances in one transaction; recording one again changes nothing.

        Raises
        ------
        WorklistDown
            When the database does not answer; it is asked again.
        """
        ...

    def released(self, association_id: str) -> object:
        """Note that an association ended in order: its series may be complete."""
        ...

    def refuse(self, refusal: Refusal) -> object:
        """Note something that was not kept, for people to see."""
        ...


@dataclass(frozen=True, slots=True)
class Released:
    """An association that ended in order, after its last instance."""

    association_id: str


Item = Stored | Released | Refusal


class Recorder:
    """Files and records what the journal holds.

    Parameters
    ----------
    spool : Path
        Where instance files go.
    journal : Journal
        Settled once instances are recorded and their files durable.
    recording : Recording
        The worklist.
    """

    def __init__(self, spool: Path, journal: Journal, recording: Recording) -> None:
        self._files, self._journal, self._recording = Filing(spool), journal, recording
        self._changed = threading.Condition()
        self._items: deque[Item] = deque()
        self._recorded: list[Stored] = []  # not yet settled
        self._set_aside: set[int] = set()  # never settled: the next start tries them again
        self._backlog = self._backlog_bytes = self._unsettled_bytes = self._refusals = 0
        self._urgent = 0  # so many items at the front must not wait
        self._doubts = 0  # barriers that failed
        self._stopping = threading.Event()
        self._recorder = threading.Thread(target=self._record_loop, name="recorder", daemon=True)
        self._keeper = threading.Thread(target=self._keep_loop, name="keeper", daemon=True)

    def start(self) -> None:
        """Start both threads."""
        self._files.open()
        self._recorder.start()
        self._keeper.start()

    @property
    def backlog(self) -> int:
        """Instances that are durable and not yet recorded."""
        return self._backlog

    @property
    def backlog_since(self) -> datetime | None:
        """When the oldest of them was received; None where there is none."""
        with self._changed:
            stored = (item for item in self._items if isinstance(item, Stored))
            return next((item.arrival.received_at for item in stored), None)

    @property
    def backlog_bytes(self) -> int:
        """The room that their files will need."""
        return self._backlog_bytes

    @property
    def is_alive(self) -> bool:
        """Whether both threads run."""
        return self._recorder.is_alive() and self._keeper.is_alive()

    # ------------------------------------------------------------------ what comes in

    def stored(self, arrival: Arrival, place: Place, *, again: bool = False) -> None:
        """Take over a durable instance."""
        with self._changed:
            self._backlog += 1
            self._backlog_bytes += place.body_bytes
            self._put(Stored(arrival, place, again))

    def released(self, association_id: str) -> None:
        """Pass this on once everything that came before it is recorded."""
        with self._changed:
            self._put(Released(association_id))
            self._urgent = len(self._items)

    def refuse(self, refusal: Refusal) -> None:
        """Pass a refusal on; while the worklist is down only the first thousand are kept."""
        with self._changed:
            if self._refusals < REFUSALS_KEPT:
                self._refusals += 1
                self._put(refusal)

    def _put(self, item: Item) -> None:
        self._items.append(item)
        self._changed.notify_all()

    # ------------------------------------------------------------------ the recorder

    def _is_urgent(self) -> bool:
        """Whether the next batch must not wait: somebody released, it is full, or we stop."""
        return self._urgent > 0 or len(self._items) >= BATCH or self._stopping.is_set()

    def _record_loop(self) -> None:
        paced_at = 0.0
        while True:
            with self._changed:
                while not self._items:
                    if self._stopping.is_set():
                        return
                    self._changed.wait()
                self._changed.wait_for(self._is_urgent, timeout=paced_at - time.monotonic())
                batch, doubts = list(islice(self._items, BATCH)), self._doubts
            paced_at = time.monotonic() + PACE_S
            if not self._pass_on(batch):
                return
            with self._changed:
                for item in batch:
                    self._items.popleft()
                    self._count_out(item, doubted=doubts != self._doubts)
                self._urgent = max(self._urgent - len(batch), 0)
                self._changed.notify_all()

    def _count_out(self, item: Item, *, doubted: bool) -> None:
        if isinstance(item, Stored):
            self._backlog -= 1
            self._backlog_bytes -= item.place.body_bytes
            if item.place.sequence not in self._set_aside:
                self._unsettled_bytes += item.place.body_bytes
                self._recorded.append(replace(item, again=doubted))
        elif isinstance(item, Refusal):
            self._refusals -= 1

    def _pass_on(self, batch: Sequence[Item]) -> bool:
        """File and record a batch, in order, trying until it works; False when told to stop."""
        instances: list[Stored] = []
        for item in batch:
            if isinstance(item, Stored):
                instances.append(item)
                continue
            if not self._record(instances):
                return False
            instances = []
            if not self._mention(item):
                return False
        return self._record(instances)

    def _mention(self, item: Released | Refusal) -> bool:
        try:
            if isinstance(item, Released):
                return self._insist(lambda: self._recording.released(item.association_id))
            return self._insist(lambda: self._recording.refuse(item))
        except Exception:  # a hint that cannot be passed on must not stop images
            log.exception("hint.lost", kind=type(item).__name__)
            return True

    def _record(self, instances: Sequence[Stored]) -> bool:
        if not instances:
            return True
        started = time.monotonic()
        if not self._insist(lambda: self._files.file(instances)):
            return False
        try:
            done = self._insist(lambda: self._recording.record([i.arrival for i in instances]))
        except Exception:  # one instance that cannot be recorded must not stop all
            log.warning("batch.rejected", count=len(instances), exc_info=True)
            done = all(self._record_alone(instance) for instance in instances)
        # Housekeeping may have deleted a file that stood here already, before it was recorded anew.
        done = done and self._insist(lambda: self._files.file_missing(instances))
        if done:
            seconds = round(time.monotonic() - started, 4)
            log.debug("instances.recorded", count=len(instances), seconds=seconds)
        return done

    def _record_alone(self, instance: Stored) -> bool:
        for attempt in range(_TRIES_OF_ONE):
            try:
                return self._insist(lambda: self._recording.record([instance.arrival]))
            except Exception:  # set aside below, visibly
                log.warning("instance.rejected", attempt=attempt, exc_info=True)
                if self._stopping.wait(_wait_s(attempt + 1)):
                    return False
        arrival = instance.arrival
        log.error("instance.set_aside", path=arrival.path, sop_class=arrival.header.sop_class_uid)
        self._set_aside.add(instance.place.sequence)
        refusal = Refusal(
            arrival.received_at,
            arrival.calling_ae,
            arrival.peer_address,
            SET_ASIDE,
            "The worklist could not record this; it is kept, for the next start to try again.",
            arrival.header.sop_class_uid,
        )
        with contextlib.suppress(Exception):
            self._recording.refuse(refusal)
        return True

    def _insist(self, step: _Step) -> bool:
        """Do something until it works; False when told to stop before it did."""
        failures = 0
        while True:
            try:
                step()
            except Transient as error:
                failures += 1
                if isinstance(error, OutOfSpace):
                    self._journal.shed()
                log.warning("recording.delayed", error=type(error).__name__, backlog=self._backlog)
                if self._stopping.wait(_wait_s(failures)):
                    return False
            else:
                return True

    # ------------------------------------------------------------------ the keeper

    def _keep_loop(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=KEEP_EVERY_S)
            try:
                self._journal.tend(1 if self.keep() else None)
            except (OSError, Transient) as error:
                log.warning("keeping.delayed", error=type(error).__name__, backlog=self._backlog)
                self._stopping.wait(KEEP_EVERY_S)

    def _is_due(self) -> bool:
        return self._stopping.is_set() or self._unsettled_bytes >= KEEP_BYTES

    def keep(self) -> bool:
        """Make the files of everything recorded so far durable, and settle the journal.

        Returns
        -------
        bool
            False when there was nothing to do.

        Raises
        ------
        OSError, Transient
            When the disk failed; all of it is kept for another time.
        """
        with self._changed:
            recorded, self._recorded, self._unsettled_bytes = self._recorded, [], 0
        if not recorded:
            return False
        try:
            self._files.file(recorded)
            self._files.sync()
        except Transient:
            with self._changed:
                self._recorded[:0] = recorded
            raise
        except OSError:
            # Told once: the kernel may call the lost pages clean, and the next barrier succeed
            # without them. So every file that it was for is written anew, from the journal.
            with self._changed:
                self._doubts += 1
                self._recorded = [replace(i, again=True) for i in (*recorded, *self._recorded)]
            raise
        self._journal.settle([instance.place for instance in recorded])
        return True

    # ------------------------------------------------------------------ the end

    def stop(self, deadline_s: float) -> bool:
        """Record what is left, wait no longer than told, and end both threads.

        Returns
        -------
        bool
            False when something is left in the journal, to be replayed by the next start.
        """
        with self._changed:
            if not self._stopping.is_set():
                self._changed.wait_for(lambda: not self._items, timeout=deadline_s)
            self._stopping.set()
            self._changed.notify_all()
        for thread in (self._recorder, self._keeper):
            if thread.ident is not None:
                thread.join()
        with contextlib.suppress(OSError, Transient):
            self.keep()
        self._files.close()
        return not self._items


class _Step(Protocol):
    def __call__(self) -> object: ...


def _wait_s(failures: int) -> float:
    return _RETRY.wait(failures).total_seconds()
