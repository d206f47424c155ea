"""The lives of a series, its analysis, a document, a delivery, a verdict and a task, as tables.

Six small machines instead of a long one (design, section 3). Each table is complete: a pair that
is not in it is forbidden, and `advance` says so. "In progress" is no state anywhere: work in
progress is work with a lease, so that nothing needs to be reaped after a crash.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


class Reception(Enum):
    """How much of a series is here."""

    ARRIVING = "arriving"
    PLAUSIBLE = "plausible"  # it may be complete: look for blood now
    FINAL = "final"  # it is complete as far as anybody can tell: a negative may be stated


class ReceptionEvent(Enum):
    """What happens to a reception."""

    SLICE_ARRIVED = "slice_arrived"
    LOOKS_COMPLETE = "looks_complete"
    COMPLETE = "complete"


RECEPTION: dict[tuple[Reception, ReceptionEvent], Reception] = {
    (Reception.ARRIVING, ReceptionEvent.SLICE_ARRIVED): Reception.ARRIVING,
    (Reception.ARRIVING, ReceptionEvent.LOOKS_COMPLETE): Reception.PLAUSIBLE,
    (Reception.ARRIVING, ReceptionEvent.COMPLETE): Reception.FINAL,
    (Reception.PLAUSIBLE, ReceptionEvent.SLICE_ARRIVED): Reception.ARRIVING,
    (Reception.PLAUSIBLE, ReceptionEvent.LOOKS_COMPLETE): Reception.PLAUSIBLE,
    (Reception.PLAUSIBLE, ReceptionEvent.COMPLETE): Reception.FINAL,
    (Reception.FINAL, ReceptionEvent.SLICE_ARRIVED): Reception.ARRIVING,  # a late slice
    (Reception.FINAL, ReceptionEvent.COMPLETE): Reception.FINAL,
}


class Analysis(Enum):
    """What became of a series, for people: exactly one of these at any time."""

    PENDING = "pending"
    POSITIVE = "positive"
    REVIEW = "review"
    NEGATIVE = "negative"
    NOT_ANALYSED = "not_analysed"
    FAILED = "failed"


class AnalysisEvent(Enum):
    """What happens to an analysis."""

    SLICE_ARRIVED = "slice_arrived"
    FOUND_POSITIVE = "found_positive"  # early or final
    FOUND_REVIEW = "found_review"  # of a final set only
    FOUND_NEGATIVE = "found_negative"  # of a final set only
    DECLINED = "declined"
    GAVE_UP = "gave_up"
    REQUEUED = "requeued"


_SETTLING = {
    AnalysisEvent.FOUND_POSITIVE: Analysis.POSITIVE,
    AnalysisEvent.FOUND_REVIEW: Analysis.REVIEW,
    AnalysisEvent.FOUND_NEGATIVE: Analysis.NEGATIVE,
    AnalysisEvent.DECLINED: Analysis.NOT_ANALYSED,
    AnalysisEvent.GAVE_UP: Analysis.FAILED,
}

ANALYSIS: dict[tuple[Analysis, AnalysisEvent], Analysis] = (
    {(state, event): outcome for state in Analysis for event, outcome in _SETTLING.items()}
    | {
        # A late slice re-opens everything but a positive: an alert is not taken back by itself,
        # and a positive series is simply looked at again when it is final.
        (state, AnalysisEvent.SLICE_ARRIVED): (
            Analysis.POSITIVE if state is Analysis.POSITIVE else Analysis.PENDING
        )
        for state in Analysis
    }
    | {(state, AnalysisEvent.REQUEUED): Analysis.PENDING for state in Analysis}
)


class Document(Enum):
    """A Structured Report, a Secondary Capture: built once, bytes kept."""

    DUE = "due"
    BUILT = "built"
    FAILED = "failed"


class DocumentEvent(Enum):
    """What happens to a document."""

    BUILT = "built"
    GAVE_UP = "gave_up"
    REQUEUED = "requeued"


DOCUMENT: dict[tuple[Document, DocumentEvent], Document] = {
    (Document.DUE, DocumentEvent.BUILT): Document.BUILT,
    (Document.DUE, DocumentEvent.GAVE_UP): Document.FAILED,
    (Document.FAILED, DocumentEvent.REQUEUED): Document.DUE,
}


class Delivery(Enum):
    """One row of the outbox: one thing for one destination."""

    WAITING = "waiting"  # for its document to be built
    DUE = "due"
    DELIVERED = "delivered"
    WITHHELD = "withheld"  # observe mode: the destination is not open for this model
    FAILED = "failed"  # given up; never a positive
    SUPPRESSED = "suppressed"  # needed no longer: a person was quicker or said so, or overtaken


class DeliveryEvent(Enum):
    """What happens to a delivery."""

    DOCUMENT_BUILT = "document_built"  # or there is none to wait for
    ACKNOWLEDGED = "acknowledged"
    RECLASSED = "reclassed"  # the peer takes another SR class: wait for that document
    GAVE_UP = "gave_up"
    REQUEUED = "requeued"
    RELEASED = "released"  # a person opened the outputs
    REVOKED = "revoked"  # a person closed them again
    SUPPRESSED = "suppressed"  # a person was quicker, or something newer has overtaken it


DELIVERY: dict[tuple[Delivery, DeliveryEvent], Delivery] = {
    (Delivery.WAITING, DeliveryEvent.DOCUMENT_BUILT): Delivery.DUE,
    (Delivery.WAITING, DeliveryEvent.GAVE_UP): Delivery.FAILED,
    (Delivery.DUE, DeliveryEvent.ACKNOWLEDGED): Delivery.DELIVERED,
    (Delivery.DUE, DeliveryEvent.RECLASSED): Delivery.WAITING,
    (Delivery.DUE, DeliveryEvent.GAVE_UP): Delivery.FAILED,
    (Delivery.FAILED, DeliveryEvent.REQUEUED): Delivery.WAITING,
    (Delivery.WITHHELD, DeliveryEvent.RELEASED): Delivery.WAITING,
    (Delivery.WAITING, DeliveryEvent.REVOKED): Delivery.WITHHELD,
    (Delivery.DUE, DeliveryEvent.REVOKED): Delivery.WITHHELD,
    (Delivery.WITHHELD, DeliveryEvent.ACKNOWLEDGED): Delivery.DELIVERED,  # it was on its way
    (Delivery.WAITING, DeliveryEvent.SUPPRESSED): Delivery.SUPPRESSED,
    (Delivery.DUE, DeliveryEvent.SUPPRESSED): Delivery.SUPPRESSED,
    (Delivery.WITHHELD, DeliveryEvent.SUPPRESSED): Delivery.SUPPRESSED,
    (Delivery.FAILED, DeliveryEvent.SUPPRESSED): Delivery.SUPPRESSED,
    (Delivery.SUPPRESSED, DeliveryEvent.ACKNOWLEDGED): Delivery.DELIVERED,  # it was on its way
}


class Band(Enum):
    """Where a study stands on the reading list."""

    URGENT = "urgent"
    REVIEW = "review"
    ROUTINE = "routine"
    NOT_ANALYSED = "not_analysed"

    @property
    def rank(self) -> int:
        """The order on the list: 0 first. ROUTINE and NOT_ANALYSED share a rank on purpose."""
        return {"urgent": 0, "review": 1}.get(self.value, 2)


class VerdictEvent(Enum):
    """What happens to a verdict."""

    JUDGED_URGENT = "judged_urgent"
    JUDGED_REVIEW = "judged_review"
    JUDGED_ROUTINE = "judged_routine"
    JUDGED_NOT_ANALYSED = "judged_not_analysed"
    LOWERED = "lowered"  # by a person, never by the node


_JUDGED = {
    VerdictEvent.JUDGED_URGENT: Band.URGENT,
    VerdictEvent.JUDGED_REVIEW: Band.REVIEW,
    VerdictEvent.JUDGED_ROUTINE: Band.ROUTINE,
    VerdictEvent.JUDGED_NOT_ANALYSED: Band.NOT_ANALYSED,
}

VERDICT: dict[tuple[Band, VerdictEvent], Band] = {
    # Priority only rises on its own: judging never lowers the rank.
    (band, event): (judged if judged.rank <= band.rank else band)
    for band in Band
    for event, judged in _JUDGED.items()
} | {(band, VerdictEvent.LOWERED): Band.ROUTINE for band in (Band.URGENT, Band.REVIEW)}


class Task(Enum):
    """The reading of a study, as a worklist client sees it (PS3.4 CC.1.1: the states of a UPS)."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"  # somebody has taken it up
    COMPLETED = "completed"  # the study is read
    CANCELED = "canceled"


class TaskEvent(Enum):
    """What happens to a task."""

    TAKEN = "taken"
    COMPLETED = "completed"
    CANCELED = "canceled"
    MADE_ANEW = "made_anew"  # blood was found in images that nobody has read: a task of its own


TASK: dict[tuple[Task, TaskEvent], Task] = {
    (Task.SCHEDULED, TaskEvent.TAKEN): Task.IN_PROGRESS,
    (Task.SCHEDULED, TaskEvent.CANCELED): Task.CANCELED,  # somebody asked for it
    (Task.IN_PROGRESS, TaskEvent.COMPLETED): Task.COMPLETED,
    (Task.IN_PROGRESS, TaskEvent.CANCELED): Task.CANCELED,
    (Task.COMPLETED, TaskEvent.MADE_ANEW): Task.SCHEDULED,  # the next one, under another UID
    (Task.CANCELED, TaskEvent.MADE_ANEW): Task.SCHEDULED,
}


class ForbiddenTransition(Exception):
    """A state machine was asked for something that its table does not hold."""


def advance(table: dict[tuple[State, Event], State], state: State, event: Event) -> State:
    """Return the state that follows.

    Raises
    ------
    ForbiddenTransition
        When the table has no row for this pair: a fault in ichnode, never in the data.
    """
    try:
        return table[(state, event)]
    except KeyError:
        message = f"{type(state).__name__}.{state.name} cannot take {event.name}"
        raise ForbiddenTransition(message) from None
