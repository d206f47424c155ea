"""Urgent studies to a FHIR server: one transaction, done as a whole or not at all.

Results are written over what is there of ours. A task is not: who has taken it up goes on, so that
the tasks of the study are looked at first, one is created where none is open, and those that nobody
has begun are cancelled where the alert is withdrawn. One that is over stays so: who ended it knew
nothing of what came since.

References
----------
HL7 FHIR R4 (4.0.1): RESTful API (transaction, conditional update and create), Task,
OperationOutcome.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ichnode.domain.work import Acknowledged, DeliveryItem, DeliveryResult
from ichnode.send.fhir_resources import (
    Resource,
    Resources,
    group_token_of,
    put,
    token_of,
    transaction,
)
from ichnode.send.http import (
    Answer,
    Exchange,
    HttpMechanism,
    Refused,
    Request,
    Strange,
    refusal,
)
from ichnode.send.sender import Echo
from ichnode.send.telling import subject
from ichnode.settings.over_http import FhirSettings

FHIR_JSON = "application/fhir+json"
_ACCEPT = ("Accept", FHIR_JSON)
_SENT = (_ACCEPT, ("Content-Type", FHIR_JSON), ("Prefer", "return=minimal"))
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_VERSION = re.compile(r"[A-Za-z0-9.-]{1,64}")
_NOT_BEGUN = frozenset(("draft", "requested", "received", "accepted", "ready", "on-hold"))
_OPEN = _NOT_BEGUN | {"in-progress"}
_CROSSED = frozenset((409, 412))  # somebody else changed it, or two at once: the next try decides
_ISSUE = re.compile(r"[a-z-]{1,32}")  # the code of an issue; its other words may name a patient


class FhirMechanism(HttpMechanism[FhirSettings]):
    """Tells one server.

    Parameters
    ----------
    destination : FhirSettings
        The server.
    """

    def tell(self, server: Exchange, item: DeliveryItem) -> DeliveryResult:
        """Write the results, and ask for the study to be read, or take it back."""
        entries = self._entries(item, self._about_tasks(server, item))
        answer = _good(server.ask(self._transaction(entries)))
        _done(answer, len(entries))
        return Acknowledged(answer.status)

    def preview(self, item: DeliveryItem) -> str:
        """Return the question for tasks, and the transaction of a server without any."""
        steps = [self._question(item)] if self._destination.task else []
        steps.append(self._transaction(self._entries(item, self._task_entries(item, []))))
        return "\n\n".join(self._peer.shown(step) for step in steps)

    def look(self) -> Echo:
        """Ask what the server can, which it says to everybody."""

        def judged(answer: Answer) -> str | None:
            held = answer.json()
            if not isinstance(held, dict) or held.get("resourceType") != "CapabilityStatement":
                return "This is not a FHIR server."
            spoken = str(held.get("fhirVersion"))
            return None if spoken.startswith("4.") else "The server does not speak FHIR R4."

        url = f"{self._destination.url}/metadata"
        return self._peer.look(Request("GET", url, (_ACCEPT,)), judged)

    def _resources(self, item: DeliveryItem) -> Resources:
        study, alert = subject(item)
        return Resources(study, item.revision, alert, self._destination)

    def _entries(self, item: DeliveryItem, tasks: list[Resource]) -> list[Resource]:
        return [*(put(url, one) for url, one in self._resources(item).results()), *tasks]

    def _transaction(self, entries: list[Resource]) -> Request:
        body = json.dumps(transaction(entries), indent=1, ensure_ascii=False).encode()
        return Request("POST", self._destination.url, _SENT, body)

    def _question(self, item: DeliveryItem) -> Request:
        _, task = self._resources(item).task()
        token = quote(group_token_of(task), safe="")
        url = f"{self._destination.url}/Task?group-identifier={token}"
        return Request("GET", url, (_ACCEPT,))

    def _about_tasks(self, server: Exchange, item: DeliveryItem) -> list[Resource]:
        """Return the entries about tasks, where there is anything to do about them."""
        if not self._destination.task:
            return []
        _, task = self._resources(item).task()
        held = _our_tasks(_good(server.ask(self._question(item))), task["groupIdentifier"])
        return self._task_entries(item, held)

    def _task_entries(self, item: DeliveryItem, held: list[Resource]) -> list[Resource]:
        _, alert = subject(item)
        if not self._destination.task:
            return []
        if alert.withdrawn:
            return [_change(one, "cancelled") for one in held if one["status"] in _NOT_BEGUN]
        full_url, task = self._resources(item).task()
        if any(one["status"] in _OPEN or _has(one, task["identifier"][0]) for one in held):
            return []  # somebody is asked already, or was by this very alert
        return [_create(full_url, task)]


def _create(full_url: str, task: Resource) -> Resource:
    found = f"identifier={token_of(task)}"
    request = {"method": "POST", "url": "Task", "ifNoneExist": found}
    return {"fullUrl": full_url, "resource": task, "request": request}


def _change(held: Resource, status: str) -> Resource:
    """Return an entry that changes the status alone, and only of the version that we saw."""
    request = {"method": "PUT", "url": f"Task/{held['id']}"}
    meta = held.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    if isinstance(version, str) and _VERSION.fullmatch(version):
        request["ifMatch"] = f'W/"{version}"'
    return {"resource": {**held, "status": status}, "request": request}


def _good(answer: Answer) -> Answer:
    """Return an answer whose status is good; of an OperationOutcome only the codes are told."""
    if answer.is_good:
        return answer
    refused = refusal(answer, ", ".join(_issues(answer)))
    raise Refused(replace(refused, permanent=refused.permanent and answer.status not in _CROSSED))


def _issues(answer: Answer) -> list[str]:
    try:
        held = answer.json()
    except Strange:
        return []
    issues = held.get("issue") if isinstance(held, dict) else None
    if not isinstance(issues, list):
        return []
    found = [str(one.get("code")) for one in issues[:3] if isinstance(one, dict)]
    return [code for code in found if _ISSUE.fullmatch(code)]


def _bundle(answer: Answer, kind: str) -> list[Resource]:
    """Return the entries of a Bundle of a kind.

    Raises
    ------
    Strange
        When it is none: many a proxy answers anything with 200 and a page to log in.
    """
    held = answer.json()
    if not isinstance(held, dict) or held.get("resourceType") != "Bundle":
        raise Strange("The server's answer is not FHIR.")
    entries = held.get("entry", [])
    if held.get("type") != kind or not isinstance(entries, list):
        raise Strange(f"The server's answer is no {kind}.")
    if not all(isinstance(one, dict) for one in entries):
        raise Strange(f"The server's answer is no {kind}.")
    return entries


def _done(answer: Answer, asked: int) -> None:
    """Make sure that every entry was done: some servers do a transaction in part.

    A response has an entry for each that was asked for; of one without nobody knows what it did.
    """
    entries = _bundle(answer, "transaction-response")
    if len(entries) < asked:
        raise Strange("The server did not do all of the transaction.")
    for entry in entries:
        told: Any = entry.get("response")
        status = str(told.get("status", "")) if isinstance(told, dict) else ""
        if not status.startswith("2"):
            raise Strange("The server did not do all of the transaction.")


def _our_tasks(answer: Answer, group: Resource) -> list[Resource]:
    """Return our tasks of the study, those that are over too.

    A server that ignores the key of the search returns any task, which is not ours to change.
    """
    found = [
        one["resource"]
        for one in _bundle(answer, "searchset")
        if isinstance(one.get("resource"), dict) and one["resource"].get("resourceType") == "Task"
    ]
    if not all(_is(one.get("groupIdentifier"), group) for one in found):
        raise Strange("The server returns other tasks than those that were asked for.")
    if not all(isinstance(one.get("status"), str) and _is_named(one) for one in found):
        raise Strange("The server's task is none.")
    return found


def _is_named(task: Resource) -> bool:
    return _ID.fullmatch(str(task.get("id"))) is not None


def _has(task: Resource, identifier: Resource) -> bool:
    held = task.get("identifier")
    return isinstance(held, list) and any(_is(one, identifier) for one in held)


def _is(held: Any, identifier: Resource) -> bool:
    return isinstance(held, dict) and held.items() >= identifier.items()
