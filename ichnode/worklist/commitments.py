"""What destinations are asked to answer for, and what they said."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, not_, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from ichnode.domain.commitment import SAFE, Commitment, CommitmentReport, CommitmentWork
from ichnode.domain.lifecycle import Delivery
from ichnode.domain.retry import RetryPolicy
from ichnode.domain.work import DOCUMENT_KINDS
from ichnode.worklist import tables as t
from ichnode.worklist.carried import item_of
from ichnode.worklist.outbox import delivery_event
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction

BATCH = 100  # objects in one question
HELD = timedelta(minutes=10)  # nobody else asks while one does
ASK_AGAIN = timedelta(hours=1)  # after a question that was taken and not answered
REFUSED_AGAIN = timedelta(days=1)  # a peer may learn it
LOST_MOST = 3  # so often the peer may say that it has it not before a person must look
_RETRY = RetryPolicy(first=timedelta(minutes=1), longest=timedelta(hours=1), attempts=None)
_OPEN = (Commitment.DUE, Commitment.ASKED, Commitment.REFUSED)


class Commitments:
    """The part of the worklist that knows what destinations answer for."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def claim(self, destination: str) -> CommitmentWork | None:
        """Take what a destination is to be asked for now; None when there is nothing.

        The same objects are asked for under the same Transaction UID as long as nothing was
        reported of them. Nobody can guess it: whoever names it in a report was asked.
        """
        with self._database.writing() as transaction:
            self._enter(transaction, destination)
            rows = _due(transaction, destination)
            if not rows:
                return None
            deliveries = [transaction.session.get_one(t.Delivery, one.delivery_id) for one in rows]
            items = tuple(item_of(transaction, one) for one in deliveries)
            uid = _transaction_uid(transaction, rows)
            for row in rows:
                row.transaction_uid, row.attempts = uid, row.attempts + 1
                row.due_at = transaction.now + HELD
            again = frozenset(
                row.delivery_id for row in rows if row.failures and row.state is Commitment.DUE
            )
            return CommitmentWork(destination, uid, items, again)

    def _enter(self, transaction: Transaction, destination: str) -> None:
        """Make rows for what was delivered and is not asked for yet."""
        session = transaction.session
        known = exists().where(t.Commitment.delivery_id == t.Delivery.id)
        found = session.scalars(
            select(t.Delivery.id)
            .join(t.Study, t.Study.id == t.Delivery.study_id)
            .where(
                t.Delivery.destination == destination,
                t.Delivery.state == Delivery.DELIVERED,
                t.Delivery.kind.in_(DOCUMENT_KINDS),
                t.Study.purged_at.is_(None),
                ~known,
            )
            .order_by(t.Delivery.id)
            .limit(BATCH)
        ).all()
        if not found:
            return
        insert = sqlite_insert if self._database.is_sqlite else postgres_insert
        values = {
            "destination": destination,
            "state": Commitment.DUE,
            "attempts": 0,
            "failures": 0,
            "due_at": transaction.now,
            "created_at": transaction.now,
            "error": "",
        }
        session.execute(
            insert(t.Commitment).on_conflict_do_nothing(index_elements=["delivery_id"]),
            [values | {"delivery_id": delivery_id} for delivery_id in found],
        )

    def asked(self, work: CommitmentWork) -> None:
        """Note that the peer has taken the question; its report may have come before this."""
        with self._database.writing() as transaction:
            for row in _of(transaction, work.transaction_uid):
                if row.state in _OPEN:
                    row.state, row.error = Commitment.ASKED, ""
                    row.due_at = transaction.now + ASK_AGAIN

    def unanswered(self, work: CommitmentWork, error: str) -> None:
        """Note that the peer did not take the question; it is asked again after a growing pause."""
        with self._database.writing() as transaction:
            for row in _of(transaction, work.transaction_uid):
                if row.state in _OPEN:
                    if row.error != error:
                        _tell(transaction, row, "commitment_failed", error=error)
                    row.error = error
                    row.due_at = transaction.now + _RETRY.wait(row.attempts)

    def refused(self, work: CommitmentWork, error: str) -> None:
        """Note that the peer does not do this: purging follows the delivery, with a warning."""
        with self._database.writing() as transaction:
            for row in _of(transaction, work.transaction_uid):
                if row.state in _OPEN:
                    if row.state is not Commitment.REFUSED:
                        _tell(transaction, row, "commitment_refused", error=error)
                    row.state, row.error = Commitment.REFUSED, error
                    row.due_at = transaction.now + REFUSED_AGAIN

    def report(self, report: CommitmentReport) -> bool:
        """Take in what a peer reports; False when it was not asked, and nothing was written.

        What it does not name stays asked for. What it has lost is delivered again.
        """
        with self._database.writing() as transaction:
            rows = _of(transaction, report.transaction_uid)
            for row in rows:
                uid = _sop_uid(transaction, row)
                if row.state not in _OPEN:
                    continue  # said before
                if uid in report.lost:
                    _lost(transaction, row, report.lost[uid])
                elif uid in report.kept:
                    row.state, row.settled_at, row.error = Commitment.COMMITTED, transaction.now, ""
                    _tell(transaction, row, "committed")
            return bool(rows)


def requeue_commitments(transaction: Transaction, destination: str) -> None:
    """Ask a destination anew for what it could not answer for."""
    for row in transaction.session.scalars(
        select(t.Commitment)
        .where(
            t.Commitment.destination == destination,
            t.Commitment.state.in_([Commitment.FAILED, Commitment.REFUSED]),
        )
        .order_by(t.Commitment.id)
        .with_for_update(key_share=True)
    ):
        row.state, row.failures, row.due_at = Commitment.DUE, row.failures and 1, transaction.now
        _tell(transaction, row, "commitment_requeued")


def is_unsafe(destinations: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a destination does not answer yet for what was made of a study.

    Correlated to `Study`.
    """
    safe = exists().where(t.Commitment.delivery_id == t.Delivery.id, t.Commitment.state.in_(SAFE))
    return (
        exists()
        .where(
            t.Delivery.study_id == t.Study.id,
            and_(
                t.Delivery.destination.in_(sorted(destinations)),
                t.Delivery.state == Delivery.DELIVERED,
                t.Delivery.kind.in_(DOCUMENT_KINDS),
                not_(safe.correlate(t.Delivery)),
            ),
        )
        .correlate(t.Study)
    )


def _due(transaction: Transaction, destination: str) -> Sequence[t.Commitment]:
    """Return rows that belong together: of the transaction of the first, or of none."""
    session = transaction.session
    due = (
        t.Commitment.destination == destination,
        t.Commitment.state.in_(_OPEN),
        t.Commitment.due_at <= transaction.now,
    )
    locked: Any = {"skip_locked": True, "key_share": True}
    first = session.scalar(select(t.Commitment).where(*due).order_by(t.Commitment.id).limit(1))
    if first is None:
        return []
    uid = first.transaction_uid
    same = (
        t.Commitment.transaction_uid.is_(None)
        if uid is None
        else (t.Commitment.transaction_uid == uid)
    )
    return session.scalars(
        select(t.Commitment)
        .where(*due, same)
        .order_by(t.Commitment.id)
        .limit(BATCH)
        .with_for_update(**locked)
    ).all()


def _transaction_uid(transaction: Transaction, rows: Sequence[t.Commitment]) -> str:
    """Return the UID under which just these rows were asked for before, or a new one."""
    before = rows[0].transaction_uid
    if before is not None and len(_of(transaction, before)) == len(rows):
        return before
    return f"2.25.{uuid.uuid4().int}"  # PS3.5 B.2


def _of(transaction: Transaction, transaction_uid: str) -> Sequence[t.Commitment]:
    return transaction.session.scalars(
        select(t.Commitment)
        .where(t.Commitment.transaction_uid == transaction_uid)
        .order_by(t.Commitment.id)
        .with_for_update(key_share=True)
    ).all()


def _lost(transaction: Transaction, row: t.Commitment, reason: int) -> None:
    row.failures, row.transaction_uid = row.failures + 1, None
    row.due_at = transaction.now + _RETRY.wait(row.failures)
    row.state = Commitment.FAILED if row.failures >= LOST_MOST else Commitment.DUE
    row.error = f"The peer does not answer for it: reason 0x{reason:04X}."
    _tell(transaction, row, "commitment_lost", error=row.error)


def _sop_uid(transaction: Transaction, row: t.Commitment) -> str:
    return transaction.session.scalars(
        select(t.Document.sop_uid)
        .join(t.Delivery, t.Delivery.document_id == t.Document.id)
        .where(t.Delivery.id == row.delivery_id)
    ).one()


def _tell(transaction: Transaction, row: t.Commitment, verb: str, **detail: str) -> None:
    delivery = transaction.session.get_one(t.Delivery, row.delivery_id)
    delivery_event(transaction, delivery, verb, **detail)
