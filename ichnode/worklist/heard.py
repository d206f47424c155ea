"""What the node has heard from other systems, kept until it is of use, or for a while."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from ichnode.worklist.columns import JsonText
from ichnode.worklist.mapping import Base, Code, Digest


class Message(Base):
    """A message that was acted on, so that it is not acted on twice; no content is kept."""

    __tablename__ = "message"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(Digest, unique=True)
    kind: Mapped[str] = mapped_column(Code)
    at: Mapped[datetime] = mapped_column(index=True)


class Ordered(Base):
    """How urgent an order is, also when its images come later. Holds PHI."""

    __tablename__ = "ordered"

    id: Mapped[int] = mapped_column(primary_key=True)
    accession_number: Mapped[str] = mapped_column(String(64), unique=True)
    patients: Mapped[list[list[str]]] = mapped_column(JsonText)  # [ID, issuer]
    priority: Mapped[str] = mapped_column(Code)
    rank: Mapped[int] = mapped_column(SmallInteger)
    at: Mapped[datetime] = mapped_column(index=True)


class Report(Base):
    """The final report that was made of a study. Holds PHI.

    The text is kept only where the site wants labels from it; "" otherwise.
    """

    __tablename__ = "report"

    id: Mapped[int] = mapped_column(primary_key=True)
    accession_number: Mapped[str] = mapped_column(String(64), unique=True)
    patients: Mapped[list[list[str]]] = mapped_column(JsonText)
    text: Mapped[str] = mapped_column(default="")
    corrected: Mapped[bool]
    first_at: Mapped[datetime]  # when the first final report was heard of
    at: Mapped[datetime] = mapped_column(index=True)  # when the one of now was
