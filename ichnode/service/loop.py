"""One loop for all stages: claim, handle, settle, wait.

The stage knows nothing of queues and the queue nothing of pixels. Result, next state, outbox rows
and event are settled in one transaction that is fenced by the lease: whoever lost the lease while
working writes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Generic, Protocol

import structlog

from ichnode.domain.errors import Fatal, IchnodeError, Transient, WorklistDown
from ichnode.domain.work import (
    Failed,
    Lease,
    OutcomeT,
    Queue,
    Stage,
    Work,
)

log = structlog.get_logger(__name__)

SETTLE_AGAIN_S = 1.0
LONGEST_WAIT = 5.0  # an idle loop's pause grows to this many times the shortest


class Wakeup(Protocol):
    """Something to wait on between two looks at the queue; a hint, never the truth."""

    def wait(self, timeout_s: float, stop: threading.Event) -> None:
        """Return when there may be work, when `stop` is set or when the time is over."""
        ...


class Polling:
    """The wakeup that knows nothing: it waits for the time to pass."""

    def wait(self, timeout_s: float, stop: threading.Event) -> None:
        """Wait `timeout_s`, or less when asked to stop."""
        stop.wait(timeout_s)


class LeaseKeeper:
    """Prolongs a lease from a thread of its own while the work is done."""

    def __init__(self, renew: Callable[[Lease, timedelta], bool], lease: Lease, for_: timedelta):
        self._renew, self._lease, self._for = renew, lease, for_
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._for.total_seconds() / 3):
            try:
                if not self._renew(self._lease, self._for):
                    return  # lost; settle() will find out and write nothing
            except WorklistDown:
                log.warning("lease.not_renewed", error="WorklistDown")


class StageLoop(Generic[Work, OutcomeT]):
    """Hands the due work of one queue to one stage, one piece at a time.

    Parameters
    ----------
    name : str
        The stage's name, for logs.
    queue : Queue
        Where work comes from and outcomes go.
    stage : Stage
        Does the work.
    owner : str
        Who holds the leases: role, host and process.
    stop : threading.Event
        Set to end the loop after the piece in hand.
    lease : timedelta
        How long a claim is good for; renewed at a third of it.
    poll_s : float
        The shortest pause of an idle loop; grows to `LONGEST_WAIT` times as much.
    wakeup : Wakeup
        What ends a pause early.
    """

    def __init__(
        self,
        name: str,
        queue: Queue[Work, OutcomeT],
        stage: Stage[Work, OutcomeT],
        *,
        owner: str,
        stop: threading.Event,
        lease: timedelta,
        poll_s: float = 0.1,
        wakeup: Wakeup | None = None,
    ) -> None:
        self.name, self._owner = name, owner
        self._queue: Queue[Work, OutcomeT] = queue
        self._stage: Stage[Work, OutcomeT] = stage
        self._stop, self._lease, self._poll_s = stop, lease, poll_s
        self._wakeup = wakeup or Polling()
        self._turned_at = time.monotonic()

    @property
    def silent_s(self) -> float:
        """How long ago the loop last began or ended a piece of work, or looked for one."""
        return time.monotonic() - self._turned_at

    def run(self) -> None:
        """Work until asked to stop.

        Raises
        ------
        Fatal
            When the stage says that this process cannot go on.
        """
        idle = 0
        while not self._stop.is_set():
            self._turned_at = time.monotonic()
            try:
                worked = self.step()
            except WorklistDown:
                log.error("worklist.not_answering", stage=self.name)
                worked, idle = False, 50
            idle = 0 if worked else idle + 1
            if not worked:
                pause_s = self._poll_s * min(1 + idle / 10, LONGEST_WAIT)
                self._wakeup.wait(pause_s, self._stop)

    def step(self) -> bool:
        """Do one piece of work. True: look again at once. False: nothing is due."""
        work = self._queue.claim(self._owner)
        if work is None:
            return False
        began = time.monotonic()
        with LeaseKeeper(self._queue.renew, work.lease, self._lease):
            outcome = self._handle(work)
            settled = self._settle(work, outcome)
        log.info(
            f"{self.name}.settled" if settled else f"{self.name}.lease_lost",
            stage=self.name,
            series=getattr(work, "series_uid", None),
            destination=getattr(work, "destination", None),
            outcome=type(outcome).__name__,
            error=getattr(outcome, "error", None),
            attempt=work.lease.attempts,
            duration_s=round(time.monotonic() - began, 3),
        )
        return True

    def _settle(self, work: Work, outcome: OutcomeT | Failed) -> bool:
        """Settle, again and again while the database is down: the answer is not thrown away.

        The lease is kept meanwhile; when it is lost after all, settling says so and writes nothing.
        """
        while True:
            try:
                return self._queue.settle(work, outcome)
            except WorklistDown:
                log.error("worklist.not_answering", stage=self.name)
                if self._stop.wait(SETTLE_AGAIN_S):
                    raise
                self._turned_at = time.monotonic()

    def _handle(self, work: Work) -> OutcomeT | Failed:
        try:
            return self._stage.handle(work)
        except Fatal:
            raise
        except IchnodeError as error:
            return Failed(f"{type(error).__name__}: {error}", isinstance(error, Transient))
        except Exception as error:
            # One bad series must not stop the rest. The text of a strange error may quote a data
            # set, so only its name is kept.
            log.exception("stage.broke", stage=self.name)
            return Failed(type(error).__name__, transient=True)
