"""The queue of documents: built once, bytes kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_never

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import aliased

from ichnode.domain.lifecycle import (
    DOCUMENT,
    Delivery,
    Document,
    DocumentEvent,
    advance,
)
from ichnode.domain.work import (
    Built,
    DocumentOutcome,
    DocumentRef,
    DocumentWork,
    Failed,
    Lease,
)
from ichnode.worklist import leases
from ichnode.worklist import tables as t
from ichnode.worklist.analyses import instances_of
from ichnode.worklist.outbox import follow_document
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction

PATIENCE = 3  # tries of a predecessor that its successor waits for


def _due(transaction: Transaction) -> list[ColumnElement[bool]]:
    older = aliased(t.Document)
    predecessor_is_due = exists().where(
        t.Document.kind == "sr",
        older.series_id == t.Document.series_id,
        older.kind == "sr",
        older.analysis_id < t.Document.analysis_id,
        older.state == Document.DUE,
        older.attempts < PATIENCE,
    )
    return [
        t.Document.state == Document.DUE,
        t.Document.due_at <= transaction.now,
        # A successor names its predecessors, which must have been built for that.
        ~predecessor_is_due,
    ]


class DocumentQueue:
    """Documents that are due to be built; a `Queue` for report."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def claim(self, owner: str) -> DocumentWork | None:
        """Take the most urgent due document under a lease.

        Raises
        ------
        WorklistDown
            When the database does not answer.
        """
        limit = self._policy.work_retry.attempts
        while leases.anything(self._database, t.Document, _due):
            with self._database.writing() as transaction:
                taken = leases.claim(
                    transaction,
                    t.Document,
                    _due(transaction),
                    (t.Document.urgency_at, t.Document.id),
                    owner=owner,
                    for_=self._policy.lease,
                )
                if not taken:
                    return None
                document = taken[0]
                work = _work(transaction, document)
            if document.urgent or limit is None or work.lease.attempts <= limit:
                return work
            self.settle(work, Failed("The workers that took it died.", transient=False))
        return None

    def renew(self, lease: Lease, for_: timedelta) -> bool:
        """Prolong the lease; False when it is lost."""
        return leases.renew(self._database, t.Document, lease, for_)

    def settle(self, work: DocumentWork, outcome: DocumentOutcome) -> bool:
        """Write what came of it; False when the lease was lost and nothing was written."""
        with self._database.writing() as transaction:
            document = leases.held(transaction, t.Document, work.lease)
            if document is None:
                return False
            document.drop_lease()
            match outcome:
                case Built():
                    self._built(transaction, document, work, outcome)
                case Failed():
                    self._failed(transaction, document, work, outcome)
                case _:
                    assert_never(outcome)
        return True

    @staticmethod
    def _built(
        transaction: Transaction, document: t.Document, work: DocumentWork, built: Built
    ) -> None:
        document.state = advance(DOCUMENT, document.state, DocumentEvent.BUILT)
        document.sha256, document.path, document.size_bytes = (
            built.sha256,
            built.path,
            built.size_bytes,
        )
        document.document_series_uid = built.document_series_uid
        document.transfer_syntax_uid = built.transfer_syntax_uid
        document.built_at, document.error = transaction.now, ""
        _event(transaction, work, "built", sha256=built.sha256)
        for delivery in _deliveries(transaction, document, Delivery.WAITING):
            follow_document(delivery, document)
            delivery.due_at = transaction.now
            transaction.hint()

    def _failed(
        self, transaction: Transaction, document: t.Document, work: DocumentWork, failed: Failed
    ) -> None:
        """Back off, for a positive as long as it takes; otherwise give up in the end."""
        retry = self._policy.work_retry
        document.error = failed.error
        _event(transaction, work, "failed", error=failed.error, attempt=document.attempts)
        hopeless = not failed.transient or retry.exhausted(document.attempts)
        if document.urgent or not hopeless:
            wait = retry.wait(document.attempts)
            document.due_at = transaction.now + wait
            document.urgency_at = max(document.urgency_at, document.due_at)
            return
        document.state = advance(DOCUMENT, document.state, DocumentEvent.GAVE_UP)
        _event(transaction, work, "quarantined", error=failed.error)
        # A node of before made rows due whose document was not built.
        for delivery in _deliveries(transaction, document, Delivery.WAITING, Delivery.DUE):
            follow_document(delivery, document)


def _deliveries(
    transaction: Transaction, document: t.Document, *states: Delivery
) -> list[t.Delivery]:
    return list(
        transaction.session.scalars(
            select(t.Delivery)
            .where(t.Delivery.document_id == document.id, t.Delivery.state.in_(states))
            .order_by(t.Delivery.id)
            .with_for_update(key_share=True)
        )
    )


def _work(transaction: Transaction, document: t.Document) -> DocumentWork:
    session = transaction.session
    analysis = session.get_one(t.Analysis, document.analysis_id)
    series = session.get_one(t.Series, document.series_id)
    study = session.get_one(t.Study, document.study_id)
    return DocumentWork(
        lease=leases.lease_of(document),
        kind=document.kind,
        sop_class_uid=document.sop_class_uid,
        sop_uid=document.sop_uid,
        study_uid=study.study_uid,
        series_uid=series.series_uid,
        set_digest=analysis.set_digest,
        analysed_at=analysis.started_at,
        result=analysis.result,
        instances=instances_of(transaction, series.id, analysis.instance_count),
        predecessors=_predecessors(transaction, document, study.study_uid),
    )


def _predecessors(
    transaction: Transaction, document: t.Document, study_uid: str
) -> tuple[DocumentRef, ...]:
    """Return the reports of this series that were built from earlier analyses."""
    if document.kind != "sr":
        return ()
    earlier = transaction.session.scalars(
        select(t.Document)
        .where(
            t.Document.series_id == document.series_id,
            t.Document.kind == "sr",
            t.Document.state == Document.BUILT,
            t.Document.analysis_id < document.analysis_id,
        )
        .order_by(t.Document.id)
    )
    return tuple(
        DocumentRef(one.sop_class_uid, one.sop_uid, one.document_series_uid, study_uid)
        for one in earlier
        if one.document_series_uid is not None
    )


def _event(transaction: Transaction, work: DocumentWork, verb: str, **detail: Any) -> None:
    transaction.event(
        "document",
        verb,
        study_uid=work.study_uid,
        series_uid=work.series_uid,
        kind=work.kind,
        sop_uid=work.sop_uid,
        **detail,
    )
