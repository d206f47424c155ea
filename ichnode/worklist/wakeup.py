"""A hint that something may be due; polling stays the truth."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from sqlalchemy import Engine, exc

from ichnode.worklist.transactions import CHANNEL

log = structlog.get_logger(__name__)

GLANCE_S = 0.02  # between two looks at SQLite's change counter: a memory read, no lock
SLICE_S = 0.5  # how soon a stop is noticed while listening
RECONNECT_S = 5.0


class Wakeup:
    """Ends a pause early when somebody wrote; one per loop, since it keeps a connection.

    SQLite counts the commits of other connections (``PRAGMA data_version``); PostgreSQL sends a
    NOTIFY from the transactions that make something due. Where neither works the pause just lasts.

    Parameters
    ----------
    engine : Engine
        Whose database; the connection is its own, outside the pool.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None
        self._seen: int | None = None
        self._retry_at = 0.0

    def wait(self, timeout_s: float, stop: threading.Event) -> None:
        """Return when there may be work, when `stop` is set or when the time is over."""
        deadline = time.monotonic() + timeout_s
        try:
            if self._connect():
                if self._engine.dialect.name == "sqlite":
                    self._watch(deadline, stop)
                else:
                    self._listen(deadline, stop)
                return
        except self._errors() as error:
            log.info("wakeup.lost", error=type(error).__name__)
            self.close()
        stop.wait(max(deadline - time.monotonic(), 0))

    def close(self) -> None:
        """Give the connection back; the next wait opens another."""
        connection, self._connection = self._connection, None
        self._retry_at = time.monotonic() + RECONNECT_S
        if connection is not None:
            try:
                connection.close()
            except self._errors():
                log.debug("wakeup.lost")

    def _errors(self) -> tuple[type[Exception], ...]:
        driver: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        return (driver, exc.SQLAlchemyError, OSError)

    def _connect(self) -> bool:
        if self._connection is None and time.monotonic() >= self._retry_at:
            dialect = self._engine.dialect
            arguments, given = dialect.create_connect_args(self._engine.url)
            options: dict[str, Any] = dict(given)
            if dialect.name == "sqlite":
                options |= {"isolation_level": None, "check_same_thread": False}
            else:
                options |= {"autocommit": True, "connect_timeout": 5}
            self._connection = dialect.loaded_dbapi.connect(*arguments, **options)
            if dialect.name != "sqlite":
                self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection is not None

    def _watch(self, deadline: float, stop: threading.Event) -> None:
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            seen, self._seen = self._seen, version
            if seen is not None and seen != version:
                return
            stop.wait(min(GLANCE_S, left))

    def _listen(self, deadline: float, stop: threading.Event) -> None:
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            for _ in self._connection.notifies(timeout=min(SLICE_S, left), stop_after=1):
                return
