"""What subscribers are told of reading tasks: entered with the change itself, told in order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import assert_never

from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import aliased

from ichnode.domain.lifecycle import Band, Reception, Task
from ichnode.domain.tasks import NoticeItem, task_uid
from ichnode.domain.triage import reading_priority
from ichnode.domain.work import (
    Acknowledged,
    DeliveryOutcome,
    Dispatched,
    Failed,
    Lease,
    NoticeWork,
    Undelivered,
)
from ichnode.worklist import leases
from ichnode.worklist import tables as t
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction

STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, ASSIGNED = 1, 2, 3, 5
"""Event Type IDs (PS3.4 Table CC.2.4-1)."""
_HIGHEST_FIRST = ("HIGH", "MEDIUM", "LOW")
KEPT = timedelta(days=1)
"""A subscriber that was away for longer learns the state of things by asking."""
BATCH = 100
FORGET_EVERY_S = 600.0


def state_word(state: Task) -> str:
    """Return a state as DICOM writes it."""
    return state.value.replace("_", " ").upper()


def subscribers(transaction: Transaction, study_id: int) -> dict[str, bool]:
    """Return the AE titles that are told of a study's task, and whether each wants it kept."""
    rows = transaction.session.scalars(
        select(t.Subscription)
        .where(or_(t.Subscription.study_id.is_(None), t.Subscription.study_id == study_id))
        .order_by(t.Subscription.study_id.is_(None).desc(), t.Subscription.id)
    )
    found: dict[str, bool] = {}
    for row in rows:  # those of all tasks first, so that one of this task overrules them
        if not row.wanted:
            found.pop(row.ae_title, None)
        elif row.study_id is not None or _reaches(row, study_id):
            found[row.ae_title] = row.locks
    return found


def _reaches(row: t.Subscription, study_id: int) -> bool:
    return row.until_study_id is None or study_id <= row.until_study_id


def tell(
    transaction: Transaction,
    study_id: int,
    event_type: int,
    content: str,
    *,
    only: Iterable[str] | None = None,
) -> int:
    """Owe every subscriber of a study's task an event; return how many there are.

    A state report that says what the last one says that is still to be told is not told twice.

    Parameters
    ----------
    content : str
        The event information, as DICOM JSON.
    only : iterable of str, optional
        Tell these AE titles instead.
    """
    told = list(subscribers(transaction, study_id) if only is None else only)
    task = transaction.session.get(t.Task, study_id)
    number = task.number if task is not None else 0
    for ae_title in told:
        word = (number, STATE_REPORT, content)
        if event_type == STATE_REPORT and _last_word(transaction, study_id, ae_title) == word:
            continue
        transaction.session.add(
            t.Notice(
                study_id=study_id,
                number=number,
                ae_title=ae_title,
                event_type=event_type,
                content=content,
                due_at=transaction.now,
                created_at=transaction.now,
            )
        )
    if told:
        transaction.hint()
    return len(told)


def _last_word(
    transaction: Transaction, study_id: int, ae_title: str
) -> tuple[int, int, str] | None:
    last = transaction.session.execute(
        select(t.Notice.number, t.Notice.event_type, t.Notice.content)
        .where(t.Notice.study_id == study_id, t.Notice.ae_title == ae_title)
        .order_by(t.Notice.id.desc())
        .limit(1)
    ).first()
    return None if last is None else (last.number, last.event_type, last.content)


def is_arriving(transaction: Transaction, study_id: int) -> bool:
    """Say whether images of a study are still to come, as far as anybody can tell."""
    receptions = select(t.Series.reception).where(t.Series.study_id == study_id).distinct()
    found = set(transaction.session.scalars(receptions))
    return not found or Reception.ARRIVING in found


def state_report(transaction: Transaction, study: t.Study, task: t.Task | None) -> str:
    """Return the content of a state report (PS3.4 Table CC.2.4-1), and the priority beside it.

    No event of the standard tells of another priority, and a client that does not learn of it reads
    a bleed late: the report is sent again then, with the priority.
    """
    state = task.state if task is not None else Task.SCHEDULED
    priority = task.priority if task is not None else None
    arriving = is_arriving(transaction, study.id)
    return json.dumps(
        {
            "00404041": _cs("INCOMPLETE" if arriving else "READY"),
            "00741000": _cs(state_word(state)),
            "00741200": _cs(priority or reading_priority(study.band, study.ordered_priority)),
        }
    )


def _cs(value: str) -> dict[str, object]:
    return {"vr": "CS", "Value": [value]}


def tell_of_state(transaction: Transaction, study: t.Study) -> None:
    """Tell the subscribers how a study's task stands, be it new, or of another priority now."""
    if not subscribers(transaction, study.id):
        return  # nearly always: two look-ups less while images stream in
    task = transaction.session.get(t.Task, study.id)
    if task is not None and task.state in (Task.COMPLETED, Task.CANCELED):
        return
    tell(transaction, study.id, STATE_REPORT, state_report(transaction, study, task))


def outgrow_priority(transaction: Transaction, study: t.Study, band: Band) -> None:
    """Forget the priority that a client set of a study whose own is higher from now on.

    It was set by somebody who did not know what is known now: LOW, say, of every new study.
    """
    task = transaction.session.get(t.Task, study.id)
    if task is None or task.priority is None:
        return
    own = reading_priority(band, study.ordered_priority)
    if _HIGHEST_FIRST.index(own) < _HIGHEST_FIRST.index(task.priority):
        task.priority = None


class NoticeQueue:
    """What is owed to one subscriber, the oldest first; a `Queue` for the notifier.

    Parameters
    ----------
    ae_title : str
        The subscriber.
    is_open : callable
        Whether anything may go there now (observe mode).
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        ae_title: str,
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database, self._policy = database, policy
        self._ae_title, self._is_open = ae_title, is_open
        self._forget_at = 0.0

    def claim(self, owner: str) -> NoticeWork | None:
        """Take what is due, unless another worker has some of it in hand: the order matters.

        Raises
        ------
        WorklistDown
            When the database does not answer.
        """
        if not leases.anything(self._database, t.Notice, self._due):
            return None
        self._forget()
        if not self._is_open():
            return None
        with self._database.writing() as transaction:
            held = select(t.Notice.id).where(
                t.Notice.ae_title == self._ae_title, t.Notice.lease_until > transaction.now
            )
            if transaction.session.scalar(held.limit(1)) is not None:
                return None
            rows = leases.claim(
                transaction,
                t.Notice,
                self._due(transaction),
                (t.Notice.id,),
                owner=owner,
                for_=self._policy.lease,
                limit=BATCH,
            )
            rows.sort(key=lambda row: row.id)
            return self._work(transaction, rows) if rows else None

    def _due(self, transaction: Transaction) -> list[ColumnElement[bool]]:
        """Return the conditions of what may be told now: nothing before what came before it."""
        earlier = aliased(t.Notice)
        waiting = exists().where(
            earlier.ae_title == self._ae_title,
            earlier.id < t.Notice.id,
            earlier.due_at > transaction.now,
        )
        return [
            t.Notice.ae_title == self._ae_title,
            t.Notice.due_at <= transaction.now,
            ~waiting.correlate(t.Notice),
        ]

    def _forget(self) -> None:
        """Drop what is too old, now and then: a subscriber may be shut out, or gone for good."""
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_EVERY_S
        with self._database.writing() as transaction:
            transaction.session.execute(
                delete(t.Notice)
                .where(
                    t.Notice.ae_title == self._ae_title,
                    t.Notice.created_at < transaction.now - KEPT,
                )
                .execution_options(synchronize_session=False)
            )

    def _work(self, transaction: Transaction, rows: list[t.Notice]) -> NoticeWork:
        studies = transaction.session.execute(
            select(t.Study.id, t.Study.study_uid).where(
                t.Study.id.in_({row.study_id for row in rows})
            )
        )
        of_study = {row.id: row.study_uid for row in studies}
        return NoticeWork(
            lease=leases.lease_of(rows[0]),
            destination=self._ae_title,
            items=tuple(
                NoticeItem(
                    row.id,
                    task_uid(of_study[row.study_id], row.study_id, row.number),
                    row.event_type,
                    row.content,
                )
                for row in rows
            ),
        )

    def renew(self, lease: Lease, for_: timedelta) -> bool:
        """Prolong the lease of all of its rows; False when it is lost."""
        return leases.renew(self._database, t.Notice, lease, for_)

    def settle(self, work: NoticeWork, outcome: DeliveryOutcome) -> bool:
        """Forget what was told; come back for the rest later, in the same order."""
        with self._database.writing() as transaction:
            rows = leases.all_held(transaction, t.Notice, work.lease)
            match outcome:
                case Dispatched(results):
                    told = {one for one, result in results.items() if _is_over(result)}
                case Failed():
                    told = set()
                case _:
                    assert_never(outcome)
            self._put_back(transaction, [row for row in rows if row.id not in told])
            for row in rows:
                if row.id in told:
                    transaction.session.delete(row)
        return bool(rows)

    def _put_back(self, transaction: Transaction, rows: list[t.Notice]) -> None:
        if not rows:
            return
        wait = self._policy.delivery_retry.wait(max(row.attempts for row in rows))
        for row in rows:
            row.drop_lease()
            row.due_at = transaction.now + wait


def _is_over(result: object) -> bool:
    """Say whether nothing more will come of a notice: it was taken, or will never be."""
    return isinstance(result, Acknowledged) or (
        isinstance(result, Undelivered) and result.permanent
    )
