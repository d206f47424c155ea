"""Claims: one statement that takes what is due and marks it as held for a while.

A claim is no state. Whoever crashes leaves a lease that runs out; whoever comes back too late finds
another token and writes nothing. Attempts count at claim, so that a segmentation fault counts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.sql.elements import SQLCoreOperations

from ichnode.domain.work import Lease
from ichnode.worklist import tables as t
from ichnode.worklist.transactions import Database, Transaction

Claimable = t.Series | t.Document | t.Delivery | t.Shadow | t.Notice
Row = TypeVar("Row", t.Series, t.Document, t.Delivery, t.Shadow, t.Notice)


def is_free(table: type[Claimable], transaction: Transaction) -> ColumnElement[bool]:
    """Return the condition that nobody holds the row, or not any more."""
    return or_(table.lease_until.is_(None), table.lease_until <= transaction.now)


def claim(
    transaction: Transaction,
    table: type[Row],
    conditions: Sequence[ColumnElement[bool]],
    order: Sequence[SQLCoreOperations[Any]],
    *,
    owner: str,
    for_: timedelta,
    limit: int = 1,
) -> list[Row]:
    """Take up to `limit` rows under one new token; return them as they are after the claim.

    On PostgreSQL the candidates are locked in a CTE, rows that another claimer has in hand are
    skipped, and a CTE with FOR UPDATE is evaluated once; on SQLite the writer is alone anyway.
    """
    pick = (
        select(table.id)
        .where(*conditions, is_free(table, transaction))
        .order_by(*order)
        .limit(limit)
        .with_for_update(skip_locked=True, of=table, key_share=True)
        .cte("pick")
    )
    taken = (
        update(table)
        .where(table.id.in_(select(pick.c.id)))
        .values(
            lease_token=uuid.uuid4().hex,
            lease_until=transaction.now + for_,
            lease_owner=owner,
            attempts=table.attempts + 1,
        )
        .returning(table)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return list(transaction.session.scalars(taken))


def anything(
    database: Database,
    table: type[Row],
    conditions: Callable[[Transaction], Sequence[ColumnElement[bool]]],
) -> bool:
    """Say whether a claim may find something.

    On SQLite a claim shuts out the receiver for a moment, so that an idle worker looks first. On
    PostgreSQL the claim itself is as cheap as a look.
    """
    if not database.is_sqlite:
        return True
    with database.reading() as transaction:
        free = is_free(table, transaction)
        look = select(table.id).where(*conditions(transaction), free).limit(1)
        return transaction.session.scalar(look) is not None


def lease_of(row: Claimable) -> Lease:
    """Return the lease of a row that was just claimed."""
    if row.lease_token is None or row.lease_until is None:
        raise ValueError("the row is not held")
    return Lease(row.id, row.lease_token, row.attempts, row.lease_until)


def renew(database: Database, table: type[Claimable], lease: Lease, for_: timedelta) -> bool:
    """Prolong a lease, all of its rows; False when it is lost.

    A lease that ran out and that nobody has taken yet is still ours.
    """
    mine = [table.lease_token == lease.token]
    if table not in (t.Delivery, t.Notice):  # of which one lease holds several
        mine.append(table.id == lease.row_id)
    with database.writing() as transaction:
        prolonged = transaction.session.execute(
            update(table)
            .where(*mine)
            .values(lease_until=transaction.now + for_)
            .execution_options(synchronize_session=False)
        )
        return bool(prolonged.rowcount)  # type: ignore[attr-defined]


def all_held(transaction: Transaction, table: type[Row], lease: Lease) -> list[Row]:
    """Lock and return all rows that were claimed under the token of a lease; none when lost."""
    return list(
        transaction.session.scalars(
            select(table)
            .where(table.lease_token == lease.token)
            .order_by(table.id)
            .with_for_update(key_share=True)
        )
    )


def held(transaction: Transaction, table: type[Row], lease: Lease) -> Row | None:
    """Lock and return the row of a lease, or None when it is lost."""
    return transaction.session.scalar(
        select(table)
        .where(table.id == lease.row_id, table.lease_token == lease.token)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
