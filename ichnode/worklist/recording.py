"""Arrivals: what the receiver made durable becomes rows, and series become due.

Safe to repeat: the receiver replays what it is not sure of, and a scanner sends again what it is
not sure of. The rows of a study and of a series are locked before its instances are looked up, so
that two receivers with the same slice agree on who was first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from ichnode.domain.lifecycle import (
    ANALYSIS,
    RECEPTION,
    Analysis,
    AnalysisEvent,
    Band,
    Reception,
    ReceptionEvent,
    advance,
)
from ichnode.domain.series import Arrival, Header, Refusal
from ichnode.domain.triage import list_rank, ordered_rank
from ichnode.worklist import tables as t
from ichnode.worklist.columns import accession, patient_id, plain, small
from ichnode.worklist.dueness import is_complete, set_due
from ichnode.worklist.notices import tell_of_state
from ichnode.worklist.ordering import raise_order, take_orders
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction
from ichnode.worklist.verdicts import rejudge

_PATIENT = (
    "issuer_of_patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "patient_age",
    "study_date",
    "study_time",
    "study_description",
)


@dataclass(frozen=True, slots=True)
class Known:
    """An instance row that is there already."""

    id: int
    series_id: int
    purged: bool


class Recording:
    """The part of the worklist that the receiver calls."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def record(self, arrivals: Sequence[Arrival]) -> None:
        """Record a batch in one transaction; return when it is committed.

        The same bytes of the same SOP instance again change nothing. Other bytes under a known SOP
        Instance UID are a further row. A new instance makes its series due, and re-opens it if it
        was settled.

        Raises
        ------
        WorklistDown
            When the database does not answer; nothing was recorded, and the batch may be repeated.
        """
        unique = {(a.header.sop_uid, a.sha256): a for a in arrivals}
        if not unique:
            return
        with self._database.writing() as transaction:
            _Batch(transaction, self._policy, list(unique.values())).record()

    def association_released(self, association_id: str) -> None:
        """Take the release of an association as the hint that its series are whole.

        Series of which it brought two new instances or more become due now; with a scanner that
        opens an association per image, the quiet time stands. To be called after everything that
        the association brought was recorded. An aborted association is no hint: do not call.
        """
        brought = (
            select(t.Instance.series_id)
            .where(t.Instance.association_id == association_id)
            .group_by(t.Instance.series_id)
            .having(func.count() >= 2)
        )
        with self._database.writing() as transaction:
            found = transaction.session.scalars(
                select(t.Series)
                .where(
                    t.Series.id.in_(brought),
                    t.Series.due_at > transaction.now,
                    # An early positive is out: the next look is the final one.
                    t.Series.analysis != Analysis.POSITIVE,
                    # A look at what was looked at already would say the same.
                    t.Series.instance_count > t.Series.generation_count,
                )
                .order_by(t.Series.id)
                .with_for_update(key_share=True)
            )
            for series in found:
                rank = transaction.session.get_one(t.Study, series.study_id).ordered_rank
                set_due(series, transaction.now, rank, self._policy)
                transaction.hint()

    def refuse(self, refusal: Refusal) -> None:
        """Keep what was turned away at the door, for a person to see."""
        with self._database.writing() as transaction:
            transaction.event(
                "arrival",
                "refused",
                refused_at=refusal.at.isoformat(),
                calling_ae=refusal.calling_ae,
                peer_address=refusal.peer_address,
                status=refusal.status,
                sentence=refusal.sentence,
                sop_class_uid=refusal.sop_class_uid,
            )


class _Batch:
    """One batch on its way into the database."""

    def __init__(
        self, transaction: Transaction, policy: Policy, arrivals: Sequence[Arrival]
    ) -> None:
        self._transaction, self._policy, self._arrivals = transaction, policy, arrivals
        self._session, self._now = transaction.session, transaction.now
        self._insert: Any = (
            sqlite_insert if self._session.get_bind().dialect.name == "sqlite" else postgres_insert
        )

    def record(self) -> None:
        homes = self._homes()
        studies = self._studies(set(homes.values()))
        series = self._series(studies)
        known = self._known()
        arrived: dict[int, list[Arrival]] = defaultdict(list)
        for arrival in self._arrivals:
            there = known.get(arrival.header.sop_uid, {}).get(arrival.sha256)
            if there is None:
                arrived[series[arrival.header.series_uid].id].append(arrival)
            elif there.purged:
                self._bring_back(there, arrival)
        by_id = {one.id: one for one in series.values()}
        owners = {one.id: one for one in studies.values()}
        touched = {}
        for series_id in sorted(arrived):
            one = by_id[series_id]
            study = self._owner(one, owners)
            if self._add(study, one, arrived[series_id], known):
                touched[study.id] = study
        for study_id in sorted(touched):
            rejudge(self._transaction, self._policy, touched[study_id])

    def _homes(self) -> dict[str, str]:
        """Return the study of each series of the batch: the one that it came under first.

        It is another one than a header's when a series mixes studies. infer declines the series;
        a study that has no series of its own gets no row, about which nothing could ever be said.
        """
        uids = {arrival.header.series_uid for arrival in self._arrivals}
        rows = self._session.execute(
            select(t.Series.series_uid, t.Study.study_uid)
            .join(t.Study, t.Study.id == t.Series.study_id)
            .where(t.Series.series_uid.in_(uids))
        )
        homes = {row.series_uid: row.study_uid for row in rows}
        for arrival in self._arrivals:
            homes.setdefault(arrival.header.series_uid, arrival.header.study_uid)
        return homes

    def _owner(self, series: t.Series, studies: dict[int, t.Study]) -> t.Study:
        """Return the locked study of a series, also when another receiver entered it just now."""
        if series.study_id not in studies:
            studies[series.study_id] = self._session.get_one(
                t.Study, series.study_id, with_for_update={"key_share": True}
            )
        return studies[series.study_id]

    def _known(self) -> dict[str, dict[str, Known]]:
        """Return the rows of the batch's SOP instances by UID and digest."""
        uids = {arrival.header.sop_uid for arrival in self._arrivals}
        found: dict[str, dict[str, Known]] = defaultdict(dict)
        rows = self._session.execute(
            select(
                t.Instance.sop_uid,
                t.Instance.sha256,
                t.Instance.id,
                t.Instance.series_id,
                t.Instance.purged_at,
            ).where(t.Instance.sop_uid.in_(uids))
        )
        for sop_uid, sha256, id_, series_id, purged_at in rows:
            found[sop_uid][sha256] = Known(id_, series_id, purged_at is not None)
        return found

    def _studies(self, uids: set[str]) -> dict[str, t.Study]:
        """Return the studies of the batch's series, locked, the new ones entered."""
        first: dict[str, Arrival] = {}
        for arrival in self._arrivals:
            first.setdefault(arrival.header.study_uid, arrival)
        there = self._locked(t.Study, t.Study.study_uid, uids)
        missing = [first[uid] for uid in sorted(uids - there.keys())]
        if missing:
            self._session.execute(
                self._insert(t.Study).on_conflict_do_nothing(index_elements=["study_uid"]),
                [self._study_values(arrival) for arrival in missing],
            )
            there = self._locked(t.Study, t.Study.study_uid, uids)
        news = {arrival.header.study_uid for arrival in missing}
        before = {uid: study.ordered_priority for uid, study in there.items()}
        for arrival in self._arrivals:
            study = there.get(arrival.header.study_uid)
            if study is not None:
                study.last_arrived_at = self._now
                raise_order(study, _stated(arrival.header), self._policy.weights)
        take_orders(self._transaction, self._policy, there.values())
        for arrival in self._arrivals:
            if study := there.get(arrival.header.study_uid):
                weighed = self._list_rank(arrival, study.ordered_priority)
                study.list_rank = min(study.list_rank, weighed)
        for uid, study in there.items():
            if uid in news or study.ordered_priority != before[uid]:
                tell_of_state(self._transaction, study)
        return there

    def _locked(self, table: Any, key: Any, uids: Iterable[str]) -> dict[str, Any]:
        rows = self._session.scalars(
            select(table)
            .where(key.in_(list(uids)))
            .order_by(table.id)
            .with_for_update(key_share=True)
        )
        return {getattr(row, key.key): row for row in rows}

    def _study_values(self, arrival: Arrival) -> dict[str, Any]:
        header, stated = arrival.header, _stated(arrival.header)
        return {
            "study_uid": header.study_uid,
            "patient_id": patient_id(header.patient_id),
            "accession_number": accession(header.accession_number),
            **{name: plain(getattr(header, name)) for name in _PATIENT},
            "ordered_priority": stated,
            "ordered_rank": ordered_rank(stated),
            "list_rank": self._list_rank(arrival, stated),
            "band": Band.NOT_ANALYSED,
            "band_rank": Band.NOT_ANALYSED.rank,
            "sentence": "An analysis is pending.",
            "revision": 0,
            "arrived_at": self._now,
            "last_arrived_at": self._now,
        }

    def _list_rank(self, arrival: Arrival, stated: str) -> int:
        weights = self._policy.weights
        return list_rank(
            stated, weights.of(arrival.calling_ae, arrival.header.station_name, stated)
        )

    def _series(self, studies: dict[str, t.Study]) -> dict[str, t.Series]:
        """Return the batch's series, locked, the new ones entered."""
        first: dict[str, Arrival] = {}
        for arrival in self._arrivals:
            first.setdefault(arrival.header.series_uid, arrival)
        there = self._locked(t.Series, t.Series.series_uid, first)
        missing = [first[uid] for uid in sorted(first.keys() - there.keys())]
        if missing:
            self._session.execute(
                self._insert(t.Series).on_conflict_do_nothing(index_elements=["series_uid"]),
                [self._series_values(a, studies[a.header.study_uid]) for a in missing],
            )
            there = self._locked(t.Series, t.Series.series_uid, first)
        return there

    def _series_values(self, arrival: Arrival, study: t.Study) -> dict[str, Any]:
        header = arrival.header
        return {
            "series_uid": header.series_uid,
            "study_id": study.id,
            "modality": plain(header.modality, 16),
            "series_number": small(header.series_number),
            "series_description": plain(header.series_description),
            "thin": header.is_thin,
            "calling_ae": plain(arrival.calling_ae, 64),
            "first_arrived_at": self._now,
            "last_arrived_at": self._now,
            "reception": Reception.ARRIVING,
            "analysis": Analysis.PENDING,
            "due_at": self._now + self._policy.plausible_quiet,
            "urgency_at": self._now + self._policy.plausible_quiet,
        }

    def _add(
        self,
        study: t.Study,
        series: t.Series,
        arrivals: Sequence[Arrival],
        known: dict[str, dict[str, Known]],
    ) -> bool:
        """Add new instances to a series; return whether the study must be judged anew."""
        session, now = self._session, self._now
        appeared = series.instance_count == 0
        session.execute(
            insert(t.Instance),
            [
                self._instance_values(series, series.instance_count + number, arrival)
                for number, arrival in enumerate(arrivals, start=1)
            ],
        )
        new_uids = {a.header.sop_uid for a in arrivals} - known.keys()
        self._mention_mixture(study, series, arrivals)
        series.instance_count += len(arrivals)
        series.sop_count += len(new_uids)
        series.stored_bytes += sum(a.size_bytes for a in arrivals)
        series.last_arrived_at = now
        series.thin = series.thin or any(a.header.is_thin for a in arrivals)
        stated = [small(a.header.expected_count) or 0 for a in arrivals]
        series.expected_count = max(series.expected_count or 0, *stated) or None
        study.purged_at, study.last_arrived_at = None, now
        before = series.reception, series.analysis
        series.reception = advance(RECEPTION, series.reception, ReceptionEvent.SLICE_ARRIVED)
        series.analysis = advance(ANALYSIS, series.analysis, AnalysisEvent.SLICE_ARRIVED)
        series.reason, series.detail, series.final, series.attempts = None, "", False, 0
        self._make_due(study, series, grew=bool(new_uids))
        reopened = before[1] is not series.analysis or before[0] is Reception.FINAL
        if appeared or reopened:
            self._transaction.event(
                "series",
                "appeared" if appeared else "reopened",
                study_uid=study.study_uid,
                series_uid=series.series_uid,
                instances=series.instance_count,
                before=None if appeared else before[1].value,
            )
        if before[0] is Reception.FINAL:
            tell_of_state(self._transaction, study)  # its images are not all there after all
        # A study that just appeared says "pending" already.
        return before[1] is not series.analysis or (appeared and study.arrived_at != now)

    def _mention_mixture(
        self, study: t.Study, series: t.Series, arrivals: Sequence[Arrival]
    ) -> None:
        """Keep in the history which other studies the slices of a series name."""
        for uid in sorted({a.header.study_uid for a in arrivals} - {study.study_uid}):
            self._transaction.event("series", "mixed", study_uid=uid, series_uid=series.series_uid)

    def _make_due(self, study: t.Study, series: t.Series, *, grew: bool) -> None:
        """Set when the series is looked at next, by the database's clock."""
        due_at = self._now
        if grew and is_complete(series):
            self._transaction.hint()
        elif series.analysis is Analysis.POSITIVE:
            due_at += self._policy.final_quiet(thin=series.thin)
        else:
            due_at += self._policy.plausible_quiet
        set_due(series, due_at, study.ordered_rank, self._policy)

    def _instance_values(self, series: t.Series, ordinal: int, arrival: Arrival) -> dict[str, Any]:
        return {
            "series_id": series.id,
            "ordinal": ordinal,
            "sop_uid": arrival.header.sop_uid,
            "sha256": arrival.sha256,
            "transfer_syntax_uid": arrival.transfer_syntax_uid,
            "path": arrival.path,
            "size_bytes": arrival.size_bytes,
            "header": arrival.header,
            "association_id": arrival.association_id,
            "calling_ae": plain(arrival.calling_ae, 64),
            "called_ae": plain(arrival.called_ae, 64),
            "peer_address": arrival.peer_address,
            "received_at": arrival.received_at,
            "recorded_at": self._now,
        }

    def _bring_back(self, there: Known, arrival: Arrival) -> None:
        """Note that the bytes of a purged instance are here again; nothing new follows."""
        session = self._session
        session.execute(
            update(t.Instance)
            .where(t.Instance.id == there.id)
            .values(purged_at=None, path=arrival.path, association_id=arrival.association_id)
            .execution_options(synchronize_session=False)
        )
        series = session.get_one(t.Series, there.series_id, with_for_update={"key_share": True})
        series.stored_bytes += arrival.size_bytes
        session.get_one(t.Study, series.study_id).purged_at = None  # so that it is purged again


def _stated(header: Header) -> str:
    return plain(header.requested_priority.strip().upper(), 16)
