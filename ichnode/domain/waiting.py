"""Who waits how long: a reading list replayed, event by event.

Pure: whoever calls it draws the cases. The order is that of `ichnode.domain.triage.list_key`, the
same function that the node's own list is compared with, so that what is simulated is what runs.

References
----------
Thompson YLE et al., Applying queueing theory to evaluate wait-time-savings of triage algorithms,
Queueing Systems 2024; 108:579 (the FDA's QuCAD).
Cobham A, Priority assignment in waiting line problems, Operations Research 1954; 2:70.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ichnode.domain.lifecycle import Band
from ichnode.domain.triage import ListEntry, list_key

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_AT_ONCE, _URGENT, _OTHER = 0, 1, 2  # who interrupts whom: the smaller the greater
_NO_WAIT_MIN = 1e-6  # below it there is nothing but rounding


@dataclass(frozen=True, slots=True)
class Case:
    """One study to be read.

    Attributes
    ----------
    arrives_min : float
        Minutes since the start.
    reading_min : float
        How long a person reads it.
    positive : bool
        The truth.
    band : Band
        What the model makes of it.
    interrupting : bool
        It is on no list: somebody calls, and it is read at once.
    """

    arrives_min: float
    reading_min: float
    positive: bool
    band: Band
    ordered_priority: str = ""
    interrupting: bool = False


class Place(NamedTuple):
    """Where a case stands from a moment on."""

    at_min: float
    key: tuple[float, ...]  # smaller is read earlier
    level: int  # a smaller one interrupts who is being read


def first_come(case: Case) -> tuple[Place, ...]:
    """Return the places of a case on a list in the order of arrival."""
    if case.interrupting:
        return (_at_once(case),)
    return (Place(case.arrives_min, (0.0, case.arrives_min), _OTHER),)


def listed(
    case: Case,
    waiting_cap: timedelta,
    *,
    result_after: timedelta = timedelta(0),
    preemptive: bool = False,
    analysed: bool = True,
) -> tuple[Place, ...]:
    """Return the places of a case on the list of the node, as time passes.

    Parameters
    ----------
    waiting_cap : timedelta
        As in `list_key`; `timedelta.max` for none.
    result_after : timedelta
        How long after its arrival the verdict is there; until then the study is not analysed.
    preemptive : bool
        Whether a study that becomes URGENT interrupts the reading of one that is not.
    analysed : bool
        False leaves the model out: ordered priority, arrival and cap alone.
    """
    if case.interrupting:
        return (_at_once(case),)
    arrived_at = _EPOCH + timedelta(minutes=case.arrives_min)
    moments = {timedelta(0)}
    if analysed:
        moments.add(result_after)
    if waiting_cap < timedelta.max:
        moments.add(waiting_cap)
    places = []
    for after in sorted(moments):
        known = analysed and after >= result_after
        band = case.band if known else Band.NOT_ANALYSED
        entry = ListEntry(band, case.ordered_priority, arrived_at)
        key = list_key(entry, arrived_at + after, waiting_cap)
        level = _URGENT if preemptive and band is Band.URGENT else _OTHER
        places.append(Place(case.arrives_min + after.total_seconds() / 60, key, level))
    return tuple(places)


def _at_once(case: Case) -> Place:
    return Place(case.arrives_min, (-1.0, case.arrives_min), _AT_ONCE)


def replay(cases: Sequence[Case], places: Iterable[Sequence[Place]], readers: int) -> list[float]:
    """Return how long each case waits, in minutes: from its arrival until it is read, less reading.

    Whoever is free takes the first of the list. Where a case comes to stand on a smaller level than
    one that is being read, and nobody is free, that reading is interrupted and goes on later where
    it stopped; the interruption counts as waiting.

    Parameters
    ----------
    cases : sequence of Case
        In any order.
    places : iterable of sequence of Place
        For each case where it stands, from its arrival on.
    readers : int
        People who read, all alike, all the time.
    """
    return _Room(cases, list(places), readers).waits()


class _Room:
    """The list, and who reads what of it."""

    def __init__(
        self, cases: Sequence[Case], places: Sequence[Sequence[Place]], readers: int
    ) -> None:
        self._cases, self._readers = cases, readers
        self._changes = sorted(
            (place.at_min, number, place) for number, own in enumerate(places) for place in own
        )
        self._places: list[Place | None] = [None] * len(cases)  # where each stands now
        self._left_min = [case.reading_min for case in cases]
        self._ended_min = [math.nan] * len(cases)
        self._waiting: list[tuple[tuple[float, ...], int]] = []  # a heap, with stale entries
        self._ends: list[tuple[float, int]] = []  # likewise
        self._read: dict[int, float] = {}  # what is being read, until when

    def waits(self) -> list[float]:
        coming = 0
        while coming < len(self._changes) or self._read:
            now = self._ends[0][0] if self._ends else math.inf
            if coming < len(self._changes):
                now = min(now, self._changes[coming][0])
            self._end(now)
            while coming < len(self._changes) and self._changes[coming][0] <= now:
                self._move(*self._changes[coming][1:])
                coming += 1
            self._start(now)
        waits = (
            ended - case.arrives_min - case.reading_min
            for case, ended in zip(self._cases, self._ended_min, strict=True)
        )
        return [wait if wait > _NO_WAIT_MIN else 0.0 for wait in waits]

    def _end(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            end_min, number = heapq.heappop(self._ends)
            if self._read.get(number) == end_min:  # it was not interrupted
                del self._read[number]
                self._ended_min[number] = end_min

    def _move(self, number: int, place: Place) -> None:
        if math.isnan(self._ended_min[number]):
            self._places[number] = place
            if number not in self._read:
                heapq.heappush(self._waiting, (place.key, number))

    def _start(self, now: float) -> None:
        while (number := self._first()) is not None:
            other = None
            if len(self._read) >= self._readers:
                other = max(self._read, key=self._rank)
                if self._rank(number)[0] >= self._rank(other)[0]:
                    return
            heapq.heappop(self._waiting)
            if other is not None:
                self._interrupt(other, now)
            self._read[number] = now + self._left_min[number]
            heapq.heappush(self._ends, (self._read[number], number))

    def _first(self) -> int | None:
        """Return who is first on the list, after clearing what is out of date."""
        while self._waiting:
            key, number = self._waiting[0]
            place = self._places[number]
            is_there = number not in self._read and math.isnan(self._ended_min[number])
            if is_there and place is not None and place.key == key:
                return number
            heapq.heappop(self._waiting)
        return None

    def _interrupt(self, number: int, now: float) -> None:
        self._left_min[number] = self._read.pop(number) - now
        place = self._places[number]
        if place is not None:
            heapq.heappush(self._waiting, (place.key, number))

    def _rank(self, number: int) -> tuple[int, tuple[float, ...]]:
        place = self._places[number]
        return (place.level, place.key) if place is not None else (_OTHER, ())
