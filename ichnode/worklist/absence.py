"""The tables of what should be here and is not."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ichnode.worklist.columns import JsonText
from ichnode.worklist.mapping import Base, Uid


class Absent(Base):
    """A study of an archive that did not come, or not all of it. Holds PHI.

    Whether it is still missing is seen by looking at what is here, so that a row need not be
    touched when images come: what has arrived is shown no more, and goes with the next comparison.
    """

    __tablename__ = "absent"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid)
    peer: Mapped[str]
    patient_name: Mapped[str]
    patient_id: Mapped[str]
    accession_number: Mapped[str]
    study_date: Mapped[str]
    study_time: Mapped[str]
    study_description: Mapped[str]
    series: Mapped[dict[str, int | None]] = mapped_column(JsonText)  # instances by Series UID
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    fetches: Mapped[int] = mapped_column(Integer, default=0)
    fetched_at: Mapped[datetime | None]  # when it was last asked for
    error: Mapped[str] = mapped_column(default="")
    dismissed_at: Mapped[datetime | None]  # a person knows of it
    dismissed_by: Mapped[str] = mapped_column(default="")

    __table_args__ = (UniqueConstraint("study_uid"),)


class Comparison(Base):
    """How the last comparison with an archive went; only one that went well tells of all."""

    __tablename__ = "comparison"

    id: Mapped[int] = mapped_column(primary_key=True)
    peer: Mapped[str]
    tried_at: Mapped[datetime]
    compared_at: Mapped[datetime | None]  # the last that went well from end to end
    due_again_at: Mapped[datetime | None]  # where one is scheduled
    studies: Mapped[int] = mapped_column(Integer, default=0)
    heads: Mapped[int] = mapped_column(Integer, default=0)
    error: Mapped[str] = mapped_column(default="")  # of the last; empty where it went well

    __table_args__ = (UniqueConstraint("peer"),)
