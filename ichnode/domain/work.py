"""What a stage is handed and what it answers: the only words between the stages and the worklist.

``handle(work) -> outcome`` is all that infer, report and send are. They may raise what
`ichnode.domain.errors` says; the loop turns that into a `Failed` outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal, Protocol, TypeVar, get_args

from ichnode.domain.findings import AnalysisResult, Finding, LabelResult
from ichnode.domain.reasons import Reason
from ichnode.domain.series import InstanceRef
from ichnode.domain.tasks import NoticeItem


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row, for a while; the token fences a zombie's result."""

    row_id: int
    token: str
    attempts: int  # including this one: counted at claim, so that a segfault counts
    until: datetime


class Phase(Enum):
    """Why a series is looked at."""

    PLAUSIBLE = "plausible"  # read strictly: whatever may still come refuses
    FINAL = "final"  # nothing more is to come: gaps are warnings, anything may be stated


# ------------------------------------------------------------------ infer


@dataclass(frozen=True, slots=True)
class AnalysisWork:
    """One frozen set of instances of one series.

    Attributes
    ----------
    earlier : AnalysisResult or None
        What was said of the first `earlier_count` of the instances, by whatever model. The others,
        if any, came under SOP Instance UIDs that these have already.
    earlier_digest : str
        The digest of those.
    """

    lease: Lease
    series_uid: str
    study_uid: str
    generation: int
    set_digest: str
    phase: Phase
    instances: tuple[InstanceRef, ...] = field(repr=False)
    earlier: AnalysisResult | None = field(repr=False)
    earlier_digest: str = ""
    earlier_count: int = 0


@dataclass(frozen=True, slots=True)
class Analysed:
    """The model has spoken."""

    result: AnalysisResult
    kept: bool = False  # it is `earlier` of the work: what came since shows the same pictures


@dataclass(frozen=True, slots=True)
class Declined:
    """The series is not one that we analyse."""

    reason: Reason
    detail: str = ""
    may_change: bool = False  # a later slice could cure it: asked again when the series is final


@dataclass(frozen=True, slots=True)
class NotYet:
    """The slices in hand form no plausible brain yet: ask again when the series is final."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The work failed; the worklist decides whether it is tried again."""

    error: str  # class name and a sentence, without patient data
    transient: bool = True


AnalysisOutcome = Analysed | Declined | NotYet | Failed


# ------------------------------------------------------------------ shadow


@dataclass(frozen=True, slots=True)
class ShadowWork:
    """One set that the champion was asked about, for a challenger to read in its shadow."""

    lease: Lease
    series_uid: str
    study_uid: str
    model_uid: str  # the challenger
    instances: tuple[InstanceRef, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What the challenger would have said; shown to nobody as a result."""

    finding: Finding
    probabilities: tuple[float, ...]  # calibrated, of the series, in the order of LABELS
    seconds: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Live work came: it is begun anew when nothing is due, and this try does not count."""


ShadowOutcome = Shadowed | Declined | Interrupted | Failed


# ------------------------------------------------------------------ report

DocumentKind = Literal["sr", "sc", "kos", "gsps"]
DOCUMENT_KINDS: tuple[DocumentKind, ...] = get_args(DocumentKind)


@dataclass(frozen=True, slots=True)
class DocumentRef:
    """A document that exists, as another refers to it."""

    sop_class_uid: str
    sop_uid: str
    series_uid: str
    study_uid: str


@dataclass(frozen=True, slots=True)
class DocumentWork:
    """One document to build."""

    lease: Lease
    kind: DocumentKind
    sop_class_uid: str  # one SOP Instance UID is of one SOP class for ever
    sop_uid: str  # deterministic, fixed when the row was made
    study_uid: str
    series_uid: str  # the analysed series
    set_digest: str
    analysed_at: datetime  # when the analysis started: Content Date and Time (IHE AIR)
    result: AnalysisResult = field(repr=False)
    instances: tuple[InstanceRef, ...] = field(repr=False)
    predecessors: tuple[DocumentRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """The document's bytes are on stable storage."""

    sha256: str
    path: str  # relative to the spool, POSIX
    size_bytes: int
    document_series_uid: str  # the series that the document is in
    transfer_syntax_uid: str


DocumentOutcome = Built | Failed


# ------------------------------------------------------------------ send

AlertKind = Literal["ups", "ups_rs", "hl7", "hl7_order", "fhir", "orthanc", "webhook", "command"]
ALERT_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)
"""The deliveries that tell of an urgent study, as opposed to those that carry a document."""

WITHDRAWABLE: frozenset[AlertKind] = frozenset(("hl7", "fhir", "orthanc", "webhook", "command"))
"""The alerts that can be taken back when a person says that they were a mistake.

The others raised the priority of somebody's task or order. That is not ours to lower: priority only
rises by itself, and who reads may have had another reason for it by now.
"""

DeliveryKind = DocumentKind | AlertKind


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """The bytes that a delivery carries; sent as they are, every time."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    path: str  # relative to the spool, POSIX


@dataclass(frozen=True, slots=True)
class StudyRef:
    """The study that an alert is about. Holds PHI: never log it."""

    study_uid: str
    accession_number: str
    patient_id: str
    patient_name: str
    issuer_of_patient_id: str
    patient_birth_date: str
    patient_sex: str
    series_uid: str  # the series that was analysed
    instances: tuple[tuple[str, str], ...] = field(repr=False, default=())  # (class, SOP UID)
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    ordered_priority: str = ""
    complete_at: datetime | None = None  # aware; when the last of those instances was recorded


@dataclass(frozen=True, slots=True)
class Alert:
    """What is told of a study to those who are told in words instead of by a document.

    Attributes
    ----------
    withdrawn : bool
        A person took the study off the front of the list: what was told before was a mistake.
    finding, labels : Finding, tuple of LabelResult
        Of the series that was analysed.
    analysed_at : datetime
        Aware, by the database's clock.
    documents : tuple of DocumentRef
        Ours about the same analysis that exist, such as its Structured Report.
    """

    withdrawn: bool
    finding: Finding
    labels: tuple[LabelResult, ...]
    model_name: str
    model_version: str
    model_uid: str
    analysed_at: datetime
    documents: tuple[DocumentRef, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryItem:
    """One row of the outbox."""

    delivery_id: int
    kind: DeliveryKind
    urgent: bool
    attempts: int
    revision: int  # of the study's verdict
    document: StoredDocument | None = None  # where the kind is one of a document
    study: StudyRef | None = field(repr=False, default=None)  # for an alert
    alert: Alert | None = field(repr=False, default=None)  # likewise: what there is to tell


@dataclass(frozen=True, slots=True)
class DeliveryWork:
    """What is due for one destination: urgent first, all under one lease."""

    lease: Lease
    destination: str
    items: tuple[DeliveryItem, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer has it."""

    status: int = 0  # as the peer answered, Warnings included
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reclass:
    """The peer takes this SR class and not the one that was built."""

    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """It did not get there.

    `permanent` is for an answer that no repetition will change (no such SOP class at the peer); a
    negative is then given up at once, a positive keeps trying all the same.
    """

    error: str  # without patient data
    status: int | None = None
    permanent: bool = False


DeliveryResult = Acknowledged | Reclass | Undelivered


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What became of each row of a `DeliveryWork`; a row that is missing was not tried."""

    results: Mapping[int, DeliveryResult]


DeliveryOutcome = Dispatched | Failed


@dataclass(frozen=True, slots=True)
class NoticeWork:
    """What one subscriber is still to be told, the oldest first."""

    lease: Lease
    destination: str  # its AE title
    items: tuple[NoticeItem, ...]


# ------------------------------------------------------------------ any stage

Work = TypeVar("Work", AnalysisWork, ShadowWork, DocumentWork, DeliveryWork, NoticeWork)
WorkIn = TypeVar(
    "WorkIn",
    AnalysisWork,
    ShadowWork,
    DocumentWork,
    DeliveryWork,
    NoticeWork,
    contravariant=True,
)
OutcomeOut = TypeVar("OutcomeOut", covariant=True)
OutcomeT = TypeVar("OutcomeT")
OutcomeIn = TypeVar("OutcomeIn", contravariant=True)


class Stage(Protocol[WorkIn, OutcomeOut]):
    """A stage: does the work, knows nothing of queues."""

    def handle(self, work: WorkIn) -> OutcomeOut:
        """Do the work and say what came of it."""
        ...


class Queue(Protocol[Work, OutcomeIn]):
    """Where a loop gets its work and leaves the outcome."""

    def claim(self, owner: str) -> Work | None:
        """Take the most urgent due work under a lease, or return None."""
        ...

    def renew(self, lease: Lease, for_: timedelta) -> bool:
        """Prolong the lease; False when it is lost and the work must be dropped."""
        ...

    def settle(self, work: Work, outcome: OutcomeIn | Failed) -> bool:
        """Write result, next state, outbox rows and event in one transaction.

        Returns False when the lease was lost: nothing was written.
        """
        ...
