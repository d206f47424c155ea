"""Figures about the worklist: for the health check and the metrics, without patient data."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import func, select

from ichnode.domain.lifecycle import Analysis, Band, Delivery, Document
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import is_withdrawal
from ichnode.worklist.rows import Latency, Pulse
from ichnode.worklist.transactions import Database

_COUNTED: tuple[tuple[str, Any, type[Enum]], ...] = (
    ("series", t.Series.analysis, Analysis),
    ("studies", t.Study.band, Band),
    ("documents", t.Document.state, Document),
    ("deliveries", t.Delivery.state, Delivery),
)


class Gauges:
    """Counts, ages and latencies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many series, studies, documents and deliveries are in each state."""
        counted = {}
        with self._database.reading() as transaction:
            for name, column, states in _COUNTED:
                rows = transaction.session.execute(
                    select(column, func.count()).group_by(column)
                ).all()
                found = {row[0]: row[1] for row in rows}
                counted[name] = {str(s.value): int(found.get(s, 0)) for s in states}
        return counted

    def deliveries_by_destination(self) -> dict[tuple[str, str], int]:
        """Return how many deliveries to each destination are in each state."""
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(t.Delivery.destination, t.Delivery.state, func.count()).group_by(
                    t.Delivery.destination, t.Delivery.state
                )
            ).all()
        return {(destination, state.value): int(count) for destination, state, count in rows}

    def commitments(self) -> dict[tuple[str, str], int]:
        """Return how many documents each destination is to answer for, by state."""
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(t.Commitment.destination, t.Commitment.state, func.count()).group_by(
                    t.Commitment.destination, t.Commitment.state
                )
            ).all()
        return {(destination, state.value): int(count) for destination, state, count in rows}

    def not_analysed_by_reason(self) -> dict[str, int]:
        """Return how many series were not analysed, by the code of the reason."""
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(t.Series.reason, func.count())
                .where(t.Series.reason.is_not(None))
                .group_by(t.Series.reason)
            ).all()
        return {str(reason): int(count) for reason, count in rows}

    def heartbeats(self) -> list[Pulse]:
        """Return who said that they are alive, by role and host."""
        with self._database.reading() as transaction:
            rows = transaction.session.scalars(
                select(t.Heartbeat).order_by(t.Heartbeat.role, t.Heartbeat.host, t.Heartbeat.pid)
            )
            return [
                Pulse(
                    row.role,
                    row.host,
                    row.pid,
                    row.at,
                    (transaction.now - row.at).total_seconds(),
                    row.detail,
                )
                for row in rows
            ]

    def queue_age(self) -> dict[str, float]:
        """Return for how many seconds the oldest due work of each stage has waited; 0 for none."""
        with self._database.reading() as transaction:
            session, now = transaction.session, transaction.now
            oldest = {
                "analysis": session.scalar(
                    select(func.min(t.Series.due_at)).where(t.Series.due_at.is_not(None))
                ),
                "document": session.scalar(
                    select(func.min(t.Document.due_at)).where(t.Document.state == Document.DUE)
                ),
                "delivery": session.scalar(
                    select(func.min(t.Delivery.due_at)).where(t.Delivery.state == Delivery.DUE)
                ),
            }
        return {
            stage: max((now - due_at).total_seconds(), 0.0) if due_at else 0.0
            for stage, due_at in oldest.items()
        }

    def oldest_undelivered_positive(self) -> datetime | None:
        """Return since when a positive has waited for its delivery; None when none does."""
        owed = (Delivery.WAITING, Delivery.DUE, Delivery.FAILED)
        with self._database.reading() as transaction:
            return transaction.session.scalar(
                select(func.min(t.Delivery.created_at)).where(
                    t.Delivery.state.in_(owed), t.Delivery.urgent.is_(True)
                )
            )

    def latencies(self, since: datetime | None = None, limit: int = 10_000) -> list[Latency]:
        """Return how long deliveries took, in the order of their acknowledgement.

        Withdrawals are left out: what they wait for is a person.

        Parameters
        ----------
        since : datetime, optional
            Only what was acknowledged after this moment (the `delivered_at` of the last one seen).
        limit : int
            At most so many.
        """
        with self._database.reading() as transaction:
            asked = (
                select(
                    t.Delivery.id,
                    t.Delivery.destination,
                    t.Delivery.kind,
                    t.Delivery.urgent,
                    t.Delivery.delivered_at,
                    t.Analysis.last_slice_at,
                )
                .join(t.Analysis, t.Analysis.id == t.Delivery.analysis_id)
                .where(t.Delivery.delivered_at.is_not(None), ~is_withdrawal())
            )
            if since is not None:
                asked = asked.where(t.Delivery.delivered_at > since)
            session = transaction.session
            ordered = asked.order_by(t.Delivery.delivered_at, t.Delivery.id).limit(limit)
            return [
                Latency(id_, name, kind, urgent, at, (at - last_slice_at).total_seconds())
                for id_, name, kind, urgent, at, last_slice_at in session.execute(ordered)
                if at is not None
            ]
