"""When a series is looked at, and why."""

from __future__ import annotations

from datetime import datetime, timedelta

from ichnode.domain.lifecycle import Reception
from ichnode.domain.work import Phase
from ichnode.worklist import tables as t
from ichnode.worklist.policy import Policy


def set_due(series: t.Series, at: datetime | None, ordered_rank: int, policy: Policy) -> None:
    """Set when a series is due; None means that nothing is owed."""
    series.due_at = at
    head_start = timedelta(seconds=policy.ageing_s * ordered_rank)
    series.urgency_at = at + head_start if at is not None else None


def is_complete(series: t.Series) -> bool:
    """Say whether as many instances are here as the scanner announced."""
    return series.expected_count is not None and series.sop_count >= series.expected_count


def final_at(series: t.Series, now: datetime, policy: Policy) -> datetime:
    """Return when a series counts as complete, whatever is lacking; not before `now`.

    The announced count alone does not do: scanners announce wrongly, and somebody in between may
    count otherwise. It counts together with slices that form a brain without a hole, which is
    what a plausible look establishes (`Settling`).
    """
    return max(now, series.last_arrived_at + policy.final_quiet(thin=series.thin))


def phase_of(series: t.Series, now: datetime, policy: Policy) -> Phase:
    """Return why a series is looked at; what was complete stays so until a slice arrives."""
    settled = series.reception is Reception.FINAL
    return Phase.FINAL if settled or final_at(series, now, policy) <= now else Phase.PLAUSIBLE
