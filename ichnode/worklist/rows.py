"""What the views show. Rows of studies and series hold PHI: for people's eyes, never for logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ichnode.domain.lifecycle import Analysis, Band, Delivery, Document, Reception
from ichnode.domain.reasons import Reason
from ichnode.domain.telling import Seen


@dataclass(frozen=True, slots=True)
class FindingRow:
    """What the model said of one label."""

    label: str
    probability: float
    presence: str
    key_sop_uid: str
    key_instance_number: int | None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One thing for one destination."""

    delivery_id: int
    study_uid: str
    destination: str
    kind: str
    state: Delivery
    urgent: bool
    attempts: int
    created_at: datetime
    due_at: datetime
    delivered_at: datetime | None
    status: int | None
    note: str
    error: str


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """One document and where its bytes are."""

    kind: str
    sop_class_uid: str
    sop_uid: str
    series_uid: str  # the analysed series
    state: Document
    attempts: int
    built_at: datetime | None
    path: str | None  # relative to the spool, POSIX
    error: str


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One series and what became of it. Holds PHI (its description)."""

    series_uid: str
    study_uid: str
    series_number: int | None
    series_description: str = field(repr=False)
    modality: str
    instances: int
    expected_count: int | None
    generation: int
    arrived_at: datetime
    last_arrived_at: datetime
    due_at: datetime | None
    reception: Reception
    analysis: Analysis
    final: bool
    reason: Reason | None
    detail: str  # figures behind the reason, or the error
    model: str  # name and version
    findings: tuple[FindingRow, ...]


@dataclass(frozen=True, slots=True)
class ListRow:
    """One study of the reading list. Holds PHI."""

    study_uid: str
    band: Band
    sentence: str
    revision: int
    ordered_priority: str
    arrived_at: datetime
    last_arrived_at: datetime
    patient_name: str = field(repr=False)
    patient_id: str = field(repr=False)
    patient_birth_date: str = field(repr=False)
    patient_sex: str = field(repr=False)
    accession_number: str = field(repr=False)
    study_date: str = field(repr=False)
    study_description: str = field(repr=False)
    trusted_series_uid: str | None
    model: str  # name and version of what the verdict rests on
    findings: tuple[FindingRow, ...]
    series: tuple[SeriesRow, ...]
    deliveries: tuple[DeliveryRow, ...]
    seen_at: datetime | None = None  # when a person opened or reported it
    seen_how: Seen | None = None


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One revision of a study's verdict."""

    revision: int
    band: Band
    trusted_series_uid: str | None
    sentence: str
    judged_by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the history."""

    at: datetime
    noun: str
    verb: str
    study_uid: str | None
    series_uid: str | None
    detail: dict[str, Any]

    @property
    def sentence(self) -> str:
        """The event in words."""
        words = f"{self.noun.capitalize()} {self.verb.replace('_', ' ')}"
        about = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in self.detail.items())
        return f"{words}: {about}." if about else f"{words}."


@dataclass(frozen=True, slots=True)
class StudyStory:
    """Everything about one study. Holds PHI."""

    row: ListRow
    series: tuple[SeriesRow, ...]
    verdicts: tuple[VerdictRow, ...]
    documents: tuple[DocumentRow, ...]
    deliveries: tuple[DeliveryRow, ...]
    events: tuple[EventRow, ...]


@dataclass(frozen=True, slots=True)
class SeriesStory:
    """Everything about one series. Holds PHI."""

    row: SeriesRow
    documents: tuple[DocumentRow, ...]
    events: tuple[EventRow, ...]


@dataclass(frozen=True, slots=True)
class StrandedRow:
    """How much waits for a destination that left the settings, or takes that kind no more."""

    destination: str
    deliveries: int
    positives: int  # so many of them

    @property
    def sentence(self) -> str:
        """What is to be told to people."""
        return (
            f"Nobody takes what waits for {self.destination}, which is in the settings no longer "
            f"or takes it no more: deliveries {self.deliveries}, of positives {self.positives}; "
            f"see `ichnode outputs redirect`."
        )


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one delivery took."""

    delivery_id: int
    destination: str
    kind: str
    urgent: bool
    delivered_at: datetime
    seconds: float  # from the last slice of its set at the door to the peer's answer


@dataclass(frozen=True, slots=True)
class Pulse:
    """A process that said that it is alive."""

    role: str
    host: str
    pid: int
    at: datetime
    age_s: float
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AbsentRow:
    """A study that an archive has and that is not here, or not whole. Holds PHI."""

    study_uid: str
    peer: str
    nothing_came: bool  # else some of it did
    held: int | None  # images that should be here, as far as the archive tells
    here: int  # and of those so many are
    series_missing: int
    patient_name: str = field(repr=False)
    patient_id: str = field(repr=False)
    accession_number: str = field(repr=False)
    study_date: str = field(repr=False)
    study_time: str = field(repr=False)
    study_description: str = field(repr=False)
    first_seen_at: datetime
    last_seen_at: datetime
    fetches: int
    fetched_at: datetime | None
    error: str  # of the last time that it was asked for


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """How the last comparison with an archive went."""

    peer: str
    tried_at: datetime
    compared_at: datetime | None  # the last that went well
    studies: int
    heads: int
    error: str  # empty where the last one went well, and the next is not overdue


@dataclass(frozen=True, slots=True)
class NotReceived:
    """What is missing; without a comparison that went well, nobody knows."""

    rows: tuple[AbsentRow, ...]
    comparisons: tuple[ComparisonRow, ...]
