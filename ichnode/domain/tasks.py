"""Reading tasks: what others see of the reading list, and what they may do about it."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal

from ichnode.domain.lifecycle import Band, Task

_KEY_BITS = 48
_UUID_UID = re.compile(r"2\.25\.[1-9][0-9]{0,38}")


def task_uid(study_uid: str, key: int, number: int = 0) -> str:
    """Return the SOP Instance UID of a task to read a study: the same for ever.

    A version 8 UUID (RFC 9562, 5.8) below ``2.25``: a digest of the study's UID, and the study's
    key in the last 48 bits, so that a task is found by its UID without a column to search.

    Parameters
    ----------
    study_uid : str
        The Study Instance UID.
    key : int
        The key of the study's row.
    number : int
        0 of the first task of a study, 1 of the next.
    """
    which = f"|{number}" if number else ""
    digest = hashlib.sha256(f"task|{study_uid}|{key}{which}".encode()).digest()
    number = int.from_bytes(digest[:10], "big") << _KEY_BITS | key % (1 << _KEY_BITS)
    number = number & ~(0xF << 76) | 8 << 76  # the version
    number = number & ~(0x3 << 62) | 2 << 62  # the variant
    return f"2.25.{uuid.UUID(int=number).int}"


def task_key(uid: str) -> int | None:
    """Return the key of the study that a task's UID may be of; `task_uid` says whether it is."""
    if not _UUID_UID.fullmatch(uid):
        return None
    return int(uid.removeprefix("2.25.")) % (1 << _KEY_BITS)


# ------------------------------------------------------------------ what is listed


@dataclass(frozen=True, slots=True)
class ListedInstance:
    """One object of a listed study."""

    sop_uid: str
    sop_class_uid: str
    series_uid: str
    instance_number: int | None


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """One series of a listed study."""

    series_uid: str
    modality: str
    series_number: int | None
    series_description: str = field(repr=False)
    instances: int  # different SOP Instance UIDs
    arriving: bool


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """One study of the reading list, as it is told to those who ask. Holds PHI."""

    key: int
    study_uid: str
    patient_name: str = field(repr=False)
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)
    patient_birth_date: str = field(repr=False)
    patient_sex: str = field(repr=False)
    accession_number: str = field(repr=False)
    study_date: str = field(repr=False)
    study_time: str = field(repr=False)
    study_description: str = field(repr=False)
    ordered_priority: str
    band: Band
    sentence: str
    arrived_at: datetime
    series: tuple[ListedSeries, ...]


@dataclass(frozen=True, slots=True)
class ReadingTask:
    """The task to read a study. Holds PHI.

    Attributes
    ----------
    priority : str
        HIGH, MEDIUM or LOW: what somebody set, else what follows from the list.
    attributes : str
        What clients have set beside it, as DICOM JSON.
    changed_at : datetime
        When a client last changed the task, else when the study came.
    """

    uid: str
    study: ListedStudy
    state: Task
    priority: str
    attributes: str = field(repr=False)
    changed_at: datetime


TextColumn = Literal[
    "patient_name", "patient_id", "accession_number", "study_description", "patient_birth_date"
]


@dataclass(frozen=True, slots=True)
class Search:
    """What narrows a look at the list; everything in it must hold, and empty it holds of all.

    What is found may be more than what was meant, and never less: the asker compares.

    Attributes
    ----------
    texts : tuple of (TextColumn, str)
        With ``*`` and ``?`` for any characters and any single one; case does not count.
    study_dates : tuple of (str, str) or None
        From and to, as YYYYMMDD; empty is open.
    arrived : tuple of (datetime or None, datetime or None) or None
        From and to.
    set_by_clients : bool
        Only tasks of which a client has set something.
    """

    study_uids: frozenset[str] | None = None
    task_uids: frozenset[str] | None = None
    texts: tuple[tuple[TextColumn, str], ...] = field(repr=False, default=())
    study_dates: tuple[str, str] | None = None
    arrived: tuple[datetime | None, datetime | None] | None = None
    states: frozenset[Task] | None = None
    priorities: frozenset[str] | None = None
    set_by_clients: bool = False


# ------------------------------------------------------------------ what comes of a request


class TaskReply(Enum):
    """What came of a request about a task."""

    DONE = "done"
    UNKNOWN = "unknown"  # there is no such task
    CLOSED = "closed"  # it is completed or canceled
    WRONG_TRANSACTION = "wrong_transaction"
    ALREADY_TAKEN = "already_taken"
    NOT_TAKEN = "not_taken"
    ALREADY_COMPLETED = "already_completed"
    ALREADY_CANCELED = "already_canceled"
    UNFINISHED = "unfinished"  # what a completed task must say is missing
    NO_PERFORMER = "no_performer"  # nobody who took it up can be told
    LOCK_NOT_GRANTED = "lock_not_granted"


@dataclass(frozen=True, slots=True)
class Change:
    """What a client sets of a task.

    Attributes
    ----------
    attributes : str
        All that clients have set, this change included, as DICOM JSON.
    priority : str or None
        HIGH, MEDIUM or LOW where it is set now.
    reports : tuple of (int, str)
        Event types beside the state report that subscribers get, with their content as DICOM JSON.
    """

    attributes: str = field(repr=False)
    priority: str | None = None
    reports: tuple[tuple[int, str], ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class NoticeItem:
    """Something that a subscriber is told of a task (PS3.4 CC.2.4)."""

    notice_id: int
    task_uid: str
    event_type: int
    content: str = field(repr=False)  # DICOM JSON


# ------------------------------------------------------------------ answers on the wire


@dataclass(frozen=True, slots=True)
class Answer:
    """One response of the query services.

    Attributes
    ----------
    message : Any
        A DIMSE primitive; None where there is nothing to send yet and the search goes on.
    complaint : str
        Why it is a refusal that a person should see, without patient data; else empty.
    """

    message: Any = field(repr=False)
    status: int
    complaint: str = ""
