"""What a person has seen, and the place on the list that a site's weights give.

Revision: 0004, after 0003. Only adds, and changes one index: a node of the version before that
still runs goes on working.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOOKS = ("opened", "reported")
LISTED = ("ix_study_listed_by_order", "study", ["band_rank", "list_rank", "arrived_at", "id"])


def upgrade() -> None:
    look = sa.Enum(*LOOKS, name="seen", native_enum=False, length=16)
    with op.batch_alter_table("study") as study:
        study.add_column(
            sa.Column("list_rank", sa.SmallInteger(), nullable=False, server_default=sa.text("2"))
        )
        study.add_column(sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))
        study.add_column(sa.Column("seen_how", look, nullable=True))
        study.create_check_constraint(op.f("ck_study_seen"), "seen_how IN ('opened', 'reported')")
        study.create_check_constraint(
            op.f("ck_study_whole_look"), "(seen_at IS NULL) = (seen_how IS NULL)"
        )
    op.execute("UPDATE study SET list_rank = ordered_rank")
    op.drop_index("ix_study_listed_by_order", "study")
    listed = sa.text("purged_at IS NULL")
    op.create_index(*LISTED, postgresql_where=listed, sqlite_where=listed)
