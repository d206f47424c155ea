"""What other systems say: ordered priorities, final reports, messages that were acted on.

Revision: 0005, after 0004. Only adds: a node of the version before that still runs goes on working.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
AT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "message",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", AT, nullable=False),
    )
    op.create_index("ix_message_at", "message", ["at"])
    op.create_table(
        "ordered",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("accession_number", sa.String(64), nullable=False, unique=True),
        sa.Column("patients", sa.Text(), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("rank", sa.SmallInteger(), nullable=False),
        sa.Column("at", AT, nullable=False),
    )
    op.create_index("ix_ordered_at", "ordered", ["at"])
    op.create_table(
        "report",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("accession_number", sa.String(64), nullable=False, unique=True),
        sa.Column("patients", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("corrected", sa.Boolean(), nullable=False),
        sa.Column("first_at", AT, nullable=False),
        sa.Column("at", AT, nullable=False),
    )
    op.create_index("ix_report_at", "report", ["at"])
    op.create_index("ix_study_patient_id", "study", ["patient_id"])
