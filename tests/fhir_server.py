"""A FHIR server with resources in memory, over real sockets: transactions, a search for tasks."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fhir_r4 import check_transaction
from tests.http_peer import Asked, Speak, answer

BASE = "/fhir"
Resource = dict[str, Any]


class FhirServer:
    """What the server does with a request; to be handed to `tests.http_peer.HttpPeer`.

    Parameters
    ----------
    answers : dict of str to Any
        What ``search`` or ``transaction`` answers with instead of doing it.
    """

    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self.held: dict[str, Resource] = {}  # by type and id
        self.versions: dict[str, int] = {}
        self.answers = answers or {}
        self.calls: list[str] = []

    def of(self, kind: str) -> list[Resource]:
        """Return the resources of a type."""
        return [one for one in self.held.values() if one["resourceType"] == kind]

    def __call__(self, asked: Asked) -> bytes | Speak:
        path = urlsplit(asked.path).path.removeprefix(BASE)
        if path == "/metadata":
            return answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
        call = "search" if asked.method == "GET" else "transaction"
        self.calls.append(call)
        if (instead := self.answers.get(call)) is not None:
            return instead
        if call == "search":
            token = dict(parse_qsl(urlsplit(asked.path).query))["group-identifier"]
            found = [one for one in self.of("Task") if one["groupIdentifier"] == _identifier(token)]
            entries = [{"resource": one} for one in found]
            more = {"entry": entries} if entries else {}
            return answer(200, {"resourceType": "Bundle", "type": "searchset"} | more)
        assert asked.headers["content-type"] == "application/fhir+json"
        bundle = asked.json()
        check_transaction(bundle)
        done = [{"response": {"status": self._do(entry)}} for entry in bundle["entry"]]
        return answer(
            200, {"resourceType": "Bundle", "type": "transaction-response", "entry": done}
        )

    def _find(self, kind: str, token: str) -> list[Resource]:
        return [one for one in self.of(kind) if _identifier(token) in one["identifier"]]

    def _do(self, entry: Resource) -> str:
        kind, _, condition = entry["request"]["url"].partition("?")
        if "/" in kind:
            assert entry["request"]["ifMatch"] == f'W/"{self.versions[kind]}"'
            return self._keep(kind, entry["resource"])
        condition = entry["request"].get("ifNoneExist", condition)
        found = self._find(kind, condition.removeprefix("identifier="))
        if len(found) > 1:
            return "412 Precondition Failed"
        if found and entry["request"]["method"] == "POST":
            return "200 OK"
        name = f"{kind}/{found[0]['id'] if found else len(self.held) + 1}"
        return self._keep(name, entry["resource"])

    def _keep(self, name: str, resource: Resource) -> str:
        before = self.held.get(name)
        known = {"id", "meta"}
        same = before is not None and {k: v for k, v in before.items() if k not in known} == {
            k: v for k, v in resource.items() if k not in known
        }
        if not same:
            self.versions[name] = self.versions.get(name, 0) + 1
        meta = {"versionId": str(self.versions[name])}
        self.held[name] = resource | {"id": name.partition("/")[2], "meta": meta}
        return "200 OK" if before else "201 Created"


def _identifier(token: str) -> Resource:
    system, _, value = token.partition("|")
    return {"system": system, "value": value}
