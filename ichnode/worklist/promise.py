"""The table of what destinations answer for."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ichnode.domain import commitment
from ichnode.worklist.columns import state_type
from ichnode.worklist.mapping import Base, Uid


class Commitment(Base):
    """Whether a destination answers for one delivered document."""

    __tablename__ = "commitment"

    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[commitment.Commitment] = mapped_column(state_type(commitment.Commitment))
    transaction_uid: Mapped[str | None] = mapped_column(Uid, index=True)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)  # the peer said that it has it not
    due_at: Mapped[datetime]
    created_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(default="")

    __table_args__ = (
        UniqueConstraint("delivery_id"),
        CheckConstraint("(state = 'committed') = (settled_at IS NOT NULL)", name="settled"),
        Index("ix_commitment_state", "state", "destination"),
    )
