"""The tables, with the invariants as constraints: the database refuses a bad state, not Python.

Everybody who locks rows of several tables takes them in the order study, series, document,
delivery, and within a table by key, so that nobody waits in a circle. They lock
``FOR NO KEY UPDATE`` (``key_share``): PostgreSQL checks a foreign key by a lock that a plain
``FOR UPDATE`` would keep waiting, in whatever order (measured: deadlocks between claim and record).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from ichnode.domain import lifecycle
from ichnode.domain.findings import AnalysisResult
from ichnode.domain.findings import Finding as FindingValue
from ichnode.domain.series import Header
from ichnode.domain.telling import Seen
from ichnode.domain.work import DOCUMENT_KINDS, DeliveryKind, DocumentKind, Phase
from ichnode.worklist.absence import Absent as Absent
from ichnode.worklist.absence import Comparison as Comparison
from ichnode.worklist.columns import (
    HeaderText,
    JsonText,
    ResultText,
    state_type,
)
from ichnode.worklist.heard import Message as Message
from ichnode.worklist.heard import Ordered as Ordered
from ichnode.worklist.heard import Report as Report
from ichnode.worklist.learning import Feedback as Feedback
from ichnode.worklist.learning import Label as Label
from ichnode.worklist.learning import Shadow as Shadow
from ichnode.worklist.mapping import Base, Code, Digest, Leased, Uid, partial, whole_lease
from ichnode.worklist.promise import Commitment as Commitment
from ichnode.worklist.reading import Notice as Notice
from ichnode.worklist.reading import Subscription as Subscription
from ichnode.worklist.reading import Task as Task

_IS_DOCUMENT = "kind IN ({})".format(", ".join(f"'{kind}'" for kind in DOCUMENT_KINDS))


class Study(Base):
    """A study and its place on the reading list. Holds PHI."""

    __tablename__ = "study"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid, unique=True)
    patient_id: Mapped[str] = mapped_column(default="")
    issuer_of_patient_id: Mapped[str] = mapped_column(default="")
    patient_name: Mapped[str] = mapped_column(default="")
    patient_birth_date: Mapped[str] = mapped_column(default="")
    patient_sex: Mapped[str] = mapped_column(default="")
    patient_age: Mapped[str] = mapped_column(default="")
    accession_number: Mapped[str] = mapped_column(default="")
    study_date: Mapped[str] = mapped_column(default="")
    study_time: Mapped[str] = mapped_column(default="")
    study_description: Mapped[str] = mapped_column(default="")
    ordered_priority: Mapped[str] = mapped_column(default="")
    ordered_rank: Mapped[int] = mapped_column(SmallInteger)
    # Within the last group: the ordered rank, shifted by the site's weights at arrival. The default
    # is for a node of an older version that still writes.
    list_rank: Mapped[int] = mapped_column(SmallInteger, server_default=text("2"))
    band: Mapped[lifecycle.Band] = mapped_column(state_type(lifecycle.Band))
    band_rank: Mapped[int] = mapped_column(SmallInteger)
    sentence: Mapped[str]
    revision: Mapped[int] = mapped_column(default=0)
    trusted_series_uid: Mapped[str | None] = mapped_column(Uid)
    arrived_at: Mapped[datetime]
    last_arrived_at: Mapped[datetime]
    purged_at: Mapped[datetime | None]  # the images are gone: off the reading list
    collected_at: Mapped[datetime | None]  # labelled, and exported for training
    seen_at: Mapped[datetime | None]  # a person opened it, or reported it
    seen_how: Mapped[Seen | None] = mapped_column(state_type(Seen))

    __table_args__ = (
        CheckConstraint(
            "band_rank = CASE band WHEN 'urgent' THEN 0 WHEN 'review' THEN 1 ELSE 2 END",
            name="band_rank",
        ),
        CheckConstraint("(seen_at IS NULL) = (seen_how IS NULL)", name="whole_look"),
        # The two orders of the reading list, see views.py.
        partial("ix_study_listed_by_arrival", "purged_at IS NULL", "band_rank", "arrived_at", "id"),
        partial(
            "ix_study_listed_by_order",
            "purged_at IS NULL",
            "band_rank",
            "list_rank",
            "arrived_at",
            "id",
        ),
        partial("ix_study_kept", "purged_at IS NULL", "last_arrived_at"),
        partial("ix_study_accession_number", "accession_number <> ''", "accession_number"),
        Index("ix_study_patient_id", "patient_id"),
    )


class Series(Leased, Base):
    """A series: how much of it is here and what became of it.

    ``due_at`` says when it is to be looked at; NULL means that nothing is owed. ``urgency_at`` is
    ``due_at`` with the head start of the study's ordered priority: smaller is taken first, and
    since it is a moment and no rank, whoever waits long enough comes first.
    """

    __tablename__ = "series"

    series_uid: Mapped[str] = mapped_column(Uid, unique=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    modality: Mapped[str] = mapped_column(default="")
    series_number: Mapped[int | None]
    series_description: Mapped[str] = mapped_column(default="")
    thin: Mapped[bool] = mapped_column(default=False)
    calling_ae: Mapped[str] = mapped_column(default="")
    expected_count: Mapped[int | None]
    instance_count: Mapped[int] = mapped_column(default=0)  # rows, header variants included
    sop_count: Mapped[int] = mapped_column(default=0)  # different SOP Instance UIDs
    stored_bytes: Mapped[int] = mapped_column(default=0)
    first_arrived_at: Mapped[datetime]
    last_arrived_at: Mapped[datetime]
    reception: Mapped[lifecycle.Reception] = mapped_column(state_type(lifecycle.Reception))
    analysis: Mapped[lifecycle.Analysis] = mapped_column(state_type(lifecycle.Analysis))
    final: Mapped[bool] = mapped_column(default=False)  # the statement is of a complete series
    score: Mapped[float | None]
    analysis_id: Mapped[int | None] = mapped_column(
        ForeignKey("analysis.id", use_alter=True)
    )  # what the statement rests on
    dismissed_analysis_id: Mapped[int | None] = mapped_column(
        ForeignKey("analysis.id", use_alter=True)
    )  # a person has seen this one and lowered the study
    reason: Mapped[str | None] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(default="")
    due_at: Mapped[datetime | None]
    urgency_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    generation: Mapped[int] = mapped_column(default=0)
    generation_count: Mapped[int] = mapped_column(default=0)  # instances of the frozen set
    generation_digest: Mapped[str | None] = mapped_column(Digest)

    __table_args__ = (
        whole_lease(),
        CheckConstraint("(analysis = 'not_analysed') = (reason IS NOT NULL)", name="reason"),
        CheckConstraint("(due_at IS NULL) = (urgency_at IS NULL)", name="urgency"),
        CheckConstraint("analysis <> 'pending' OR due_at IS NOT NULL", name="pending_is_due"),
        CheckConstraint(
            "analysis NOT IN ('positive', 'review', 'negative') OR analysis_id IS NOT NULL",
            name="statement_has_analysis",
        ),
        # A negative is only ever stated of a complete series.
        CheckConstraint("analysis NOT IN ('review', 'negative') OR final", name="clear_late"),
        partial("ix_series_due", "due_at IS NOT NULL", "urgency_at", "id"),
        Index("ix_series_analysis", "analysis", "last_arrived_at"),
    )


class Instance(Base):
    """One instance on stable storage. Holds PHI.

    ``ordinal`` counts within the series from 1: the set of a generation is ``ordinal <=
    generation_count``, frozen by a number.
    """

    __tablename__ = "instance"

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    ordinal: Mapped[int]
    sop_uid: Mapped[str] = mapped_column(Uid)
    sha256: Mapped[str] = mapped_column(Digest)
    transfer_syntax_uid: Mapped[str] = mapped_column(Uid)
    path: Mapped[str]
    size_bytes: Mapped[int]
    header: Mapped[Header] = mapped_column(HeaderText)
    association_id: Mapped[str] = mapped_column(index=True)
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    peer_address: Mapped[str]
    received_at: Mapped[datetime]  # by the receiver's clock
    recorded_at: Mapped[datetime]  # by the database's
    purged_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("sop_uid", "sha256"),
        UniqueConstraint("series_id", "ordinal"),
    )


class Analysis(Base):
    """What one model says of one frozen set."""

    __tablename__ = "analysis"

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    generation: Mapped[int]
    instance_count: Mapped[int]
    set_digest: Mapped[str] = mapped_column(Digest)
    model_uid: Mapped[str] = mapped_column(Uid)
    model_name: Mapped[str]
    model_version: Mapped[str]
    finding: Mapped[FindingValue] = mapped_column(state_type(FindingValue))
    phase: Mapped[Phase] = mapped_column(state_type(Phase))
    result: Mapped[AnalysisResult] = mapped_column(ResultText)
    started_at: Mapped[datetime]
    settled_at: Mapped[datetime]
    last_slice_at: Mapped[datetime]  # when the last of the set came, by the receiver

    __table_args__ = (UniqueConstraint("series_id", "set_digest", "model_uid"),)


class Finding(Base):
    """One label of an analysis."""

    __tablename__ = "finding"

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"))
    label: Mapped[str] = mapped_column(String(32))
    probability: Mapped[float]
    presence: Mapped[str] = mapped_column(Code)
    key_sop_uid: Mapped[str]
    key_instance_number: Mapped[int | None]

    __table_args__ = (UniqueConstraint("analysis_id", "label"),)


class Verdict(Base):
    """One revision of what is made of a study."""

    __tablename__ = "verdict"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    revision: Mapped[int]
    band: Mapped[lifecycle.Band] = mapped_column(state_type(lifecycle.Band))
    trusted_series_uid: Mapped[str | None] = mapped_column(Uid)
    sentence: Mapped[str]
    judged_by: Mapped[str] = mapped_column(default="ichnode")
    reason: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("study_id", "revision"),)


class Document(Leased, Base):
    """A document: built once, bytes kept."""

    __tablename__ = "document"

    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"))
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    kind: Mapped[DocumentKind] = mapped_column(Code)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    sop_uid: Mapped[str] = mapped_column(Uid, unique=True)
    urgent: Mapped[bool]
    state: Mapped[lifecycle.Document] = mapped_column(state_type(lifecycle.Document))
    due_at: Mapped[datetime]
    urgency_at: Mapped[datetime]
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    built_at: Mapped[datetime | None]
    sha256: Mapped[str | None] = mapped_column(Digest)
    path: Mapped[str | None]
    size_bytes: Mapped[int | None]
    document_series_uid: Mapped[str | None] = mapped_column(Uid)
    transfer_syntax_uid: Mapped[str | None] = mapped_column(Uid)

    __table_args__ = (
        whole_lease(),
        UniqueConstraint("analysis_id", "kind", "sop_class_uid"),
        CheckConstraint(_IS_DOCUMENT, name="kind"),
        CheckConstraint(
            "(state = 'built') = (path IS NOT NULL AND sha256 IS NOT NULL)", name="built"
        ),
        partial("ix_document_due", "state = 'due'", "urgency_at", "id"),
    )


class Delivery(Leased, Base):
    """The outbox: one thing for one destination."""

    __tablename__ = "delivery"

    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"))
    document_id: Mapped[int | None] = mapped_column(ForeignKey("document.id"), index=True)
    kind: Mapped[DeliveryKind] = mapped_column(Code)
    destination: Mapped[str] = mapped_column(String(64))
    revision: Mapped[int]
    urgent: Mapped[bool]
    model_uid: Mapped[str] = mapped_column(Uid)
    calling_ae: Mapped[str]
    state: Mapped[lifecycle.Delivery] = mapped_column(state_type(lifecycle.Delivery))
    due_at: Mapped[datetime]
    status: Mapped[int | None]
    note: Mapped[str] = mapped_column(default="")
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        whole_lease(),
        CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivered"),
        CheckConstraint(f"({_IS_DOCUMENT}) = (document_id IS NOT NULL)", name="document"),
        # Exactly one report per analysis and destination, whatever SR class it ends up in ...
        partial(
            "uq_delivery_document",
            "document_id IS NOT NULL",
            "analysis_id",
            "kind",
            "destination",
            unique=True,
        ),
        # ... and one alert per verdict and destination.
        partial(
            "uq_delivery_alert",
            "document_id IS NULL",
            "study_id",
            "revision",
            "destination",
            "kind",
            unique=True,
        ),
        partial("ix_delivery_due", "state = 'due'", "destination", "urgent", "id"),
        partial("ix_delivery_held", "lease_token IS NOT NULL", "lease_token"),
        Index("ix_delivery_state", "state", "urgent", "created_at"),
        Index("ix_delivery_delivered_at", "delivered_at"),
    )


class Event(Base):
    """One line of the history: append only, without patient data."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    noun: Mapped[str] = mapped_column(Code)
    verb: Mapped[str] = mapped_column(String(32))
    study_uid: Mapped[str | None] = mapped_column(Uid, index=True)
    series_uid: Mapped[str | None] = mapped_column(Uid, index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(JsonText)

    __table_args__ = (Index("ix_event_noun_verb", "noun", "verb", "id"),)


class Commission(Base):
    """Who accepted which model for which scanners: opens the outputs."""

    __tablename__ = "commission"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_uid: Mapped[str] = mapped_column(Uid, index=True)
    accepted_by: Mapped[str]
    scanners: Mapped[list[str]] = mapped_column(JsonText)  # calling AE titles, or "*"
    note: Mapped[str] = mapped_column(default="")
    accepted_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]


class Heartbeat(Base):
    """A process that was alive at a moment."""

    __tablename__ = "heartbeat"

    id: Mapped[int] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(Code)
    host: Mapped[str] = mapped_column(String(64))
    pid: Mapped[int]
    at: Mapped[datetime]
    detail: Mapped[dict[str, Any]] = mapped_column(JsonText)

    __table_args__ = (UniqueConstraint("role", "host", "pid"),)
