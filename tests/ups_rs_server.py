"""A UPS-RS server with tasks in memory, over real sockets: search, update, create."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydicom import Dataset

from tests.http_peer import Asked, Speak, answer

BASE = "/aets/WORKLIST/rs"
Key = Callable[[Dataset], str]


def _of_request(keyword: str) -> Key:
    return lambda task: str(task.ReferencedRequestSequence[0].get(keyword, ""))


KEYS: dict[str, Key] = {
    "0020000D": lambda task: str(task.StudyInstanceUID),
    "00100020": lambda task: str(task.PatientID),
    "00741000": lambda task: str(task.ProcedureStepState),
    "0040A370.0020000D": _of_request("StudyInstanceUID"),
    "0040A370.00080050": _of_request("AccessionNumber"),
}


class UpsRs:
    """What the server does with a request; to be handed to `tests.http_peer.HttpPeer`.

    Parameters
    ----------
    ignores : sequence of str
        Keys that it does not know, and so does not look at; dcm4chee-arc ignores ``0020000D``.
    appears : Dataset or None
        A task that comes into being after the first search.
    answers : dict of str to Any
        What ``find``, ``set`` or ``create`` answers with instead of doing it.
    """

    def __init__(
        self,
        *tasks: Dataset,
        ignores: tuple[str, ...] = (),
        appears: Dataset | None = None,
        answers: dict[str, Any] | None = None,
    ) -> None:
        self.tasks = {str(task.SOPInstanceUID): task for task in tasks}
        self._ignores, self._appears, self._answers = ignores, appears, answers or {}
        self.calls: list[str] = []

    def priorities(self) -> dict[str, str]:
        """Return the priority of each task by its UID."""
        return {uid: str(task.ScheduledProcedureStepPriority) for uid, task in self.tasks.items()}

    def __call__(self, asked: Asked) -> bytes | Speak:
        path = urlsplit(asked.path).path.removeprefix(f"{BASE}/workitems")
        query = parse_qsl(urlsplit(asked.path).query)
        call = "find" if asked.method == "GET" else "set" if path else "create"
        self.calls.append(call)
        if (instead := self._answers.get(call)) is not None:
            return answer(instead) if isinstance(instead, int) else instead
        if call == "find":
            return self._find(query)
        if asked.headers["content-type"] != "application/dicom+json":
            return answer(415)
        (held,) = asked.json()
        change = Dataset.from_json(held)
        if call == "create":
            return self._create(dict(query)["workitem"], change)
        return self._set(path.removeprefix("/"), change)

    def _find(self, query: list[tuple[str, str]]) -> bytes:
        keys = [(k, v) for k, v in query if k not in ("includefield", "limit", *self._ignores)]
        found = [
            task.to_json_dict()
            for task in self.tasks.values()
            if all(KEYS[key](task) == value for key, value in keys)
        ]
        if self._appears is not None:
            self.tasks[str(self._appears.SOPInstanceUID)] = self._appears
            self._appears = None
        most = int(dict(query)["limit"])
        return answer(200, found[:most]) if found else answer(204)

    def _set(self, uid: str, change: Dataset) -> bytes:
        task = self.tasks.get(uid)
        if task is None:
            return answer(404)
        if task.ProcedureStepState != "SCHEDULED" or "TransactionUID" in change:
            return answer(409)
        task.update(change)
        return answer(200)

    def _create(self, uid: str, task: Dataset) -> bytes:
        if uid in self.tasks:
            return answer(409)
        if task.ProcedureStepState != "SCHEDULED":
            return answer(400)
        task.SOPInstanceUID = uid
        self.tasks[uid] = task
        return answer(201)
