"""More kinds of documents and deliveries, and deliveries that are needed no longer.

Revision: 0003, after 0002. Only widens what is allowed: a node of the version before that still
runs goes on working until a newer one suppresses a delivery, a state that it cannot read.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IS_DOCUMENT = "kind IN ('sr', 'sc', 'kos', 'gsps')"
IN_STATE = "state IN ('waiting', 'due', 'delivered', 'withheld', 'failed', 'suppressed')"


def upgrade() -> None:
    _check_anew("document", kind=IS_DOCUMENT)
    _check_anew(
        "delivery", document=f"({IS_DOCUMENT}) = (document_id IS NOT NULL)", delivery=IN_STATE
    )


def _check_anew(table: str, **checks: str) -> None:
    """Put new checks in place of the old ones of that name; SQLite copies the table for it."""
    with op.batch_alter_table(table) as changed:
        for name, condition in checks.items():
            changed.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
            changed.create_check_constraint(op.f(f"ck_{table}_{name}"), condition)
