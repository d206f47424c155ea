"""What the tables are made of: names of constraints, keys, leases, partial indexes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ichnode.worklist.columns import BigId, UtcDateTime

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

Uid = String(64)
Code = String(16)
Digest = String(64)


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {datetime: UtcDateTime, str: Text, int: BigId}  # noqa: RUF012 - SQLAlchemy's way


class Leased:
    """What can be claimed: due, and held by nobody whose time has not run out."""

    id: Mapped[int] = mapped_column(primary_key=True)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(Text)

    def drop_lease(self) -> None:
        """Let go of the work."""
        self.lease_token = self.lease_until = self.lease_owner = None


def whole_lease() -> CheckConstraint:
    """Return the constraint that a lease has a token and an end, or neither."""
    return CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="whole_lease")


def partial(name: str, where: str, *columns: str, unique: bool = False) -> Index:
    """Return an index over the rows that the condition `where` holds for, on both engines."""
    condition = text(where)
    return Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
