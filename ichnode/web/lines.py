"""From rows of the worklist to lines of a page: everything a template writes, as text.

Templates decide nothing and escape everything; what a fact is called is in wording.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ichnode.domain.lifecycle import Analysis, Delivery
from ichnode.domain.series import SET_ASIDE, Refusal
from ichnode.web import wording
from ichnode.web.views import (
    DeliveryRow,
    EventRow,
    FindingRow,
    ListRow,
    SeriesRow,
    VerdictRow,
)


@dataclass(frozen=True, slots=True)
class Said:
    """One label of one series."""

    label: str
    percent: str
    presence: str
    key: str
    key_uid: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery."""

    what: str
    word: str
    state: str
    detail: str
    error: str


@dataclass(frozen=True, slots=True)
class Line:
    """One study. Holds PHI."""

    study_uid: str
    band: str
    shape: str
    word: str
    sentence: str
    waiting: str
    arrived: str
    arrived_stamp: str
    name: str
    patient_id: str
    person: tuple[str, ...]
    accession: str
    description: str
    ordered: str
    said: tuple[Said, ...]
    sent: tuple[Sent, ...]


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One series. Holds PHI."""

    uid: str
    number: str
    description: str
    modality: str
    images: int
    reception: str
    state: str
    word: str
    why: str
    model: str
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class EventLine:
    """One line of the history."""

    at: str
    stamp: str
    text: str


@dataclass(frozen=True, slots=True)
class Tile:
    """How many studies of a band are on a page."""

    band: str
    shape: str
    word: str
    count: str


def line(row: ListRow, now: datetime) -> Line:
    """Return a study as the list shows it: of the labels, those that may be there."""
    shape, word = wording.BANDS[row.band]
    person = (wording.clean(row.patient_sex), wording.day(row.patient_birth_date))
    return Line(
        study_uid=row.study_uid,
        band=row.band.value,
        shape=shape,
        word=word,
        sentence=row.sentence,
        waiting=wording.span(now - row.arrived_at),
        arrived=wording.clock_time(row.arrived_at, now),
        arrived_stamp=wording.stamp(row.arrived_at),
        name=wording.person(row.patient_name),
        patient_id=wording.clean(row.patient_id),
        person=tuple(fact for fact in person if fact),
        accession=wording.clean(row.accession_number),
        description=wording.clean(row.study_description),
        ordered=wording.clean(row.ordered_priority).upper(),
        said=said(f for f in row.findings if f.presence != "absent"),
        sent=sent(row.deliveries, now),
    )


def said(findings: Iterable[FindingRow]) -> tuple[Said, ...]:
    """Return what the model said, the likeliest kind of bleed first, "any" before all."""
    ordered = sorted(findings, key=lambda f: (f.label != "any", -f.probability))
    return tuple(_said(finding) for finding in ordered)


def _said(finding: FindingRow) -> Said:
    number = finding.key_instance_number
    sop_uid = finding.key_sop_uid
    shown = f"image {number}" if number is not None else f"image …{sop_uid[-12:]}"
    return Said(
        label=wording.LABELS.get(finding.label, finding.label),
        percent=wording.percent(finding.probability),
        presence=finding.presence,
        key=shown if sop_uid else "",
        key_uid=sop_uid,
    )


def sent(deliveries: Iterable[DeliveryRow], now: datetime) -> tuple[Sent, ...]:
    """Return what became of the deliveries, per destination."""
    return tuple(_sent(delivery, now) for delivery in deliveries)


def _sent(delivery: DeliveryRow, now: datetime) -> Sent:
    detail = ""
    if delivery.delivered_at is not None:
        detail = wording.clock_time(delivery.delivered_at, now)
    elif delivery.state in {Delivery.DUE, Delivery.FAILED} and delivery.attempts:
        detail = f"after {delivery.attempts} {'try' if delivery.attempts == 1 else 'tries'}"
    return Sent(
        what=f"{wording.KINDS.get(delivery.kind, delivery.kind)} → {delivery.destination}",
        word=wording.DELIVERIES[delivery.state],
        state=delivery.state.value,
        detail=detail,
        error="" if delivery.delivered_at is not None else wording.clean(delivery.error),
    )


def series_line(row: SeriesRow) -> SeriesLine:
    """Return a series as the story of its study shows it: with every label."""
    return SeriesLine(
        uid=row.series_uid,
        number="" if row.series_number is None else str(row.series_number),
        description=wording.clean(row.series_description),
        modality=wording.clean(row.modality),
        images=row.instances,
        reception=wording.RECEPTIONS[row.reception],
        state=row.analysis.value,
        word=wording.ANALYSES[row.analysis],
        why=why(row),
        model=wording.clean(row.model),
        said=said(row.findings),
    )


def why(row: SeriesRow) -> str:
    """Return why a series has no result, in a sentence; empty where it has one."""
    if row.analysis not in {Analysis.NOT_ANALYSED, Analysis.FAILED}:
        return ""
    sentence = row.reason.sentence if row.reason else ""
    detail = wording.clean(row.detail)
    return f"{sentence} ({detail})" if sentence and detail else sentence or detail


def event_line(row: EventRow, now: datetime) -> EventLine:
    """Return a line of the history."""
    return EventLine(
        at=wording.clock_time(row.at, now),
        stamp=wording.stamp(row.at),
        text=wording.clean(row.sentence),
    )


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """One revision of a verdict."""

    at: str
    stamp: str
    band: str
    shape: str
    word: str
    sentence: str
    by: str
    reason: str


def verdict_line(row: VerdictRow, now: datetime) -> VerdictLine:
    """Return one revision of a verdict, and who gave it where it was a person."""
    shape, word = wording.BANDS[row.band]
    return VerdictLine(
        at=wording.clock_time(row.at, now),
        stamp=wording.stamp(row.at),
        band=row.band.value,
        shape=shape,
        word=word,
        sentence=row.sentence,
        by=wording.clean(row.judged_by),
        reason=wording.clean(row.reason),
    )


@dataclass(frozen=True, slots=True)
class RefusalLine:
    """Something that was not kept."""

    at: str
    stamp: str
    calling_ae: str
    peer: str
    status: str
    sentence: str
    sop_class: str


def refusal_line(refusal: Refusal, now: datetime) -> RefusalLine:
    """Return a refusal; its status in hexadecimal as the DICOM standard writes it."""
    return RefusalLine(
        at=wording.clock_time(refusal.at, now),
        stamp=wording.stamp(refusal.at),
        calling_ae=wording.clean(refusal.calling_ae),
        peer=wording.clean(refusal.peer_address),
        status=_status_of(refusal),
        sentence=wording.clean(refusal.sentence),
        sop_class=wording.clean(refusal.sop_class_uid),
    )


def _status_of(refusal: Refusal) -> str:
    if refusal.status == SET_ASIDE:
        return "kept, not listed"
    return f"0x{refusal.status:04X}" if refusal.status else "rejected"


def tiles(rows: Sequence[ListRow], *, more: bool) -> list[Tile]:
    """Return how many studies of each band a page shows; "3+" where further ones may follow.

    Counted from the page itself: to count a million studies would take longer than to list the
    first hundred. The bands stand in order, so whatever ends on the page is counted in full.
    """
    counts = Counter(row.band for row in rows)
    last_rank = rows[-1].band.rank if rows else 0
    return [
        Tile(
            band.value,
            *wording.BANDS[band],
            f"{counts[band]}+" if more and band.rank >= last_rank else str(counts[band]),
        )
        for band in wording.BANDS
    ]


@dataclass(frozen=True, slots=True)
class NotAnalysedLine:
    """A series without a result. Holds PHI."""

    at: str
    stamp: str
    study_uid: str
    series: SeriesLine


def not_analysed_line(row: SeriesRow, now: datetime) -> NotAnalysedLine:
    """Return a series without a result, with the reason for it."""
    return NotAnalysedLine(
        at=wording.clock_time(row.last_arrived_at, now),
        stamp=wording.stamp(row.last_arrived_at),
        study_uid=row.study_uid,
        series=series_line(row),
    )
