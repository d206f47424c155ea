"""The schema's version: brought up to date on request, checked at every start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

import ichnode
from ichnode.domain.errors import ConfigurationError, SchemaMismatch
from ichnode.worklist.engine import READS, reported

_LOCK = 0x1C4_0DE  # PostgreSQL's advisory lock of upgrades: any number that nobody else takes


def migrations() -> Path:
    """Return the folder of migrations: in the wheel inside the package, else in the checkout.

    Raises
    ------
    ConfigurationError
        When the installation lacks it.
    """
    package = Path(ichnode.__file__).parent
    for folder in (package / "_migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigurationError("This installation lacks its migrations; install ichnode again.")


def _config(**attributes: Any) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes.update(attributes)
    return config


def head() -> str:
    """Return the revision that this version of ichnode needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise ConfigurationError("This installation lacks its migrations; install ichnode again.")
    return revision


def current(engine: Engine) -> str | None:
    """Return the revision of the database, or None when it is empty.

    Raises
    ------
    WorklistDown
        When the database does not answer.
    """
    with reported(), engine.connect().execution_options(**{READS: True}) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database up to date, in one transaction; safe to repeat and to run twice at once.

    Raises
    ------
    SchemaMismatch
        When the database is newer than this version of ichnode.
    WorklistDown
        When the database does not answer.
    """
    _refuse_newer(current(engine))
    with reported(), _alone(engine) as connection:
        command.upgrade(_config(connection=connection), revision)


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Hold a transaction in which nobody else upgrades.

    SQLite cannot alter a table: it is copied and dropped, and what refers to it must not notice.
    Foreign keys are examined when all is done instead.
    """
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection
        return
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection  # no transaction has begun yet
        driver.execute("PRAGMA foreign_keys=OFF").close()
        try:
            with connection.begin():  # BEGIN IMMEDIATE, which shuts out the others
                yield connection
                if connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
                    raise SchemaMismatch("The upgrade would lose rows; nothing was changed.")
        finally:
            driver.execute("PRAGMA foreign_keys=ON").close()


def check(engine: Engine) -> None:
    """Make sure that the database is of this version.

    Raises
    ------
    SchemaMismatch
        When it is not; the message says what to run.
    WorklistDown
        When the database does not answer.
    """
    found, needed = current(engine), head()
    _refuse_newer(found)
    if found is None:
        raise SchemaMismatch("The database is empty; run: ichnode db upgrade")
    if found != needed:
        raise SchemaMismatch(
            f"The database is at revision {found} and this version needs {needed}; "
            "run: ichnode db upgrade"
        )


def _refuse_newer(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaMismatch(
            f"The database is at revision {found}, which this version of ichnode does not know; "
            "install the version that it belongs to."
        )
