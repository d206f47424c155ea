"""The same facts for machines: plain values for JSON, named as the domain names them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ichnode.web.views import (
    DeliveryRow,
    EventRow,
    FindingRow,
    ListRow,
    SeriesRow,
    StudyStory,
    VerdictRow,
)

VERSION = 1
"""Of the list for machines: counted up when something in it changes its meaning or goes."""


def of_list(rows: Sequence[ListRow], offset: int, now: datetime) -> dict[str, Any]:
    """Return a part of the list, in its order: position 1 is read first. Holds PHI."""
    return {
        "version": VERSION,
        "at": now.isoformat(),
        "offset": offset,
        "studies": [
            {"position": position} | of_row(row)
            for position, row in enumerate(rows, start=offset + 1)
        ],
    }


def of_row(row: ListRow) -> dict[str, Any]:
    """Return a study of the list. Holds PHI."""
    return {
        "study_uid": row.study_uid,
        "band": row.band.value,
        "sentence": row.sentence,
        "ordered_priority": row.ordered_priority,
        "arrived_at": row.arrived_at.isoformat(),
        "last_arrived_at": row.last_arrived_at.isoformat(),
        "patient_name": row.patient_name,
        "patient_id": row.patient_id,
        "patient_birth_date": row.patient_birth_date,
        "patient_sex": row.patient_sex,
        "accession_number": row.accession_number,
        "study_description": row.study_description,
        "model": row.model,
        "findings": [_finding(finding) for finding in row.findings],
        "deliveries": [_delivery(delivery) for delivery in row.deliveries],
    }


def of_story(story: StudyStory) -> dict[str, Any]:
    """Return a study with its series and its history. Holds PHI."""
    return of_row(story.row) | {
        "series": [_series(row) for row in story.series],
        "verdicts": [_verdict(row) for row in story.verdicts],
        "events": [_event(row) for row in story.events],
    }


def _finding(row: FindingRow) -> dict[str, Any]:
    return {
        "label": row.label,
        "probability": row.probability,
        "presence": row.presence,
        "key_sop_uid": row.key_sop_uid,
        "key_instance_number": row.key_instance_number,
    }


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "destination": row.destination,
        "kind": row.kind,
        "state": row.state.value,
        "attempts": row.attempts,
        "delivered_at": _moment(row.delivered_at),
        "error": row.error,
    }


def _series(row: SeriesRow) -> dict[str, Any]:
    return {
        "series_uid": row.series_uid,
        "series_number": row.series_number,
        "series_description": row.series_description,
        "modality": row.modality,
        "instances": row.instances,
        "reception": row.reception.value,
        "analysis": row.analysis.value,
        "reason": row.reason.code if row.reason else None,
        "reason_sentence": row.reason.sentence if row.reason else None,
        "detail": row.detail,
        "model": row.model,
        "findings": [_finding(finding) for finding in row.findings],
    }


def _verdict(row: VerdictRow) -> dict[str, Any]:
    return {
        "revision": row.revision,
        "band": row.band.value,
        "sentence": row.sentence,
        "judged_by": row.judged_by,
        "reason": row.reason,
        "at": row.at.isoformat(),
    }


def _event(row: EventRow) -> dict[str, Any]:
    return {
        "at": row.at.isoformat(),
        "noun": row.noun,
        "verb": row.verb,
        "series_uid": row.series_uid,
        "sentence": row.sentence,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
