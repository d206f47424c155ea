"""Whether a destination answers for the documents that it was given.

Revision: 0008, after 0007. Only adds: a node of the version before that still runs goes on working.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)
STATES = ("due", "asked", "committed", "refused", "failed")


def upgrade() -> None:
    state = sa.Enum(
        *STATES, name="commitment", native_enum=False, create_constraint=True, length=16
    )
    op.create_table(
        "commitment",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("delivery_id", COUNT, nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("state", state, nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT, nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"]),
        sa.UniqueConstraint("delivery_id"),
        sa.CheckConstraint("(state = 'committed') = (settled_at IS NOT NULL)", name="settled"),
    )
    op.create_index("ix_commitment_transaction_uid", "commitment", ["transaction_uid"])
    op.create_index("ix_commitment_state", "commitment", ["state", "destination"])
