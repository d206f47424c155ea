"""Everything that is shown: read-only transactions that see one state of things."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from ichnode.domain.lifecycle import Analysis, Delivery
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Refusal
from ichnode.worklist import tables as t
from ichnode.worklist.gauges import Gauges
from ichnode.worklist.order import list_ranges
from ichnode.worklist.policy import Policy
from ichnode.worklist.reconciling import not_received
from ichnode.worklist.rows import (
    DeliveryRow,
    DocumentRow,
    EventRow,
    FindingRow,
    ListRow,
    NotReceived,
    SeriesRow,
    SeriesStory,
    StrandedRow,
    StudyStory,
    VerdictRow,
)
from ichnode.worklist.stranded import stranded_rows
from ichnode.worklist.transactions import Database, Transaction

EVENTS_MAX = 1000


class Views(Gauges):
    """The questions that pages, commands, health check and metrics ask."""

    def __init__(self, database: Database, policy: Policy) -> None:
        super().__init__(database)
        self._policy = policy

    def reading_list(self, limit: int = 100, offset: int = 0) -> list[ListRow]:
        """Return the reading list in the order of `ichnode.domain.triage.list_key`.

        Studies whose images are purged are off the list. The order is one of eight ranges of two
        indexes, read one after the other until there are enough: nothing is sorted.
        """
        with self._database.reading() as transaction:
            studies: list[t.Study] = []
            wanted = limit + offset
            for conditions in list_ranges(transaction.now, self._policy.waiting_cap):
                if len(studies) >= wanted:
                    break
                studies += transaction.session.scalars(
                    select(t.Study)
                    .where(*conditions)
                    .order_by(t.Study.arrived_at, t.Study.id)
                    .limit(wanted - len(studies))
                )
            return _list_rows(transaction, studies[offset:])

    def study(self, study_uid: str) -> StudyStory | None:
        """Return everything about a study, or None when it is not known."""
        with self._database.reading() as transaction:
            session = transaction.session
            study = session.scalar(select(t.Study).where(t.Study.study_uid == study_uid))
            if study is None:
                return None
            row = _list_rows(transaction, [study])[0]
            verdicts = session.scalars(
                select(t.Verdict).where(t.Verdict.study_id == study.id).order_by(t.Verdict.revision)
            )
            return StudyStory(
                row=row,
                series=row.series,
                verdicts=tuple(_verdict_row(one) for one in verdicts),
                documents=_documents(transaction, t.Document.study_id == study.id),
                deliveries=row.deliveries,
                events=_events(transaction, t.Event.study_uid == study_uid),
            )

    def series(self, series_uid: str) -> SeriesStory | None:
        """Return everything about a series, or None when it is not known."""
        with self._database.reading() as transaction:
            shown = _shown(transaction, _select_series().where(t.Series.series_uid == series_uid))
            if not shown:
                return None
            return SeriesStory(
                row=shown[0].row,
                documents=_documents(transaction, t.Series.series_uid == series_uid),
                events=_events(transaction, t.Event.series_uid == series_uid),
            )

    def not_analysed(self, limit: int = 100) -> list[SeriesRow]:
        """Return series without a result, with the reason; the latest first."""
        with self._database.reading() as transaction:
            silent = (Analysis.NOT_ANALYSED, Analysis.FAILED)
            shown = _shown(
                transaction,
                _select_series()
                .where(t.Series.analysis.in_(silent))
                .order_by(t.Series.last_arrived_at.desc(), t.Series.id.desc())
                .limit(limit),
            )
            return [one.row for one in shown]

    def refusals(self, limit: int = 100) -> list[Refusal]:
        """Return what was turned away at the door, the latest first."""
        with self._database.reading() as transaction:
            events = transaction.session.scalars(
                select(t.Event)
                .where(t.Event.noun == "arrival", t.Event.verb == "refused")
                .order_by(t.Event.id.desc())
                .limit(limit)
            )
            return [_refusal(event) for event in events]

    def not_received(self) -> NotReceived:
        """Return what an archive has and what is not here, the latest first."""
        with self._database.reading() as transaction:
            return not_received(transaction)

    def stranded(self) -> list[StrandedRow]:
        """Return what waits and no destination takes, by the name of the one that it is for."""
        with self._database.reading() as transaction:
            return stranded_rows(transaction, self._policy)

    def deliveries(
        self,
        *,
        destination: str | None = None,
        states: Sequence[Delivery] = tuple(Delivery),
        limit: int = 100,
    ) -> list[DeliveryRow]:
        """Return rows of the outbox, urgent ones first, then the oldest."""
        with self._database.reading() as transaction:
            asked = _select_deliveries().where(t.Delivery.state.in_(states))
            if destination is not None:
                asked = asked.where(t.Delivery.destination == destination)
            ordered = asked.order_by(t.Delivery.urgent.desc(), t.Delivery.id).limit(limit)
            return [DeliveryRow(*row) for row in transaction.session.execute(ordered)]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A series, and the latest that a model said of it.

    They differ where that is no longer what is stated of the series: a late slice re-opened it.
    The verdict may rest on it all the same, since an alert is not taken back.
    """

    row: SeriesRow
    model: str
    findings: tuple[FindingRow, ...]


def _list_rows(transaction: Transaction, studies: Sequence[t.Study]) -> list[ListRow]:
    ids = [study.id for study in studies]
    series: dict[str, list[_Shown]] = defaultdict(list)
    of_studies = _select_series().where(t.Series.study_id.in_(ids)).order_by(t.Series.id)
    for one in _shown(transaction, of_studies):
        series[one.row.study_uid].append(one)
    deliveries: dict[str, list[DeliveryRow]] = defaultdict(list)
    outbox = _select_deliveries().where(t.Delivery.study_id.in_(ids)).order_by(t.Delivery.id)
    for row in transaction.session.execute(outbox):
        deliveries[row[1]].append(DeliveryRow(*row))
    return [
        _list_row(study, series[study.study_uid], deliveries[study.study_uid]) for study in studies
    ]


def _list_row(
    study: t.Study, series: Sequence[_Shown], deliveries: Sequence[DeliveryRow]
) -> ListRow:
    trusted = next((s for s in series if s.row.series_uid == study.trusted_series_uid), None)
    return ListRow(
        study_uid=study.study_uid,
        band=study.band,
        sentence=study.sentence,
        revision=study.revision,
        ordered_priority=study.ordered_priority,
        arrived_at=study.arrived_at,
        last_arrived_at=study.last_arrived_at,
        patient_name=study.patient_name,
        patient_id=study.patient_id,
        patient_birth_date=study.patient_birth_date,
        patient_sex=study.patient_sex,
        accession_number=study.accession_number,
        study_date=study.study_date,
        study_description=study.study_description,
        trusted_series_uid=study.trusted_series_uid,
        model=trusted.model if trusted else "",
        findings=trusted.findings if trusted else (),
        series=tuple(one.row for one in series),
        deliveries=tuple(deliveries),
        seen_at=study.seen_at,
        seen_how=study.seen_how,
    )


def _select_series() -> Select[*tuple[Any, ...]]:
    return (
        select(t.Series, t.Study.study_uid, t.Analysis.model_name, t.Analysis.model_version)
        .join(t.Study, t.Study.id == t.Series.study_id)
        .outerjoin(t.Analysis, t.Analysis.id == t.Series.analysis_id)
    )


def _shown(transaction: Transaction, asked: Select[*tuple[Any, ...]]) -> list[_Shown]:
    found = transaction.session.execute(asked).all()
    analyses = {row[0].analysis_id for row in found if row[0].analysis_id is not None}
    findings: dict[int, list[FindingRow]] = defaultdict(list)
    rows = transaction.session.execute(
        select(
            t.Finding.analysis_id,
            t.Finding.label,
            t.Finding.probability,
            t.Finding.presence,
            t.Finding.key_sop_uid,
            t.Finding.key_instance_number,
        )
        .where(t.Finding.analysis_id.in_(analyses))
        .order_by(t.Finding.id)
    )
    for row in rows:
        findings[row[0]].append(FindingRow(*row[1:]))
    return [
        _shown_series(
            series,
            study_uid,
            f"{name} {version}" if name else "",
            tuple(findings.get(series.analysis_id or 0, ())),
        )
        for series, study_uid, name, version in found
    ]


def _shown_series(
    series: t.Series, study_uid: str, model: str, findings: tuple[FindingRow, ...]
) -> _Shown:
    stated = series.analysis in (Analysis.POSITIVE, Analysis.REVIEW, Analysis.NEGATIVE)
    row = SeriesRow(
        series_uid=series.series_uid,
        study_uid=study_uid,
        series_number=series.series_number,
        series_description=series.series_description,
        modality=series.modality,
        instances=series.instance_count,
        expected_count=series.expected_count,
        generation=series.generation,
        arrived_at=series.first_arrived_at,
        last_arrived_at=series.last_arrived_at,
        due_at=series.due_at,
        reception=series.reception,
        analysis=series.analysis,
        final=series.final,
        reason=Reason.from_code(series.reason) if series.reason else None,
        detail=series.detail,
        model=model if stated else "",
        findings=findings if stated else (),
    )
    return _Shown(row, model, findings)


def _select_deliveries() -> Select[*tuple[Any, ...]]:
    return select(
        t.Delivery.id,
        t.Study.study_uid,
        t.Delivery.destination,
        t.Delivery.kind,
        t.Delivery.state,
        t.Delivery.urgent,
        t.Delivery.attempts,
        t.Delivery.created_at,
        t.Delivery.due_at,
        t.Delivery.delivered_at,
        t.Delivery.status,
        t.Delivery.note,
        t.Delivery.error,
    ).join(t.Study, t.Study.id == t.Delivery.study_id)


def _verdict_row(verdict: t.Verdict) -> VerdictRow:
    return VerdictRow(
        verdict.revision,
        verdict.band,
        verdict.trusted_series_uid,
        verdict.sentence,
        verdict.judged_by,
        verdict.reason,
        verdict.at,
    )


def _documents(transaction: Transaction, condition: ColumnElement[bool]) -> tuple[DocumentRow, ...]:
    rows = transaction.session.execute(
        select(
            t.Document.kind,
            t.Document.sop_class_uid,
            t.Document.sop_uid,
            t.Series.series_uid,
            t.Document.state,
            t.Document.attempts,
            t.Document.built_at,
            t.Document.path,
            t.Document.error,
        )
        .join(t.Series, t.Series.id == t.Document.series_id)
        .where(condition)
        .order_by(t.Document.id)
    )
    return tuple(DocumentRow(*row) for row in rows)


def _events(transaction: Transaction, condition: ColumnElement[bool]) -> tuple[EventRow, ...]:
    """Return the latest events, the oldest of them first."""
    latest = transaction.session.scalars(
        select(t.Event).where(condition).order_by(t.Event.id.desc()).limit(EVENTS_MAX)
    ).all()
    return tuple(
        EventRow(one.at, one.noun, one.verb, one.study_uid, one.series_uid, one.detail)
        for one in reversed(latest)
    )


def _refusal(event: t.Event) -> Refusal:
    detail = event.detail
    return Refusal(
        at=datetime.fromisoformat(detail["refused_at"]),
        calling_ae=detail["calling_ae"],
        peer_address=detail["peer_address"],
        status=detail["status"],
        sentence=detail["sentence"],
        sop_class_uid=detail["sop_class_uid"],
    )
