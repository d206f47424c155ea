"""An urgent study as FHIR R4 resources: an Observation for each label, a report, and a task.

The mapping is that of HL7's dicom-sr guide: a preliminary flag becomes the status, the presence the
value and the interpretation, the certainty a component, the algorithm a Device. What is not ours is
referred to by what identifies it (the patient, the order, the study), and what is ours has
identifiers made from the study, so that a repetition changes what is there and adds nothing. A
task's is made from the alert too, since one that is over does not open again; those of a study are
a group.

References
----------
HL7 FHIR R4 (4.0.1): Observation, DiagnosticReport, Task, Device, Bundle (transaction); HL7 dicom-sr
1.0.0 (STU 1 ballot); DICOM PS3.16 TID 1500, 4019.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date
from typing import Any
from urllib.parse import quote

from ichnode.domain import codes
from ichnode.domain.codes import Coded
from ichnode.domain.findings import LabelResult, Presence
from ichnode.domain.ids import result_uid
from ichnode.domain.work import Alert, StudyRef
from ichnode.send.telling import STATEMENT
from ichnode.settings.over_http import FhirSettings

Resource = dict[str, Any]

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
}
_UCUM = "http://unitsofmeasure.org"
_TERMS = "http://terminology.hl7.org/CodeSystem"
_URI = "urn:ietf:rfc3986"  # the system of identifiers that are URIs themselves

_INTERPRETATIONS = {
    Presence.PRESENT: ("POS", "Positive"),
    Presence.ABSENT: ("NEG", "Negative"),
    Presence.UNDETERMINED: ("IND", "Indeterminate"),
}
_CRITICAL = ("AA", "Critical abnormal")


class Resources:
    """The resources of one alert.

    Parameters
    ----------
    study : StudyRef
        The study.
    revision : int
        Of its verdict.
    alert : Alert
        What there is to tell of it.
    settings : FhirSettings
        How the server names patients and orders.
    """

    def __init__(
        self, study: StudyRef, revision: int, alert: Alert, settings: FhirSettings
    ) -> None:
        self._study, self._revision = study, revision
        self._alert, self._settings = alert, settings
        self._issued = alert.analysed_at.astimezone(UTC).isoformat(timespec="seconds")

    def results(self) -> list[tuple[str, Resource]]:
        """Return the Observations and the report, each with its ``urn:uuid`` in the transaction."""
        observed = [(_full_url(self._uid(one.label)), one) for one in self._alert.labels]
        references = [{"reference": url} for url, _ in observed]
        return [
            *((url, self._observation(one)) for url, one in observed),
            (_full_url(self._uid("report")), self._report(references)),
        ]

    def task(self) -> tuple[str, Resource]:
        """Return the task to read the study at once, with its ``urn:uuid``."""
        uid = self._uid("task", str(self._revision))
        return _full_url(uid), {
            "resourceType": "Task",
            "contained": [self._device()],
            "identifier": [_identifier(uid)],
            "groupIdentifier": _identifier(self._uid("tasks")),
            **self._order(),
            "status": "requested",
            "intent": "order",
            "priority": "stat",
            "code": _concept(codes.INTERPRETATION),
            "description": f"Suspected intracranial hemorrhage. {STATEMENT}",
            "focus": self._imaging_study(),
            **self._patient("for"),
            "authoredOn": self._issued,
            "requester": {"reference": "#device"},
            "note": [{"text": STATEMENT}],
        }

    def _observation(self, result: LabelResult) -> Resource:
        interpretations = [_INTERPRETATIONS[result.presence]]
        if result.label == "any" and result.presence is Presence.PRESENT:
            interpretations.append(_CRITICAL)
        return {
            "resourceType": "Observation",
            "contained": [self._device()],
            "identifier": [_identifier(self._uid(result.label))],
            **self._order(),
            "status": self._status,
            "category": [_term("observation-category", "imaging", "Imaging")],
            "code": _concept(codes.FINDINGS[result.label]),
            **self._patient("subject"),
            **self._taken(),
            "issued": self._issued,
            "valueCodeableConcept": _concept(codes.PRESENCES[result.presence]),
            "interpretation": [
                _term("v3-ObservationInterpretation", *one) for one in interpretations
            ],
            "note": [{"text": STATEMENT}],
            "bodySite": _concept(codes.SITES[result.label]),
            "device": {"reference": "#device"},
            "derivedFrom": [self._imaging_study()],
            "component": _components(result),
        }

    def _report(self, results: list[Resource]) -> Resource:
        return {
            "resourceType": "DiagnosticReport",
            "identifier": [_identifier(self._uid("report"))],
            **self._order(),
            "status": self._status,
            "category": [_term("v2-0074", "RAD", "Radiology")],
            "code": _concept(codes.CT_HEAD),
            **self._patient("subject"),
            **self._taken(),
            "issued": self._issued,
            "result": results,
            "imagingStudy": [self._imaging_study()],
            "conclusion": self._conclusion(),
        }

    @property
    def _status(self) -> str:
        return "entered-in-error" if self._alert.withdrawn else "preliminary"

    def _conclusion(self) -> str:
        model = f"{self._alert.model_name} {self._alert.model_version}".strip()
        if self._alert.withdrawn:
            return f"Withdrawn by a person. {STATEMENT} Model: {model}."
        return f"Intracranial hemorrhage is suspected. {STATEMENT} Model: {model}."

    def _uid(self, *what: str) -> str:
        return result_uid("fhir", self._study.study_uid, *what)

    def _device(self) -> Resource:
        """Return the model; kept inside the others, for few servers let us create Devices."""
        alert = self._alert
        return {
            "resourceType": "Device",
            "id": "device",
            "identifier": [_identifier(alert.model_uid)],
            "deviceName": [{"name": alert.model_name, "type": "model-name"}],
            "version": [{"value": alert.model_version}],
            "note": [{"text": STATEMENT}],
        }

    def _patient(self, element: str) -> Resource:
        """Return the reference to the patient under its element; nothing where nobody is named."""
        value = self._study.patient_id.strip()
        if not value:
            return {}
        system = self._settings.patient_system
        if self._settings.find_patient:
            token = f"{system}|{value}" if system else value
            return {element: {"reference": f"Patient?identifier={quote(token, safe='')}"}}
        identifier = {
            "type": _term("v2-0203", "MR", "Medical record number"),
            **({"system": system} if system else {}),
            "value": value,
        }
        if issuer := self._study.issuer_of_patient_id.strip():
            identifier["assigner"] = {"display": issuer}
        return {element: {"type": "Patient", "identifier": identifier}}

    def _order(self) -> Resource:
        """Return the reference to the order, where the images name one."""
        value = self._study.accession_number.strip()
        if not value:
            return {}
        system = self._settings.accession_system
        identifier = {
            "type": _term("v2-0203", "ACSN", "Accession ID"),
            **({"system": system} if system else {}),
            "value": value,
        }
        return {"basedOn": [{"type": "ServiceRequest", "identifier": identifier}]}

    def _imaging_study(self) -> Resource:
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{self._study.study_uid}"}
        return {"type": "ImagingStudy", "identifier": identifier}

    def _taken(self) -> Resource:
        """Return the day of the images, which have no time zone, where they state one."""
        stated = self._study.study_date
        try:
            day = date(int(stated[:4]), int(stated[4:6]), int(stated[6:8]))
        except ValueError:
            return {}
        return {"effectiveDateTime": day.isoformat()} if len(stated) == 8 else {}


def transaction(entries: list[Resource]) -> Resource:
    """Return a Bundle that is done as a whole or not at all."""
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def put(full_url: str, resource: Resource) -> Resource:
    """Return an entry that updates the resource with our identifier, or creates it."""
    url = f"{resource['resourceType']}?identifier={token_of(resource)}"
    return {
        "fullUrl": full_url,
        "resource": resource,
        "request": {"method": "PUT", "url": url},
    }


def token_of(resource: Resource) -> str:
    """Return the identifier of one of ours as a search writes it."""
    return _token(resource["identifier"][0])


def group_token_of(task: Resource) -> str:
    """Return what the tasks of a study have in common as a search writes it."""
    return _token(task["groupIdentifier"])


def _token(identifier: Resource) -> str:
    return f"{identifier['system']}|{identifier['value']}"


def _components(result: LabelResult) -> list[Resource]:
    percent = round(100 * result.probability, 1)
    components = [
        {"code": _concept(codes.CERTAINTY), "valueQuantity": _quantity(percent, "%", "%")}
    ]
    if result.volume_ml is not None:
        volume = _quantity(round(result.volume_ml, 1), "ml", "mL")
        components.append({"code": _concept(codes.VOLUME), "valueQuantity": volume})
    return components


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {"value": value, "unit": unit, "system": _UCUM, "code": code}


def _concept(code: Coded) -> Resource:
    coding = {"system": _SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}
    return {"coding": [coding], "text": code.meaning}


def _term(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": f"{_TERMS}/{system}", "code": code, "display": display}]}


def _identifier(uid: str) -> Resource:
    return {"system": _URI, "value": f"urn:oid:{uid}"}


def _full_url(uid: str) -> str:
    """Return the name of a resource inside the transaction: the UUID that its UID was made from."""
    return f"urn:uuid:{uuid.UUID(int=int(uid.removeprefix('2.25.')))}"
