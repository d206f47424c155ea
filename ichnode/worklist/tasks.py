"""The life of a reading task: taken up, changed, completed or canceled by worklist clients.

Every change holds the study's row, so that of two clients that claim one task exactly one wins.

References
----------
DICOM PS3.4 annex CC: CC.1.1 (states), CC.2.1 (state changes), CC.2.2 (cancellation), CC.2.6
(attributes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ichnode.domain.lifecycle import TASK, Task, TaskEvent, advance
from ichnode.domain.tasks import (
    Change,
    TaskReply,
)
from ichnode.domain.telling import Seen
from ichnode.domain.triage import reading_priority
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import note_look
from ichnode.worklist.listing import held_task
from ichnode.worklist.notices import (
    CANCEL_REQUESTED,
    STATE_REPORT,
    state_report,
    subscribers,
    tell,
)
from ichnode.worklist.subscriptions import Subscriptions
from ichnode.worklist.transactions import Transaction
from ichnode.worklist.verdicts import give_back

_CLOSED = (Task.COMPLETED, Task.CANCELED)


class Tasks(Subscriptions):
    """The part of the worklist that the query services ask: what is listed, and what is done."""

    def take(self, uid: str, transaction_uid: str, by: str) -> TaskReply:
        """Take a task up: the study is in somebody's hands from now on."""
        with self._database.writing() as transaction:
            held = held_task(transaction, uid)
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
            note_look(transaction, study, Seen.OPENED, transaction.now, by)
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
            held = held_task(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            if (wrong := _not_to_be_closed(task, transaction_uid, Task.COMPLETED)) is not None:
                return wrong
            if not is_finished(task.attributes):
                return TaskReply.UNFINISHED
            task.state = advance(TASK, task.state, TaskEvent.COMPLETED)
            task.read_at = transaction.now
            note_look(transaction, study, Seen.REPORTED, transaction.now, by)
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
            held = held_task(transaction, uid)
            if held is None:
                return TaskReply.UNKNOWN
            study, task = held
            if (wrong := _not_to_be_closed(task, transaction_uid, Task.CANCELED)) is not None:
                return wrong
            self._cancel(transaction, study, task, by, supplement)
            give_back(transaction, self._policy, study)
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
            held = held_task(transaction, uid)
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
            held = held_task(transaction, uid)
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
