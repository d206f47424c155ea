"""What is done about the reading tasks of an urgent study, however a peer is spoken to.

A task that is there is found and changed; one is created only where the destination says so. Only
SCHEDULED tasks are touched: one that is IN PROGRESS belongs to whoever is reading, and one that is
COMPLETED or CANCELED is over for good (PS3.4 Figure CC.1.1-1). One that was completed with the
images there that the alert is about means that a person has read them; any other that is over
stands for nobody who would look. Every step may be repeated: setting HIGH twice is setting it once,
and a created task has one UID per alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ichnode.domain.work import Acknowledged, DeliveryResult, StudyRef, Undelivered
from ichnode.send.reading_task import HIGH, IN_PROGRESS, SCHEDULED, Task


class Tasks(Protocol):
    """The tasks of a peer."""

    def of(self, study: StudyRef, state: str) -> list[Task]:
        """Find the reading tasks of a study in a state; in any where `state` is empty."""
        ...

    def set_high(self, task: Task) -> DeliveryResult:
        """Set the priority of a scheduled task."""
        ...

    def create(self, study: StudyRef, revision: int) -> DeliveryResult:
        """Create a task under a UID that is always the same for one alert of its study."""
        ...


def raise_priority(
    tasks: Tasks, study: StudyRef, revision: int, *, create_if_missing: bool
) -> DeliveryResult:
    """Set every scheduled reading task of a study to HIGH; make one where that is wanted.

    Parameters
    ----------
    revision : int
        Of the verdict that the alert is about: each alert creates one task at most, however often
        it is tried.
    """
    scheduled = [task for task in tasks.of(study, SCHEDULED) if task.state == SCHEDULED]
    if scheduled:
        return _set_high(tasks, scheduled)
    found = tasks.of(study, "")  # once more, in every state
    if scheduled := [task for task in found if task.state == SCHEDULED]:
        return _set_high(tasks, scheduled)  # it came in between
    if any(task.state == IN_PROGRESS for task in found):
        return Acknowledged(note="the study is being read")
    if any(task.was_read(study) for task in found):
        return Acknowledged(note="the study was read after its images had come")
    if create_if_missing:
        return tasks.create(study, revision)
    if found:
        return Undelivered("The study's reading task is over: none was raised.")
    return Undelivered("The study has no reading task.")


def _set_high(tasks: Tasks, scheduled: Sequence[Task]) -> DeliveryResult:
    """Raise every scheduled task that is not yet; the first failure decides."""
    waiting = [task for task in scheduled if task.priority != HIGH]
    if not waiting:
        return Acknowledged(note="it was HIGH already")
    results = [tasks.set_high(task) for task in waiting]
    return next((r for r in results if not isinstance(r, Acknowledged)), results[-1])
