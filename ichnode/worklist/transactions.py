"""Transactions: one moment in time, one session, events in the same commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from ichnode.domain.clock import Clock
from ichnode.worklist import tables as t
from ichnode.worklist.engine import READS, now_of, reported

CHANNEL = "ichnode_work"
"""Where PostgreSQL says that something became due."""


@dataclass(slots=True)
class Transaction:
    """A transaction in progress.

    Attributes
    ----------
    now : datetime
        The one moment that everything in it happens at, by the database's clock.
    """

    session: Session
    now: datetime
    hinting: bool = field(default=False, init=False)

    def event(
        self,
        noun: str,
        verb: str,
        *,
        study_uid: str | None = None,
        series_uid: str | None = None,
        **detail: Any,
    ) -> None:
        """Add a line to the history; `detail` must hold no patient data."""
        self.session.add(
            t.Event(
                at=self.now,
                noun=noun,
                verb=verb,
                study_uid=study_uid,
                series_uid=series_uid,
                detail={key: value for key, value in detail.items() if value is not None},
            )
        )

    def hint(self) -> None:
        """Say at commit that something is due now."""
        self.hinting = True


class Database:
    """Opens the transactions of the worklist.

    Parameters
    ----------
    engine : Engine
        From `ichnode.worklist.engine.connect`.
    clock : Clock, optional
        Tells the time instead of the database (tests move it).
    """

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self.engine, self._clock = engine, clock

    @property
    def is_sqlite(self) -> bool:
        """Whether one writer at a time is all that there is."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open a transaction that commits at the end, or not at all.

        Raises
        ------
        WorklistDown
            When the database does not answer; nothing was written.
        """
        with reported(), Session(self.engine, expire_on_commit=False) as session:
            transaction = self._begin(session)
            yield transaction
            session.flush()
            if transaction.hinting and not self.is_sqlite:
                session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a transaction that sees one state of things and writes nothing.

        Raises
        ------
        WorklistDown
            When the database does not answer.
        """
        options: dict[str, Any] = {READS: True}
        if not self.is_sqlite:
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            reported(),
            self.engine.connect().execution_options(**options) as connection,
            Session(connection) as session,
        ):
            yield self._begin(session)

    def _begin(self, session: Session) -> Transaction:
        connection = session.connection()
        now = self._clock.now() if self._clock is not None else now_of(connection)
        return Transaction(session, now)
