"""The history of the models: who promoted what, what the watch saw, when a retraining ran."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from ichnode.worklist import tables as t
from ichnode.worklist.transactions import Database

MODEL, RETRAINING = "model", "retraining"


@dataclass(frozen=True, slots=True)
class Noted:
    """One line of it."""

    at: datetime
    verb: str
    detail: dict[str, Any]


class ModelHistory:
    """Reads and writes the events that are about models and not about a study."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, noun: str, verb: str, **detail: Any) -> None:
        """Add a line."""
        with self._database.writing() as transaction:
            transaction.event(noun, verb, **detail)

    def note_once(self, verb: str, model_uid: str, given_at: datetime, **detail: Any) -> bool:
        """Add a line about a model unless it is there; say whether it was not.

        The registry changes first and in one step. Whoever was killed before the line was written
        leaves it to the next one who looks.

        Parameters
        ----------
        given_at : datetime
            When the registry says that it happened: tells a second promotion from a repetition.
        """
        stamp = given_at.isoformat()
        with self._database.writing() as transaction:
            known = transaction.session.scalars(
                select(t.Event).where(t.Event.noun == MODEL, t.Event.verb == verb)
            )
            for event in known:
                if (event.detail.get("model_uid"), event.detail.get("given_at")) == (
                    model_uid,
                    stamp,
                ):
                    return False
            transaction.event(MODEL, verb, model_uid=model_uid, given_at=stamp, **detail)
            return True

    def latest(self, noun: str, *verbs: str, limit: int = 1) -> list[Noted]:
        """Return the newest lines with one of these verbs, the newest first."""
        with self._database.reading() as transaction:
            events = transaction.session.scalars(
                select(t.Event)
                .where(t.Event.noun == noun, t.Event.verb.in_(verbs))
                .order_by(t.Event.id.desc())
                .limit(limit)
            )
            return [Noted(event.at, event.verb, event.detail) for event in events]
