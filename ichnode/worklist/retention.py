"""What may be deleted, and who is alive: the questions of housekeeping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, or_, select

from ichnode.domain.lifecycle import Delivery, Document
from ichnode.worklist import tables as t
from ichnode.worklist.commitments import is_unsafe
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction
from ichnode.worklist.truths import was_analysed

STALE_HEARTBEAT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Purgeable:
    """One instance whose bytes may go."""

    instance_id: int
    path: str  # relative to the spool, POSIX
    size_bytes: int


class Retention:
    """The part of the worklist that housekeeping calls."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def purgeable(
        self, older_than: timedelta, *, label_wait: timedelta = timedelta(0), limit: int = 500
    ) -> list[Purgeable]:
        """Return images that may go, those of the study that was quiet for longest first.

        Only of studies about which nothing is owed any more: no series to be looked at, no
        document to be built, nothing undelivered but what was withheld or, if not positive, given
        up, and nothing that a destination is still to answer for.

        Parameters
        ----------
        older_than : timedelta
            Since the study's last arrival.
        label_wait : timedelta
            Analysed studies are kept for so long since their last image or label, for training,
            unless they are labelled and exported for it already.
        limit : int
            How many instances at most.
        """
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(t.Instance.id, t.Instance.path, t.Instance.size_bytes)
                .join(t.Series, t.Series.id == t.Instance.series_id)
                .join(t.Study, t.Study.id == t.Series.study_id)
                .where(
                    t.Instance.purged_at.is_(None),
                    t.Study.purged_at.is_(None),
                    t.Study.last_arrived_at <= transaction.now - older_than,
                    ~_may_serve_training(transaction.now - label_wait),
                    *_nothing_is_owed(self._policy),
                )
                .order_by(t.Study.last_arrived_at, t.Study.id, t.Instance.id)
                .limit(limit)
            )
            return [Purgeable(*row) for row in rows]

    def mark_purged(self, instance_ids: Iterable[int]) -> list[Purgeable]:
        """Mark images as gone and return those whose bytes may really be deleted now.

        Between `purgeable` and this call a late slice may have arrived; what is owed something
        again is left out.
        """
        with self._database.writing() as transaction:
            session = transaction.session
            wanted = sorted(instance_ids)
            studies = self._lock_studies(transaction, wanted)
            gone = list(
                session.scalars(
                    select(t.Instance)
                    .join(t.Series, t.Series.id == t.Instance.series_id)
                    .join(t.Study, t.Study.id == t.Series.study_id)
                    .where(
                        t.Instance.id.in_(wanted),
                        t.Instance.purged_at.is_(None),
                        *_nothing_is_owed(self._policy),
                    )
                    .order_by(t.Instance.id)
                )
            )
            for instance in gone:
                instance.purged_at = transaction.now
                session.get_one(t.Series, instance.series_id).stored_bytes -= instance.size_bytes
            session.flush()
            for study in studies:
                self._close(transaction, study)
            return [Purgeable(one.id, one.path, one.size_bytes) for one in gone]

    @staticmethod
    def _lock_studies(transaction: Transaction, instance_ids: Sequence[int]) -> list[t.Study]:
        owners = (
            select(t.Series.study_id)
            .join(t.Instance, t.Instance.series_id == t.Series.id)
            .where(t.Instance.id.in_(instance_ids))
        )
        return list(
            transaction.session.scalars(
                select(t.Study)
                .where(t.Study.id.in_(owners))
                .order_by(t.Study.id)
                .with_for_update(key_share=True)
            )
        )

    @staticmethod
    def _close(transaction: Transaction, study: t.Study) -> None:
        """Take a study off the list when its last image is gone."""
        left = (
            select(t.Instance.id)
            .join(t.Series, t.Series.id == t.Instance.series_id)
            .where(t.Series.study_id == study.id, t.Instance.purged_at.is_(None))
            .limit(1)
        )
        if transaction.session.scalar(left) is None:
            study.purged_at = transaction.now
            transaction.event("study", "purged", study_uid=study.study_uid)

    def spool_bytes(self) -> int:
        """Return how many bytes of images and documents the spool holds."""
        with self._database.reading() as transaction:
            images = transaction.session.scalar(select(func.sum(t.Series.stored_bytes)))
            documents = transaction.session.scalar(select(func.sum(t.Document.size_bytes)))
            return int(images or 0) + int(documents or 0)

    # ------------------------------------------------------------------ who is alive

    def beat(self, role: str, host: str, pid: int, detail: dict[str, Any] | None = None) -> None:
        """Say that a process is alive; forget those of this role and host that long are not."""
        with self._database.writing() as transaction:
            session = transaction.session
            session.execute(
                delete(t.Heartbeat).where(
                    t.Heartbeat.role == role,
                    t.Heartbeat.host == host,
                    t.Heartbeat.pid != pid,
                    t.Heartbeat.at < transaction.now - STALE_HEARTBEAT,
                )
            )
            mine = session.scalar(
                select(t.Heartbeat).where(
                    t.Heartbeat.role == role, t.Heartbeat.host == host, t.Heartbeat.pid == pid
                )
            )
            if mine is None:
                mine = t.Heartbeat(role=role, host=host, pid=pid)
                session.add(mine)
            mine.at, mine.detail = transaction.now, detail or {}


def _nothing_is_owed(policy: Policy) -> list[ColumnElement[bool]]:
    """Return the conditions that a study is done with, correlated to `Study`."""
    return [
        ~exists()
        .where(t.Series.study_id == t.Study.id, t.Series.due_at.is_not(None))
        .correlate(t.Study),
        ~exists().where(t.Document.study_id == t.Study.id, t.Document.state == Document.DUE),
        ~exists().where(
            t.Delivery.study_id == t.Study.id,
            or_(
                t.Delivery.state.in_([Delivery.WAITING, Delivery.DUE]),
                and_(t.Delivery.state == Delivery.FAILED, t.Delivery.urgent),
            ),
        ),
        *([~is_unsafe(policy.committing)] if policy.committing else []),
    ]


def _may_serve_training(since: datetime) -> ColumnElement[bool]:
    """Return the condition that a label may still come, or came lately and is not yet used.

    The wait begins anew with a label: somebody took the trouble, and a retraining that is started
    now and then must find the images.
    """
    labels = exists().where(t.Label.study_id == t.Study.id)
    lately = or_(t.Study.last_arrived_at > since, labels.where(t.Label.at > since))
    used = and_(labels, t.Study.collected_at.is_not(None))
    return and_(was_analysed(), lately, not_(used))
