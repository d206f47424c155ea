"""The outbox as a queue: what is due for one destination, urgent first, under one lease."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

from sqlalchemy import ColumnElement, case, exists, or_, select
from sqlalchemy.orm import aliased

from ichnode.domain.lifecycle import (
    DELIVERY,
    Delivery,
    DeliveryEvent,
    Document,
    advance,
)
from ichnode.domain.work import (
    Acknowledged,
    DeliveryItem,
    DeliveryOutcome,
    DeliveryResult,
    DeliveryWork,
    Dispatched,
    Failed,
    Lease,
    Reclass,
    Undelivered,
)
from ichnode.worklist import leases
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import is_withdrawal
from ichnode.worklist.carried import item_of
from ichnode.worklist.outbox import (
    delivery_event,
    enter_document,
    follow_document,
    is_open,
    is_taken,
)
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.rehearsal import rehearse
from ichnode.worklist.transactions import Database, Transaction

_BRISK = 2  # this many changes of class go without a pause


_ORDER = (
    t.Delivery.urgent.desc(),
    # What failed before comes after what was never tried: a fresh alert does not queue behind
    # positives that a peer has refused for days.
    case((t.Delivery.attempts > 0, 1), else_=0),
    t.Delivery.id,
)


def _due(transaction: Transaction, *, routes: Sequence[Route]) -> list[ColumnElement[bool]]:
    older = aliased(t.Delivery)
    # Another host may be sending the alert that this one takes back, however long that takes.
    follows_one_on_its_way = exists().where(
        t.Delivery.document_id.is_(None),
        older.document_id.is_(None),
        older.study_id == t.Delivery.study_id,
        older.destination == t.Delivery.destination,
        older.kind == t.Delivery.kind,
        older.id < t.Delivery.id,
        older.lease_until > transaction.now,
    )
    is_built = exists().where(
        t.Document.id == t.Delivery.document_id, t.Document.state == Document.BUILT
    )
    return [
        t.Delivery.state == Delivery.DUE,
        is_taken(routes),
        t.Delivery.due_at <= transaction.now,
        or_(t.Delivery.document_id.is_(None), is_built),
        ~follows_one_on_its_way,
    ]


class Outbox:
    """Deliveries that are due; a `Queue` for send.

    Parameters
    ----------
    database : Database
        Where the rows are.
    policy : Policy
        Which destinations there are, how many rows go together, how often to try.
    shut : callable
        Says which destinations must be left alone for now (their breaker is open).
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        shut: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._database, self._policy, self._shut = database, policy, shut

    def claim(self, owner: str, shut: frozenset[str] = frozenset()) -> DeliveryWork | None:
        """Take what is due for the destination with the most urgent row.

        Parameters
        ----------
        owner : str
            Who takes it.
        shut : frozenset of str
            Destinations to leave alone, beside those of the constructor.

        Raises
        ------
        WorklistDown
            When the database does not answer.
        """
        closed = self._shut() | shut
        routes = [route for route in self._policy.destinations if route.name not in closed]
        while routes and leases.anything(self._database, t.Delivery, partial(_due, routes=routes)):
            with self._database.writing() as transaction:
                route = self._most_urgent(transaction, routes)
                if route is None:
                    return None
                if work := self._take(transaction, route, owner):
                    return work
            routes.remove(route)  # another worker was quicker there
        return None

    @staticmethod
    def _most_urgent(transaction: Transaction, routes: Sequence[Route]) -> Route | None:
        name = transaction.session.scalar(
            select(t.Delivery.destination)
            .where(*_due(transaction, routes=routes), leases.is_free(t.Delivery, transaction))
            .order_by(*_ORDER)
            .limit(1)
        )
        return next((route for route in routes if route.name == name), None)

    def _take(self, transaction: Transaction, route: Route, owner: str) -> DeliveryWork | None:
        rows = leases.claim(
            transaction,
            t.Delivery,
            _due(transaction, routes=[route]),
            _ORDER,
            owner=owner,
            for_=self._policy.lease,
            limit=self._policy.batch,
        )
        rows = [
            row
            for row in rows
            if not self._is_spent(transaction, row) and not self._is_closed(transaction, row, route)
        ]
        if not rows:
            return None
        rows.sort(key=lambda row: (not row.urgent, row.attempts > 1, row.id))
        return DeliveryWork(
            lease=leases.lease_of(rows[0]),
            destination=route.name,
            items=tuple(item_of(transaction, row) for row in rows),
        )

    def _is_spent(self, transaction: Transaction, row: t.Delivery) -> bool:
        """Give up a row on which as many workers died as there are tries; never a positive."""
        limit = self._policy.delivery_retry.attempts
        if row.urgent or limit is None or row.attempts <= limit:
            return False
        row.drop_lease()
        self._undelivered(transaction, row, Undelivered("The workers that took it died."))
        return True

    def _is_closed(self, transaction: Transaction, row: t.Delivery, route: Route) -> bool:
        """Withhold a row whose destination is not open for it any more.

        It was when the row was made: the destination was on this machine until its address was
        changed, or the row had failed before the model was revoked, and was queued again since.
        """
        takes_back = select(t.Delivery.id).where(t.Delivery.id == row.id, is_withdrawal())
        if is_open(
            transaction,
            route,
            row.model_uid,
            row.calling_ae,
            taking_back=transaction.session.scalar(takes_back) is not None,
        ):
            return False
        row.drop_lease()
        row.attempts = max(row.attempts - 1, 0)  # nothing was tried
        row.state = advance(DELIVERY, row.state, DeliveryEvent.REVOKED)
        delivery_event(transaction, row, "withheld")
        return True

    def renew(self, lease: Lease, for_: timedelta) -> bool:
        """Prolong the lease of all of its rows; False when it is lost."""
        return leases.renew(self._database, t.Delivery, lease, for_)

    def settle(self, work: DeliveryWork, outcome: DeliveryOutcome) -> bool:
        """Write what became of each row; False when the lease was lost: nothing was written."""
        with self._database.writing() as transaction:
            rows = leases.all_held(transaction, t.Delivery, work.lease)
            for row in rows:
                row.drop_lease()
                self._settle(transaction, row, outcome)
        return bool(rows)

    def _settle(self, transaction: Transaction, row: t.Delivery, outcome: DeliveryOutcome) -> None:
        gone = row.state in (Delivery.WITHHELD, Delivery.SUPPRESSED)
        if gone and not _is_acknowledged(row, outcome):
            return  # closed, or seen, while it was on its way: it is not tried again
        match outcome:
            case Failed(error):
                self._undelivered(transaction, row, Undelivered(error))
            case Dispatched(results) if row.id in results:
                self._result(transaction, row, results[row.id])
            case Dispatched(results):
                row.attempts = max(row.attempts - 1, 0)  # it was not tried
                if not results:  # nothing was: do not come back at once
                    row.due_at = transaction.now + self._policy.delivery_retry.wait(1)
            case _:
                assert_never(outcome)

    def rehearse(self, study_uid: str, destination: str) -> tuple[DeliveryItem, ...]:
        """Return what a destination would get about a study now, see `rehearsal.rehearse`."""
        with self._database.reading() as transaction:
            return rehearse(transaction, self._policy, study_uid, destination)

    def _result(self, transaction: Transaction, row: t.Delivery, result: DeliveryResult) -> None:
        match result:
            case Acknowledged(status, note):
                row.state = advance(DELIVERY, row.state, DeliveryEvent.ACKNOWLEDGED)
                row.delivered_at, row.status, row.note, row.error = (
                    transaction.now,
                    status,
                    note,
                    "",
                )
                delivery_event(transaction, row, "delivered", status=status)
            case Reclass(sop_class_uid):
                self._reclass(transaction, row, sop_class_uid)
            case Undelivered():
                self._undelivered(transaction, row, result)
            case _:
                assert_never(result)

    def _undelivered(self, transaction: Transaction, row: t.Delivery, result: Undelivered) -> None:
        """Back off: for a positive as long as it takes, otherwise give up in the end."""
        retry = self._policy.delivery_retry
        if row.error != result.error:  # the same again is counted by `attempts`, not told anew
            delivery_event(
                transaction,
                row,
                "failed",
                error=result.error,
                status=result.status,
                attempt=row.attempts,
            )
        row.status, row.error = result.status, result.error
        if row.urgent or not (result.permanent or retry.exhausted(row.attempts)):
            row.due_at = transaction.now + retry.wait(row.attempts)
            return
        row.state = advance(DELIVERY, row.state, DeliveryEvent.GAVE_UP)
        delivery_event(transaction, row, "given_up", error=result.error)

    def _reclass(self, transaction: Transaction, row: t.Delivery, sop_class_uid: str) -> None:
        """Point a delivery to the document of the class that the peer takes.

        Nothing was sent yet, so that there is still exactly one report at the destination.
        """
        session = transaction.session
        # Two destinations may ask for the same class at once: the one that was built decides.
        session.get_one(t.Document, row.document_id, with_for_update={"key_share": True})
        document = self._of_class(transaction, row, sop_class_uid)
        if document is None:
            analysis = session.get_one(t.Analysis, row.analysis_id)
            document = enter_document(
                transaction,
                session.get_one(t.Study, row.study_id),
                session.get_one(t.Series, analysis.series_id),
                analysis,
                "sr",
                sop_class_uid=sop_class_uid,
            )
        row.document_id = document.id
        row.attempts = max(row.attempts - 1, 0)  # nothing was tried
        row.state = advance(DELIVERY, row.state, DeliveryEvent.RECLASSED)
        row.due_at = self._resumes(transaction, row)
        follow_document(row, document)
        transaction.hint()
        delivery_event(transaction, row, "reclassed", sop_class_uid=sop_class_uid)

    @staticmethod
    def _of_class(
        transaction: Transaction, row: t.Delivery, sop_class_uid: str
    ) -> t.Document | None:
        # Locked, so that it is not built between this look and our commit.
        return transaction.session.scalar(
            select(t.Document)
            .where(
                t.Document.analysis_id == row.analysis_id,
                t.Document.kind == row.kind,
                t.Document.sop_class_uid == sop_class_uid,
            )
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )

    def _resumes(self, transaction: Transaction, row: t.Delivery) -> datetime:
        """Return when to go on; a peer that keeps changing its mind must not be hammered."""
        if row.attempts <= _BRISK:
            return transaction.now
        return transaction.now + self._policy.delivery_retry.wait(row.attempts)


def _is_acknowledged(row: t.Delivery, outcome: DeliveryOutcome) -> bool:
    if not isinstance(outcome, Dispatched):
        return False
    return isinstance(outcome.results.get(row.id), Acknowledged)
