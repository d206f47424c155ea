"""What an archive has is held against what came here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.holdings import Expected
from ichnode.worklist import tables as t
from ichnode.worklist.columns import plain
from ichnode.worklist.rows import AbsentRow, ComparisonRow, NotReceived
from ichnode.worklist.transactions import Database, Transaction

FETCHES_MOST = 5
"""After so many a person must look: the archive will not send it, or something else takes it."""

_AT_ONCE = 500  # values in one question to the database


@dataclass(frozen=True, slots=True)
class _Here:
    """What is here of a study."""

    counts: Mapping[str, int]  # different SOP instances by Series UID
    last_arrived_at: datetime | None


class Reconciling:
    """The part of the worklist that knows what did not come."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def compare(
        self,
        peer: str,
        expected: Sequence[Expected],
        *,
        grace: timedelta,
        studies: int,
        problem: str = "",
        again_after: timedelta | None = None,
        whole_studies: bool = True,
    ) -> None:
        """Enter what is missing, and let go of what has come.

        Parameters
        ----------
        peer : str
            The archive.
        expected : sequence of Expected
            What should be here of what it was found to have.
        grace : timedelta
            A study of which an image came so lately is still arriving.
        studies : int
            How many studies it told of, heads or not.
        problem : str
            Why that was not all; then this comparison says nothing about what it did not name.
        again_after : timedelta, optional
            When the next one is to follow, by schedule.
        whole_studies : bool
            A series of which nothing came is missing, too.
        """
        with self._database.writing() as transaction:
            state = self._locked(transaction, peer)
            rows = {row.study_uid: row for row in transaction.session.scalars(select(t.Absent))}
            wanted = {one.study.study_uid: one for one in expected}
            here = _here(transaction, wanted.keys() | rows.keys())
            for uid, one in wanted.items():
                _enter(transaction, peer, one, rows.get(uid), here.get(uid), grace, whole_studies)
            transaction.session.flush()
            for row in transaction.session.scalars(select(t.Absent)):
                if not _missing(row.series, here.get(row.study_uid)):
                    transaction.session.delete(row)
                    _tell(transaction, row, "arrived_late")
            _note(transaction, state, len(expected), studies, problem, again_after)

    def to_fetch(self, peer: str, *, again_after: timedelta, limit: int) -> list[str]:
        """Return studies to ask an archive for: the latest first, each a few times at most."""
        with self._database.reading() as transaction:
            before = transaction.now - again_after
            asked = (
                select(t.Absent)
                .where(
                    t.Absent.peer == peer,
                    t.Absent.dismissed_at.is_(None),
                    t.Absent.fetches < FETCHES_MOST,
                    (t.Absent.fetched_at.is_(None)) | (t.Absent.fetched_at <= before),
                )
                .order_by(t.Absent.first_seen_at.desc(), t.Absent.id.desc())
            )
            missing = [row for row, _ in _still_missing(transaction, asked)]
            return [row.study_uid for row in missing[:limit]]

    def fetched(self, study_uid: str, problem: str) -> None:
        """Note that a study was asked for, and what the archive answered."""
        with self._database.writing() as transaction:
            row = _row(transaction, study_uid)
            if row is None:
                return
            if problem and problem != row.error:
                _tell(transaction, row, "fetch_failed", error=problem)
            elif not problem:
                _tell(transaction, row, "fetched")
            row.fetches, row.fetched_at, row.error = row.fetches + 1, transaction.now, problem

    def dismiss(self, study_uid: str, *, by: str) -> None:
        """Take a study that a person knows of off the list of what did not come.

        Raises
        ------
        ConfigurationError
            When it is not on that list.
        """
        with self._database.writing() as transaction:
            row = _row(transaction, study_uid)
            if row is None:
                raise ConfigurationError(f"No study {study_uid[:64]!r} is known to be missing.")
            row.dismissed_at, row.dismissed_by = transaction.now, plain(by, 64)
            _tell(transaction, row, "absence_dismissed", by=row.dismissed_by)

    def _locked(self, transaction: Transaction, peer: str) -> t.Comparison:
        """Return the row of an archive, locked: two comparisons at once come one after another."""
        insert = sqlite_insert if self._database.is_sqlite else postgres_insert
        session = transaction.session
        session.execute(
            insert(t.Comparison)
            .values(peer=peer, tried_at=transaction.now, studies=0, heads=0, error="")
            .on_conflict_do_nothing(index_elements=["peer"])
        )
        return session.scalars(
            select(t.Comparison).where(t.Comparison.peer == peer).with_for_update()
        ).one()


def not_received(transaction: Transaction) -> NotReceived:
    """Return what is missing now, and how the comparisons went."""
    asked = (
        select(t.Absent)
        .where(t.Absent.dismissed_at.is_(None))
        .order_by(t.Absent.first_seen_at.desc(), t.Absent.id.desc())
    )
    comparisons = transaction.session.scalars(select(t.Comparison).order_by(t.Comparison.peer))
    return NotReceived(
        rows=tuple(_absent_row(row, here) for row, here in _still_missing(transaction, asked)),
        comparisons=tuple(
            ComparisonRow(
                one.peer,
                one.tried_at,
                one.compared_at,
                one.studies,
                one.heads,
                one.error or _overdue(one, transaction.now),
            )
            for one in comparisons
        ),
    )


def _overdue(one: t.Comparison, now: datetime) -> str:
    """Say that a scheduled comparison did not take place; one may be late by as long again."""
    if one.due_again_at is None or now <= one.due_again_at + (one.due_again_at - one.tried_at):
        return ""
    return "The comparison that was due did not take place."


def _still_missing(
    transaction: Transaction, asked: object
) -> Iterator[tuple[t.Absent, _Here | None]]:
    rows = list(transaction.session.scalars(asked))  # type: ignore[call-overload]
    here = _here(transaction, [row.study_uid for row in rows])
    for row in rows:
        if _missing(row.series, here.get(row.study_uid)):
            yield row, here.get(row.study_uid)


def _here(transaction: Transaction, study_uids: Iterable[str]) -> dict[str, _Here]:
    """Return what is here of each study; one of which nothing is here is left out."""
    uids, found = sorted(study_uids), {}
    for start in range(0, len(uids), _AT_ONCE):
        rows = transaction.session.execute(
            select(
                t.Study.study_uid,
                t.Series.series_uid,
                t.Series.sop_count,
                t.Series.last_arrived_at,
            )
            .join(t.Series, t.Series.study_id == t.Study.id)
            .where(t.Study.study_uid.in_(uids[start : start + _AT_ONCE]))
        ).all()
        for study_uid in {row[0] for row in rows}:
            mine = [row for row in rows if row[0] == study_uid]
            found[study_uid] = _Here({row[1]: row[2] for row in mine}, max(row[3] for row in mine))
    return found


def _missing(series: Mapping[str, int | None], here: _Here | None) -> bool:
    """Say whether anything of what should be here is not."""
    if here is None:
        return True
    return any(here.counts.get(uid, 0) < _least(count) for uid, count in series.items())


def _least(count: int | None) -> int:
    return 1 if count is None else count


def _enter(
    transaction: Transaction,
    peer: str,
    one: Expected,
    row: t.Absent | None,
    here: _Here | None,
    grace: timedelta,
    whole_studies: bool,
) -> None:
    series = dict(one.series)
    if here is not None and not whole_studies:
        series = {uid: count for uid, count in series.items() if uid in here.counts} or series
    if row is None:
        lately = here and here.last_arrived_at and transaction.now - here.last_arrived_at < grace
        if not _missing(series, here) or lately:
            return
        row = t.Absent(study_uid=one.study.study_uid, first_seen_at=transaction.now)
        transaction.session.add(row)
        _tell(transaction, row, "not_received" if here is None else "incomplete", peer=peer)
    row.peer, row.series, row.last_seen_at = peer, series, transaction.now
    row.patient_name, row.patient_id = plain(one.study.patient_name), plain(one.study.patient_id)
    row.accession_number = plain(one.study.accession_number)
    row.study_date, row.study_time = plain(one.study.study_date), plain(one.study.study_time)
    row.study_description = plain(one.study.description)


def _note(
    transaction: Transaction,
    state: t.Comparison,
    heads: int,
    studies: int,
    problem: str,
    again_after: timedelta | None,
) -> None:
    if problem != state.error:
        transaction.event(
            "reconcile",
            "failed" if problem else "recovered",
            peer=state.peer,
            error=problem or None,
        )
    state.tried_at, state.error = transaction.now, problem
    state.due_again_at = None if again_after is None else transaction.now + again_after
    state.studies, state.heads = studies, heads
    if not problem:
        state.compared_at = transaction.now


def _row(transaction: Transaction, study_uid: str) -> t.Absent | None:
    return transaction.session.scalar(
        select(t.Absent).where(t.Absent.study_uid == study_uid).with_for_update()
    )


def _tell(transaction: Transaction, row: t.Absent, verb: str, **detail: str) -> None:
    transaction.event("study", verb, study_uid=row.study_uid, **detail)


def _absent_row(row: t.Absent, here: _Here | None) -> AbsentRow:
    counts = {} if here is None else here.counts
    told = [count for count in row.series.values() if count is not None]
    return AbsentRow(
        study_uid=row.study_uid,
        peer=row.peer,
        nothing_came=here is None,
        held=sum(told) if told else None,
        here=sum(counts.get(uid, 0) for uid in row.series),
        series_missing=sum(uid not in counts for uid in row.series),
        patient_name=row.patient_name,
        patient_id=row.patient_id,
        accession_number=row.accession_number,
        study_date=row.study_date,
        study_time=row.study_time,
        study_description=row.study_description,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        fetches=row.fetches,
        fetched_at=row.fetched_at,
        error=row.error,
    )
