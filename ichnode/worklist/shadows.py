"""The shadow: what a challenger would have said of live studies, at the lowest priority of all.

Nothing here is ever a result. A row is compared with the analysis that the readers saw, and people
look at the comparison before they promote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, assert_never

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis, Band
from ichnode.domain.work import (
    Declined,
    Failed,
    Interrupted,
    Lease,
    Shadowed,
    ShadowOutcome,
    ShadowWork,
)
from ichnode.worklist import leases
from ichnode.worklist import tables as t
from ichnode.worklist.analyses import instances_of
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction

_BANDS = {
    Finding.POSITIVE: Band.URGENT,
    Finding.REVIEW: Band.REVIEW,
    Finding.NEGATIVE: Band.ROUTINE,
}


@dataclass(frozen=True, slots=True)
class Challenger:
    """Which model reads in the shadow, and since when: from earlier studies it may have learnt."""

    model_uid: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A study that the challenger would have put into another band."""

    study_uid: str
    champion: Band
    challenger: Band


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """How a challenger did in the shadow.

    Attributes
    ----------
    studies : int
        Studies of which it said something.
    failed : int
        Series on which it failed for good.
    first_at : datetime or None
        When it said something for the first time.
    seconds : float or None
        The median per series.
    """

    studies: int
    failed: int
    first_at: datetime | None
    seconds: float | None
    disagreements: tuple[Disagreement, ...]

    @property
    def share(self) -> float:
        """Which share of the studies it would have put into another band."""
        return len(self.disagreements) / self.studies if self.studies else 0.0


class ShadowQueue:
    """Finished series that a challenger has not read yet; a `Queue` for the shadow.

    Parameters
    ----------
    challenger : callable
        Asked at each claim which model reads in the shadow; None for none.
    """

    def __init__(
        self, database: Database, policy: Policy, challenger: Callable[[], Challenger | None]
    ) -> None:
        self._database, self._policy, self._challenger = database, policy, challenger

    def busy(self) -> bool:
        """Say whether any live series is due, be it in somebody's hands or not."""
        with self._database.reading() as transaction:
            return _live(transaction)

    def claim(self, owner: str) -> ShadowWork | None:
        """Take a series under a lease, or return None: nothing to read, or live work is due.

        Raises
        ------
        WorklistDown
            When the database does not answer.
        """
        challenger = self._challenger()
        limit = self._policy.work_retry.attempts
        while challenger is not None and self._anything(challenger):
            work = self._take(owner, challenger)
            if work is None or limit is None or work.lease.attempts <= limit:
                return work
            self.settle(work, Failed("The workers that took it died.", transient=False))
        return None

    def _anything(self, challenger: Challenger) -> bool:
        with self._database.reading() as transaction:
            if _live(transaction):
                return False
            due = _due(transaction, challenger)
            free = leases.is_free(t.Shadow, transaction)
            open_ = transaction.session.scalar(select(t.Shadow.id).where(*due, free).limit(1))
            return open_ is not None or _next(transaction, challenger) is not None

    def _take(self, owner: str, challenger: Challenger) -> ShadowWork | None:
        with self._database.writing() as transaction:
            if _live(transaction):
                return None
            self._enter(transaction, challenger)
            taken = leases.claim(
                transaction,
                t.Shadow,
                _due(transaction, challenger),
                (t.Shadow.due_at, t.Shadow.id),
                owner=owner,
                for_=self._policy.lease,
            )
            return _work(transaction, taken[0]) if taken else None

    def _enter(self, transaction: Transaction, challenger: Challenger) -> None:
        """Enter the next series, unless another worker has done so in this moment."""
        found = _next(transaction, challenger)
        if found is None:
            return
        insert: Any = sqlite_insert if self._database.is_sqlite else postgres_insert
        transaction.session.execute(
            insert(t.Shadow)
            .values(
                series_id=found.series_id,
                analysis_id=found.id,
                set_digest=found.set_digest,
                model_uid=challenger.model_uid,
                attempts=0,
                due_at=transaction.now,
                created_at=transaction.now,
                error="",
            )
            .on_conflict_do_nothing(index_elements=["series_id", "set_digest", "model_uid"])
        )

    def renew(self, lease: Lease, for_: timedelta) -> bool:
        """Prolong the lease; False when it is lost."""
        return leases.renew(self._database, t.Shadow, lease, for_)

    def settle(self, work: ShadowWork, outcome: ShadowOutcome) -> bool:
        """Write what came of it; False when the lease was lost and nothing was written."""
        with self._database.writing() as transaction:
            row = leases.held(transaction, t.Shadow, work.lease)
            if row is None:
                return False
            row.drop_lease()
            match outcome:
                case Shadowed(finding, probabilities, seconds):
                    row.finding, row.probabilities = finding, list(probabilities)
                    row.seconds, row.settled_at, row.error = seconds, transaction.now, ""
                case Declined(reason):
                    row.reason, row.settled_at, row.error = reason.code, transaction.now, ""
                case Interrupted():
                    row.attempts, row.due_at = max(row.attempts - 1, 0), transaction.now
                case Failed():
                    self._failed(transaction, row, work, outcome)
                case _:
                    assert_never(outcome)
        return True

    def _failed(
        self, transaction: Transaction, row: t.Shadow, work: ShadowWork, outcome: Failed
    ) -> None:
        retry = self._policy.work_retry
        row.error = outcome.error or "failed"
        if outcome.transient and not retry.exhausted(row.attempts):
            row.due_at = transaction.now + retry.wait(row.attempts)
            return
        row.settled_at = transaction.now
        transaction.event(
            "shadow",
            "failed",
            study_uid=work.study_uid,
            series_uid=work.series_uid,
            model_uid=work.model_uid,
            error=outcome.error,
        )

    def figures(self, model_uid: str) -> ShadowFigures:
        """Return how a model did in the shadow so far."""
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(
                    t.Study.study_uid,
                    t.Series.id,
                    t.Analysis.finding,
                    t.Shadow.finding,
                    t.Shadow.reason,
                    t.Shadow.seconds,
                    t.Shadow.settled_at,
                )
                .join(t.Series, t.Series.id == t.Shadow.series_id)
                .join(t.Study, t.Study.id == t.Series.study_id)
                .join(t.Analysis, t.Analysis.id == t.Shadow.analysis_id)
                .where(t.Shadow.model_uid == model_uid, t.Shadow.settled_at.is_not(None))
                .order_by(t.Shadow.id)
            ).all()
        return _figures(rows)


def _figures(rows: Sequence[Any]) -> ShadowFigures:
    said: dict[str, dict[int, tuple[Band, Band]]] = defaultdict(dict)
    seconds, moments, failed = [], [], 0
    for study_uid, series_id, champion, challenger, reason, took_s, settled_at in rows:
        if challenger is None and reason is None:
            failed += 1
            continue
        theirs = _BANDS[challenger] if challenger is not None else Band.NOT_ANALYSED
        said[study_uid][series_id] = (_BANDS[champion], theirs)  # of several sets the last
        moments.append(settled_at)
        if took_s is not None:
            seconds.append(took_s)
    compared = [
        Disagreement(uid, _worst(a for a, _ in of.values()), _worst(b for _, b in of.values()))
        for uid, of in said.items()
    ]
    return ShadowFigures(
        studies=len(compared),
        failed=failed,
        first_at=min(moments, default=None),
        seconds=median(seconds) if seconds else None,
        disagreements=tuple(one for one in compared if one.champion is not one.challenger),
    )


def _worst(bands: Iterable[Band]) -> Band:
    """Return the band of a study by those of its series; something said goes before nothing."""
    ordered = sorted(bands, key=lambda band: (band.rank, band is Band.NOT_ANALYSED))
    return ordered[0]


def _live(transaction: Transaction) -> bool:
    due = select(t.Series.id).where(t.Series.due_at <= transaction.now).limit(1)
    return transaction.session.scalar(due) is not None


def _due(transaction: Transaction, challenger: Challenger) -> list[ColumnElement[bool]]:
    return [
        t.Shadow.model_uid == challenger.model_uid,
        t.Shadow.settled_at.is_(None),
        t.Shadow.due_at <= transaction.now,
        ~_purged(t.Shadow.series_id),
    ]


def _purged(series_id: Any) -> ColumnElement[bool]:
    return exists().where(t.Instance.series_id == series_id, t.Instance.purged_at.is_not(None))


def _next(transaction: Transaction, challenger: Challenger) -> t.Analysis | None:
    """Return the analysis of the finished series that has waited longest for the challenger."""
    known = exists().where(
        t.Shadow.series_id == t.Analysis.series_id,
        t.Shadow.set_digest == t.Analysis.set_digest,
        t.Shadow.model_uid == challenger.model_uid,
    )
    return transaction.session.scalar(
        select(t.Analysis)
        .join(t.Series, t.Series.analysis_id == t.Analysis.id)
        .where(
            t.Series.analysis.in_([Analysis.POSITIVE, Analysis.REVIEW, Analysis.NEGATIVE]),
            t.Series.final,
            t.Series.last_arrived_at >= challenger.since,
            t.Analysis.model_uid != challenger.model_uid,
            ~known,
            ~_purged(t.Series.id),
        )
        .order_by(t.Series.last_arrived_at, t.Series.id)
        .limit(1)
    )


def _work(transaction: Transaction, row: t.Shadow) -> ShadowWork:
    analysis = transaction.session.get_one(t.Analysis, row.analysis_id)
    series = transaction.session.get_one(t.Series, row.series_id)
    study = transaction.session.get_one(t.Study, series.study_id)
    return ShadowWork(
        lease=leases.lease_of(row),
        series_uid=series.series_uid,
        study_uid=study.study_uid,
        model_uid=row.model_uid,
        instances=instances_of(transaction, series.id, analysis.instance_count),
    )
