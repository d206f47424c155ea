"""What is told of an urgent study in words, to whoever is not told by a document.

One set of facts under fixed names, of which the ways that have no vocabulary of their own (web
hooks, commands, metadata of an archive) make what they send. Who the patient is stays apart, so
that nothing of it goes where nobody asked for it.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

from ichnode.domain.ids import result_uid
from ichnode.domain.work import Alert, DeliveryItem, StudyRef

STATEMENT = (
    "Preliminary result of an AI model that orders the reading list. Not for diagnostic use."
)


def subject(item: DeliveryItem) -> tuple[StudyRef, Alert]:
    """Return what an alert is about.

    Raises
    ------
    ValueError
        When the row is none of an alert.
    """
    if item.study is None or item.alert is None:
        raise ValueError("the row is no alert")
    return item.study, item.alert


def delivery_uid(item: DeliveryItem, destination: str) -> str:
    """Return what names this delivery at its receiver, the same with every try."""
    study, _ = subject(item)
    return result_uid(item.kind, study.study_uid, str(item.revision), destination)


def facts(item: DeliveryItem, destination: str) -> dict[str, Any]:
    """Return what is told, without anything that says who the patient is.

    Documents are left out: which of ours exist changes from one try to the next, and what is sent
    must not.

    Returns
    -------
    dict of str to Any
        By the names of `ichnode.settings.templates.FACTS`: text, numbers and lists that JSON
        knows; a UID is a pseudonym of the study.
    """
    study, alert = subject(item)
    of_any = next((one for one in alert.labels if one.label == "any"), None)
    return {
        "event": "withdrawn" if alert.withdrawn else "alert",
        "delivery": delivery_uid(item, destination),
        "destination": destination,
        "revision": item.revision,
        "study_uid": study.study_uid,
        "series_uid": study.series_uid,
        "finding": alert.finding.value,
        "probability": round(of_any.probability, 4) if of_any else None,
        "volume_ml": of_any.volume_ml if of_any else None,
        "labels": [
            {
                "label": one.label,
                "presence": one.presence.value,
                "probability": round(one.probability, 4),
                "volume_ml": one.volume_ml,
            }
            for one in alert.labels
        ],
        "model_name": alert.model_name,
        "model_version": alert.model_version,
        "model_uid": alert.model_uid,
        "analysed_at": alert.analysed_at.astimezone(UTC).isoformat(timespec="seconds"),
        "statement": STATEMENT,
    }


def identity(study: StudyRef) -> dict[str, str]:
    """Return what says who the patient is, by the names of `templates.IDENTITY`. PHI."""
    return {
        "patient_id": study.patient_id,
        "issuer_of_patient_id": study.issuer_of_patient_id,
        "patient_name": study.patient_name,
        "accession_number": study.accession_number,
        "study_date": study.study_date,
    }


def whole(item: DeliveryItem, destination: str, *, phi: bool) -> dict[str, Any]:
    """Return all that may be told; with `phi` also who the patient is."""
    study, _ = subject(item)
    return facts(item, destination) | ({"patient": identity(study)} if phi else {})
