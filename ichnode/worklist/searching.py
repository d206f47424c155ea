"""A search of the reading list as conditions of SQL: everything that is meant, and perhaps more.

The asker compares by the rules of DICOM what comes back; the database only spares it most of the
list, in time that Python could not hold while scanners send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import ColumnElement, and_, exists, func, or_

from ichnode.domain.lifecycle import Task
from ichnode.domain.tasks import Search, TextColumn, task_key
from ichnode.domain.triage import ORDERED_RANK
from ichnode.worklist import tables as t
from ichnode.worklist.columns import accession

_ANY, _ONE = "%", "_"
MOST_GAPS = 3
"""Gaps of any length in a pattern; more of them cost a database dearly."""


def conditions_of(search: Search) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions on `Study` that a search comes to."""
    if search.study_uids is not None:
        yield t.Study.study_uid.in_(search.study_uids)
    if search.task_uids is not None:
        keys = {task_key(uid) for uid in search.task_uids} - {None}
        yield t.Study.id.in_(keys)
    for column, pattern in search.texts:
        yield _text(column, pattern)
    if search.study_dates is not None:
        first, last = search.study_dates
        if first:
            yield t.Study.study_date >= first
        if last:
            yield t.Study.study_date <= last
    yield from _arrived(search)
    if search.states is not None:
        yield _in_state(search.states)
    if search.priorities is not None:
        yield _of_priority(search.priorities)
    if search.set_by_clients:
        yield _task(t.Task.attributes != "{}")


def _arrived(search: Search) -> Iterator[ColumnElement[bool]]:
    """Yield the condition on the arrival; a client may have set another start of its task."""
    if search.arrived is None:
        return
    first, last = search.arrived
    within = [t.Study.arrived_at >= first] if first is not None else []
    within += [t.Study.arrived_at <= last] if last is not None else []
    yield or_(and_(True, *within), _task(t.Task.attributes != "{}"))


def _task(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(t.Task.study_id == t.Study.id, *conditions).correlate(t.Study)


def _in_state(states: Iterable[Task]) -> ColumnElement[bool]:
    """Return the condition on the state; a study without a row is scheduled."""
    wanted = set(states)
    if Task.SCHEDULED in wanted:
        others = [state for state in Task if state not in wanted]
        return ~_task(t.Task.state.in_(others))
    return _task(t.Task.state.in_(list(wanted)))


def _of_priority(priorities: Iterable[str]) -> ColumnElement[bool]:
    """Return what `ichnode.domain.triage.reading_priority` comes to, or a little more."""
    high = or_(t.Study.band_rank == 0, t.Study.ordered_rank <= ORDERED_RANK["HIGH"])
    low = and_(t.Study.band_rank == 2, t.Study.ordered_rank > ORDERED_RANK["HIGH"])
    medium = or_(t.Study.band_rank == 1, and_(low, t.Study.ordered_rank == ORDERED_RANK["MEDIUM"]))
    of = {"HIGH": high, "MEDIUM": medium, "LOW": low}
    wanted = set(priorities)
    return or_(_task(t.Task.priority.in_(wanted)), *(of[one] for one in wanted if one in of))


def _text(column: TextColumn, pattern: str) -> ColumnElement[bool]:
    asked = getattr(t.Study, column)
    if column == "accession_number" and not set(pattern) & set("*?"):
        return and_(asked == accession(pattern), asked != "")  # which there is an index for
    return func.lower(asked).like(like(pattern), escape="\\")


def like(pattern: str) -> str:
    """Return a DICOM pattern as one of LIKE that matches as much, or more.

    Only letters of ASCII are compared, in lower case: engines disagree about the others. After
    `MOST_GAPS` gaps anything goes.
    """
    made, gaps = "", 0
    for character in pattern:
        if character == "*" or not character.isascii():
            if not made.endswith(_ANY):
                gaps += 1
                made += _ANY
            if gaps > MOST_GAPS:
                return made
        elif character == "?":
            made += _ONE
        else:
            made += f"\\{character}" if character in "%_\\" else character.lower()
    return made
