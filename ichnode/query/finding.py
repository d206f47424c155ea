"""C-FIND: the list in its order, narrowed by the query, one answer at a time.

Which studies there are is seen at one moment, and bounded; they are then read in small parts, so
that no transaction stays open while a slow peer takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import Dataset
from pydicom.tag import BaseTag

from ichnode.domain.lifecycle import Band, Task
from ichnode.domain.tasks import (
    ListedInstance,
    ListedSeries,
    ListedStudy,
    ReadingTask,
    Search,
)
from ichnode.query import narrowing
from ichnode.query.book import Book
from ichnode.query.identifiers import values_of
from ichnode.query.matching import answer_to, knows_all, matches
from ichnode.query.statuses import (
    DOES_NOT_MATCH_CLASS,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_SOME_KEYS,
    Refused,
)
from ichnode.query.study_objects import image_object, series_object, study_object
from ichnode.query.task_objects import always, task_object

PART = 50
"""Studies that are read in one transaction."""
MOST_LOOKED_AT = 20_000
"""Studies that a query may have compared one by one."""
MOST_INSTANCES = 20_000
"""Objects of a study that are told of."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIQUE = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


@dataclass(frozen=True, slots=True)
class Found:
    """One match: what is sent, and the status it is sent with."""

    identifier: Dataset
    status: int


class Finder:
    """Answers queries.

    Parameters
    ----------
    book : Book
        The worklist.
    most : int
        Matches that one query gets.
    worklist_label, retrieve_ae_title : str
        See `ichnode.query.task_objects.task_object`.
    """

    def __init__(
        self, book: Book, *, most: int, worklist_label: str, retrieve_ae_title: str
    ) -> None:
        self._book, self._most = book, most
        self._alike, self._retrieve = always(worklist_label), retrieve_ae_title
        self._known = _known(self._object(_example(), ()))

    def describe(self, task: ReadingTask) -> Dataset:
        """Return a task as a UPS, with the images that it is about."""
        series = [one.series_uid for one in task.study.series]
        return self._object(
            task, self._book.instances(task.study.study_uid, series, MOST_INSTANCES)
        )

    def _object(
        self, task: ReadingTask, instances: Sequence[ListedInstance] | None = None
    ) -> Dataset:
        return task_object(task, self._alike, self._retrieve, instances)

    def tasks(self, query: Dataset) -> Iterator[Found | None]:
        """Yield what a UPS query matches, and None now and then while nothing does.

        Raises
        ------
        Refused
            Where the query cannot be understood, or matches more than it gets: after those.
        """
        search = narrowing.of_tasks(query, self._alike)
        status = PENDING if knows_all(query, self._known) else PENDING_WITHOUT_SOME_KEYS
        needs_images = "InputInformationSequence" in query

        def found_in(task: ReadingTask) -> Iterator[Found]:
            described = self._object(task)
            if not matches(query, described):
                return
            if needs_images:  # of those that may match alone: a study has thousands
                described = self.describe(task)
            if matches(query, described):
                answer = answer_to(query, described)
                for keyword in ("SOPClassUID", "SOPInstanceUID"):
                    answer[keyword] = described[keyword]
                yield Found(answer, status)

        return self._bounded(search, found_in)

    def studies(self, query: Dataset) -> Iterator[Found | None]:
        """Yield what a Study Root query matches, and None now and then while nothing does.

        Raises
        ------
        Refused
            0xA900 without a level, or without the unique keys above it (PS3.4 C.4.1.2.1); else as
            `tasks`.
        """
        level = str(query.get("QueryRetrieveLevel") or "").strip().upper()
        if level not in _UNIQUE:
            raise Refused(DOES_NOT_MATCH_CLASS, "The query has no level that Study Root has.")
        levels = list(_UNIQUE)
        for above in levels[: levels.index(level)]:
            _require_one(query, _UNIQUE[above])
        search = narrowing.of_studies(query)
        looks = {"STUDY": self._study, "SERIES": self._series, "IMAGE": self._images}
        example = _example()
        known = _known(next(iter(looks[level](example))))

        def found_in(task: ReadingTask) -> Iterator[Found]:
            for described in looks[level](task, query):
                if matches(query, described):
                    yield _found(query, described, known, _UNIQUE[level])

        return self._bounded(search, found_in)

    def _study(self, task: ReadingTask, _query: Dataset | None = None) -> Iterator[Dataset]:
        yield study_object(task.study, self._retrieve)

    def _series(self, task: ReadingTask, _query: Dataset | None = None) -> Iterator[Dataset]:
        for series in task.study.series:
            yield series_object(task.study, series, self._retrieve)

    def _images(self, task: ReadingTask, query: Dataset | None = None) -> Iterator[Dataset]:
        if query is None:
            images = [ListedInstance("1.2", "1.2", "1.2", 1)]
        else:
            series = values_of(query["SeriesInstanceUID"])
            images = self._book.instances(task.study.study_uid, series, MOST_INSTANCES)
        for image in images:
            yield image_object(task.study, image, self._retrieve)

    def _bounded(
        self, search: Search, found_in: Callable[[ReadingTask], Iterator[Found]]
    ) -> Iterator[Found | None]:
        """Yield matches in the order of the list until they are as many as one query gets.

        Between two parts of what is looked at comes None, so that whoever asks for the next match
        is not out of touch for long.
        """
        count = 0
        for task in self._candidates(search):
            if task is None:
                yield None
                continue
            for found in found_in(task):
                if count >= self._most:
                    raise Refused(
                        OUT_OF_RESOURCES,
                        f"More than {self._most} match: narrow the query.",
                        is_hostile=False,
                    )
                count += 1
                yield found

    def _candidates(self, search: Search) -> Iterator[ReadingTask | None]:
        """Yield what the database finds, which may be more than what is meant; None between parts.

        Raises
        ------
        Refused
            When that is more than is looked at.
        """
        seen: set[int] = set()
        limit = self._most + 1
        while True:
            keys = self._book.keys(search, limit)
            fresh = [key for key in keys if key not in seen]
            for start in range(0, len(fresh), PART):
                part = fresh[start : start + PART]
                if seen:
                    yield None
                seen.update(part)
                yield from self._book.listed(part)
            if len(keys) < limit:
                return
            if limit >= MOST_LOOKED_AT:
                raise Refused(OUT_OF_RESOURCES, "Too many studies to compare: narrow the query.")
            limit = min(limit * 8, MOST_LOOKED_AT)


def _found(query: Dataset, described: Dataset, known: frozenset[BaseTag], unique: str) -> Found:
    answer = answer_to(query, described)
    for keyword in ("QueryRetrieveLevel", "InstanceAvailability", "RetrieveAETitle", unique):
        if keyword in described:
            answer[keyword] = described[keyword]
    return Found(answer, PENDING if knows_all(query, known) else PENDING_WITHOUT_SOME_KEYS)


def _require_one(query: Dataset, keyword: str) -> None:
    values = values_of(query[keyword]) if keyword in query else []
    if len(values) != 1 or set(values[0]) & set("*?"):
        sentence = f"The query does not say of which one thing: {keyword} has to be one UID."
        raise Refused(DOES_NOT_MATCH_CLASS, sentence)


def _known(described: Dataset) -> frozenset[BaseTag]:
    return frozenset(element.tag for element in described)


def _example() -> ReadingTask:
    """Return a task of nobody, to see of which attributes one is made."""
    series = ListedSeries("1.2", "CT", 1, "", 1, arriving=False)
    study = ListedStudy(
        key=0,
        study_uid="1.2",
        patient_name="",
        patient_id="",
        issuer_of_patient_id="",
        patient_birth_date="",
        patient_sex="",
        accession_number="",
        study_date="",
        study_time="",
        study_description="",
        ordered_priority="",
        band=Band.NOT_ANALYSED,
        sentence="",
        arrived_at=_EPOCH,
        series=(series,),
    )
    return ReadingTask("1.2", study, Task.SCHEDULED, "LOW", "{}", _EPOCH)
