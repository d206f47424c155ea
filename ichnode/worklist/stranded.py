"""Deliveries that no destination takes: what they were for was renamed, or left the settings.

Each loop of send asks for what it knows, so that nobody ever claims these. People are told how many
there are, and they alone decide: another destination gets them, or nobody does.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, select

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.lifecycle import DELIVERY, Delivery, DeliveryEvent, advance
from ichnode.domain.telling import PENDING
from ichnode.worklist import tables as t
from ichnode.worklist.columns import plain
from ichnode.worklist.outbox import delivery_event, is_taken
from ichnode.worklist.policy import Policy
from ichnode.worklist.rows import StrandedRow
from ichnode.worklist.transactions import Database, Transaction


@dataclass(slots=True)
class Decided:
    """What became, or would become, of the stranded deliveries of one destination.

    Attributes
    ----------
    done : int
        So many go to the other destination, or are given up.
    positives : int
        So many of these are of positives.
    there_already : int
        The other destination has, or gets, so many of them anyway: they are given up.
    not_taken : int
        So many are left: the other destination does not take their kind.
    held : int
        So many are left: a host that still knows the destination is sending them in this moment.
    """

    done: int = 0
    positives: int = 0
    there_already: int = 0
    not_taken: int = 0
    held: int = 0

    @property
    def found(self) -> int:
        """How many there were."""
        return self.done + self.there_already + self.not_taken + self.held


class Stranded:
    """The part of the worklist that commands of people call about such deliveries."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def redirect(self, destination: str, to: str, by: str, *, dry_run: bool = False) -> Decided:
        """Move what is stranded at one destination to another one, in the state that it is in.

        Whether the other one is open for it is asked when it is claimed, as for all deliveries.

        Parameters
        ----------
        destination, to : str
            From where, and where to.
        by : str
            Who decides.
        dry_run : bool
            Only count.

        Raises
        ------
        ConfigurationError
            When there is no destination `to`, or it is the same.
        """
        kinds = {one.name: one.kinds for one in self._policy.destinations}
        if to not in kinds or to == destination:
            known = ", ".join(sorted(kinds.keys() - {destination})) or "none is configured"
            raise ConfigurationError(f"There is no other destination {to!r}: {known}.")
        decided = Decided()
        with self._database.writing() as transaction:
            for row in self._rows(transaction, destination, decided):
                if row.kind not in kinds[to]:
                    decided.not_taken += 1
                    continue
                there = _is_there(transaction, row, to)
                decided.there_already += there
                decided.done += not there
                decided.positives += row.urgent and not there
                if dry_run:
                    continue
                if there:
                    _give_up(transaction, row, by, f"{to} has it already")
                else:
                    _move(transaction, row, to, by)
        return decided

    def give_up(self, destination: str, by: str, *, dry_run: bool = False) -> Decided:
        """Suppress what is stranded at a destination: nobody gets it; see `redirect`."""
        decided = Decided()
        with self._database.writing() as transaction:
            for row in self._rows(transaction, destination, decided):
                decided.done += 1
                decided.positives += row.urgent
                if not dry_run:
                    _give_up(transaction, row, by, "nobody takes it any more")
        return decided

    def _rows(
        self, transaction: Transaction, destination: str, decided: Decided
    ) -> list[t.Delivery]:
        """Return the rows that nobody holds, locked after their studies, as everybody does."""
        stranded = (
            t.Delivery.destination == destination,
            t.Delivery.state.in_(PENDING),
            ~is_taken(self._policy.destinations),
        )
        session = transaction.session
        owners = select(t.Delivery.study_id).where(*stranded)
        studies = select(t.Study.id).where(t.Study.id.in_(owners)).order_by(t.Study.id)
        session.execute(studies.with_for_update(key_share=True)).all()
        rows = session.scalars(
            select(t.Delivery)
            .where(*stranded)
            .order_by(t.Delivery.id)
            .with_for_update(key_share=True)
        ).all()
        free = [row for row in rows if not _is_held(row, transaction)]
        decided.held = len(rows) - len(free)
        return free


def stranded_rows(transaction: Transaction, policy: Policy) -> list[StrandedRow]:
    """Return the destinations that nobody knows, or that take no more what waits for them."""
    rows = transaction.session.execute(
        select(
            t.Delivery.destination, func.count(), func.count(case((t.Delivery.urgent.is_(True), 1)))
        )
        .where(
            t.Delivery.state.in_([Delivery.WAITING, Delivery.DUE]), ~is_taken(policy.destinations)
        )
        .group_by(t.Delivery.destination)
        .order_by(t.Delivery.destination)
    )
    return [StrandedRow(*row) for row in rows]


def _is_held(row: t.Delivery, transaction: Transaction) -> bool:
    return row.lease_until is not None and row.lease_until > transaction.now


def _is_there(transaction: Transaction, row: t.Delivery, to: str) -> bool:
    """Say whether a destination has the same document, or heard as much or more of the study."""
    same = (
        (
            t.Delivery.study_id == row.study_id,
            t.Delivery.document_id.is_(None),
            t.Delivery.revision >= row.revision,
        )
        if row.document_id is None
        else (t.Delivery.analysis_id == row.analysis_id,)
    )
    asked = select(t.Delivery.id).where(
        t.Delivery.destination == to, t.Delivery.kind == row.kind, *same
    )
    return transaction.session.scalar(asked.limit(1)) is not None


def _move(transaction: Transaction, row: t.Delivery, to: str, by: str) -> None:
    delivery_event(transaction, row, "redirected", by=plain(by, 64), to=to)
    row.destination, row.due_at = to, transaction.now
    row.status, row.error = None, ""
    row.drop_lease()
    if row.document_id is not None:  # an alert that was tried may be known, see `standing`
        row.attempts = 0
    transaction.session.flush()
    transaction.hint()


def _give_up(transaction: Transaction, row: t.Delivery, by: str, because: str) -> None:
    row.state = advance(DELIVERY, row.state, DeliveryEvent.SUPPRESSED)
    row.drop_lease()
    delivery_event(transaction, row, "suppressed", by=plain(by, 64), because=because)
