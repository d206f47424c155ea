"""The HL7 messages that we send: what was found (ORU^R01), and an order made urgent.

Everything in them follows from the study, the verdict's revision and the destination, so that a
message that is sent again is the same message.

References
----------
HL7 2.5.1 and 2.3.1: chapter 2 (MSH), 3 (PID), 4 (ORC, OBR, TQ1, ORM^O01, OMI^O23, IPC), 7 (OBX,
ORU^R01). IHE RAD TF-2 4.1.4 (ZDS in ORM). PS3.16 for DCM codes, UCUM for units.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from ichnode.domain import codes
from ichnode.domain.codes import Coded
from ichnode.domain.findings import LabelResult, Presence
from ichnode.domain.work import Alert, DeliveryItem, StudyRef
from ichnode.hl7v2.writing import Component, Field, message, segment
from ichnode.settings import Hl7Destination

CONTROL_ID_LENGTH = 20  # MSH-10 in 2.3.1 and 2.5.1
SUSPECTED = (
    "AI triage: intracranial hemorrhage suspected. Preliminary, made by software, not for "
    "diagnostic use."
)
WITHDRAWN = (
    "AI triage: an earlier suspicion was withdrawn by a person. Made by software, not for "
    "diagnostic use."
)
_FLAGS = {Presence.PRESENT: "AA", Presence.UNDETERMINED: "A", Presence.ABSENT: "N"}  # table 0078
_STAT = ("S", "Stat", "HL70485")
_OLD_QUANTITY = ("", "", "", "", "", "S")  # TQ-6, where versions before 2.5 have the priority
_SEXES = frozenset("MFO")
_BEFORE = {"CWE": "CE"}  # the type that came with version 2.5, and what was there before


def control_id(item: DeliveryItem, destination: str) -> str:
    """Return MSH-10, the same at every try of a delivery and of no other one."""
    study_uid = item.study.study_uid if item.study is not None else ""
    parts = "|".join((item.kind, study_uid, str(item.revision), destination))
    return hashlib.sha256(parts.encode()).hexdigest()[:CONTROL_ID_LENGTH].upper()


def result_message(to: Hl7Destination, item: DeliveryItem, study: StudyRef, alert: Alert) -> str:
    """Return ORU^R01: a coded observation for each label, preliminary, or all of them withdrawn."""
    at = _moment(alert)
    segments: list[tuple[str, Mapping[int, Field]]] = [
        ("MSH", _header(to, item, alert, ("ORU", "R01", "ORU_R01"))),
        ("PID", _patient(to, study)),
        ("ORC", {1: "RE", 3: study.accession_number}),
        ("OBR", {**_request(study, urgent=not alert.withdrawn), 22: at, 24: "CT", 25: "P"}),
    ]
    if to.version == "2.5.1" and not alert.withdrawn:
        segments.append(("TQ1", {1: "1", 7: at, 9: _STAT}))
    shared = _of_every_observation(to, alert)
    for number, observed in enumerate(_observations(study, alert), start=1):
        type_ = _BEFORE.get(str(observed[2])) if to.version == "2.3.1" else None
        segments.append(
            ("OBX", {**shared, **observed, 1: str(number), 2: type_ or observed[2]}),
        )
    return _whole(to, segments)


def _of_every_observation(to: Hl7Destination, alert: Alert) -> dict[int, Field]:
    """Return who observed when, and how much that is worth."""
    stated: dict[int, Field] = {
        11: "W" if alert.withdrawn else "P",
        14: _moment(alert),
        17: (alert.model_name, f"{alert.model_name} {alert.model_version}", "99ICHNODE"),
    }
    if to.version == "2.5.1":
        stated[18] = (alert.model_uid, alert.model_name, alert.model_uid, "ISO")
    return stated


def order_message(to: Hl7Destination, item: DeliveryItem, study: StudyRef, alert: Alert) -> str:
    """Return OMI^O23 or ORM^O01: the order of the study changes its priority to stat."""
    at = _moment(alert)
    imaging = to.order == "OMI"
    kind = ("OMI", "O23", "OMI_O23") if imaging else ("ORM", "O01", "ORM_O01")
    segments: list[tuple[str, Mapping[int, Field]]] = [
        ("MSH", _header(to, item, alert, kind)),
        ("PID", _patient(to, study)),
        ("ORC", {1: "XO", 3: study.accession_number, 5: "SC", 7: _OLD_QUANTITY, 9: at}),
    ]
    if imaging:
        segments.append(("TQ1", {1: "1", 7: at, 9: _STAT}))
    segments.append(("OBR", {**_request(study, urgent=True), 5: "S"}))
    if imaging:
        segments.append(
            ("IPC", {1: study.accession_number, 3: (study.study_uid, "", study.study_uid, "ISO")})
        )
    else:
        segments.append(("ZDS", {1: (study.study_uid, "ICHNODE", "Application", "DICOM")}))
    return _whole(to, segments)


def _whole(to: Hl7Destination, segments: list[tuple[str, Mapping[int, Field]]]) -> str:
    return message(segment(name, fields, to.charset) for name, fields in segments)


def _header(
    to: Hl7Destination,
    item: DeliveryItem,
    alert: Alert,
    kind: tuple[str, str, str],
) -> dict[int, Field]:
    return {
        3: _named(to.sending_application),
        4: _named(to.sending_facility),
        5: _named(to.receiving_application),
        6: _named(to.receiving_facility),
        7: _moment(alert),
        9: kind if to.version == "2.5.1" else kind[:2],
        10: control_id(item, to.name),
        11: to.processing,
        12: to.version,
        15: "AL" if to.accept_ack else "",
        16: "NE" if to.accept_ack else "",
        18: to.charset,
    }


def _named(setting: str) -> tuple[Component, ...]:
    """Return a hierarchic designator: its name, or name, identifier and type."""
    return tuple(setting.split("^"))


def _patient(to: Hl7Destination, study: StudyRef) -> dict[int, Field]:
    authority = study.issuer_of_patient_id or tuple(to.assigning_authority.split("&"))
    sex = study.patient_sex.strip().upper()
    return {
        1: "1",
        3: (study.patient_id, "", "", authority, "MR"),
        5: _names(study.patient_name),
        7: study.patient_birth_date,
        8: sex if sex in _SEXES else "U" if sex else "",
    }


def _names(name: str) -> Field:
    """Return a DICOM person name as HL7 has it: suffix before prefix, a repetition for each script.

    PS3.5 6.2.1.2: alphabetic, ideographic and phonetic groups; PS3.5 6.2.1.1 the order of parts.
    """
    groups = dict(zip("AIP", name.split("="), strict=False))
    written = {script: group for script, group in groups.items() if group.strip("^ ")}
    if written.keys() <= {"A"}:
        return _name(written.get("A", ""))
    return [(*_filled(_name(group), 7), script) for script, group in written.items()]


def _name(group: str) -> tuple[str, ...]:
    family, given, middle, prefix, suffix = _filled(tuple(group.split("^")), 5)[:5]
    return (family, given, middle, suffix, prefix)


def _filled(parts: tuple[str, ...], length: int) -> tuple[str, ...]:
    return parts + ("",) * (length - len(parts))


def _request(study: StudyRef, *, urgent: bool) -> dict[int, Field]:
    """Return the OBR that names the study; OBR-20 has its UID."""
    return {
        1: "1",
        3: study.accession_number,
        4: _coded(codes.CT_HEAD),
        7: f"{study.study_date}{_time(study.study_time)}" if study.study_date else "",
        18: study.accession_number,
        20: study.study_uid,
        27: _OLD_QUANTITY if urgent else "",
    }


def _time(text: str) -> str:
    """Return a DICOM time to the second; a minute or an hour alone stays what it is."""
    return text.strip().partition(".")[0].replace(":", "")[:6]


def _observations(study: StudyRef, alert: Alert) -> Iterator[dict[int, Field]]:
    for number, label in enumerate(alert.labels, start=1):
        yield from _of_label(str(number), label)
    yield {2: "ST", 3: _coded(codes.STUDY_UID), 5: study.study_uid}
    yield {
        2: "TX",
        3: _coded(codes.COMMENT),
        5: WITHDRAWN if alert.withdrawn else SUSPECTED,
    }


def _of_label(group: str, label: LabelResult) -> Iterator[dict[int, Field]]:
    """Yield what is said of one label; the sub-identifier OBX-4 holds it together."""
    flag = _FLAGS[label.presence]
    yield {
        2: "CWE",
        3: _coded(codes.FINDINGS[label.label]),
        4: group,
        5: _coded(codes.PRESENCES[label.presence]),
        8: flag,
        9: f"{label.probability:.2f}",
    }
    yield {
        2: "NM",
        3: _coded(codes.CERTAINTY),
        4: group,
        5: f"{100 * label.probability:.1f}",
        6: _coded(codes.PERCENT),
        8: flag,
    }
    if label.volume_ml is not None:
        yield {
            2: "NM",
            3: _coded(codes.VOLUME),
            4: group,
            5: f"{label.volume_ml:.1f}",
            6: _coded(codes.MILLILITER),
            8: flag,
        }
    if label.label == "any" and label.presence is Presence.PRESENT:
        yield {
            2: "CWE",
            3: _coded(codes.SIGNIFICANCE),
            4: group,
            5: _coded(codes.ACTIONABLE),
            8: flag,
        }


def _coded(code: Coded) -> tuple[str, ...]:
    return (code.value, code.meaning, code.scheme)


def _moment(alert: Alert) -> str:
    """Return when the analysis began, in the zone of this host, which the offset names."""
    return f"{alert.analysed_at.astimezone():%Y%m%d%H%M%S%z}"
