"""What the web room wants to be shown, as protocols: it does not know who keeps the worklist.

The service room hands in something that fits. Everything here is read only; rows that say so hold
PHI and must never be logged.
"""

# ruff: noqa: D102 - the members are facts of a row; their names are those of the domain

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ichnode.domain.lifecycle import Analysis, Band, Delivery, Reception
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Refusal


class FindingRow(Protocol):
    """What the model said of one label."""

    @property
    def label(self) -> str: ...
    @property
    def probability(self) -> float: ...
    @property
    def presence(self) -> str: ...
    @property
    def key_sop_uid(self) -> str: ...
    @property
    def key_instance_number(self) -> int | None: ...


class DeliveryRow(Protocol):
    """One thing for one destination."""

    @property
    def destination(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def state(self) -> Delivery: ...
    @property
    def attempts(self) -> int: ...
    @property
    def delivered_at(self) -> datetime | None: ...
    @property
    def error(self) -> str: ...


class ListRow(Protocol):
    """One study of the reading list. Holds PHI."""

    @property
    def study_uid(self) -> str: ...
    @property
    def band(self) -> Band: ...
    @property
    def sentence(self) -> str: ...
    @property
    def ordered_priority(self) -> str: ...
    @property
    def arrived_at(self) -> datetime: ...
    @property
    def last_arrived_at(self) -> datetime: ...
    @property
    def patient_name(self) -> str: ...
    @property
    def patient_id(self) -> str: ...
    @property
    def patient_birth_date(self) -> str: ...
    @property
    def patient_sex(self) -> str: ...
    @property
    def accession_number(self) -> str: ...
    @property
    def study_description(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def findings(self) -> Sequence[FindingRow]: ...
    @property
    def deliveries(self) -> Sequence[DeliveryRow]: ...


class SeriesRow(Protocol):
    """One series and what became of it. Holds PHI in its description."""

    @property
    def series_uid(self) -> str: ...
    @property
    def study_uid(self) -> str: ...
    @property
    def last_arrived_at(self) -> datetime: ...
    @property
    def series_number(self) -> int | None: ...
    @property
    def series_description(self) -> str: ...
    @property
    def modality(self) -> str: ...
    @property
    def instances(self) -> int: ...
    @property
    def reception(self) -> Reception: ...
    @property
    def analysis(self) -> Analysis: ...
    @property
    def reason(self) -> Reason | None: ...
    @property
    def detail(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def findings(self) -> Sequence[FindingRow]: ...


class EventRow(Protocol):
    """One line of the history."""

    @property
    def at(self) -> datetime: ...
    @property
    def noun(self) -> str: ...
    @property
    def verb(self) -> str: ...
    @property
    def series_uid(self) -> str | None: ...
    @property
    def sentence(self) -> str: ...


class VerdictRow(Protocol):
    """One revision of a study's verdict."""

    @property
    def revision(self) -> int: ...
    @property
    def band(self) -> Band: ...
    @property
    def sentence(self) -> str: ...
    @property
    def judged_by(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def at(self) -> datetime: ...


class LatencyRow(Protocol):
    """How long one delivery took."""

    @property
    def kind(self) -> str: ...
    @property
    def urgent(self) -> bool: ...
    @property
    def delivered_at(self) -> datetime: ...
    @property
    def seconds(self) -> float: ...


class StudyStory(Protocol):
    """Everything that is known of one study. Holds PHI."""

    @property
    def row(self) -> ListRow: ...
    @property
    def series(self) -> Sequence[SeriesRow]: ...
    @property
    def verdicts(self) -> Sequence[VerdictRow]: ...
    @property
    def events(self) -> Sequence[EventRow]: ...


class HeartbeatRow(Protocol):
    """A process that was alive at a moment."""

    @property
    def role(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def age_s(self) -> float: ...
    @property
    def detail(self) -> Mapping[str, Any]: ...


Heartbeats = Callable[[], Sequence[HeartbeatRow]]
"""Says when each process was last heard of."""


@dataclass(frozen=True, slots=True)
class Mode:
    """Whether the outputs are open, for the banner."""

    observing: bool
    closed: tuple[str, ...] = ()  # destinations that get nothing yet
    model: str = ""  # name and version of the one that runs


class Views(Protocol):
    """The questions that the pages, the health check and the metrics ask.

    All of them read only, and raise `ichnode.domain.errors.WorklistDown` when there is no answer.
    """

    def reading_list(self, limit: int, offset: int) -> Sequence[ListRow]:
        """Return studies in the order in which they are to be read."""
        ...

    def study(self, study_uid: str, /) -> StudyStory | None:
        """Return the story of a study; None when it is not known."""
        ...

    def not_analysed(self, limit: int) -> Sequence[SeriesRow]:
        """Return the series that were not analysed or failed, the latest first."""
        ...

    def refusals(self, limit: int) -> Sequence[Refusal]:
        """Return what was refused at the door, the latest first."""
        ...

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Count ``studies`` by band, and ``series``, ``documents``, ``deliveries`` by state."""
        ...

    def deliveries_by_destination(self) -> Mapping[tuple[str, str], int]:
        """Count deliveries by (destination, state)."""
        ...

    def not_analysed_by_reason(self) -> Mapping[str, int]:
        """Count the series that were not analysed by the code of their reason."""
        ...

    def queue_age(self) -> Mapping[str, float]:
        """Return for how many seconds the oldest due work of each stage has waited."""
        ...

    def oldest_undelivered_positive(self) -> datetime | None:
        """Return since when a positive has waited for its delivery."""
        ...

    def latencies(self, since: datetime | None, limit: int) -> Sequence[LatencyRow]:
        """Return how long deliveries took, acknowledged after `since`, in that order."""
        ...
