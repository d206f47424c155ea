"""N-GET, N-SET and N-ACTION: what clients may do with a reading task.

References
----------
DICOM PS3.4 CC.2.1 (change of state), CC.2.2 (request of cancellation), CC.2.3 (subscriptions),
CC.2.6 (N-SET), CC.2.7 (N-GET), Table CC.2.5-3 (attributes)
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from ichnode.domain.ids import is_uid
from ichnode.domain.lifecycle import Task
from ichnode.domain.tasks import Change, TaskReply
from ichnode.query.book import Book
from ichnode.query.finding import Finder
from ichnode.query.identifiers import values_of
from ichnode.query.matching import moments
from ichnode.query.statuses import (
    ALREADY_COMPLETED,
    INVALID_ARGUMENT,
    INVALID_ATTRIBUTE_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_ATTRIBUTE,
    NO_SUCH_TASK,
    NOT_ALL_ATTRIBUTES,
    NOT_FOR_THIS_INSTANCE,
    OF_REPLY,
    ONLY_BY_CREATION,
    OUT_OF_RESOURCES,
    SUCCESS,
    UNKNOWN_RECEIVER,
    WRONG_TRANSACTION_UID,
    Refused,
)
from ichnode.query.task_objects import code, moment, set_by_clients

GLOBAL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"
CHANGE_STATE, REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND = 1, 2, 3, 4, 5
PROGRESS_REPORT, ASSIGNED = 3, 5
MOST_JSON = 256 << 10  # characters of what clients set of one task

PRIORITIES = ("HIGH", "MEDIUM", "LOW")
_PROGRESS = "ProcedureStepProgressInformationSequence"
_PERFORMED = "UnifiedProcedureStepPerformedProcedureSequence"
_ASSIGNING = ("ScheduledStationNameCodeSequence", "ScheduledHumanPerformersSequence")
_NEVER_EMPTY = (  # type 1 in N-SET
    "ScheduledProcedureStepPriority",
    "ProcedureStepLabel",
    "WorklistLabel",
    "ScheduledProcedureStepStartDateTime",
    "InputReadinessState",
)
_MOMENTS = (
    "ScheduledProcedureStepStartDateTime",
    "ExpectedCompletionDateTime",
    "ScheduledProcedureStepExpirationDateTime",
)
_MAY_BE_SET = {
    tag_for_keyword(keyword)
    for keyword in (
        *_NEVER_EMPTY,
        *_ASSIGNING,
        _PROGRESS,
        _PERFORMED,
        "CommentsOnTheScheduledProcedureStep",
        "ExpectedCompletionDateTime",
        "InputInformationSequence",
        "OutputDestinationSequence",
        "ScheduledProcedureStepExpirationDateTime",
        "ScheduledProcessingParametersSequence",
        "ScheduledStationClassCodeSequence",
        "ScheduledStationGeographicLocationCodeSequence",
        "ScheduledWorkitemCodeSequence",
    )
}
_OF_ANOTHER_MATTER = {tag_for_keyword("SpecificCharacterSet"), tag_for_keyword("TransactionUID")}
_NOT_TO_BE_SET = {
    tag_for_keyword(keyword)
    for keyword in (
        "AccessionNumber",
        "AdmissionID",
        "AdmittingDiagnosesCodeSequence",
        "AdmittingDiagnosesDescription",
        "IssuerOfAdmissionIDSequence",
        "IssuerOfPatientID",
        "OtherPatientIDsSequence",
        "PatientBirthDate",
        "PatientID",
        "PatientName",
        "PatientSex",
        "ProcedureStepState",
        "ReferencedRequestSequence",
        "ReplacedProcedureStepSequence",
        "SOPClassUID",
        "SOPInstanceUID",
        "ScheduledProcedureStepModificationDateTime",
        "StudyInstanceUID",
    )
}


class Changer:
    """Carries out what clients ask of single tasks.

    Parameters
    ----------
    book : Book
        The worklist.
    finder : Finder
        Describes tasks.
    receivers : frozenset of str
        AE titles whose address is known: who may subscribe.
    """

    def __init__(self, book: Book, finder: Finder, receivers: frozenset[str]) -> None:
        self._book, self._finder, self._receivers = book, finder, receivers

    def get(self, uid: str, tags: Iterable[Any]) -> tuple[int, Dataset]:
        """Return the attributes that are asked for, or all; never the Transaction UID.

        Raises
        ------
        Refused
            0xC307 where there is no such task.
        """
        task = self._book.get(uid)
        if task is None:
            raise _no_such_task()
        described = self._finder.describe(task)
        wanted = set(tags) - _OF_ANOTHER_MATTER
        if not wanted:
            return SUCCESS, described
        found = Dataset()
        for tag in sorted(wanted):
            if tag in described:
                found[tag] = described[tag]
        return (SUCCESS if len(found) == len(wanted) else NOT_ALL_ATTRIBUTES), found

    def set(self, uid: str, by: str, changes: Dataset) -> int:
        """Set attributes.

        Raises
        ------
        Refused
            0x0105 for attributes that nobody may set, 0x0106 for values that cannot be.
        """
        transaction_uid = _text(changes, "TransactionUID")
        tags = {element.tag for element in changes} - _OF_ANOTHER_MATTER
        if tags & _NOT_TO_BE_SET:
            sentence = "An attribute of the request is not the client's to set."
            raise Refused(NO_SUCH_ATTRIBUTE, sentence, is_hostile=False)
        wanted = Dataset()
        for tag in sorted(tags & _MAY_BE_SET):
            wanted[tag] = changes[tag]
        _check_values(wanted)
        reply = self._book.change(
            uid, transaction_uid, by, lambda before, state: _merge(before, state, wanted)
        )
        if reply is TaskReply.DONE and len(wanted) < len(tags):
            return NOT_ALL_ATTRIBUTES
        return OF_REPLY[reply]

    def act(self, uid: str, by: str, action: int, said: Dataset) -> int:
        """Carry out an action.

        Raises
        ------
        Refused
            Where the action, or what it says, cannot be understood.
        """
        match action:
            case 1:
                return self._change_state(uid, by, said)
            case 2:
                return self._request_cancel(uid, by, said)
            case 3 | 4 | 5:
                return self._subscribe(uid, action, said)
        raise Refused(NO_SUCH_ACTION, "There is no such action on a task.")

    def _change_state(self, uid: str, by: str, said: Dataset) -> int:
        transaction_uid = _text(said, "TransactionUID")
        if not transaction_uid:
            sentence = "The request has no Transaction UID."
            raise Refused(WRONG_TRANSACTION_UID, sentence, is_hostile=False)
        if not is_uid(transaction_uid):
            raise Refused(INVALID_ARGUMENT, "The Transaction UID is no UID.")
        match _text(said, "ProcedureStepState").upper():
            case "IN PROGRESS":
                reply = self._book.take(uid, transaction_uid, by)
            case "COMPLETED":
                reply = self._book.complete(uid, transaction_uid, by, is_finished)
            case "CANCELED":
                reply = self._book.cancel(
                    uid, transaction_uid, by, lambda held, now: supplement(held, now, said)
                )
            case "SCHEDULED":
                sentence = "No request makes a task SCHEDULED."
                raise Refused(ONLY_BY_CREATION, sentence, is_hostile=False)
            case _:
                raise Refused(INVALID_ARGUMENT, "The state of the request is none.")
        return OF_REPLY[reply]

    def _request_cancel(self, uid: str, by: str, said: Dataset) -> int:
        content = Dataset()
        content.RequestingAE = by
        _copy_reason(said, content)
        for keyword in ("ContactURI", "ContactDisplayName"):
            if keyword in said:
                content[keyword] = said[keyword]
        reply = self._book.request_cancel(
            uid,
            by,
            lambda held, now: supplement(held, now, said),
            content.to_json(),
            self._receivers,
        )
        return ALREADY_COMPLETED if reply is TaskReply.ALREADY_COMPLETED else OF_REPLY[reply]

    def _subscribe(self, uid: str, action: int, said: Dataset) -> int:
        if uid == FILTERED:
            sentence = "Subscriptions by a filter are not supported."
            raise Refused(NO_SUCH_TASK, sentence, is_hostile=False)
        ae_title = _text(said, "ReceivingAE")
        if ae_title not in self._receivers:
            sentence = "Nobody has said where the receiving AE title is: see [[subscribers]]."
            raise Refused(UNKNOWN_RECEIVER, sentence)
        one = None if uid == GLOBAL else uid
        if action == SUSPEND:
            if one is not None:
                sentence = "Only a global subscription can be suspended."
                raise Refused(NOT_FOR_THIS_INSTANCE, sentence, is_hostile=False)
            return OF_REPLY[self._book.suspend(ae_title)]
        if action == UNSUBSCRIBE:
            return OF_REPLY[self._book.unsubscribe(one, ae_title)]
        lock = _text(said, "DeletionLock").upper()
        if lock not in ("TRUE", "FALSE"):
            raise Refused(INVALID_ARGUMENT, "The Deletion Lock is neither TRUE nor FALSE.")
        return OF_REPLY[self._book.subscribe(one, ae_title, locks=lock == "TRUE")]


def _no_such_task() -> Refused:
    return Refused(NO_SUCH_TASK, "There is no such task.", is_hostile=False)


def _text(dataset: Dataset, keyword: str) -> str:
    """Return the single value of an attribute, without padding; empty where it has none."""
    values = values_of(dataset[keyword]) if keyword in dataset else []
    return values[0] if len(values) == 1 else ""


def _check_values(wanted: Dataset) -> None:
    for keyword in _NEVER_EMPTY:
        if keyword in wanted and not values_of(wanted[keyword]):
            raise Refused(INVALID_ATTRIBUTE_VALUE, f"{keyword} cannot be empty.")
    _check_moments(wanted)
    priority = _text(wanted, "ScheduledProcedureStepPriority")
    if "ScheduledProcedureStepPriority" in wanted and priority not in PRIORITIES:
        raise Refused(INVALID_ATTRIBUTE_VALUE, "The priority is none of HIGH, MEDIUM and LOW.")


def _check_moments(wanted: Dataset) -> None:
    """Refuse what would make every later query for a time fail."""
    for keyword in _MOMENTS:
        if value := _text(wanted, keyword):
            try:
                moments(value)
            except Refused:
                sentence = f"{keyword} is no date and time."
                raise Refused(INVALID_ATTRIBUTE_VALUE, sentence) from None


def _merge(before: str, state: Task, wanted: Dataset) -> Change | TaskReply:
    """Put what is set now over what was set before."""
    if state is Task.SCHEDULED and (_PROGRESS in wanted or _PERFORMED in wanted):
        return TaskReply.NOT_TAKEN
    held = Dataset()
    for element in (*set_by_clients(before), *wanted):
        if element.keyword != "ScheduledProcedureStepPriority":  # which has a column
            held[element.tag] = element
    return Change(
        attributes=_as_json(held),
        priority=_text(wanted, "ScheduledProcedureStepPriority") or None,
        reports=tuple(_reports(wanted)),
    )


def _as_json(held: Dataset) -> str:
    """Write what clients have set, and see that it can be read again."""
    try:
        text = str(held.to_json())
        Dataset.from_json(text)
    except Exception as error:
        sentence = "A value of the request cannot be kept."
        raise Refused(INVALID_ATTRIBUTE_VALUE, sentence) from error
    if len(text) > MOST_JSON:
        raise Refused(OUT_OF_RESOURCES, "The request sets more than is kept of a task.")
    return text


def _reports(wanted: Dataset) -> Iterable[tuple[int, str]]:
    """Yield the events that a change makes (PS3.4 CC.2.4.3)."""
    if _PROGRESS in wanted:
        progress = Dataset()
        progress[_PROGRESS] = wanted[_PROGRESS]
        yield PROGRESS_REPORT, progress.to_json()
    if any(keyword in wanted for keyword in _ASSIGNING):
        assigned = Dataset()
        if (station := _ASSIGNING[0]) in wanted:
            assigned[station] = wanted[station]
        for performer in list(wanted.get(_ASSIGNING[1]) or ())[:1]:
            for keyword in ("HumanPerformerCodeSequence", "HumanPerformerOrganization"):
                if keyword in performer:
                    assigned[keyword] = performer[keyword]
        yield ASSIGNED, assigned.to_json()


def is_finished(attributes: str) -> bool:
    """Say whether a task says of its performance what a completed one must (code P)."""
    performed = set_by_clients(attributes).get(_PERFORMED) or []
    if len(performed) != 1:
        return False
    said = performed[0]
    times = ("PerformedProcedureStepStartDateTime", "PerformedProcedureStepEndDateTime")
    codes = ("PerformedStationNameCodeSequence", "PerformedWorkitemCodeSequence")
    return all(_text(said, keyword) for keyword in times) and all(
        any(_text(item, "CodeValue") for item in said.get(keyword) or ()) for keyword in codes
    )


def supplement(attributes: str, now: datetime, said: Dataset) -> str:
    """Return what clients have set with what a canceled task must say (code X).

    Parameters
    ----------
    now : datetime
        When it is canceled.
    said : Dataset
        The request; a reason in it is kept.
    """
    held = Dataset.from_json(attributes)
    progress = Dataset()
    for item in list(held.get(_PROGRESS) or ())[:1]:
        progress = item
    if not _text(progress, "ProcedureStepCancellationDateTime"):
        progress.ProcedureStepCancellationDateTime = moment(now)
    _copy_reason(said, progress)
    if not progress.get("ProcedureStepDiscontinuationReasonCodeSequence"):
        unspecified = code("110513", "Discontinued for unspecified reason")
        progress.ProcedureStepDiscontinuationReasonCodeSequence = [unspecified]
    setattr(held, _PROGRESS, [progress])
    return _as_json(held)


def _copy_reason(said: Dataset, into: Dataset) -> None:
    for keyword in ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence"):
        if keyword in said and said[keyword].value:
            into[keyword] = said[keyword]
