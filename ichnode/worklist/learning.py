"""The tables that learning is made of: what people say, and what a challenger would have said."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ichnode.domain.findings import Finding
from ichnode.worklist.columns import JsonText, state_type
from ichnode.worklist.mapping import Base, Code, Digest, Leased, Uid, partial, whole_lease


class Feedback(Base):
    """What a reader said of a verdict."""

    __tablename__ = "feedback"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    series_uid: Mapped[str | None] = mapped_column(Uid)
    said: Mapped[str] = mapped_column(String(32))
    said_by: Mapped[str]
    note: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime]


class Label(Base):
    """What somebody said is true of a study, for training; append only.

    Of one source the newest row of a label counts; between sources see
    `ichnode.domain.labels.truth_of`.
    """

    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    series_uid: Mapped[str | None] = mapped_column(Uid)  # NULL: of the study as a whole
    label: Mapped[str] = mapped_column(String(32))
    presence: Mapped[str] = mapped_column(Code)
    source: Mapped[str] = mapped_column(String(32))
    said_by: Mapped[str] = mapped_column(default="")
    at: Mapped[datetime]


class Shadow(Leased, Base):
    """What a challenger would have said of a set that the champion was asked about.

    Shown to nobody as a result, and sent nowhere. Open until it is settled with a finding, a
    reason or an error.
    """

    __tablename__ = "shadow"

    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analysis.id"))  # what it is compared with
    set_digest: Mapped[str] = mapped_column(Digest)
    model_uid: Mapped[str] = mapped_column(Uid, index=True)
    due_at: Mapped[datetime]
    created_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    finding: Mapped[Finding | None] = mapped_column(state_type(Finding))
    probabilities: Mapped[list[float] | None] = mapped_column(JsonText)  # as LABELS
    seconds: Mapped[float | None]
    reason: Mapped[str | None] = mapped_column(String(32))
    error: Mapped[str] = mapped_column(default="")

    __table_args__ = (
        whole_lease(),
        UniqueConstraint("series_id", "set_digest", "model_uid"),
        CheckConstraint(
            "settled_at IS NOT NULL OR (finding IS NULL AND reason IS NULL)", name="open"
        ),
        CheckConstraint(
            "settled_at IS NULL OR finding IS NOT NULL OR reason IS NOT NULL OR error <> ''",
            name="answered",
        ),
        partial("ix_shadow_due", "settled_at IS NULL", "model_uid", "due_at", "id"),
    )
