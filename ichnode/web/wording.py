"""How things are said on the page: pure functions from values to short text for people.

Text that came over the network may hold anything; control and direction-changing characters are
replaced here, and the templates escape the rest.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

from ichnode.domain.lifecycle import Analysis, Band, Delivery, Reception

BANDS: dict[Band, tuple[str, str]] = {
    Band.URGENT: ("▲", "Urgent"),
    Band.REVIEW: ("◆", "Review"),
    Band.ROUTINE: ("●", "Routine"),
    Band.NOT_ANALYSED: ("○", "Not analysed"),
}
"""A shape and a word for each band, so that none is told by colour alone."""

ANALYSES: dict[Analysis, str] = {
    Analysis.PENDING: "Waiting for its analysis",
    Analysis.POSITIVE: "Haemorrhage suspected",
    Analysis.REVIEW: "Haemorrhage cannot be excluded",
    Analysis.NEGATIVE: "No haemorrhage found by the model",
    Analysis.NOT_ANALYSED: "Not analysed",
    Analysis.FAILED: "The analysis failed",
}

RECEPTIONS: dict[Reception, str] = {
    Reception.ARRIVING: "arriving",
    Reception.PLAUSIBLE: "may be complete",
    Reception.FINAL: "complete",
}

DELIVERIES: dict[Delivery, str] = {
    Delivery.WAITING: "being written",
    Delivery.DUE: "not yet delivered",
    Delivery.DELIVERED: "delivered",
    Delivery.WITHHELD: "withheld",
    Delivery.FAILED: "not delivered, given up",
    Delivery.SUPPRESSED: "not sent, needed no longer",
}

KINDS = {
    "sr": "Report",
    "sc": "Key image",
    "kos": "Key objects",
    "gsps": "Presentation state",
    "ups": "Priority",
    "ups_rs": "Priority",
    "hl7": "Result message",
    "hl7_order": "Order priority",
    "fhir": "Observation",
    "orthanc": "Label",
    "webhook": "Web hook",
    "command": "Command",
}

LABELS = {
    "any": "Any haemorrhage",
    "epidural": "Epidural",
    "intraparenchymal": "Intraparenchymal",
    "intraventricular": "Intraventricular",
    "subarachnoid": "Subarachnoid",
    "subdural": "Subdural",
}


def clean(text: str) -> str:
    """Replace what is no visible character: controls, and marks that turn the writing round."""
    return "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cf"} else c for c in text)


def person(name: str) -> str:
    """Write a DICOM person name as people do: ``DOE^JANE^^DR`` becomes ``DOE, JANE DR``.

    Ideographic and phonetic groups (PS3.5 6.2.1.2) follow in brackets.
    """
    groups = [_one_person(group) for group in clean(name).split("=")]
    written = [group for group in groups if group]
    return written[0] + "".join(f" ({g})" for g in written[1:]) if written else "no name"


def _one_person(group: str) -> str:
    family, *others = (part.strip() for part in group.split("^"))
    rest = " ".join(part for part in others if part)
    return ", ".join(part for part in (family, rest) if part)


def day(text: str) -> str:
    """Write a DICOM date (DA) with dashes; anything else as it is."""
    if len(text) == 8 and text.isdigit():
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return clean(text)


def span(length: timedelta) -> str:
    """Write a length of time in the one or two units that matter."""
    seconds = max(0, int(length.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 1:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{days} d {hours % 24} h"


def clock_time(at: datetime, now: datetime) -> str:
    """Write a moment in the zone of this host, with its date unless it is today's."""
    local = at.astimezone()
    same_day = local.date() == now.astimezone().date()
    return f"{local:%H:%M:%S}" if same_day else f"{local:%Y-%m-%d %H:%M}"


def stamp(at: datetime) -> str:
    """Write a moment for machines: ISO 8601 in UTC."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def percent(probability: float) -> str:
    """Write a probability without ever claiming certainty."""
    if probability >= 0.995:
        return "> 99 %"
    if probability < 0.005:
        return "< 1 %"
    return f"{probability * 100:.0f} %"
