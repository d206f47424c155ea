"""What people may do: try again, lower or look at a study, open and close the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from ichnode.domain.lifecycle import (
    ANALYSIS,
    DELIVERY,
    DOCUMENT,
    VERDICT,
    AnalysisEvent,
    Band,
    Delivery,
    DeliveryEvent,
    Document,
    DocumentEvent,
    VerdictEvent,
    advance,
)
from ichnode.domain.telling import Seen
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import is_withdrawal, note_look, withdraw
from ichnode.worklist.columns import accession, plain
from ichnode.worklist.commitments import requeue_commitments
from ichnode.worklist.dueness import set_due
from ichnode.worklist.outbox import covers, delivery_event, follow_document
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction
from ichnode.worklist.verdicts import rejudge, revise

RELEASE_WITHIN = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Commissioning:
    """Who accepted which model for which scanners."""

    model_uid: str
    accepted_by: str
    scanners: tuple[str, ...]
    note: str
    accepted_at: datetime


class People:
    """The part of the worklist that commands of people call."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def requeue(self, series_uid: str) -> int:
        """Look at a series again, and try what failed of its documents and deliveries again.

        A worker that holds the series loses its lease. What the same model said of the same set
        stands, as do the reports that were made from it.

        Returns
        -------
        int
            How many things were queued again; 0 when there is no such series.
        """
        with self._database.writing() as transaction:
            session = transaction.session
            owner = select(t.Series.study_id).where(t.Series.series_uid == series_uid)
            study = session.get(
                t.Study, session.scalar(owner) or 0, with_for_update={"key_share": True}
            )
            if study is None:
                return 0
            series = session.scalars(
                select(t.Series)
                .where(t.Series.series_uid == series_uid)
                .with_for_update(key_share=True)
            ).one()
            series.drop_lease()
            series.analysis = advance(ANALYSIS, series.analysis, AnalysisEvent.REQUEUED)
            series.attempts, series.reason, series.detail, series.final = 0, None, "", False
            set_due(series, transaction.now, study.ordered_rank, self._policy)
            transaction.event(
                "series", "requeued", study_uid=study.study_uid, series_uid=series_uid
            )
            transaction.hint()
            rejudge(transaction, self._policy, study)
            documents = self._requeue_documents(transaction, series.id)
            of_series = select(t.Analysis.id).where(t.Analysis.series_id == series.id)
            return (
                1
                + documents
                + _requeue_deliveries(transaction, t.Delivery.analysis_id.in_(of_series))
            )

    @staticmethod
    def _requeue_documents(transaction: Transaction, series_id: int) -> int:
        failed = list(
            transaction.session.scalars(
                select(t.Document)
                .where(t.Document.series_id == series_id, t.Document.state == Document.FAILED)
                .order_by(t.Document.id)
                .with_for_update(key_share=True)
            )
        )
        for document in failed:
            _requeue_document(transaction, document)
        return len(failed)

    def requeue_deliveries(self, destination: str) -> int:
        """Try everything again that was given up for a destination; return how many."""
        with self._database.writing() as transaction:
            requeue_commitments(transaction, destination)
            return _requeue_deliveries(transaction, t.Delivery.destination == destination)

    def lower(self, study_uid: str, by: str, reason: str) -> bool:
        """Take a study off the front of the list; False when it is not there.

        Who was told of it and can take that back is told so; who was not told yet never is.
        Only a new finding raises it again: what led to the present verdict counts as seen.
        """
        with self._database.writing() as transaction:
            session = transaction.session
            study = session.scalar(
                select(t.Study)
                .where(t.Study.study_uid == study_uid)
                .with_for_update(key_share=True)
            )
            if study is None or (study.band, VerdictEvent.LOWERED) not in VERDICT:
                return False
            for series in session.scalars(
                select(t.Series)
                .where(t.Series.study_id == study.id, t.Series.analysis_id.is_not(None))
                .order_by(t.Series.id)
                .with_for_update(key_share=True)
            ):
                series.dismissed_analysis_id = series.analysis_id
            band: Band = advance(VERDICT, study.band, VerdictEvent.LOWERED)
            revise(
                transaction,
                study,
                band,
                None,
                "Lowered by a person.",
                judged_by=by,
                reason=reason,
            )
            withdraw(transaction, self._policy, study)
            return True

    def seen(
        self,
        study_uid: str = "",
        *,
        accession_number: str = "",
        how: Seen,
        by: str,
        at: datetime | None = None,
    ) -> int:
        """Note that a person has opened or reported a study: what nobody needs is not told.

        Alerts that were not delivered yet are suppressed where the look makes them needless
        (`ichnode.domain.telling.is_needed`); what is delivered stays, and the study keeps its band.

        Parameters
        ----------
        study_uid, accession_number : str
            One of them. An accession number may name several studies of one patient; where it is
            in use for several patients nothing follows but a line in the history of each study.
        how : Seen
            What the person did.
        by : str
            Who says so: a name, or the system that told. No patient data.
        at : datetime, optional
            When, aware; now if left out or in the future.

        Returns
        -------
        int
            How many studies it was noted of.
        """
        who = plain(by, 64)
        with self._database.writing() as transaction:
            studies = _named(transaction, study_uid.strip(), accession_number.strip())
            if len({(one.issuer_of_patient_id, one.patient_id) for one in studies}) > 1:
                for one in studies:
                    transaction.event(
                        "study",
                        "not_noted",
                        study_uid=one.study_uid,
                        how=how.value,
                        by=who,
                        because="several patients have this accession number",
                    )
                return 0
            moment = min(at, transaction.now) if at is not None else transaction.now
            for one in studies:
                note_look(transaction, one, how, moment, who)
                rejudge(transaction, self._policy, one)  # later images may be nobody's by now
            return len(studies)

    # ------------------------------------------------------------------ observe mode

    def commission(
        self,
        model_uid: str,
        accepted_by: str,
        scanners: Sequence[str] = ("*",),
        note: str = "",
        *,
        release_within: timedelta = RELEASE_WITHIN,
    ) -> int:
        """Record that a person accepted a model for scanners, and open the outputs for it.

        Parameters
        ----------
        model_uid : str
            The model; another one stays closed.
        accepted_by, note : str
            Who, and on which grounds.
        scanners : sequence of str
            Calling AE titles; ``*`` means all.
        release_within : timedelta
            What was withheld for so long at most is released now. Older results are of studies
            that were read long ago: they stay withheld and visible.

        Returns
        -------
        int
            How many withheld deliveries were released.
        """
        with self._database.writing() as transaction:
            commission = t.Commission(
                model_uid=model_uid,
                accepted_by=accepted_by,
                scanners=list(scanners),
                note=note,
                accepted_at=transaction.now,
            )
            transaction.session.add(commission)
            transaction.event(
                "model",
                "commissioned",
                model_uid=model_uid,
                accepted_by=accepted_by,
                scanners=list(scanners),
            )
            withheld = transaction.session.scalars(
                select(t.Delivery)
                .where(
                    t.Delivery.state == Delivery.WITHHELD,
                    t.Delivery.model_uid == model_uid,
                    t.Delivery.created_at >= transaction.now - release_within,
                )
                .order_by(t.Delivery.id)
            )
            covered = [one for one in withheld if covers(commission, one.calling_ae)]
            return _resume(transaction, covered, DeliveryEvent.RELEASED)

    def revoke(self, model_uid: str, by: str) -> int:
        """Take back every acceptance of a model; return how many stood.

        What is still in the outbox is withheld, but for destinations on this machine and for
        withdrawals: who was told what the model said is still told that it was a mistake. What is
        on its way to a peer in this moment may get there, and counts as delivered if it does.
        """
        with self._database.writing() as transaction:
            standing = list(
                transaction.session.scalars(
                    select(t.Commission).where(
                        t.Commission.model_uid == model_uid, t.Commission.revoked_at.is_(None)
                    )
                )
            )
            for one in standing:
                one.revoked_at, one.revoked_by = transaction.now, by
            if standing:
                transaction.event("model", "revoked", model_uid=model_uid, revoked_by=by)
            self._withhold(transaction, model_uid)
            return len(standing)

    def _withhold(self, transaction: Transaction, model_uid: str) -> None:
        """Withhold what waits in the outbox for destinations that are open no longer."""
        open_always = [route.name for route in self._policy.destinations if route.loopback]
        waiting = transaction.session.scalars(
            select(t.Delivery)
            .where(
                t.Delivery.model_uid == model_uid,
                t.Delivery.state.in_([Delivery.WAITING, Delivery.DUE]),
                t.Delivery.destination.not_in(open_always),
                ~is_withdrawal(),
            )
            .order_by(t.Delivery.id)
            .with_for_update(key_share=True)
        )
        for one in waiting:
            one.state = advance(DELIVERY, one.state, DeliveryEvent.REVOKED)
            delivery_event(transaction, one, "withheld")

    def commissions(self) -> tuple[Commissioning, ...]:
        """Return the acceptances that stand, the newest first."""
        with self._database.reading() as transaction:
            rows = transaction.session.scalars(
                select(t.Commission)
                .where(t.Commission.revoked_at.is_(None))
                .order_by(t.Commission.id.desc())
            )
            return tuple(
                Commissioning(
                    row.model_uid,
                    row.accepted_by,
                    tuple(row.scanners),
                    row.note,
                    row.accepted_at,
                )
                for row in rows
            )


def _named(transaction: Transaction, study_uid: str, accession_number: str) -> list[t.Study]:
    """Return the studies that go by a UID, or by an accession number, locked."""
    if study_uid:
        named = t.Study.study_uid == study_uid
    elif accession_number:
        # Spelled out, so that the partial index serves.
        named = (t.Study.accession_number == accession(accession_number)) & (
            t.Study.accession_number != ""
        )
    else:
        return []
    return list(
        transaction.session.scalars(
            select(t.Study).where(named).order_by(t.Study.id).with_for_update(key_share=True)
        )
    )


def _requeue_document(transaction: Transaction, document: t.Document) -> None:
    document.state = advance(DOCUMENT, document.state, DocumentEvent.REQUEUED)
    document.attempts, document.due_at, document.error = 0, transaction.now, ""
    document.drop_lease()
    transaction.event("document", "requeued", kind=document.kind, sop_uid=document.sop_uid)


def _requeue_deliveries(transaction: Transaction, *conditions: Any) -> int:
    failed = list(
        transaction.session.scalars(
            select(t.Delivery)
            .where(t.Delivery.state == Delivery.FAILED, *conditions)
            .order_by(t.Delivery.id)
        )
    )
    return _resume(transaction, failed, DeliveryEvent.REQUEUED)


def _resume(
    transaction: Transaction, deliveries: Sequence[t.Delivery], event: DeliveryEvent
) -> int:
    """Take up again what a person wants delivered after all; return how much of it can be."""
    session, resumed = transaction.session, 0
    documents: dict[int | None, t.Document] = {}
    # In the order in which everybody takes them: documents, then deliveries.
    for key in sorted({one.document_id for one in deliveries if one.document_id is not None}):
        documents[key] = session.get_one(t.Document, key, with_for_update={"key_share": True})
        if event is DeliveryEvent.REQUEUED and documents[key].state is Document.FAILED:
            _requeue_document(transaction, documents[key])
    for one in deliveries:
        session.refresh(one, with_for_update={"key_share": True})
        if (one.state, event) not in DELIVERY:
            continue  # somebody else was quicker
        one.state, one.due_at = advance(DELIVERY, one.state, event), transaction.now
        if event is DeliveryEvent.REQUEUED:
            one.attempts = 0
        follow_document(one, documents.get(one.document_id))
        gone = one.state is Delivery.FAILED
        delivery_event(transaction, one, "given_up" if gone else event.value)
        resumed += not gone
    transaction.hint()
    return resumed
