"""What FHIR R4 (4.0.1) demands of the resources that we write, from the specification itself.

Of each type: the elements that there are, those that must be there, and the codes of those that are
bound to a required value set. Then what holds of every resource: nothing empty, references that
lead somewhere, instants with their zone.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

_DOMAIN = {"resourceType", "id", "meta", "text", "contained"}

ELEMENTS: dict[str, set[str]] = {
    "Observation": _DOMAIN
    | {"identifier", "basedOn", "partOf", "status", "category", "code", "subject", "focus"}
    | {"encounter", "effectiveDateTime", "issued", "performer", "valueCodeableConcept"}
    | {"interpretation", "note", "bodySite", "method", "specimen", "device", "hasMember"}
    | {"derivedFrom", "component"},
    "DiagnosticReport": _DOMAIN
    | {"identifier", "basedOn", "status", "category", "code", "subject", "encounter"}
    | {"effectiveDateTime", "issued", "performer", "resultsInterpreter", "specimen", "result"}
    | {"imagingStudy", "media", "conclusion", "conclusionCode", "presentedForm"},
    "Task": _DOMAIN
    | {"identifier", "basedOn", "groupIdentifier", "partOf", "status", "statusReason"}
    | {"businessStatus", "intent", "priority", "code", "description", "focus", "for"}
    | {"encounter", "executionPeriod", "authoredOn", "lastModified", "requester"}
    | {"performerType", "owner", "location", "reasonCode", "reasonReference", "note"}
    | {"restriction", "input", "output"},
    "Device": _DOMAIN
    | {"identifier", "status", "deviceName", "version", "type", "manufacturer", "note"},
    "Bundle": {"resourceType", "id", "meta", "type", "entry"},
}
MANDATORY = {
    "Observation": {"status", "code"},
    "DiagnosticReport": {"status", "code"},
    "Task": {"status", "intent"},
    "Device": set(),
    "Bundle": {"type"},
}
LISTS = {
    *("identifier", "basedOn", "category", "interpretation", "note", "derivedFrom", "component"),
    *("result", "imagingStudy", "contained", "coding", "deviceName", "version", "entry"),
}
_RESULT = {"registered", "partial", "preliminary", "final", "amended", "corrected", "cancelled"}
_RESULT |= {"entered-in-error", "unknown"}
CODES = {
    ("Observation", "status"): _RESULT - {"partial"},
    ("DiagnosticReport", "status"): _RESULT | {"appended"},
    ("Task", "status"): {"draft", "requested", "received", "accepted", "rejected", "ready"}
    | {"cancelled", "in-progress", "on-hold", "failed", "completed", "entered-in-error"},
    ("Task", "intent"): {"unknown", "proposal", "plan", "order", "original-order", "reflex-order"}
    | {"filler-order", "instance-order", "option"},
    ("Task", "priority"): {"routine", "urgent", "asap", "stat"},
    ("Bundle", "type"): {"transaction"},
}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DATE_TIME = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?")


def check_transaction(bundle: dict[str, Any]) -> None:
    """Assert that a transaction is one, each entry with what is asked about it."""
    check(bundle)
    urls = [entry["fullUrl"] for entry in bundle["entry"] if "fullUrl" in entry]
    assert len(set(urls)) == len(urls)
    for entry in bundle["entry"]:
        assert set(entry) <= {"fullUrl", "resource", "request"}
        assert {"method", "url"} <= set(entry["request"])
        assert entry["request"]["method"] in {"POST", "PUT"}
        assert entry["request"]["url"].startswith(entry["resource"]["resourceType"])
        if "fullUrl" in entry:
            UUID(entry["fullUrl"].removeprefix("urn:uuid:"))
        check(entry["resource"])
    for reference in references(bundle):
        if reference.startswith("urn:uuid:"):
            assert reference in urls


def check(resource: dict[str, Any]) -> None:
    """Assert that a resource has what it must have, and nothing that does not exist."""
    kind = resource["resourceType"]
    assert set(resource) <= ELEMENTS[kind], set(resource) - ELEMENTS[kind]
    assert set(resource) >= MANDATORY[kind]
    for (of, element), allowed in CODES.items():
        if of == kind and element in resource:
            assert resource[element] in allowed
    for element, value in resource.items():
        assert isinstance(value, list) == (element in LISTS), element
    _check_content(resource)
    if kind != "Bundle":
        inside = {f"#{one['id']}" for one in resource.get("contained", [])}
        assert {one for one in references(resource) if one.startswith("#")} == inside  # dom-3
    for one in resource.get("contained", []):
        check(one)
        assert "contained" not in one  # dom-2
    if kind in ("Observation", "DiagnosticReport") and "issued" in resource:
        assert _INSTANT.fullmatch(resource["issued"])
    for element in ("effectiveDateTime", "authoredOn"):
        assert _DATE_TIME.fullmatch(resource.get(element, "2026"))
    for component in resource.get("component", []):
        assert "code" in component


def _check_content(content: Any) -> None:
    """Assert what holds of every element: it has a value or content (ele-1)."""
    assert content not in ("", [], {}, None)
    if isinstance(content, list):
        for one in content:
            _check_content(one)
    elif isinstance(content, dict):
        _check_type(content)
        for value in content.values():
            _check_content(value)


def _check_type(content: dict[str, Any]) -> None:
    """Assert what holds of the types that we use, told apart by their elements."""
    for coding in content.get("coding", []):
        assert set(coding) == {"system", "code", "display"}
        assert re.fullmatch(r"[^\s]+(\s[^\s]+)*", coding["code"])
        assert re.fullmatch(r"\S+", coding["system"])
    if "unit" in content:
        assert {"value", "system", "code"} <= set(content)  # qty-3
        assert isinstance(content["value"], int | float)
    if isinstance(content.get("identifier"), dict):
        assert set(content) == {"type", "identifier"}  # a reference by what identifies it
    for name in content.get("deviceName", []):
        assert set(name) == {"name", "type"}
    if isinstance(content.get("note"), list):
        assert all("text" in note for note in content["note"])


def references(content: Any) -> list[str]:
    """Return every literal reference inside something."""
    if isinstance(content, list):
        return [found for one in content for found in references(one)]
    if not isinstance(content, dict):
        return []
    found = [found for value in content.values() for found in references(value)]
    return [*found, content["reference"]] if "reference" in content else found
