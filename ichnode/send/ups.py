"""Reading priority by Unified Procedure Step: the study's scheduled reading task is set to HIGH.

What is decided is in `ichnode.send.raising`, how a peer is asked and told here.

References
----------
DICOM PS3.4 annex CC: CC.2.5 (N-CREATE, Table CC.2.5-3), CC.2.6 (N-SET), CC.2.8 (C-FIND).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom import Dataset

from ichnode.domain.clock import Clock, SystemClock
from ichnode.domain.work import (
    Acknowledged,
    DeliveryItem,
    DeliveryResult,
    StudyRef,
    Undelivered,
)
from ichnode.send.association import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    LONGEST_ROUND_S,
    FellSilent,
    NothingAccepted,
    Peer,
    abandon,
    accepted,
    associate,
    is_warning,
    status_of,
)
from ichnode.send.raising import raise_priority
from ichnode.send.reading_task import (
    HIGH,
    SCHEDULED,
    Task,
    has_order,
    is_reading,
    new_task,
    task_of,
    task_uid,
)

PUSH = "1.2.840.10008.5.1.4.34.6.1"  # the class of every instance, whatever was negotiated
WATCH = "1.2.840.10008.5.1.4.34.6.2"
PULL = "1.2.840.10008.5.1.4.34.6.3"
QUERY = "1.2.840.10008.5.1.4.34.6.5"

_SUCCESS, _DUPLICATE = 0x0000, 0x0111
_PENDING = frozenset((0xFF00, 0xFF01))
_OVER, _TAKEN_UP = 0xC300, 0xC301  # no longer to be updated; in progress under another's UID


class _Silent(Exception):
    """The peer did not answer."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: no answer.")


class _Refused(Exception):
    """The peer answered with a failure."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"{what}: status 0x{status:04X}.")
        self.status = status


class UpsMechanism:
    """Raises reading tasks at one destination.

    Parameters
    ----------
    peer : Peer
        The destination.
    create_if_missing : bool
        Create a reading task where the study has none that is open.
    clock : Clock, optional
        For the start of a created task.
    """

    def __init__(
        self, peer: Peer, *, create_if_missing: bool = False, clock: Clock | None = None
    ) -> None:
        self._peer, self._create, self._clock = peer, create_if_missing, clock or SystemClock()

    def deliver(self, items: Sequence[DeliveryItem]) -> Iterator[tuple[int, DeliveryResult]]:
        """Raise the tasks of studies over one association and yield each row's result.

        After `LONGEST_ROUND_S` the rest is not tried: those rows get no result.

        Raises
        ------
        PeerFailure
            When there is no association; `FellSilent` after the result of the row whose answer did
            not come.
        """
        studies = [
            (item.delivery_id, item.study, item.revision)
            for item in items
            if item.study is not None
        ]
        until_s = time.monotonic() + LONGEST_ROUND_S
        try:
            with associate(self._peer, _offer(create=self._create)) as association:
                for delivery_id, study, revision in studies:
                    try:
                        result = self._raise(_Tasks(association, self._clock), study, revision)
                    except (_Silent, RuntimeError, ValueError) as error:
                        abandon(association)
                        yield delivery_id, Undelivered(_said(error))
                        if isinstance(error, ValueError):
                            return  # it did answer
                        raise FellSilent("The peer does not answer any more.") from error
                    yield delivery_id, result
                    if not association.is_established or time.monotonic() > until_s:
                        return
        except NothingAccepted:
            for delivery_id, _, _ in studies:
                yield delivery_id, Undelivered("The peer offers no UPS service.", permanent=True)

    def preview(self, item: DeliveryItem) -> str:
        """Return the query, and what follows from its answer."""
        if (study := item.study) is None:
            return ""
        steps = [
            f"C-FIND (UPS Pull, Query or Watch)\n{_by_study(study, SCHEDULED)}",
            f"N-SET of every task found\n{_to_high()}",
        ]
        if self._create:
            task = new_task(study, self._clock.now())
            steps.append(f"N-CREATE where the study has no task that is open\n{task}")
        return "\n\n".join(steps)

    def _raise(self, tasks: _Tasks, study: StudyRef, revision: int) -> DeliveryResult:
        if not tasks.can_find or not tasks.can_set:
            return Undelivered("The peer does not let us find and change tasks.", permanent=True)
        try:
            return raise_priority(tasks, study, revision, create_if_missing=self._create)
        except _Refused as error:
            return Undelivered(str(error), error.status)


class _Tasks:
    """The tasks of a peer, over an association."""

    def __init__(self, association: Any, clock: Clock) -> None:
        self._association, self._clock = association, clock
        self._until_s = time.monotonic() + LONGEST_ROUND_S
        classes = {sop_class for sop_class, _ in accepted(association)}
        self._finds_by = next((c for c in (PULL, QUERY, WATCH) if c in classes), None)
        self.can_find = self._finds_by is not None
        self.can_set = PULL in classes
        self.can_create = PUSH in classes

    def of(self, study: StudyRef, state: str) -> list[Task]:
        """Find the reading tasks of a study in a state; in any where `state` is empty."""
        found = self._find(study, _by_study(study, state))
        if not found and has_order(study):
            found = self._find(study, _by_order(study, state))
        return found

    def _find(self, study: StudyRef, asked: Dataset) -> list[Task]:
        """Query; what the peer returns beyond what was asked for is left alone."""
        found = []
        status: int | None = None
        for answer, identifier in self._association.send_c_find(asked, self._finds_by):
            status = status_of(answer)
            self._check_time()
            if status in _PENDING and identifier is not None and is_reading(identifier, study):
                found.append(task_of(identifier))
        if status is None:
            raise _Silent("The query for the reading task failed")
        if status != _SUCCESS:
            raise _Refused("The query for the reading task failed", status)
        return found

    def _check_time(self) -> None:
        """Give up on a peer that answers without end."""
        if time.monotonic() > self._until_s:
            raise _Silent("The peer took too long over one study")

    def set_high(self, task: Task) -> DeliveryResult:
        """Set the priority of a scheduled task (PS3.4 CC.2.6: no Transaction UID while it is)."""
        self._check_time()
        answer, _ = self._association.send_n_set(_to_high(), PUSH, task.uid, meta_uid=PULL)
        status = status_of(answer)
        if status is None:
            raise _Silent("The change of the priority failed")
        if status == _TAKEN_UP:
            return Acknowledged(status, "the task was taken up in between")
        if status == _OVER:  # what there is to do now, the next try sees
            return Undelivered("The task was ended in between.", status)
        return _judge(status)

    def create(self, study: StudyRef, revision: int) -> DeliveryResult:
        """Create a task under a UID that is always the same for one alert of its study."""
        if not self.can_create:
            return Undelivered("The peer does not let us create tasks.", permanent=True)
        task = new_task(study, self._clock.now())
        answer, _ = self._association.send_n_create(task, PUSH, task_uid(study, revision))
        status = status_of(answer)
        if status is None:
            raise _Silent("The creation of the task failed")
        if status == _DUPLICATE:
            return Acknowledged(status, "the task was there already")
        return _judge(status)


def _said(error: Exception) -> str:
    """Return what to show; the text of an error that is not ours may quote a data set."""
    if isinstance(error, _Silent):
        return str(error)
    if isinstance(error, ValueError):
        return "The peer's answer cannot be decoded."
    return "The peer closed the connection."


def _judge(status: int) -> DeliveryResult:
    if status == _SUCCESS or is_warning(status):
        return Acknowledged(status)
    return Undelivered(f"The peer refused with status 0x{status:04X}.", status)


def _to_high() -> Dataset:
    change = Dataset()
    change.ScheduledProcedureStepPriority = HIGH
    return change


def _offer(*, create: bool) -> list[tuple[str, str]]:
    classes = (PULL, QUERY, WATCH, PUSH) if create else (PULL, QUERY, WATCH)
    return [(sop_class, syntax) for sop_class in classes for syntax in (EXPLICIT_LE, IMPLICIT_LE)]


def _query(state: str) -> Dataset:
    """Return a query for everything that is looked at, to be narrowed."""
    request, workitem = Dataset(), Dataset()
    request.AccessionNumber = request.StudyInstanceUID = ""
    workitem.CodeValue = workitem.CodingSchemeDesignator = workitem.CodeMeaning = ""
    asked = Dataset()
    asked.SOPInstanceUID = asked.StudyInstanceUID = asked.PatientID = ""
    asked.ProcedureStepState = state
    asked.ScheduledProcedureStepPriority = ""
    asked.ScheduledProcedureStepModificationDateTime = ""
    asked.ScheduledWorkitemCodeSequence = [workitem]
    asked.ReferencedRequestSequence = [request]
    return asked


def _by_study(study: StudyRef, state: str) -> Dataset:
    asked = _query(state)
    asked.StudyInstanceUID = study.study_uid
    return asked


def _by_order(study: StudyRef, state: str) -> Dataset:
    """Ask by accession number; it is only unique together with the patient."""
    asked = _query(state)
    if not (study.accession_number + study.patient_id).isascii():
        asked.SpecificCharacterSet = "ISO_IR 192"
    asked.PatientID = study.patient_id
    asked.ReferencedRequestSequence[0].AccessionNumber = study.accession_number
    return asked
