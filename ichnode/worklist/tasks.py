"""Reading tasks: the list as worklist clients see it, and what they may do.

Every change holds the study's row, so that of two clients that claim one task exactly one wins.

References
----------
DICOM PS3.4 annex CC: CC.1.1 (states), CC.2.1 (state changes), CC.2.2 (cancellation), CC.2.3
(subscriptions).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import delete, func, select

from ichnode.domain.lifecycle import TASK, Reception, Task, TaskEvent, advance
from ichnode.domain.tasks import (
    Change,
    ListedInstance,
    ListedSeries,
    ListedStudy,
    ReadingTask,
    Search,
    TaskReply,
    task_key,
    task_uid,
)
from ichnode.domain.triage import reading_priority
from ichnode.worklist import tables as t
from ichnode.worklist.notices import (
    CANCEL_REQUESTED,
    STATE_REPORT,
    NoticeQueue,
    state_report,
    subscribers,
    tell,
)
from ichnode.worklist.order import list_ranges
from ichnode.worklist.policy import Policy
from ichnode.worklist.searching import conditions_of
from ichnode.worklist.transactions import Database, Transaction

_CLOSED = (Task.COMPLETED, Task.CANCELED)
Held = tuple[t.Study, t.Task]


class Tasks:
    """The part of the worklist that the query services ask."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    # ------------------------------------------------------------------ what is listed

    def keys(self, search: Search, limit: int) -> list[int]:
        """Return keys of studies on the list, in its order, all seen at one moment.

        Parameters
        ----------
        search : Search
            What narrows the list.
        limit : int
            How many at most.
        """
        narrowed = list(conditions_of(search))
        with self._database.reading() as transaction:
            found: list[int] = []
            for conditions in list_ranges(transaction.now, self._policy.waiting_cap):
                if len(found) >= limit:
                    break
                found += transaction.session.scalars(
                    select(t.Study.id)
                    .where(*conditions, *narrowed)
                    .order_by(t.Study.arrived_at, t.Study.id)
                    .limit(limit - len(found))
                )
            return found

    def listed(self, keys: Sequence[int]) -> list[ReadingTask]:
        """Return the tasks of studies, in the order of their keys."""
        with self._database.reading() as transaction:
            return _listed(transaction, keys)

    def get(self, uid: str) -> ReadingTask | None:
        """Return a task by its SOP Instance UID, or None.

        That of a study whose images are purged is gone, unless a subscriber wants it kept.
        """
        with self._database.reading() as transaction:
            found = _held(transaction, uid, lock=False)
            return _listed(transaction, [found[0].id])[0] if found else None

    def instances(
        self, study_uid: str, series_uids: Iterable[str], limit: int
    ) -> list[ListedInstance]:
        """Return the objects of series of a study, once each, by series and number."""
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(t.Instance.sop_uid, t.Instance.header, t.Series.series_uid)
                .join(t.Series, t.Series.id == t.Instance.series_id)
                .join(t.Study, t.Study.id == t.Series.study_id)
                .where(
                    t.Study.study_uid == study_uid,
                    t.Series.series_uid.in_(list(series_uids)),
                    t.Instance.purged_at.is_(None),
                )
                .order_by(t.Series.id, t.Instance.ordinal)
                .limit(limit)
            )
            found = {
                sop_uid: ListedInstance(
                    sop_uid, header.sop_class_uid, series_uid, header.instance_number
                )
                for sop_uid, header, series_uid in rows
            }
            return list(found.values())

    # ------------------------------------------------------------------ the life of a task

    def take(self, uid: str, transaction_uid: str, by: str) -> TaskReply:
        """Take a task up: the study is in somebody's hands from now on."""
        with self._database.writing() as transaction:
            held = _held(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            if task.state in _CLOSED:
                return TaskReply.CLOSED
            if task.state is Task.IN_PROGRESS:
                return TaskReply.ALREADY_TAKEN
            task.state = advance(TASK, task.state, TaskEvent.TAKEN)
            task.transaction_uid, task.performer = transaction_uid, by
            task.opened_at = transaction.now
            _write(transaction, study, task, "taken", by)
            return TaskReply.DONE

    def complete(
        self, uid: str, transaction_uid: str, by: str, is_finished: Callable[[str], bool]
    ) -> TaskReply:
        """Complete a task: the study is read.

        Parameters
        ----------
        is_finished : callable
            Says of what clients have set whether it holds all that a completed task must say.
        """
        with self._database.writing() as transaction:
            held = _held(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            if (wrong := _not_to_be_closed(task, transaction_uid, Task.COMPLETED)) is not None:
                return wrong
            if not is_finished(task.attributes):
                return TaskReply.UNFINISHED
            task.state = advance(TASK, task.state, TaskEvent.COMPLETED)
            task.read_at = transaction.now
            _write(transaction, study, task, "completed", by)
            return TaskReply.DONE

    def cancel(
        self, uid: str, transaction_uid: str, by: str, supplement: Callable[[str, Any], str]
    ) -> TaskReply:
        """Cancel a task that the caller has taken up.

        Parameters
        ----------
        supplement : callable
            Given what clients have set, and the time, returns it with all that a canceled task
            must say.
        """
        with self._database.writing() as transaction:
            held = _held(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            if (wrong := _not_to_be_closed(task, transaction_uid, Task.CANCELED)) is not None:
                return wrong
            self._cancel(transaction, study, task, by, supplement)
            return TaskReply.DONE

    def request_cancel(
        self,
        uid: str,
        by: str,
        supplement: Callable[[str, Any], str],
        content: str,
        reachable: frozenset[str],
    ) -> TaskReply:
        """Cancel a task that nobody has taken up, or ask whoever has.

        Parameters
        ----------
        content : str
            What the performer is told, as DICOM JSON.
        reachable : frozenset of str
            AE titles whose address is known.
        """
        with self._database.writing() as transaction:
            held = _held(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            match task.state:
                case Task.COMPLETED:
                    return TaskReply.ALREADY_COMPLETED
                case Task.CANCELED:
                    return TaskReply.ALREADY_CANCELED
                case Task.SCHEDULED:
                    self._cancel(transaction, study, task, by, supplement)
                    return TaskReply.DONE
            told = subscribers(transaction, study.id).keys() & reachable
            if task.performer not in told:
                return TaskReply.NO_PERFORMER
            tell(transaction, study.id, CANCEL_REQUESTED, content, only=sorted(told))
            transaction.event("task", "cancel_requested", study_uid=study.study_uid, by=by)
            return TaskReply.DONE

    @staticmethod
    def _cancel(
        transaction: Transaction,
        study: t.Study,
        task: t.Task,
        by: str,
        supplement: Callable[[str, Any], str],
    ) -> None:
        task.state = advance(TASK, task.state, TaskEvent.CANCELED)
        task.canceled_at = transaction.now
        task.attributes = supplement(task.attributes, transaction.now)
        _write(transaction, study, task, "canceled", by)

    def change(
        self,
        uid: str,
        transaction_uid: str,
        by: str,
        merge: Callable[[str, Task], Change | TaskReply],
    ) -> TaskReply:
        """Set attributes of a task; once taken up it belongs to whoever has its Transaction UID.

        Parameters
        ----------
        transaction_uid : str
            Empty where the request had none.
        merge : callable
            Given what clients have set so far and the state, returns what is set now, or why not.
        """
        with self._database.writing() as transaction:
            held = _held(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            if task.state in _CLOSED:
                return TaskReply.CLOSED
            if task.state is Task.IN_PROGRESS and transaction_uid != task.transaction_uid:
                return TaskReply.WRONG_TRANSACTION
            change = merge(task.attributes, task.state)
            if isinstance(change, TaskReply):
                return change
            before = task.priority or reading_priority(study.band, study.ordered_priority)
            task.attributes = change.attributes
            task.priority = change.priority or task.priority
            _keep(transaction, task)
            transaction.event("task", "changed", study_uid=study.study_uid, by=by)
            if change.priority not in (None, before):
                tell(transaction, study.id, STATE_REPORT, state_report(transaction, study, task))
            for event_type, content in change.reports:
                tell(transaction, study.id, event_type, content)
            return TaskReply.DONE

    # ------------------------------------------------------------------ who is told

    def subscribe(self, uid: str | None, ae_title: str, *, locks: bool) -> TaskReply:
        """Tell an AE title of a task from now on, or of all tasks where `uid` is None.

        Of a single task it is told at once how that stands.
        """
        with self._database.writing() as transaction:
            if uid is None:
                self._forget(transaction, ae_title)
                self._add(transaction, ae_title, None, wanted=True, locks=locks)
                return TaskReply.DONE
            held = _held(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            self._forget(transaction, ae_title, study.id)
            # What is over and done with is not kept for somebody who comes late (CC.2.3.3).
            granted = locks and task.state not in _CLOSED
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
            held = _held(transaction, uid)
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


def _held(transaction: Transaction, uid: str, *, lock: bool = True) -> Held | None:
    """Return a task and its study, whose row is locked; a task without a row is made, not added."""
    key = task_key(uid)
    if key is None:
        return None
    locking: Any = {"key_share": True} if lock else None
    study = transaction.session.get(t.Study, key, with_for_update=locking)
    if study is None or task_uid(study.study_uid, study.id) != uid:
        return None
    if study.purged_at is not None and not any(subscribers(transaction, key).values()):
        return None
    task = transaction.session.get(t.Task, key)
    if task is None:
        task = t.Task(study_id=key, state=Task.SCHEDULED, performer="", attributes="{}")
    return study, task


def _not_to_be_closed(task: t.Task, transaction_uid: str, into: Task) -> TaskReply | None:
    """Say why a task cannot be completed or canceled by the caller (PS3.4 Table CC.1.1-2)."""
    if task.state is Task.SCHEDULED:
        return TaskReply.NOT_TAKEN
    if task.state in _CLOSED:
        if task.state is not into:
            return TaskReply.CLOSED
        return TaskReply.ALREADY_COMPLETED if into is Task.COMPLETED else TaskReply.ALREADY_CANCELED
    return None if transaction_uid == task.transaction_uid else TaskReply.WRONG_TRANSACTION


def _keep(transaction: Transaction, task: t.Task) -> None:
    task.changed_at = transaction.now
    transaction.session.add(task)
    transaction.session.flush()


def _write(transaction: Transaction, study: t.Study, task: t.Task, verb: str, by: str) -> None:
    """Write a change of state, its line of history, and what subscribers are told."""
    _keep(transaction, task)
    transaction.event("task", verb, study_uid=study.study_uid, by=by)
    tell(transaction, study.id, STATE_REPORT, state_report(transaction, study, task))


def _listed(transaction: Transaction, keys: Sequence[int]) -> list[ReadingTask]:
    session = transaction.session
    studies = {one.id: one for one in session.scalars(select(t.Study).where(t.Study.id.in_(keys)))}
    tasks = {
        one.study_id: one
        for one in session.scalars(select(t.Task).where(t.Task.study_id.in_(keys)))
    }
    series: dict[int, list[ListedSeries]] = defaultdict(list)
    rows = session.execute(
        select(
            t.Series.study_id,
            t.Series.series_uid,
            t.Series.modality,
            t.Series.series_number,
            t.Series.series_description,
            t.Series.sop_count,
            t.Series.reception,
        )
        .where(t.Series.study_id.in_(keys))
        .order_by(t.Series.id)
    )
    for study_id, uid, modality, number, description, count, reception in rows:
        arriving = reception is Reception.ARRIVING
        series[study_id].append(ListedSeries(uid, modality, number, description, count, arriving))
    return [
        _task(studies[key], tasks.get(key), tuple(series[key])) for key in keys if key in studies
    ]


def _task(study: t.Study, task: t.Task | None, series: tuple[ListedSeries, ...]) -> ReadingTask:
    listed = ListedStudy(
        key=study.id,
        study_uid=study.study_uid,
        patient_name=study.patient_name,
        patient_id=study.patient_id,
        issuer_of_patient_id=study.issuer_of_patient_id,
        patient_birth_date=study.patient_birth_date,
        patient_sex=study.patient_sex,
        accession_number=study.accession_number,
        study_date=study.study_date,
        study_time=study.study_time,
        study_description=study.study_description,
        ordered_priority=study.ordered_priority,
        band=study.band,
        sentence=study.sentence,
        arrived_at=study.arrived_at,
        series=series,
    )
    said = task.priority if task is not None else None
    return ReadingTask(
        uid=task_uid(study.study_uid, study.id),
        study=listed,
        state=task.state if task is not None else Task.SCHEDULED,
        priority=said or reading_priority(study.band, study.ordered_priority),
        attributes=task.attributes if task is not None else "{}",
        changed_at=task.changed_at if task is not None else study.arrived_at,
    )
