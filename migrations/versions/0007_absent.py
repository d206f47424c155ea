"""Studies that an archive has and that never came, and the comparisons that found them.

Revision: 0007, after 0006. Only adds: a node of the version before that still runs goes on working.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "absent",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("study_time", sa.Text(), nullable=False),
        sa.Column("study_description", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("first_seen_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.Column("fetches", sa.Integer(), nullable=False),
        sa.Column("fetched_at", MOMENT, nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("dismissed_at", MOMENT, nullable=True),
        sa.Column("dismissed_by", sa.Text(), nullable=False),
        sa.UniqueConstraint("study_uid"),
    )
    op.create_table(
        "comparison",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("tried_at", MOMENT, nullable=False),
        sa.Column("compared_at", MOMENT, nullable=True),
        sa.Column("due_again_at", MOMENT, nullable=True),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.Column("heads", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.UniqueConstraint("peer"),
    )
