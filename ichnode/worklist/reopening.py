"""A new reading task for a study whose own is over, where blood is found that nobody has read.

A task that is completed or canceled stays so for ever (PS3.4 Figure CC.1.1-1): a client that works
from the list would never hear of the bleed. So the study gets another task, under another UID.
"""

from __future__ import annotations

from collections.abc import Iterable

from ichnode.domain.lifecycle import TASK, Task, TaskEvent, advance
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import images_at
from ichnode.worklist.notices import tell_of_state
from ichnode.worklist.transactions import Transaction


def reopen(
    transaction: Transaction,
    study: t.Study,
    positives: Iterable[t.Analysis],
    *,
    rises: bool,
) -> None:
    """Make the task of an urgent study anew where it is over and the bleed is not read.

    Who has completed a task has read the images that were there. Who has canceled one has read
    nothing, but knew how the study stood.

    Parameters
    ----------
    positives : iterable of Analysis
        What the study is urgent for.
    rises : bool
        It is urgent from now on. The caller holds its row.
    """
    task = transaction.session.get(t.Task, study.id)
    over_at = None if task is None else task.read_at or task.canceled_at
    if task is None or over_at is None:
        return
    unknown = rises and task.state is Task.CANCELED
    if not unknown and all(images_at(transaction, one) <= over_at for one in positives):
        return
    task.state = advance(TASK, task.state, TaskEvent.MADE_ANEW)
    task.number += 1
    task.transaction_uid = task.priority = None
    task.opened_at = task.read_at = task.canceled_at = None
    task.performer, task.attributes, task.changed_at = "", "{}", transaction.now
    transaction.event("task", "made_anew", study_uid=study.study_uid, number=task.number)
    tell_of_state(transaction, study)
