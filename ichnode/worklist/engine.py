"""The way to the database: SQLite or PostgreSQL behind one `Engine`.

SQLite: WAL, ``synchronous=FULL`` (NORMAL may lose the last commits at a power cut, after we said
that we have them), and writers that begin with ``BEGIN IMMEDIATE``: a deferred transaction that
reads and then writes fails with "database is locked" under contention instead of waiting.
PostgreSQL: psycopg 3, connections tried before use, so that a restarted server costs one try.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url, text

from ichnode.domain.errors import ConfigurationError, WorklistDown

READS = "ichnode_reads"
"""The execution option of a connection that only reads."""

_OF_THE_DATA = ("22", "23", "54")
"""Classes of SQLSTATE: a data exception, a broken constraint, a limit of the server exceeded."""

BUSY_S = 15.0  # how long one writer waits for another on SQLite
_RETRY_S = 0.01
_POSTGRES: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "ichnode",
    # A host that lost its power keeps its locks until the server notices; nobody waits for that.
    "options": "-c lock_timeout=10s -c statement_timeout=60s"
    " -c idle_in_transaction_session_timeout=30s -c tcp_keepalives_idle=10"
    " -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}


def connect(url: str) -> Engine:
    """Return the engine behind an address; nothing is connected yet.

    Parameters
    ----------
    url : str
        ``sqlite:////absolute/path.db`` or ``postgresql+psycopg://user:password@host/name``;
        ``postgresql://`` and ``postgres://`` mean the latter.

    Raises
    ------
    ConfigurationError
        When the address is of neither kind, or the PostgreSQL driver is not installed.
    """
    try:
        address = make_url(url)
    except exc.ArgumentError:
        raise ConfigurationError("node.database is not a database address.") from None
    if address.get_backend_name() == "sqlite":
        return _sqlite(address)
    if address.get_backend_name() in {"postgresql", "postgres"}:
        return _postgres(address)
    raise ConfigurationError("node.database must begin with sqlite:/// or postgresql+psycopg://.")


def _sqlite(address: URL) -> Engine:
    if not address.database or address.database == ":memory:":
        raise ConfigurationError("node.database names no file; every role opens it on its own.")
    engine = create_engine(
        address.set(drivername="sqlite"),
        hide_parameters=True,  # they would carry patients into logs
        pool_size=8,
        max_overflow=8,
        pool_timeout=BUSY_S,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the transactions are ours, not the driver's
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}").close()
        _enter_wal(connection)
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-16000",  # 16 MB
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get(READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, once for the file: of two who do so at once, SQLite lets none wait."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _postgres(address: URL) -> Engine:
    try:
        return create_engine(
            address.set(drivername="postgresql+psycopg"),
            hide_parameters=True,  # they would carry patients into logs
            pool_pre_ping=True,
            pool_size=8,
            max_overflow=8,
            pool_timeout=BUSY_S,
            connect_args=_POSTGRES,
        )
    except ModuleNotFoundError:
        raise ConfigurationError(
            "PostgreSQL needs its driver: pip install 'ichnode[postgres]'."
        ) from None


@contextmanager
def reported() -> Iterator[None]:
    """Turn the errors of a database that does not answer into `WorklistDown`."""
    try:
        yield
    except exc.TimeoutError as error:
        raise WorklistDown(_sentence(error)) from error
    except exc.DBAPIError as error:
        # Values that the database refuses are ours to answer for. Everything else passes: a lost
        # connection, a failover that left us a read-only server, a damaged file, a migration or
        # a grant that went wrong and that a person will mend.
        if isinstance(error, exc.IntegrityError | exc.DataError) or _is_of_the_data(error):
            raise
        raise WorklistDown(_sentence(error)) from error


def _is_of_the_data(error: exc.DBAPIError) -> bool:
    """Say whether PostgreSQL blames the values; a row too long for an index is no DataError."""
    sqlstate = getattr(error.orig, "sqlstate", None)
    return sqlstate is not None and sqlstate.startswith(_OF_THE_DATA)


def _sentence(error: Exception) -> str:
    origin = getattr(error, "orig", None)
    if isinstance(origin, sqlite3.Error):  # its messages never quote values
        return f"The database does not answer: {origin}."
    return f"The database does not answer ({type(origin or error).__name__})."


def now_of(connection: Connection) -> datetime:
    """Return the time by the database's clock.

    SQLite is a library in this process: its clock is this machine's, which has microseconds where
    SQL's CURRENT_TIMESTAMP has seconds.
    """
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment.astimezone(UTC)


def database_now(engine: Engine) -> datetime:
    """Return the time by the database's clock.

    Raises
    ------
    WorklistDown
        When the database does not answer.
    """
    with reported(), engine.connect().execution_options(**{READS: True}) as connection:
        return now_of(connection)
