"""Alembic's way in: runs on the connection that `ichnode.worklist.schema` opened.

There is no alembic.ini and no offline mode: `ichnode db upgrade` is the only caller. Its
transaction covers all revisions, so that a database is of the old version or of the new one.
"""

from __future__ import annotations

from alembic import context

from ichnode.worklist.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter a table
    transactional_ddl=True,  # SQLite can: the transaction was begun by us and not by its driver
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
