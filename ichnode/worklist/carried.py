"""What a row of the outbox carries: a document, or what is told of a study."""

from __future__ import annotations

from sqlalchemy import select

from ichnode.domain.lifecycle import Band, Document
from ichnode.domain.work import Alert, DeliveryItem, DocumentRef, StoredDocument, StudyRef
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import images_at
from ichnode.worklist.transactions import Transaction


def item_of(transaction: Transaction, row: t.Delivery) -> DeliveryItem:
    """Return what is sent for a row."""
    return DeliveryItem(
        delivery_id=row.id,
        kind=row.kind,
        urgent=row.urgent,
        attempts=row.attempts,
        revision=row.revision,
        document=_document(transaction, row.document_id),
        study=_study(transaction, row) if row.document_id is None else None,
        alert=_alert(transaction, row) if row.document_id is None else None,
    )


def _alert(transaction: Transaction, row: t.Delivery) -> Alert:
    session = transaction.session
    analysis = session.get_one(t.Analysis, row.analysis_id)
    band = session.scalar(
        select(t.Verdict.band).where(
            t.Verdict.study_id == row.study_id, t.Verdict.revision == row.revision
        )
    )
    documents = session.scalars(
        select(t.Document)
        .where(t.Document.analysis_id == analysis.id, t.Document.state == Document.BUILT)
        .order_by(t.Document.id)
    )
    study_uid = session.get_one(t.Study, row.study_id).study_uid
    return Alert(
        withdrawn=band is not None and band is not Band.URGENT,
        finding=analysis.finding,
        labels=analysis.result.labels,
        model_name=analysis.model_name,
        model_version=analysis.model_version,
        model_uid=analysis.model_uid,
        analysed_at=analysis.started_at,
        documents=tuple(
            DocumentRef(one.sop_class_uid, one.sop_uid, one.document_series_uid or "", study_uid)
            for one in documents
        ),
    )


def _document(transaction: Transaction, document_id: int | None) -> StoredDocument | None:
    if document_id is None:
        return None
    document = transaction.session.get_one(t.Document, document_id)
    return StoredDocument(
        sop_class_uid=document.sop_class_uid,
        sop_uid=document.sop_uid,
        transfer_syntax_uid=document.transfer_syntax_uid or "",
        path=document.path or "",
    )


def _study(transaction: Transaction, row: t.Delivery) -> StudyRef:
    session = transaction.session
    study = session.get_one(t.Study, row.study_id)
    analysis = session.get_one(t.Analysis, row.analysis_id)
    series = session.get_one(t.Series, analysis.series_id)
    headers = session.scalars(
        select(t.Instance.header)
        .where(t.Instance.series_id == series.id, t.Instance.ordinal <= analysis.instance_count)
        .order_by(t.Instance.ordinal)
    )
    return StudyRef(
        study_uid=study.study_uid,
        accession_number=study.accession_number,
        patient_id=study.patient_id,
        patient_name=study.patient_name,
        issuer_of_patient_id=study.issuer_of_patient_id,
        patient_birth_date=study.patient_birth_date,
        patient_sex=study.patient_sex,
        series_uid=series.series_uid,
        # Once each, however many header variants there are.
        instances=tuple(dict.fromkeys((one.sop_class_uid, one.sop_uid) for one in headers)),
        study_date=study.study_date,
        study_time=study.study_time,
        study_description=study.study_description,
        ordered_priority=study.ordered_priority,
        complete_at=images_at(transaction, analysis),
    )
