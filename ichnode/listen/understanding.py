"""What a message means: an ordered priority, a final report, who a patient is.

References
----------
HL7 2.5.1: 3.3.8 (A08), 3.3.31 (A31), 3.3.40 (A40), 4.4 (ORM, OMG, OMI), 7.3.1 (ORU^R01), tables
0119, 0123, 0485. IHE RAD TF-2 4.2, 4.4: accession number in OBR-18, from 2.5.1 on in IPC-1. The
priorities as dcm4chee maps them (hl7-order2dcm.xsl).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ichnode.domain.hearing import (
    Demographics,
    Heard,
    OrderHeard,
    PatientCorrected,
    PatientKey,
    PatientsMerged,
    ReportHeard,
)
from ichnode.hl7v2.reading import Received, Row, name_of

ORDERS = frozenset((("ORM", "O01"), ("OMI", "O23"), ("OMG", "O19")))
RESULTS = frozenset((("ORU", "R01"),))
CORRECTIONS = frozenset((("ADT", "A08"), ("ADT", "A31")))
MERGES = frozenset((("ADT", "A40"),))

PRIORITIES = {"S": "STAT", "A": "HIGH", "P": "HIGH", "C": "HIGH", "R": "ROUTINE", "T": "MEDIUM"}
_WORDS = {"STAT": "S", "ASAP": "A", "ROUTINE": "R"}
_TIMED = re.compile(r"T[SMHDWL]?\d*")
_ENDED = frozenset(("CA", "OC", "DC", "OD", "CR", "DR", "UC", "UD"))  # the order is none any more
_FINAL = frozenset("FC")
_TEXTS = frozenset(("TX", "FT", "ST"))
_TAKEN_BACK = frozenset("DWX")
_TIME_STAMP = re.compile(r"(\d{12}(?:\d{2})?)(?:\.\d+)?([+-]\d{4})?", re.ASCII)
_DAY = re.compile(r"\d{8}")
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O"}
_NOT_IN_NAMES = re.compile(r"[\^=\\\r\n]")


class NotUnderstood(ValueError):
    """A message that lacks what is needed; the sentence says what, and quotes nothing."""


def understood(message: Received) -> tuple[Heard, ...] | None:
    """Return what a message says; None for a kind that means nothing here.

    Raises
    ------
    NotUnderstood
        When it lacks what is needed.
    """
    kind = message.kind
    if kind in ORDERS:
        return tuple(_orders(message))
    if kind in RESULTS:
        return tuple(_reports(message))
    if kind in CORRECTIONS:
        patient = _patient(message.first("PID"))
        return (PatientCorrected(patient, _demographics(message.first("PID"))),)
    if kind in MERGES:
        return tuple(_merges(message))
    return None


def _orders(message: Received) -> list[Heard]:
    patients = _named(message.first("PID"))
    found: list[Heard] = []
    for group in message.groups("ORC", "OBR"):
        control = _first(group, "ORC")
        if control is not None and control.value(1).upper() in _ENDED:
            continue
        if priority := _priority(group):
            found.append(OrderHeard(_accession_number(group), patients, priority))
    return found


def _reports(message: Received) -> list[Heard]:
    """Return the final reports; one silences an alert, so that it has to say whose it is."""
    found: list[Heard] = []
    for group in message.groups("ORC", "OBR"):
        request = _first(group, "OBR")
        status = request.value(25).upper() if request is not None else ""
        if status in _FINAL:
            patients = _patient(message.first("PID"))
            text = "\n".join(_texts(group))
            at = _moment(request.value(22)) if request is not None else None
            number = _accession_number(group)
            found.append(ReportHeard(number, patients, text, corrected=status == "C", at=at))
    return found


def _moment(written: str) -> datetime | None:
    """Return a time stamp of a minute at least; without a zone it is of this host's."""
    found = _TIME_STAMP.fullmatch(written)
    if found is None:
        return None
    try:
        stamp = datetime.strptime(  # noqa: DTZ007 - the zone may be left out
            found[1].ljust(14, "0") + (found[2] or ""), f"%Y%m%d%H%M%S{'%z' if found[2] else ''}"
        )
        return stamp.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _merges(message: Received) -> list[Heard]:
    found: list[Heard] = []
    for group in message.groups("PID", "MRG"):
        patient, merged = _first(group, "PID"), _first(group, "MRG")
        gone = _keys(merged, 1) if merged is not None else ()
        if not gone:
            raise NotUnderstood("A merge does not say which Patient ID is gone (MRG-1).")
        found.append(PatientsMerged(_patient(patient), gone, _demographics(patient)))
    if not found:
        raise NotUnderstood("The message has no patient (PID).")
    return found


def _first(group: list[Row], name: str) -> Row | None:
    return next((row for row in group if name_of(row) == name), None)


def _priority(group: list[Row]) -> str:
    """Return the priority of an order as DICOM has it; "" where none is said."""
    for name, number, component in (("TQ1", 9, 1), ("ORC", 7, 6), ("OBR", 27, 6), ("OBR", 5, 1)):
        row = _first(group, name)
        said = row.value(number, component).upper() if row is not None else ""
        said = _WORDS.get(said, said)
        if said in PRIORITIES:
            return PRIORITIES[said]
        if _TIMED.fullmatch(said):
            return PRIORITIES["T"]
    return ""


def _accession_number(group: list[Row]) -> str:
    for name, number in (("IPC", 1), ("OBR", 18), ("OBR", 3), ("ORC", 3)):
        row = _first(group, name)
        if row is not None and (found := row.value(number)):
            return found
    raise NotUnderstood("An order has no accession number (IPC-1, OBR-18, OBR-3 or ORC-3).")


def _texts(group: list[Row]) -> list[str]:
    return [
        row.text(5)
        for row in group
        if name_of(row) == "OBX"
        and row.value(2).upper() in _TEXTS
        and row.value(11).upper() not in _TAKEN_BACK
    ]


def _patient(row: Row | None) -> tuple[PatientKey, ...]:
    keys = _named(row)
    if not keys:
        raise NotUnderstood("The message has no Patient ID (PID-3).")
    return keys


def _named(row: Row | None) -> tuple[PatientKey, ...]:
    return _keys(row, 3) if row is not None else ()


def _keys(row: Row, number: int) -> tuple[PatientKey, ...]:
    """Return the identifiers of a field: each with the name of who gave it."""
    keys = (
        PatientKey(row.value(number, 1, of=one), row.value(number, 4, 1, of=one))
        for one in row.repetitions(number)
        if one
    )
    return tuple(key for key in keys if key.id)


def _demographics(row: Row | None) -> Demographics:
    if row is None:
        return Demographics()
    day = _DAY.match(row.value(7))
    return Demographics(
        name="" if row.is_deleted(5) else _name(row),
        birth_date="" if row.is_deleted(7) else day[0] if day else None,
        sex="" if row.is_deleted(8) else _SEXES.get(row.value(8).upper()),
    )


def _name(row: Row) -> str | None:
    """Return a person name as DICOM has it: prefix before suffix, scripts as groups."""
    scripts: dict[str, str] = {}
    for one in row.repetitions(5):
        if not one:
            continue
        family, given, middle, suffix, prefix = (
            _NOT_IN_NAMES.sub(" ", row.value(5, number, of=one)).strip() for number in range(1, 6)
        )
        script = row.value(5, 8, of=one).upper() or "A"
        scripts.setdefault(script, "^".join((family, given, middle, prefix, suffix)).rstrip("^"))
    written = "=".join(scripts.get(script, "") for script in "AIP").rstrip("=")
    return written or None
