"""Labels by people, challengers in the shadow, studies that were collected for training.

Revision: 0002, after 0001. Only adds: a node of version 0.1 that still runs goes on working.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FINDINGS = ("positive", "review", "negative")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("study", sa.Column("collected_at", sa.DateTime(timezone=True), nullable=True))
    _index("study", "ix_study_accession_number", "accession_number", where="accession_number <> ''")
    op.add_column("label", sa.Column("said_by", sa.Text(), nullable=False, server_default=""))
    _shadow()


def _index(table: str, name: str, *columns: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, list(columns), postgresql_where=condition, sqlite_where=condition)


def _shadow() -> None:
    finding = sa.Enum(
        *FINDINGS, name="finding", native_enum=False, create_constraint=True, length=16
    )
    op.create_table(
        "shadow",
        sa.Column("id", COUNT, primary_key=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(32), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="whole_lease"),
        sa.Column("series_id", COUNT, nullable=False),
        sa.Column("analysis_id", COUNT, nullable=False),
        sa.Column("set_digest", sa.String(64), nullable=False),
        sa.Column("model_uid", sa.String(64), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finding", finding, nullable=True),
        sa.Column("probabilities", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("reason", sa.String(32), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"]),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"]),
        sa.UniqueConstraint("series_id", "set_digest", "model_uid"),
        sa.CheckConstraint(
            "settled_at IS NOT NULL OR (finding IS NULL AND reason IS NULL)", name="open"
        ),
        sa.CheckConstraint(
            "settled_at IS NULL OR finding IS NOT NULL OR reason IS NOT NULL OR error <> ''",
            name="answered",
        ),
    )
    _index("shadow", "ix_shadow_due", "model_uid", "due_at", "id", where="settled_at IS NULL")
    op.create_index("ix_shadow_model_uid", "shadow", ["model_uid"])
