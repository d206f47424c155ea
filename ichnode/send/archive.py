"""Asking an archive what it holds, and having a study sent to us: C-FIND and C-MOVE, Study Root.

Nothing that an archive answers is believed beyond what it says: answers without a UID, answers that
cannot be read, answers to a question that was not asked, and answers without end are counted and
said. What was understood before something went wrong is kept.

References
----------
DICOM PS3.4 annex C: C.4.1 (C-FIND), C.4.2 (C-MOVE), C.6.2 (Study Root); PS3.7 9.3.2.3 (C-CANCEL).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from ichnode.domain.errors import PeerFailure
from ichnode.domain.holdings import HeldSeries, HeldStudy
from ichnode.domain.ids import is_uid
from ichnode.imaging import values
from ichnode.send.association import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    NothingAccepted,
    Peer,
    abandon,
    associate,
    is_warning,
    status_of,
)

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
MOST_ANSWERS = 2000
LONGEST_S = 300.0  # for all the answers to one question
LONGEST_MOVE_S = 600.0  # without a word: many archives say nothing until a move is done
_AFTER_CANCEL = 200  # answers that may have been on their way
_AFTER_CANCEL_S = 30.0  # for those

_PENDING = frozenset((0xFF00, 0xFF01))
_SUCCESS, _CANCELLED = 0x0000, 0xFE00
_UNKNOWN_DESTINATION = 0xA801

_STUDY_KEYS = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "StudyInstanceUID",
    "NumberOfStudyRelatedInstances",
)
_SERIES_KEYS = (
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesInstanceUID",
    "NumberOfSeriesRelatedInstances",
)

Row = TypeVar("Row")
Read = Callable[[Dataset], tuple[str, Row] | None]  # the UID, and what was understood


@dataclass(frozen=True, slots=True)
class Answers(Generic[Row]):
    """What came back to one question.

    Attributes
    ----------
    rows : tuple
        What was understood, each UID once.
    problem : str
        Why that may not be all, in a sentence; empty where it is.
    too_many : bool
        The archive had more than we take.
    """

    rows: tuple[Row, ...]
    problem: str = ""
    too_many: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of a C-MOVE; `problem` is empty where every image was sent."""

    completed: int
    problem: str = ""


class Inquiry:
    """An association on which questions are asked.

    Parameters
    ----------
    association : pynetdicom.association.Association
        Established.
    most : int
        Answers that are taken to one question; then it is cancelled.
    longest_s : float
        How long the answers to one question may take together.
    """

    def __init__(
        self, association: Any, *, most: int = MOST_ANSWERS, longest_s: float = LONGEST_S
    ) -> None:
        self._association, self._most, self._longest_s = association, most, longest_s
        self._number = 0

    @property
    def is_open(self) -> bool:
        """Whether another question can be asked."""
        return bool(self._association.is_established)

    def studies(self, date: str, times: str = "") -> Answers[HeldStudy]:
        """Return the CT studies of a day.

        Parameters
        ----------
        date : str
            Study Date to match.
        times : str
            A range of Study Time; empty for the whole day.
        """
        asked = _question("STUDY", _STUDY_KEYS)
        asked.StudyDate, asked.StudyTime, asked.ModalitiesInStudy = date, times, "CT"
        return self._ask(asked, _study)

    def series(self, study_uid: str) -> Answers[HeldSeries]:
        """Return the series of a study."""
        asked = _question("SERIES", _SERIES_KEYS)
        asked.StudyInstanceUID = study_uid

        def of_study(found: Dataset) -> tuple[str, HeldSeries] | None:
            named = _text(found, "StudyInstanceUID")
            return _series(found) if named in ("", study_uid) else None

        return self._ask(asked, of_study)

    def images(self, study_uid: str, series_uid: str) -> Answers[str]:
        """Return the SOP Instance UIDs of a series, for archives that do not count."""
        asked = _question("IMAGE", ("SOPInstanceUID",))
        asked.StudyInstanceUID, asked.SeriesInstanceUID = study_uid, series_uid

        def of_series(found: Dataset) -> tuple[str, str] | None:
            uid = _text(found, "SOPInstanceUID")
            named = _text(found, "SeriesInstanceUID")
            return (uid, uid) if is_uid(uid) and named in ("", series_uid) else None

        return self._ask(asked, of_series)

    def _ask(self, asked: Dataset, read: Read[Row]) -> Answers[Row]:
        self._number = self._number % 0xFFFF + 1
        reply = _Reply(read, self._most)
        deadline = time.monotonic() + self._longest_s
        try:
            answers = self._association.send_c_find(asked, FIND, msg_id=self._number)
            for answer, identifier in answers:
                reply.take(status_of(answer), identifier)
                if reply.is_over:
                    break
                if not reply.cancelled and (reply.is_full or time.monotonic() > deadline):
                    reply.cancelled = True
                    self._association.send_c_cancel(self._number, query_model=FIND)
                if reply.will_not_stop or time.monotonic() > deadline + _AFTER_CANCEL_S:
                    break
        except (RuntimeError, OSError, ValueError, AttributeError):
            reply.status = None
        if not reply.is_over:  # silent, closed, or without end: nothing after it can be trusted
            abandon(self._association)
        return reply.answers()


class _Reply(Generic[Row]):
    """The answers to one question, as they come."""

    def __init__(self, read: Read[Row], most: int) -> None:
        self._read: Read[Row] = read
        self._most = most
        self._rows: dict[str, Row] = {}
        self._count = self._unreadable = 0
        self.status: int | None = None
        self.cancelled = False

    @property
    def is_over(self) -> bool:
        return self.status is not None and self.status not in _PENDING

    @property
    def is_full(self) -> bool:
        return self._count >= self._most

    @property
    def will_not_stop(self) -> bool:
        return self._count >= self._most + _AFTER_CANCEL

    def take(self, status: int | None, identifier: Dataset | None) -> None:
        """Take one answer in; of two about the same UID the first counts."""
        self.status = status
        if status not in _PENDING:
            return
        self._count += 1
        understood = None
        if identifier is not None:
            try:
                understood = self._read(identifier)
            except Exception:  # noqa: BLE001 - garbage fails in pydicom in many ways
                understood = None
        if understood is None:
            self._unreadable += 1
        elif not self.is_full:
            self._rows.setdefault(*understood)

    def answers(self) -> Answers[Row]:
        return Answers(tuple(self._rows.values()), self._problem(), self.cancelled)

    def _problem(self) -> str:
        if self.status is None:
            return "The peer stopped answering the query."
        if self.cancelled:
            return f"The peer has more answers than the {self._most} that are taken."
        if self.status != _SUCCESS and not is_warning(self.status):
            return f"The peer refused the query with status 0x{self.status:04X}."
        if self._unreadable:
            return "The peer gave answers that cannot be read or name no UID."
        if self.status != _SUCCESS:
            return f"The peer answered the query with a warning, 0x{self.status:04X}."
        return ""


@contextmanager
def inquire(
    peer: Peer, *, most: int = MOST_ANSWERS, longest_s: float = LONGEST_S
) -> Iterator[Inquiry]:
    """Hold an association for questions while the block runs.

    Raises
    ------
    PeerFailure
        When the archive cannot be reached, rejects, stays silent, or takes no queries.
    """
    try:
        with associate(peer, [(FIND, EXPLICIT_LE), (FIND, IMPLICIT_LE)]) as association:
            yield Inquiry(association, most=most, longest_s=longest_s)
    except NothingAccepted:
        raise PeerFailure("The peer takes no Study Root queries from us.") from None


def fetch(
    peer: Peer, study_uid: str, destination_ae: str, *, longest_s: float = LONGEST_MOVE_S
) -> Moved:
    """Have an archive send a study to an AE title that it knows, by C-MOVE.

    Parameters
    ----------
    longest_s : float
        How long the archive may say nothing; what it sends in that time goes elsewhere.

    Raises
    ------
    PeerFailure
        When the archive cannot be reached, rejects, stays silent, or takes no such request.
    """
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study_uid
    status, counts = None, Dataset()
    try:
        with associate(peer, [(MOVE, EXPLICIT_LE), (MOVE, IMPLICIT_LE)]) as association:
            association.dimse_timeout = max(peer.timeout_s, longest_s)
            try:
                for answer, _ in association.send_c_move(asked, destination_ae, MOVE):
                    status, counts = status_of(answer), answer
                    if status not in _PENDING:
                        break
            except (RuntimeError, OSError, ValueError):
                status = None
            if status is None:
                abandon(association)
    except NothingAccepted:
        raise PeerFailure("The peer takes no C-MOVE from us.") from None
    return _moved(status, counts, destination_ae)


def _moved(status: int | None, counts: Dataset, destination_ae: str) -> Moved:
    completed = int(counts.get("NumberOfCompletedSuboperations") or 0)
    failed = int(counts.get("NumberOfFailedSuboperations") or 0)
    if status is None:
        return Moved(completed, "The peer stopped answering the C-MOVE.")
    if status == _UNKNOWN_DESTINATION:
        return Moved(completed, f"The peer does not know the move destination {destination_ae}.")
    if failed:
        return Moved(completed, f"The peer could not send {failed} of {completed + failed} images.")
    if status == _SUCCESS or is_warning(status):
        return Moved(completed)
    return Moved(completed, f"The peer refused the C-MOVE with status 0x{status:04X}.")


def _question(level: str, keys: tuple[str, ...]) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword in keys:
        setattr(asked, keyword, None)
    return asked


def _text(found: Dataset, keyword: str) -> str:
    return values.text(found, _tag(keyword))


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is in no dictionary")
    return int(tag)


def _count(found: Dataset, keyword: str) -> int | None:
    number = values.integer(found, _tag(keyword))
    return number if number is not None and number >= 0 else None


def _study(found: Dataset) -> tuple[str, HeldStudy] | None:
    uid = _text(found, "StudyInstanceUID")
    if not is_uid(uid):
        return None
    return uid, HeldStudy(
        study_uid=uid,
        study_date=_text(found, "StudyDate"),
        study_time=_text(found, "StudyTime"),
        description=_text(found, "StudyDescription"),
        accession_number=_text(found, "AccessionNumber"),
        patient_id=_text(found, "PatientID"),
        patient_name=_text(found, "PatientName"),
        modalities=values.parts(found, _tag("ModalitiesInStudy")),
        instances=_count(found, "NumberOfStudyRelatedInstances"),
    )


def _series(found: Dataset) -> tuple[str, HeldSeries] | None:
    uid = _text(found, "SeriesInstanceUID")
    if not is_uid(uid):
        return None
    return uid, HeldSeries(
        series_uid=uid,
        modality=_text(found, "Modality"),
        instances=_count(found, "NumberOfSeriesRelatedInstances"),
        body_part=_text(found, "BodyPartExamined"),
        description=_text(found, "SeriesDescription"),
    )
