"""The order of the reading list, as ranges of two indexes: nothing is sorted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement

from ichnode.domain.triage import LAST_RANK
from ichnode.worklist import tables as t


def list_ranges(now: datetime, waiting_cap: timedelta) -> Iterator[list[ColumnElement[bool]]]:
    """Yield the conditions of each range, in the order of `ichnode.domain.triage.list_key`.

    Within a range the list goes by arrival, then by key. Studies whose images are purged are off
    the list.
    """
    capped = now - waiting_cap
    listed = t.Study.purged_at.is_(None)
    yield [listed, t.Study.band_rank == 0]
    yield [listed, t.Study.band_rank == 1]
    yield [listed, t.Study.band_rank == 2, t.Study.arrived_at <= capped]
    for rank in range(LAST_RANK + 1):
        yield [
            listed,
            t.Study.band_rank == 2,
            t.Study.list_rank == rank,
            t.Study.arrived_at > capped,
        ]
