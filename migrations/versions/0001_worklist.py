"""The worklist, as version 0.1 keeps it.

Revision: 0001, after nothing.
Written out in full and never changed afterwards: what ``ichnode.worklist.tables`` says may move on.
Constraints that carry no name here are named by the convention of the tables' metadata.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ANALYSES = ("pending", "positive", "review", "negative", "not_analysed", "failed")
BANDS = ("urgent", "review", "routine", "not_analysed")
DELIVERIES = ("waiting", "due", "delivered", "withheld", "failed")
DOCUMENTS = ("due", "built", "failed")
FINDINGS = ("positive", "review", "negative")
PHASES = ("plausible", "final")
RECEPTIONS = ("arriving", "plausible", "final")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _study()
    _series()
    _instance()
    _analysis()
    _verdict()
    _document()
    _delivery()
    _history()
    _learning()
    _running()


def _count(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, COUNT, nullable=null)


def _words(name: str, length: int | None = None, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length) if length else sa.Text(), nullable=null)


def _moment(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def _state(name: str, kind: str, values: tuple[str, ...]) -> sa.Column[Any]:
    states = sa.Enum(*values, name=kind, native_enum=False, create_constraint=True, length=16)
    return sa.Column(name, states, nullable=False)


def _to(column: str, table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{table}.id"])


def _lease() -> tuple[sa.Column[Any] | sa.CheckConstraint, ...]:
    return (
        sa.Column("attempts", sa.Integer(), nullable=False),
        _words("lease_token", 32, null=True),
        _moment("lease_until", null=True),
        _words("lease_owner", null=True),
        sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="whole_lease"),
    )


def _index(table: str, name: str, *columns: str, where: str = "", unique: bool = False) -> None:
    condition = sa.text(where) if where else None
    op.create_index(
        name,
        table,
        list(columns),
        unique=unique,
        postgresql_where=condition,
        sqlite_where=condition,
    )


def _study() -> None:
    op.create_table(
        "study",
        sa.Column("id", COUNT, primary_key=True),
        _words("study_uid", 64),
        _words("patient_id"),
        _words("issuer_of_patient_id"),
        _words("patient_name"),
        _words("patient_birth_date"),
        _words("patient_sex"),
        _words("patient_age"),
        _words("accession_number"),
        _words("study_date"),
        _words("study_time"),
        _words("study_description"),
        _words("ordered_priority"),
        sa.Column("ordered_rank", sa.SmallInteger(), nullable=False),
        _state("band", "band", BANDS),
        sa.Column("band_rank", sa.SmallInteger(), nullable=False),
        _words("sentence"),
        _count("revision"),
        _words("trusted_series_uid", 64, null=True),
        _moment("arrived_at"),
        _moment("last_arrived_at"),
        _moment("purged_at", null=True),
        sa.UniqueConstraint("study_uid"),
        sa.CheckConstraint(
            "band_rank = CASE band WHEN 'urgent' THEN 0 WHEN 'review' THEN 1 ELSE 2 END",
            name="band_rank",
        ),
    )
    kept = "purged_at IS NULL"
    _index("study", "ix_study_listed_by_arrival", "band_rank", "arrived_at", "id", where=kept)
    _index(
        "study",
        "ix_study_listed_by_order",
        *("band_rank", "ordered_rank", "arrived_at", "id"),
        where=kept,
    )
    _index("study", "ix_study_kept", "last_arrived_at", where=kept)


def _series() -> None:
    # Series and analysis name each other. SQLite takes a key to a table that is yet to come and
    # cannot add one later; PostgreSQL the other way round, see _analysis().
    ahead = op.get_bind().dialect.name == "sqlite"
    statement = ("analysis_id", "dismissed_analysis_id")
    op.create_table(
        "series",
        sa.Column("id", COUNT, primary_key=True),
        *_lease(),
        _words("series_uid", 64),
        _count("study_id"),
        _words("modality"),
        _count("series_number", null=True),
        _words("series_description"),
        sa.Column("thin", sa.Boolean(), nullable=False),
        _words("calling_ae"),
        _count("expected_count", null=True),
        _count("instance_count"),
        _count("sop_count"),
        _count("stored_bytes"),
        _moment("first_arrived_at"),
        _moment("last_arrived_at"),
        _state("reception", "reception", RECEPTIONS),
        _state("analysis", "analysis", ANALYSES),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        _count("analysis_id", null=True),
        _count("dismissed_analysis_id", null=True),
        _words("reason", 32, null=True),
        _words("detail"),
        _moment("due_at", null=True),
        _moment("urgency_at", null=True),
        _moment("claimed_at", null=True),
        _count("generation"),
        _count("generation_count"),
        _words("generation_digest", 64, null=True),
        _to("study_id", "study"),
        *(_to(column, "analysis") for column in statement if ahead),
        sa.UniqueConstraint("series_uid"),
        sa.CheckConstraint("(analysis = 'not_analysed') = (reason IS NOT NULL)", name="reason"),
        sa.CheckConstraint("(due_at IS NULL) = (urgency_at IS NULL)", name="urgency"),
        sa.CheckConstraint("analysis <> 'pending' OR due_at IS NOT NULL", name="pending_is_due"),
        sa.CheckConstraint(
            "analysis NOT IN ('positive', 'review', 'negative') OR analysis_id IS NOT NULL",
            name="statement_has_analysis",
        ),
        sa.CheckConstraint("analysis NOT IN ('review', 'negative') OR final", name="clear_late"),
    )
    _index("series", "ix_series_study_id", "study_id")
    _index("series", "ix_series_due", "urgency_at", "id", where="due_at IS NOT NULL")
    _index("series", "ix_series_analysis", "analysis", "last_arrived_at")


def _instance() -> None:
    op.create_table(
        "instance",
        sa.Column("id", COUNT, primary_key=True),
        _count("series_id"),
        _count("ordinal"),
        _words("sop_uid", 64),
        _words("sha256", 64),
        _words("transfer_syntax_uid", 64),
        _words("path"),
        _count("size_bytes"),
        _words("header"),
        _words("association_id"),
        _words("calling_ae"),
        _words("called_ae"),
        _words("peer_address"),
        _moment("received_at"),
        _moment("recorded_at"),
        _moment("purged_at", null=True),
        _to("series_id", "series"),
        sa.UniqueConstraint("sop_uid", "sha256"),
        sa.UniqueConstraint("series_id", "ordinal"),
    )
    _index("instance", "ix_instance_association_id", "association_id")


def _analysis() -> None:
    op.create_table(
        "analysis",
        sa.Column("id", COUNT, primary_key=True),
        _count("series_id"),
        _count("generation"),
        _count("instance_count"),
        _words("set_digest", 64),
        _words("model_uid", 64),
        _words("model_name"),
        _words("model_version"),
        _state("finding", "finding", FINDINGS),
        _state("phase", "phase", PHASES),
        _words("result"),
        _moment("started_at"),
        _moment("settled_at"),
        _moment("last_slice_at"),
        _to("series_id", "series"),
        sa.UniqueConstraint("series_id", "set_digest", "model_uid"),
    )
    if op.get_bind().dialect.name != "sqlite":
        for column in ("analysis_id", "dismissed_analysis_id"):
            op.create_foreign_key(f"fk_series_{column}", "series", "analysis", [column], ["id"])
    op.create_table(
        "finding",
        sa.Column("id", COUNT, primary_key=True),
        _count("analysis_id"),
        _words("label", 32),
        sa.Column("probability", sa.Double(), nullable=False),
        _words("presence", 16),
        _words("key_sop_uid"),
        _count("key_instance_number", null=True),
        _to("analysis_id", "analysis"),
        sa.UniqueConstraint("analysis_id", "label"),
    )


def _verdict() -> None:
    op.create_table(
        "verdict",
        sa.Column("id", COUNT, primary_key=True),
        _count("study_id"),
        _count("revision"),
        _state("band", "band", BANDS),
        _words("trusted_series_uid", 64, null=True),
        _words("sentence"),
        _words("judged_by"),
        _words("reason"),
        _moment("at"),
        _to("study_id", "study"),
        sa.UniqueConstraint("study_id", "revision"),
    )


def _document() -> None:
    op.create_table(
        "document",
        sa.Column("id", COUNT, primary_key=True),
        *_lease(),
        _count("analysis_id"),
        _count("series_id"),
        _count("study_id"),
        _words("kind", 16),
        _words("sop_class_uid", 64),
        _words("sop_uid", 64),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        _state("state", "document", DOCUMENTS),
        _moment("due_at"),
        _moment("urgency_at"),
        _words("error"),
        _moment("created_at"),
        _moment("built_at", null=True),
        _words("sha256", 64, null=True),
        _words("path", null=True),
        _count("size_bytes", null=True),
        _words("document_series_uid", 64, null=True),
        _words("transfer_syntax_uid", 64, null=True),
        _to("analysis_id", "analysis"),
        _to("series_id", "series"),
        _to("study_id", "study"),
        sa.UniqueConstraint("sop_uid"),
        sa.UniqueConstraint("analysis_id", "kind", "sop_class_uid"),
        sa.CheckConstraint("kind IN ('sr', 'sc')", name="kind"),
        sa.CheckConstraint(
            "(state = 'built') = (path IS NOT NULL AND sha256 IS NOT NULL)", name="built"
        ),
    )
    _index("document", "ix_document_series_id", "series_id")
    _index("document", "ix_document_study_id", "study_id")
    _index("document", "ix_document_due", "urgency_at", "id", where="state = 'due'")


def _delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", COUNT, primary_key=True),
        *_lease(),
        _count("study_id"),
        _count("analysis_id"),
        _count("document_id", null=True),
        _words("kind", 16),
        _words("destination", 64),
        _count("revision"),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        _words("model_uid", 64),
        _words("calling_ae"),
        _state("state", "delivery", DELIVERIES),
        _moment("due_at"),
        _count("status", null=True),
        _words("note"),
        _words("error"),
        _moment("created_at"),
        _moment("delivered_at", null=True),
        _to("study_id", "study"),
        _to("analysis_id", "analysis"),
        _to("document_id", "document"),
        sa.CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivered"),
        sa.CheckConstraint("(kind IN ('sr', 'sc')) = (document_id IS NOT NULL)", name="document"),
    )
    _index("delivery", "ix_delivery_study_id", "study_id")
    _index("delivery", "ix_delivery_document_id", "document_id")
    _index("delivery", "ix_delivery_state", "state", "urgent", "created_at")
    _index("delivery", "ix_delivery_delivered_at", "delivered_at")
    _index("delivery", "ix_delivery_due", "destination", "urgent", "id", where="state = 'due'")
    _index("delivery", "ix_delivery_held", "lease_token", where="lease_token IS NOT NULL")
    _index(
        "delivery",
        "uq_delivery_document",
        *("analysis_id", "kind", "destination"),
        where="document_id IS NOT NULL",
        unique=True,
    )
    _index(
        "delivery",
        "uq_delivery_alert",
        *("study_id", "revision", "destination", "kind"),
        where="document_id IS NULL",
        unique=True,
    )


def _history() -> None:
    op.create_table(
        "event",
        sa.Column("id", COUNT, primary_key=True),
        _moment("at"),
        _words("noun", 16),
        _words("verb", 32),
        _words("study_uid", 64, null=True),
        _words("series_uid", 64, null=True),
        _words("detail"),
    )
    _index("event", "ix_event_study_uid", "study_uid")
    _index("event", "ix_event_series_uid", "series_uid")
    _index("event", "ix_event_noun_verb", "noun", "verb", "id")


def _learning() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", COUNT, primary_key=True),
        _count("study_id"),
        _words("series_uid", 64, null=True),
        _words("said", 32),
        _words("said_by"),
        _words("note"),
        _moment("at"),
        _to("study_id", "study"),
    )
    _index("feedback", "ix_feedback_study_id", "study_id")
    op.create_table(
        "label",
        sa.Column("id", COUNT, primary_key=True),
        _count("study_id"),
        _words("series_uid", 64, null=True),
        _words("label", 32),
        _words("presence", 16),
        _words("source", 32),
        _moment("at"),
        _to("study_id", "study"),
    )
    _index("label", "ix_label_study_id", "study_id")


def _running() -> None:
    op.create_table(
        "commission",
        sa.Column("id", COUNT, primary_key=True),
        _words("model_uid", 64),
        _words("accepted_by"),
        _words("scanners"),
        _words("note"),
        _moment("accepted_at"),
        _moment("revoked_at", null=True),
        _words("revoked_by", null=True),
    )
    _index("commission", "ix_commission_model_uid", "model_uid")
    op.create_table(
        "heartbeat",
        sa.Column("id", COUNT, primary_key=True),
        _words("role", 16),
        _words("host", 64),
        _count("pid"),
        _moment("at"),
        _words("detail"),
        sa.UniqueConstraint("role", "host", "pid"),
    )
