"""A scriptable archive on 127.0.0.1: Study Root C-FIND and C-MOVE, well-behaved and otherwise."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND

from tests.pacs import STOP_S, Peer

FIND, MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"
PENDING = 0xFF00


def series_of(
    uid: str,
    instances: int | None = 32,
    *,
    body_part: str = "HEAD",
    modality: str = "CT",
    description: str = "",
) -> Dataset:
    """Return a series of an `Archive`."""
    made = Dataset()
    made.SeriesInstanceUID, made.Modality = uid, modality
    made.BodyPartExamined, made.SeriesDescription = body_part, description
    if instances is not None:
        made.NumberOfSeriesRelatedInstances = instances
    return made


def study_of(
    uid: str,
    *series: Dataset,
    date: str = "20260301",
    time: str = "100000",
    description: str = "CT",
    accession_number: str = "A1",
) -> tuple[Dataset, tuple[Dataset, ...]]:
    """Return a study of an `Archive` with its series."""
    made = Dataset()
    made.StudyInstanceUID, made.StudyDate, made.StudyTime = uid, date, time
    made.StudyDescription, made.AccessionNumber = description, accession_number
    made.PatientName, made.PatientID = "Doe^Jane", "4711"
    made.ModalitiesInStudy = "CT"
    return made, series


LOOKS_UP_AFTER = 60  # answers


class Archive(Peer):
    """An archive with studies in memory.

    Parameters
    ----------
    studies : sequence of (Dataset, tuple of Dataset)
        What it has; see `study_of`.
    script : dict of str to int
        Statuses that queries at the level ``STUDY`` or ``SERIES`` are answered with at the end.
    first : sequence of Dataset or bytes
        What is answered before everything else at the level STUDY; bytes go as they are.
    ignores_keys : bool
        Return every study to every query.
    stalls : bool
        Queries at the level STUDY have answers and no end.
    endless : bool
        Answers at the level STUDY without end, until the query is cancelled. It looks up after
        `LOOKS_UP_AFTER`: pynetdicom sends before it reads, and might hear nothing for ever.
    deaf : bool
        Does not hear C-CANCEL.
    classes : sequence of str
        What it takes.
    move : int
        The status of every C-MOVE: Success, 0xA801 or 0xC515.
    """

    def __init__(
        self,
        studies: Sequence[tuple[Dataset, tuple[Dataset, ...]]] = (),
        *,
        script: dict[str, int] | None = None,
        first: Sequence[Dataset | bytes] = (),
        ignores_keys: bool = False,
        stalls: bool = False,
        endless: bool = False,
        deaf: bool = False,
        classes: Sequence[str] = (FIND, MOVE),
        move: int = 0x0000,
    ) -> None:
        super().__init__("ARCHIVE")
        for sop_class in classes:
            self._ae.add_supported_context(sop_class)
        self.studies, self.script = list(studies), script or {}
        self.first, self.ignores_keys = first, ignores_keys
        self.stalls, self.endless, self.deaf = stalls, endless, deaf
        self.move, self.images = move, 0
        self.asked: list[Dataset] = []
        self.moved: list[tuple[str, str]] = []  # study, destination
        self.cancelled = 0

    def _handlers(self) -> list[Any]:
        return [
            *super()._handlers(),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_C_MOVE, self._on_move),
        ]

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        self.asked.append(asked)
        level = str(asked.QueryRetrieveLevel)
        levels = {"STUDY": self._studies, "SERIES": self._series, "IMAGE": self._images}
        answers = levels[level](asked)
        for number, answer in enumerate(answers):
            looks_up = self.endless and number >= LOOKS_UP_AFTER
            if not self.deaf and (self._look_up(event) if looks_up else event.is_cancelled):
                self.cancelled += 1
                yield 0xFE00, None
                return
            if isinstance(answer, bytes):
                _send_raw(event, answer)
            else:
                yield PENDING, answer
        if level == "STUDY" and self.stalls:
            self._stopping.wait(STOP_S)
        if level in self.script:
            yield self.script[level], None

    def _look_up(self, event: Any) -> bool:
        """Answer no more until a C-CANCEL is there; it is seen once, and forgotten."""
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            if event.is_cancelled:
                return True
            if self._stopping.wait(0.01):
                return False
        return False

    def _studies(self, asked: Dataset) -> Iterator[Dataset | bytes]:
        yield from self.first
        for study, _ in self.studies:
            if self.ignores_keys or _matches(study, asked):
                yield study
        if self.endless:
            for number in itertools.count(1):
                if self._stopping.is_set():
                    return
                yield study_of(f"1.2.999.{number}")[0]

    def _series(self, asked: Dataset) -> Iterator[Dataset]:
        for study, series in self.studies:
            if study.get("StudyInstanceUID") == asked.StudyInstanceUID:
                for one in series:
                    one.StudyInstanceUID = study.StudyInstanceUID
                    yield one

    def _images(self, asked: Dataset) -> Iterator[Dataset]:
        for number in range(self.images):
            one = Dataset()
            one.SOPInstanceUID = f"{asked.SeriesInstanceUID}.{number + 1}"
            yield one

    def _on_move(self, event: Any) -> Iterator[Any]:
        self.moved.append((str(event.identifier.StudyInstanceUID), str(event.move_destination)))
        if self.move == 0xA801:
            yield None, None
            return
        yield "127.0.0.1", self.port
        yield 1 if self.move else 0  # with nothing to associate for: 0xC515


def _matches(study: Dataset, asked: Dataset) -> bool:
    if asked.StudyDate and str(asked.StudyDate) != study.StudyDate:
        return False
    if asked.StudyTime:
        first, _, last = str(asked.StudyTime).partition("-")
        return bool(study.StudyTime) and first <= study.StudyTime <= last
    return True


def _send_raw(event: Any, identifier: bytes) -> None:
    """Answer with bytes that are no data set."""
    answer = C_FIND()
    answer.MessageIDBeingRespondedTo = event.request.MessageID
    answer.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    answer.Status, answer.Identifier = PENDING, BytesIO(identifier)
    event.assoc.dimse.send_msg(answer, event.context.context_id)
