"""Who is told of reading tasks.

References
----------
DICOM PS3.4 CC.2.3 (subscribe, unsubscribe, suspend)
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete, func, select

from ichnode.domain.lifecycle import Task
from ichnode.domain.tasks import TaskReply
from ichnode.worklist import tables as t
from ichnode.worklist.listing import Listing, held_task
from ichnode.worklist.notices import (
    STATE_REPORT,
    NoticeQueue,
    state_report,
    subscribers,
    tell,
)
from ichnode.worklist.transactions import Transaction


class Subscriptions(Listing):
    """What may be said about who is told."""

    def subscribe(self, uid: str | None, ae_title: str, *, locks: bool) -> TaskReply:
        """Tell an AE title of a task from now on, or of all tasks where `uid` is None.

        Of a single task it is told at once how that stands.
        """
        with self._database.writing() as transaction:
            if uid is None:
                self._forget(transaction, ae_title)
                self._add(transaction, ae_title, None, wanted=True, locks=locks)
                return TaskReply.DONE
            held = held_task(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            self._forget(transaction, ae_title, study.id)
            # What is over and done with is not kept for somebody who comes late (CC.2.3.3).
            granted = locks and task.state not in (Task.COMPLETED, Task.CANCELED)
            self._add(transaction, ae_title, study.id, wanted=True, locks=granted)
            report = state_report(transaction, study, task)
            tell(transaction, study.id, STATE_REPORT, report, only=[ae_title])
            return TaskReply.DONE if granted == locks else TaskReply.LOCK_NOT_GRANTED

    def unsubscribe(self, uid: str | None, ae_title: str) -> TaskReply:
        """Tell an AE title no more of a task, or of any where `uid` is None."""
        with self._database.writing() as transaction:
            if uid is None:
                self._forget(transaction, ae_title)
                return TaskReply.DONE
            held = held_task(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            key = held[0].id
            self._forget(transaction, ae_title, key)
            if ae_title in subscribers(transaction, key):  # to all of them
                self._add(transaction, ae_title, key, wanted=False, locks=False)
            return TaskReply.DONE

    def suspend(self, ae_title: str) -> TaskReply:
        """Tell an AE title of no task that is yet to come; those that are there stay."""
        with self._database.writing() as transaction:
            row = transaction.session.scalar(
                select(t.Subscription).where(
                    t.Subscription.ae_title == ae_title, t.Subscription.study_id.is_(None)
                )
            )
            if row is not None and row.until_study_id is None:
                row.until_study_id = transaction.session.scalar(select(func.max(t.Study.id))) or 0
            return TaskReply.DONE

    def keep_subscribers(self, ae_titles: frozenset[str]) -> None:
        """Drop what others subscribed to and were to be told: nobody knows where they are."""
        with self._database.writing() as transaction:
            for table in (t.Subscription, t.Notice):
                transaction.session.execute(
                    delete(table)
                    .where(table.ae_title.not_in(ae_titles))
                    .execution_options(synchronize_session=False)
                )

    def notices(self, ae_title: str, is_open: Callable[[], bool] = lambda: True) -> NoticeQueue:
        """Return the queue of what one subscriber is to be told."""
        return NoticeQueue(self._database, self._policy, ae_title, is_open)

    @staticmethod
    def _forget(transaction: Transaction, ae_title: str, study_id: int | None = None) -> None:
        """Drop what an AE title subscribed to: of one study, or everything."""
        of_study = () if study_id is None else (t.Subscription.study_id == study_id,)
        transaction.session.execute(
            delete(t.Subscription)
            .where(t.Subscription.ae_title == ae_title, *of_study)
            .execution_options(synchronize_session=False)
        )

    @staticmethod
    def _add(
        transaction: Transaction, ae_title: str, study_id: int | None, *, wanted: bool, locks: bool
    ) -> None:
        transaction.session.add(
            t.Subscription(
                ae_title=ae_title,
                study_id=study_id,
                wanted=wanted,
                locks=locks,
                at=transaction.now,
            )
        )
        transaction.session.flush()
