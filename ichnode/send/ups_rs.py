"""Reading priority by UPS-RS: the study's scheduled reading task is set to HIGH, over HTTP.

What is decided is in `ichnode.send.raising`, how a server is asked and told here. Servers differ in
where they look for a study: by the standard it is an attribute of the task and of the requests in
it; dcm4chee-arc knows the latter only, and returns every task to the question for the former. So
both are asked, the latter first, and what came back is looked at again.

References
----------
DICOM PS3.18 11.4 (create), 11.6 (update), 11.9 (search), annex F (JSON); PS3.4 Table CC.2.5-3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from pydicom import DataElement, Dataset
from pydicom.config import IGNORE

from ichnode.domain.ids import is_uid
from ichnode.domain.work import Acknowledged, DeliveryItem, DeliveryResult, StudyRef, Undelivered
from ichnode.send.http import (
    Answer,
    Exchange,
    HttpMechanism,
    Request,
    Strange,
    expect_good,
    judge,
)
from ichnode.send.raising import raise_priority
from ichnode.send.reading_task import (
    HIGH,
    SCHEDULED,
    Task,
    has_order,
    is_of,
    is_reading,
    new_task,
    task_of,
    task_uid,
)
from ichnode.send.sender import Echo
from ichnode.send.telling import subject
from ichnode.settings.over_http import UpsRsSettings

DICOM_JSON = "application/dicom+json"
MOST = 200  # tasks in an answer; a study has a few
_STUDY_UID, _PATIENT_ID, _STATE, _PRIORITY = "0020000D", "00100020", "00741000", "00741200"
_CHANGED = "00404010"  # Scheduled Procedure Step Modification DateTime
_REQUEST, _ACCESSION = "0040A370", "00080050"
_TEXTS = {
    "00080018": "UI",
    _STUDY_UID: "UI",
    _PATIENT_ID: "LO",
    _STATE: "CS",
    _PRIORITY: "CS",
    _CHANGED: "DT",
}
_SEQUENCES = {
    "00404018": {"00080100": "SH", "00080102": "SH"},  # the code of the work
    _REQUEST: {_STUDY_UID: "UI", _ACCESSION: "SH"},
}
_NO_CONTENT, _CONFLICT, _TOO_MANY = 204, 409, 413
_ACCEPT, _CONTENT = ("Accept", DICOM_JSON), ("Content-Type", DICOM_JSON)


class UpsRsMechanism(HttpMechanism[UpsRsSettings]):
    """Raises reading tasks at one server.

    Parameters
    ----------
    destination : UpsRsSettings
        The server.
    """

    def tell(self, server: Exchange, item: DeliveryItem) -> DeliveryResult:
        """Raise the tasks of a study."""
        study, alert = subject(item)
        if alert.withdrawn:
            return Acknowledged(note="a priority is lowered by people only")
        tasks = _Tasks(server, self._destination.url, alert.analysed_at)
        create = self._destination.create_if_missing
        return raise_priority(tasks, study, item.revision, create_if_missing=create)

    def preview(self, item: DeliveryItem) -> str:
        """Return the questions, and what follows from their answers."""
        study, alert = subject(item)
        if alert.withdrawn:
            return "Nothing: a priority is lowered by people only."
        url = self._destination.url
        asked = [self._peer.shown(one) for one in _questions(url, study, SCHEDULED)]
        steps = [
            "\n".join(asked),
            f"For every task found:\n{self._peer.shown(_to_high(url, 'UID'))}",
        ]
        if self._destination.create_if_missing:
            made = self._peer.shown(_new(url, study, item.revision, alert.analysed_at))
            steps.append(f"Where the study has no task that is open:\n{made}")
        return "\n\n".join(steps)

    def look(self) -> Echo:
        """Ask for one task."""

        def judged(answer: Answer) -> str | None:
            _datasets(answer)
            return None

        asked = urlencode({"limit": 1})
        url = f"{self._destination.url}/workitems?{asked}"
        return self._peer.look(Request("GET", url, (_ACCEPT,)), judged)


class _Tasks:
    """The tasks of a server, as far as one row needs them."""

    def __init__(self, server: Exchange, url: str, begins: datetime) -> None:
        self._server, self._url, self._begins = server, url, begins
        self._understood = False  # whether any question was, as far as the answers tell

    def of(self, study: StudyRef, state: str) -> list[Task]:
        """Find the reading tasks of a study in a state; in any where `state` is empty."""
        for question in _questions(self._url, study, state):
            answer = self._server.ask(question)
            if answer.status == _TOO_MANY:
                continue  # it would have returned everything
            found = _datasets(expect_good(answer))
            if len(found) < MOST or all(is_of(one, study) for one in found):
                self._understood = True
            if ours := [task_of(one) for one in found if is_reading(one, study)]:
                return ours
        return []

    def set_high(self, task: Task) -> DeliveryResult:
        """Set the priority of a scheduled task (PS3.18 11.6: no Transaction UID while it is)."""
        answer = self._server.ask(_to_high(self._url, task.uid))
        if answer.status == _CONFLICT:
            # Taken up in between, or two changes at once: the next try sees which.
            return Undelivered("The task was changed by somebody else in between.", answer.status)
        return judge(answer)

    def create(self, study: StudyRef, revision: int) -> DeliveryResult:
        """Create a task under a UID that is always the same for one alert of its study."""
        if not self._understood:
            return Undelivered(
                "The server returns other studies' tasks, so that this one may have one or not."
            )
        answer = self._server.ask(_new(self._url, study, revision, self._begins))
        if answer.status == _CONFLICT:
            return Acknowledged(answer.status, "the task was there already")
        return judge(answer)


def _questions(url: str, study: StudyRef, state: str) -> Iterator[Request]:
    """Yield what is asked: by the study of the request, by that of the task, by the order."""
    keys = [{f"{_REQUEST}.{_STUDY_UID}": study.study_uid}, {_STUDY_UID: study.study_uid}]
    if has_order(study):
        order = {f"{_REQUEST}.{_ACCESSION}": study.accession_number}
        keys.append({_PATIENT_ID: study.patient_id} | order)
    for key in keys:
        asked = [*key.items(), *([(_STATE, state)] if state else [])]
        asked += [("includefield", tag) for tag in (*_TEXTS, *_SEQUENCES)]
        asked.append(("limit", str(MOST)))
        yield Request("GET", f"{url}/workitems?{urlencode(asked)}", (_ACCEPT,))


def _to_high(url: str, uid: str) -> Request:
    body = [{_PRIORITY: {"vr": "CS", "Value": [HIGH]}}]
    return Request("POST", f"{url}/workitems/{uid}", (_ACCEPT, _CONTENT), _json(body))


def _new(url: str, study: StudyRef, revision: int, begins: datetime) -> Request:
    """Return the creation; the task begins with the analysis, whenever we get through."""
    asked = urlencode({"workitem": task_uid(study, revision)})
    held = new_task(study, begins).to_json_dict()
    body = [{tag: {k: v for k, v in one.items() if v != []} for tag, one in held.items()}]
    return Request("POST", f"{url}/workitems?{asked}", (_ACCEPT, _CONTENT), _json(body))


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _datasets(answer: Answer) -> list[Dataset]:
    """Return what a search found; of each no more than what was asked for is looked at.

    Raises
    ------
    Strange
        When it is no list of data sets in DICOM's JSON.
    """
    if answer.status == _NO_CONTENT:
        return []
    found = answer.json()
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Strange("The server's answer is no list of tasks.")
    tasks = [_dataset(one) for one in found]
    if not all(is_uid(task_of(one).uid) for one in tasks):
        raise Strange("The server's answer names tasks without a UID.")
    return tasks


def _dataset(found: dict[str, Any]) -> Dataset:
    """Take over of a task what is looked at; what is no text there is as if it were not."""
    made = _texts(found, _TEXTS)
    for tag, texts in _SEQUENCES.items():
        items = _values(found, tag)
        made.add_new(tag, "SQ", [_texts(one, texts) for one in items if isinstance(one, dict)])
    return made


def _texts(found: dict[str, Any], texts: Mapping[str, str]) -> Dataset:
    made = Dataset()
    for tag, vr in texts.items():
        first = next(iter(_values(found, tag)), "")
        text = first if isinstance(first, str) else ""
        made.add(DataElement(tag, vr, text, validation_mode=IGNORE))  # its length is its affair
    return made


def _values(found: dict[str, Any], tag: str) -> list[Any]:
    held = found.get(tag)
    values = held.get("Value") if isinstance(held, dict) else None
    return values if isinstance(values, list) else []
