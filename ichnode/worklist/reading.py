"""The tables of reading tasks: what clients did with them, who wants to know, and what is owed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ichnode.domain import lifecycle
from ichnode.worklist.columns import state_type
from ichnode.worklist.mapping import Base, Code, Leased, Uid, partial, whole_lease

AeTitle = String(16)


class Task(Base):
    """The task to read a study, once a client has done anything with it.

    A study without a row is SCHEDULED: the receiver writes nothing here. ``opened_at`` and
    ``read_at`` say that a person has the study in hand, and is done with it. May hold PHI.
    """

    __tablename__ = "task"

    study_id: Mapped[int] = mapped_column(
        ForeignKey("study.id"), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(SmallInteger, default=0)  # how many there were before it
    state: Mapped[lifecycle.Task] = mapped_column(state_type(lifecycle.Task))
    transaction_uid: Mapped[str | None] = mapped_column(Uid)
    performer: Mapped[str] = mapped_column(AeTitle, default="")  # the AE title that took it up
    priority: Mapped[str | None] = mapped_column(Code)  # set by a client
    attributes: Mapped[str] = mapped_column(default="{}")  # set by clients: DICOM JSON
    opened_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    canceled_at: Mapped[datetime | None]
    changed_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("priority IN ('HIGH', 'MEDIUM', 'LOW')", name="priority"),
        CheckConstraint(
            "state <> 'in_progress' OR (transaction_uid IS NOT NULL AND opened_at IS NOT NULL)",
            name="taken",
        ),
        CheckConstraint("(state = 'completed') = (read_at IS NOT NULL)", name="read"),
        CheckConstraint("(state = 'canceled') = (canceled_at IS NOT NULL)", name="canceled"),
    )


class Subscription(Base):
    """Who is told of a task, or of all of them (PS3.4 CC.2.3).

    A row without a study is of all tasks, or of those up to ``until_study_id`` once it is
    suspended; a row with one comes first. ``wanted`` is false where somebody who subscribed to all
    has unsubscribed from this one.
    """

    __tablename__ = "subscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    ae_title: Mapped[str] = mapped_column(AeTitle)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("study.id"))
    wanted: Mapped[bool]
    locks: Mapped[bool]  # the task is to be kept until this ends
    until_study_id: Mapped[int | None]
    at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("ae_title", "study_id"),
        partial("uq_subscription_all", "study_id IS NULL", "ae_title", unique=True),
        partial("ix_subscription_study", "study_id IS NOT NULL", "study_id"),
    )


class Notice(Leased, Base):
    """Something that a subscriber is still to be told; gone once it was. May hold PHI."""

    __tablename__ = "notice"

    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    ae_title: Mapped[str] = mapped_column(AeTitle)
    number: Mapped[int] = mapped_column(SmallInteger)  # of the study's task that it is about
    event_type: Mapped[int] = mapped_column(SmallInteger)
    content: Mapped[str]  # DICOM JSON
    due_at: Mapped[datetime]
    created_at: Mapped[datetime]

    __table_args__ = (
        whole_lease(),
        partial("ix_notice_held", "lease_token IS NOT NULL", "lease_token"),
        Index("ix_notice_ae_title", "ae_title", "id"),
    )
