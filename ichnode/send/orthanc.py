"""An urgent study in an Orthanc: a label on it, metadata, or both.

Orthanc numbers studies in its own way, so that each delivery first asks for that number. A study
that is not there yet, as when the scanner sends to the archive after us, is asked for again. Labels
exist from version 1.12.0 on, and only where the database below it has them.

References
----------
The REST API of Orthanc: /tools/lookup, /studies/{id}/labels/{label}, /system (HasLabels),
/studies/{id}/metadata/{name}, where with CheckRevisions a change must name the revision that it
replaces (If-Match).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from ichnode.domain.work import Acknowledged, DeliveryItem, DeliveryResult, Undelivered
from ichnode.send.http import (
    Answer,
    Exchange,
    HttpMechanism,
    Refused,
    Request,
    Strange,
    expect_good,
    refusal,
)
from ichnode.send.sender import Echo
from ichnode.send.telling import facts, subject
from ichnode.settings.over_http import OrthancSettings

_NUMBER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")  # a SHA-1, as Orthanc writes it
_NO_LABELS = (
    "This Orthanc has no labels, which need version 1.12.0 and a database that has them: "
    'set label = "" and metadata.'
)
_TEXT = (("Content-Type", "text/plain"),)


class OrthancMechanism(HttpMechanism[OrthancSettings]):
    """Labels studies at one Orthanc.

    Parameters
    ----------
    destination : OrthancSettings
        The Orthanc.
    """

    def preview(self, item: DeliveryItem) -> str:
        """Return the requests, with ID in place of what Orthanc's answer to the first will say."""
        steps = [self._lookup(item), *self._changes("ID", item)]
        return "\n\n".join(self._peer.shown(step) for step in steps)

    def tell(self, server: Exchange, item: DeliveryItem) -> DeliveryResult:
        """Label the study, or take the label off again."""
        _, alert = subject(item)
        found = _numbers(expect_good(server.ask(self._lookup(item))))
        if not found and alert.withdrawn:
            return Acknowledged(note="the study is not there")
        if not found:
            return Undelivered("The study is not in this Orthanc yet.")
        for number in found:
            for change in self._changes(number, item):
                self._make(server, change)
        return Acknowledged(200)

    def _lookup(self, item: DeliveryItem) -> Request:
        study, _ = subject(item)
        return Request("POST", f"{self._base}/tools/lookup", _TEXT, study.study_uid.encode())

    @property
    def _base(self) -> str:
        return self._destination.url

    def _changes(self, number: str, item: DeliveryItem) -> Iterator[Request]:
        """Yield what is to be changed: metadata first, for an old Orthanc refuses the label."""
        study = f"{self._base}/studies/{number}"
        _, alert = subject(item)
        if name := self._destination.metadata:
            url = f"{study}/metadata/{name}"
            told = json.dumps(facts(item, self._destination.name)).encode()
            yield Request("DELETE", url) if alert.withdrawn else Request("PUT", url, _TEXT, told)
        if label := self._destination.label:
            yield Request("DELETE" if alert.withdrawn else "PUT", f"{study}/labels/{label}")

    def _make(self, server: Exchange, change: Request) -> None:
        """Make one change; what is gone already need not be taken away."""
        label = "/labels/" in change.url
        revised = change if label else _revised(server, change)
        if revised is None:
            return
        answer = server.ask(revised)
        if answer.is_good:
            return
        if label and not _has_labels(server.ask(self._system())):
            raise Refused(Undelivered(_NO_LABELS, answer.status, permanent=True))
        if change.method == "DELETE" and answer.status == 404:
            return
        if not label and answer.status in (403, 404):
            raise Refused(Undelivered(self._unknown_name, answer.status, permanent=True))
        raise Refused(refusal(answer))

    @property
    def _unknown_name(self) -> str:
        name = self._destination.metadata
        return f"This Orthanc takes no metadata {name}: number from 1024, or name in UserMetadata."

    def _system(self) -> Request:
        return Request("GET", f"{self._base}/system")

    def look(self) -> Echo:
        """Ask whether it is there, and has labels where we would set one."""

        def judged(answer: Answer) -> str | None:
            needed = bool(self._destination.label)
            return _NO_LABELS if needed and not _has_labels(answer) else None

        return self._peer.look(self._system(), judged)


def _revised(server: Exchange, change: Request) -> Request | None:
    """Return a change of metadata with the revision that it replaces; None where none is needed."""
    held = server.ask(Request("GET", change.url))
    if not held.is_good:
        return None if change.method == "DELETE" and held.status == 404 else change
    if change.method == "PUT" and held.whole and held.body == change.body:
        return None
    revision = held.headers.get("etag")
    return (
        replace(change, headers=(*change.headers, ("If-Match", revision))) if revision else change
    )


def _numbers(answer: Answer) -> list[str]:
    """Return Orthanc's numbers of a study; two where two patients have one UID."""
    found = answer.json()
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Strange("The answer to the search for the study is not one of an Orthanc.")
    numbers = [str(one.get("ID")) for one in found if one.get("Type") == "Study"]
    if not all(map(_NUMBER.fullmatch, numbers)):
        raise Strange("The answer to the search for the study is not one of an Orthanc.")
    return numbers


def _has_labels(answer: Answer) -> bool:
    system = expect_good(answer).json()
    if not isinstance(system, dict) or "Version" not in system:
        raise Strange("This is not an Orthanc.")
    return system.get("HasLabels") is True
