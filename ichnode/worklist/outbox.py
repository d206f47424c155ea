"""What an analysis and a verdict owe: documents to build and deliveries to make."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, select

from ichnode.domain import lifecycle
from ichnode.domain.findings import Finding
from ichnode.domain.ids import result_uid
from ichnode.domain.lifecycle import DELIVERY, DeliveryEvent, advance
from ichnode.domain.work import DeliveryKind, DocumentKind
from ichnode.worklist import tables as t
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.transactions import Transaction

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
GRAYSCALE_PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
FIRST_CLASS: dict[DocumentKind, str] = {
    "sr": COMPREHENSIVE_3D_SR,
    "sc": SECONDARY_CAPTURE,
    "kos": KEY_OBJECT_SELECTION,
    "gsps": GRAYSCALE_PRESENTATION_STATE,
}
"""The class that is built unasked; a peer may ask for another SR class."""

_ENTERED = {
    lifecycle.Delivery.WITHHELD: "withheld",
    lifecycle.Delivery.SUPPRESSED: "suppressed",
}
NOT_BUILT = "Its document could not be built."
NEGATIVE_WAITS_S = 300.0  # the head start of a positive document


def covers(commission: t.Commission, calling_ae: str) -> bool:
    """Say whether a commission is for this scanner."""
    return "*" in commission.scanners or calling_ae in commission.scanners


def is_open(
    transaction: Transaction,
    route: Route,
    model_uid: str,
    calling_ae: str,
    *,
    taking_back: bool = False,
) -> bool:
    """Say whether a destination may get results of this model from this scanner.

    Parameters
    ----------
    taking_back : bool
        It takes back an alert that was told: an acceptance that was revoked since counts too, or
        nobody could say any more that what a revoked model had said was a mistake.
    """
    if route.loopback:
        return True
    accepted = select(t.Commission).where(t.Commission.model_uid == model_uid)
    if not taking_back:
        accepted = accepted.where(t.Commission.revoked_at.is_(None))
    return any(covers(one, calling_ae) for one in transaction.session.scalars(accepted))


def is_taken(routes: Iterable[Route]) -> ColumnElement[bool]:
    """Return the condition that one of these destinations takes a delivery."""
    return or_(
        false(),
        *(
            and_(t.Delivery.destination == one.name, t.Delivery.kind.in_(sorted(one.kinds)))
            for one in routes
        ),
    )


def owe_documents(
    transaction: Transaction,
    policy: Policy,
    study: t.Study,
    series: t.Series,
    analysis: t.Analysis,
    kinds: tuple[DocumentKind, ...],
) -> None:
    """Enter the documents of an analysis and their deliveries, unless they are there already."""
    session = transaction.session
    for kind in kinds:
        there = session.scalar(
            select(t.Document.id).where(
                t.Document.analysis_id == analysis.id, t.Document.kind == kind
            )
        )
        if there is not None:
            continue
        document = enter_document(
            transaction, study, series, analysis, kind, sop_class_uid=FIRST_CLASS[kind]
        )
        for route in policy.takers(kind):
            enter_delivery(transaction, study, series, analysis, route, kind, document)


def enter_document(
    transaction: Transaction,
    study: t.Study,
    series: t.Series,
    analysis: t.Analysis,
    kind: DocumentKind,
    *,
    sop_class_uid: str,
) -> t.Document:
    """Enter one document to be built; its UID is fixed here, whatever happens later."""
    urgent = analysis.finding is Finding.POSITIVE
    waits = timedelta(seconds=0 if urgent else NEGATIVE_WAITS_S)
    document = t.Document(
        analysis_id=analysis.id,
        series_id=series.id,
        study_id=study.id,
        kind=kind,
        sop_class_uid=sop_class_uid,
        sop_uid=result_uid(
            kind, series.series_uid, analysis.set_digest, analysis.model_uid, sop_class_uid
        ),
        urgent=urgent,
        state=lifecycle.Document.DUE,
        due_at=transaction.now,
        urgency_at=transaction.now + waits,
        created_at=transaction.now,
    )
    transaction.session.add(document)
    transaction.session.flush()
    transaction.event(
        "document",
        "entered",
        study_uid=study.study_uid,
        series_uid=series.series_uid,
        kind=kind,
        sop_uid=document.sop_uid,
        sop_class_uid=sop_class_uid,
    )
    transaction.hint()
    return document


def follow_document(delivery: t.Delivery, document: t.Document | None) -> None:
    """Take a delivery that waits to where its document is: due once built, or if it has none.

    The caller holds both rows, the document's first: else it may be built in between, and the
    delivery would wait for ever.
    """
    if document is None or document.state is lifecycle.Document.BUILT:
        event = DeliveryEvent.DOCUMENT_BUILT
    elif document.state is lifecycle.Document.FAILED:
        event, delivery.error = DeliveryEvent.GAVE_UP, NOT_BUILT
    else:
        return
    delivery.state = advance(DELIVERY, delivery.state, event)


def enter_delivery(
    transaction: Transaction,
    study: t.Study,
    series: t.Series,
    analysis: t.Analysis,
    route: Route,
    kind: DeliveryKind,
    document: t.Document | None = None,
    *,
    taking_back: bool = False,
    because: str | None = None,
) -> None:
    """Enter one delivery for the present revision of a study's verdict.

    Parameters
    ----------
    document : Document, optional
        What it carries; None for an alert.
    taking_back : bool
        It takes back an alert that was told.
    because : str, optional
        Why it is suppressed from the start, for the history; it is not if left out.
    """
    if because is not None:
        state = lifecycle.Delivery.SUPPRESSED
    elif not is_open(
        transaction, route, analysis.model_uid, series.calling_ae, taking_back=taking_back
    ):
        state = lifecycle.Delivery.WITHHELD
    elif document is not None:
        state = lifecycle.Delivery.WAITING
    else:
        state = lifecycle.Delivery.DUE
    transaction.session.add(
        t.Delivery(
            study_id=study.id,
            analysis_id=analysis.id,
            document_id=document.id if document is not None else None,
            kind=kind,
            destination=route.name,
            revision=study.revision,
            urgent=analysis.finding is Finding.POSITIVE,
            model_uid=analysis.model_uid,
            calling_ae=series.calling_ae,
            state=state,
            due_at=transaction.now,
            created_at=transaction.now,
        )
    )
    transaction.event(
        "delivery",
        _ENTERED.get(state, "entered"),
        study_uid=study.study_uid,
        series_uid=series.series_uid,
        kind=kind,
        destination=route.name,
        because=because,
    )
    transaction.hint()


def delivery_event(transaction: Transaction, row: t.Delivery, verb: str, **detail: Any) -> None:
    """Add a line about a delivery to the history of its study; `detail` without patient data."""
    study = transaction.session.get_one(t.Study, row.study_id)
    transaction.event(
        "delivery",
        verb,
        study_uid=study.study_uid,
        kind=row.kind,
        destination=row.destination,
        **detail,
    )
