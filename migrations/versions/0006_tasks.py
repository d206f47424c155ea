"""Reading tasks: what clients did with them, who subscribed, and what is owed to subscribers.

Revision: 0006, after 0005. Only adds: a node of the version before that still runs goes on working.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATES = ("scheduled", "in_progress", "completed", "canceled")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
AE_TITLE = sa.String(16)


def upgrade() -> None:
    _task()
    _subscription()
    _notice()


def _moment(name: str, *, nullable: bool = True) -> sa.Column[sa.DateTime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _task() -> None:
    state = sa.Enum(*STATES, name="task", native_enum=False, create_constraint=True, length=16)
    op.create_table(
        "task",
        sa.Column("study_id", COUNT, primary_key=True, autoincrement=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("state", state, nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=True),
        sa.Column("performer", AE_TITLE, nullable=False),
        sa.Column("priority", sa.String(16), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        _moment("opened_at"),
        _moment("read_at"),
        _moment("canceled_at"),
        _moment("changed_at", nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"]),
        sa.CheckConstraint("priority IN ('HIGH', 'MEDIUM', 'LOW')", name="priority"),
        sa.CheckConstraint(
            "state <> 'in_progress' OR (transaction_uid IS NOT NULL AND opened_at IS NOT NULL)",
            name="taken",
        ),
        sa.CheckConstraint("(state = 'completed') = (read_at IS NOT NULL)", name="read"),
        sa.CheckConstraint("(state = 'canceled') = (canceled_at IS NOT NULL)", name="canceled"),
    )


def _subscription() -> None:
    op.create_table(
        "subscription",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("ae_title", AE_TITLE, nullable=False),
        sa.Column("study_id", COUNT, nullable=True),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("locks", sa.Boolean(), nullable=False),
        sa.Column("until_study_id", COUNT, nullable=True),
        _moment("at", nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"]),
        sa.UniqueConstraint("ae_title", "study_id"),
    )
    _index("subscription", "uq_subscription_all", "ae_title", where="study_id IS NULL", unique=True)
    _index("subscription", "ix_subscription_study", "study_id", where="study_id IS NOT NULL")


def _notice() -> None:
    op.create_table(
        "notice",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(32), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="whole_lease"),
        sa.Column("study_id", COUNT, nullable=False),
        sa.Column("ae_title", AE_TITLE, nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("event_type", sa.SmallInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        _moment("due_at", nullable=False),
        _moment("created_at", nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"]),
    )
    op.create_index("ix_notice_study_id", "notice", ["study_id"])
    op.create_index("ix_notice_ae_title", "notice", ["ae_title", "id"])
    _index("notice", "ix_notice_held", "lease_token", where="lease_token IS NOT NULL")


def _index(table: str, name: str, *columns: str, where: str, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        list(columns),
        unique=unique,
        postgresql_where=condition,
        sqlite_where=condition,
    )
