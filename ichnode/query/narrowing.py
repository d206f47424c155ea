"""From the keys of a query to what narrows the list in the database.

Whatever is left out here is compared afterwards all the same, so that this may be generous.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydicom import Dataset

from ichnode.domain.lifecycle import Task
from ichnode.domain.tasks import Search, TextColumn
from ichnode.query.identifiers import values_of
from ichnode.query.matching import date_range, is_universal, keys_of, matches, moments

_TEXTS: dict[str, TextColumn] = {
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "AccessionNumber": "accession_number",
    "StudyDescription": "study_description",
    "RequestedProcedureDescription": "study_description",
    "PatientBirthDate": "patient_birth_date",
}
STATES = {state.value.replace("_", " ").upper(): state for state in Task}


def of_tasks(query: Dataset, always: Dataset) -> Search:
    """Return the search of a query for tasks.

    Parameters
    ----------
    query : Dataset
        The keys.
    always : Dataset
        What every task says of which no client has set anything: a query that does not match it
        is for tasks of which one has.

    Raises
    ------
    Refused
        Where a key cannot be understood.
    """
    search = replace(_common(query), set_by_clients=not matches(query, always))
    requests = query.get("ReferencedRequestSequence") or [Dataset()]
    texts = (*search.texts, *_texts(requests[0]))
    uids = search.study_uids
    if named := _values(requests[0], "StudyInstanceUID"):
        uids = frozenset(named) if uids is None else uids & frozenset(named)
    for key in keys_of(query):
        if is_universal(key):
            continue
        match key.keyword:
            case "SOPInstanceUID":
                search = replace(search, task_uids=frozenset(values_of(key)))
            case "ProcedureStepState":
                states = {state for word, state in STATES.items() if word in _words(key)}
                search = replace(search, states=frozenset(states))
            case "ScheduledProcedureStepPriority":
                search = replace(search, priorities=frozenset(_words(key)))
            case "ScheduledProcedureStepStartDateTime":
                search = replace(search, arrived=moments("\\".join(values_of(key))))
    return replace(search, texts=texts, study_uids=uids)


def of_studies(query: Dataset) -> Search:
    """Return the search of a query for studies, series or images.

    Raises
    ------
    Refused
        Where a key cannot be understood.
    """
    search = _common(query)
    if dates := "\\".join(_values(query, "StudyDate")):
        first, last = date_range(dates)
        search = replace(search, study_dates=(first.replace(".", ""), last.replace(".", "")))
    return search


def _common(query: Dataset) -> Search:
    named = _values(query, "StudyInstanceUID")
    return Search(study_uids=frozenset(named) if named else None, texts=tuple(_texts(query)))


def _texts(query: Dataset) -> Iterator[tuple[TextColumn, str]]:
    for key in keys_of(query):
        column = _TEXTS.get(key.keyword)
        values = values_of(key)
        if column is None or len(values) != 1 or is_universal(key):
            continue
        if key.VR == "PN":  # a name may go on with empty components
            yield column, values[0].rstrip("^= ") + "*"
        elif key.VR != "DA":
            yield column, values[0]


def _values(query: Dataset, keyword: str) -> list[str]:
    return values_of(query[keyword]) if keyword in query else []


def _words(key: Any) -> set[str]:
    return {value.upper() for value in values_of(key)}
