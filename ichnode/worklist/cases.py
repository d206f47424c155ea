"""Consecutive studies, each with what the node said and what people say.

Every study of the window is a case, labelled or not, analysed or not: of chosen ones nobody could
tell how much was missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select

from ichnode.domain.findings import LABELS, Finding, Presence
from ichnode.domain.lifecycle import Analysis, Band, Delivery
from ichnode.domain.series import Header, InstanceRef
from ichnode.worklist import tables as t
from ichnode.worklist.analyses import instances_of
from ichnode.worklist.transactions import Database, Transaction
from ichnode.worklist.truths import StudyTruth, truths

CHUNK = 200  # studies per transaction


@dataclass(frozen=True, slots=True)
class Said:
    """What a model stated of a series, and when.

    Attributes
    ----------
    probabilities, presence : tuple
        In the order of `LABELS`.
    last_slice_at : datetime
        When the last slice of the set came.
    reported_at : datetime or None
        When a destination acknowledged the report; None while none did.
    """

    analysis_id: int
    model_uid: str
    finding: Finding
    probabilities: tuple[float, ...]
    presence: tuple[Presence, ...]
    set_digest: str
    instance_count: int
    started_at: datetime
    settled_at: datetime
    last_slice_at: datetime
    reported_at: datetime | None


@dataclass(frozen=True, slots=True)
class CaseSeries:
    """One series of a case. Holds PHI in its header."""

    series_id: int
    series_uid: str
    calling_ae: str
    state: Analysis
    final: bool
    reason: str  # code, "" for none
    score: float | None
    instance_count: int
    images_here: bool
    said: Said | None = None
    header: Header | None = field(default=None, repr=False)  # of its first instance


@dataclass(frozen=True, slots=True)
class Case:
    """One study. Holds PHI.

    Attributes
    ----------
    band : Band
        The most urgent that the node itself gave it; a person may have lowered it since.
    truth : StudyTruth
        What people say.
    """

    study_id: int
    study_uid: str
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)
    arrived_at: datetime
    band: Band
    series: tuple[CaseSeries, ...]
    truth: StudyTruth

    @property
    def flagged(self) -> bool:
        """Whether the node moved it to the front of the list."""
        return self.band in (Band.URGENT, Band.REVIEW)

    @property
    def stated(self) -> tuple[CaseSeries, ...]:
        """The series of which a model stated something."""
        return tuple(one for one in self.series if one.said is not None)

    @property
    def best(self) -> CaseSeries | None:
        """The stated series that is suited best; None where nothing was analysed.

        By the score alone, and not by what was found: otherwise the positives would be read in
        another kind of series than the negatives.
        """
        return max(
            self.stated,
            key=lambda one: (one.final, -1.0 if one.score is None else one.score, one.series_uid),
            default=None,
        )

    @property
    def reason(self) -> str:
        """Why nothing was stated, as a code; "" where something was.

        Of several series the reason of the one that came closest: it has the most instances.
        """
        if self.stated:
            return ""
        for state in (Analysis.FAILED, Analysis.PENDING):
            if any(one.state is state for one in self.series):
                return str(state.value)
        closest = max(self.series, key=lambda one: one.instance_count, default=None)
        return closest.reason if closest else "no_series"


class Cases:
    """Reads consecutive studies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, since: datetime, until: datetime) -> int:
        """Return how many studies arrived from `since` on and before `until`."""
        with self._database.reading() as transaction:
            asked = select(func.count(t.Study.id)).where(
                t.Study.arrived_at >= since, t.Study.arrived_at < until
            )
            return int(transaction.session.scalar(asked) or 0)

    def between(self, since: datetime, until: datetime) -> Iterator[Case]:
        """Yield every study that arrived from `since` on and before `until`, in order of arrival.

        Read in pieces, so that no transaction is open for long.
        """
        last = 0
        while True:
            with self._database.reading() as transaction:
                studies = transaction.session.scalars(
                    select(t.Study)
                    .where(
                        t.Study.id > last, t.Study.arrived_at >= since, t.Study.arrived_at < until
                    )
                    .order_by(t.Study.id)
                    .limit(CHUNK)
                ).all()
                cases = _cases(transaction, studies)
            if not cases:
                return
            yield from cases
            last = cases[-1].study_id

    def instances(self, series_id: int, count: int) -> tuple[InstanceRef, ...]:
        """Return the first `count` instances of a series, which are the set that was analysed."""
        with self._database.reading() as transaction:
            return instances_of(transaction, series_id, count)

    def now(self) -> datetime:
        """Return the present moment by the clock that the arrivals are kept by."""
        with self._database.reading() as transaction:
            return transaction.now


def _cases(transaction: Transaction, studies: Sequence[t.Study]) -> list[Case]:
    ids = [study.id for study in studies]
    series = _series(transaction, ids)
    bands = _bands(transaction, ids)
    true = truths(transaction, ids)
    return [
        Case(
            study_id=study.id,
            study_uid=study.study_uid,
            patient_id=study.patient_id,
            issuer_of_patient_id=study.issuer_of_patient_id,
            arrived_at=study.arrived_at,
            band=bands.get(study.id, Band.NOT_ANALYSED),
            series=tuple(series[study.id]),
            truth=true.get(study.id, StudyTruth()),
        )
        for study in studies
    ]


def _bands(transaction: Transaction, study_ids: Sequence[int]) -> dict[int, Band]:
    """Return the most urgent band that the node itself gave each study."""
    rows = transaction.session.execute(
        select(t.Verdict.study_id, t.Verdict.band)
        .where(t.Verdict.study_id.in_(study_ids), t.Verdict.judged_by == "ichnode")
        .order_by(t.Verdict.id)
    )
    found: dict[int, Band] = {}
    for study_id, band in rows:
        before = found.get(study_id)
        if before is None or band.rank < before.rank or before.rank == 2:
            found[study_id] = band
    return found


def _series(transaction: Transaction, study_ids: Sequence[int]) -> dict[int, list[CaseSeries]]:
    session = transaction.session
    rows = session.scalars(
        select(t.Series).where(t.Series.study_id.in_(study_ids)).order_by(t.Series.id)
    ).all()
    ids = [row.id for row in rows]
    gone = set(
        session.scalars(
            select(t.Instance.series_id)
            .where(t.Instance.series_id.in_(ids), t.Instance.purged_at.is_not(None))
            .distinct()
        )
    )
    first = {
        row.series_id: row.header
        for row in session.execute(
            select(t.Instance.series_id, t.Instance.header).where(
                t.Instance.series_id.in_(ids), t.Instance.ordinal == 1
            )
        )
    }
    said = _said(transaction, [row.analysis_id for row in rows if row.analysis_id is not None])
    found: dict[int, list[CaseSeries]] = defaultdict(list)
    for row in rows:
        found[row.study_id].append(
            CaseSeries(
                series_id=row.id,
                series_uid=row.series_uid,
                calling_ae=row.calling_ae,
                state=row.analysis,
                final=row.final,
                reason=row.reason or "",
                score=row.score,
                instance_count=row.instance_count,
                images_here=row.id not in gone,
                said=said.get(row.analysis_id or 0),
                header=first.get(row.id),
            )
        )
    return found


def _said(transaction: Transaction, analysis_ids: Sequence[int]) -> dict[int, Said]:
    session = transaction.session
    findings: dict[int, dict[str, tuple[float, str]]] = defaultdict(dict)
    for id_, label, probability, presence in session.execute(
        select(
            t.Finding.analysis_id, t.Finding.label, t.Finding.probability, t.Finding.presence
        ).where(t.Finding.analysis_id.in_(analysis_ids))
    ):
        findings[id_][label] = (probability, presence)
    reported = {
        row.analysis_id: row.at
        for row in session.execute(
            select(t.Delivery.analysis_id, func.min(t.Delivery.delivered_at).label("at"))
            .where(
                t.Delivery.analysis_id.in_(analysis_ids),
                t.Delivery.kind == "sr",
                t.Delivery.state == Delivery.DELIVERED,
            )
            .group_by(t.Delivery.analysis_id)
        )
    }
    columns = (
        t.Analysis.id,
        t.Analysis.model_uid,
        t.Analysis.finding,
        t.Analysis.set_digest,
        t.Analysis.instance_count,
        t.Analysis.started_at,
        t.Analysis.settled_at,
        t.Analysis.last_slice_at,
    )
    return {
        row.id: Said(
            analysis_id=row.id,
            model_uid=row.model_uid,
            finding=row.finding,
            probabilities=tuple(findings[row.id][label][0] for label in LABELS),
            presence=tuple(Presence(findings[row.id][label][1]) for label in LABELS),
            set_digest=row.set_digest,
            instance_count=row.instance_count,
            started_at=row.started_at,
            settled_at=row.settled_at,
            last_slice_at=row.last_slice_at,
            reported_at=reported.get(row.id),
        )
        for row in session.execute(select(*columns).where(t.Analysis.id.in_(analysis_ids)))
    }
