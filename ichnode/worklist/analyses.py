"""The queue of analyses: which series is looked at next, frozen as it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, select

from ichnode.domain.lifecycle import RECEPTION, Reception, ReceptionEvent, advance
from ichnode.domain.series import InstanceRef, set_digest
from ichnode.domain.work import AnalysisOutcome, AnalysisWork, Failed, Lease, Phase
from ichnode.worklist import leases
from ichnode.worklist import tables as t
from ichnode.worklist.dueness import phase_of
from ichnode.worklist.notices import is_arriving, tell_of_state
from ichnode.worklist.policy import Policy
from ichnode.worklist.settling import Settling
from ichnode.worklist.transactions import Database, Transaction


def instances_of(transaction: Transaction, series_id: int, count: int) -> tuple[InstanceRef, ...]:
    """Return the frozen set of the first `count` instances of a series."""
    rows = transaction.session.execute(
        select(
            t.Instance.sha256, t.Instance.path, t.Instance.transfer_syntax_uid, t.Instance.header
        )
        .where(t.Instance.series_id == series_id, t.Instance.ordinal <= count)
        .order_by(t.Instance.ordinal)
    )
    return tuple(InstanceRef(*row) for row in rows)


def _due(transaction: Transaction) -> list[ColumnElement[bool]]:
    return [t.Series.due_at <= transaction.now]


class AnalysisQueue:
    """Series that are due to be looked at; a `Queue` for infer."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def claim(self, owner: str) -> AnalysisWork | None:
        """Take the most urgent due series, freeze its set, and return it under a lease.

        A series on which as many workers died as there are tries is quarantined on the way.

        Raises
        ------
        WorklistDown
            When the database does not answer.
        """
        limit = self._policy.work_retry.attempts
        while leases.anything(self._database, t.Series, _due):
            work = self._take(owner)
            if work is None or limit is None or work.lease.attempts <= limit:
                return work
            self.settle(work, Failed("The workers that took it died.", transient=False))
        return None

    def _take(self, owner: str) -> AnalysisWork | None:
        with self._database.writing() as transaction:
            taken = leases.claim(
                transaction,
                t.Series,
                _due(transaction),
                (t.Series.urgency_at, t.Series.id),
                owner=owner,
                for_=self._policy.lease,
            )
            return self._freeze(transaction, taken[0]) if taken else None

    def _freeze(self, transaction: Transaction, series: t.Series) -> AnalysisWork:
        """Make the instances that are here now the generation that is looked at."""
        instances = instances_of(transaction, series.id, series.instance_count)
        digest = set_digest((ref.header.sop_uid, ref.sha256) for ref in instances)
        if digest != series.generation_digest:
            series.generation += 1
            series.generation_digest, series.generation_count = digest, series.instance_count
        phase = phase_of(series, transaction.now, self._policy)
        looked = ReceptionEvent.COMPLETE if phase is Phase.FINAL else ReceptionEvent.LOOKS_COMPLETE
        was_arriving = series.reception is Reception.ARRIVING
        series.reception = advance(RECEPTION, series.reception, looked)
        series.claimed_at = transaction.now
        study = transaction.session.get_one(t.Study, series.study_id)
        if was_arriving and not is_arriving(transaction, study.id):
            tell_of_state(transaction, study)  # its images are ready to be read
        earlier = self._earlier(transaction, series, digest, instances)
        transaction.event(
            "series",
            "claimed",
            study_uid=study.study_uid,
            series_uid=series.series_uid,
            generation=series.generation,
            instances=series.instance_count,
            phase=phase.value,
            attempt=series.attempts,
        )
        return AnalysisWork(
            lease=leases.lease_of(series),
            series_uid=series.series_uid,
            study_uid=study.study_uid,
            generation=series.generation,
            set_digest=digest,
            phase=phase,
            instances=instances,
            earlier=earlier.result if earlier else None,
            earlier_digest=earlier.set_digest if earlier else "",
            earlier_count=earlier.instance_count if earlier else 0,
        )

    @staticmethod
    def _earlier(
        transaction: Transaction,
        series: t.Series,
        digest: str,
        instances: Sequence[InstanceRef],
    ) -> t.Analysis | None:
        """Return the latest analysis of this set, or of it before mere variants came.

        A set is the first so many instances of its series. Whether what came under their SOP
        Instance UIDs since shows the same pictures is for infer to say, which has the files.
        """
        uids = [ref.header.sop_uid for ref in instances]
        found = transaction.session.scalars(
            select(t.Analysis)
            .where(t.Analysis.series_id == series.id, t.Analysis.instance_count <= len(instances))
            .order_by((t.Analysis.set_digest == digest).desc(), t.Analysis.id.desc())
        )
        for analysis in found:
            if set(uids[analysis.instance_count :]) <= set(uids[: analysis.instance_count]):
                return analysis
        return None

    def renew(self, lease: Lease, for_: timedelta) -> bool:
        """Prolong the lease; False when it is lost."""
        return leases.renew(self._database, t.Series, lease, for_)

    def settle(self, work: AnalysisWork, outcome: AnalysisOutcome) -> bool:
        """Write what came of it; False when the lease was lost and nothing was written."""
        with self._database.writing() as transaction:
            session = transaction.session
            owner = select(t.Series.study_id).where(t.Series.id == work.lease.row_id)
            study = session.get(t.Study, session.scalar(owner), with_for_update={"key_share": True})
            series = leases.held(transaction, t.Series, work.lease)
            if study is None or series is None:
                return False
            Settling(transaction, self._policy, study, series, work).settle(outcome)
        return True
