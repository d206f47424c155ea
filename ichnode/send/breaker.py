"""A breaker per destination: who does not answer is left alone for a while.

Without it one dead archive, at a time-out each, would hold up what is due at the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class State(Enum):
    """What a breaker lets through."""

    CLOSED = "closed"  # everything
    OPEN = "open"  # nothing
    HALF_OPEN = "half_open"  # one attempt, that decides


@dataclass(frozen=True, slots=True)
class Breaker:
    """The record of one destination; pure: time is handed in, in seconds of any steady clock.

    Attributes
    ----------
    tolerated : int
        So many failures in a row open the breaker.
    first_s, longest_s : float
        How long it stays open: the first time, and at most; doubled whenever the attempt fails.
    failures : int
        In a row.
    pause_s : float
        How long it is open this time; 0 while it is closed.
    open_until_s : float
        When an attempt is due again.
    """

    tolerated: int = 2
    first_s: float = 2.0
    longest_s: float = 60.0
    failures: int = 0
    pause_s: float = 0.0
    open_until_s: float = 0.0

    def state(self, now_s: float) -> State:
        """Return what the breaker lets through now."""
        if not self.pause_s:
            return State.CLOSED
        return State.OPEN if now_s < self.open_until_s else State.HALF_OPEN

    def after_success(self) -> Breaker:
        """Return the breaker after the destination answered."""
        return replace(self, failures=0, pause_s=0.0, open_until_s=0.0)

    def after_failure(self, now_s: float, *, answered_before: bool = False) -> Breaker:
        """Return the breaker after the destination did not answer.

        One that answered something before it fell silent gets the shortest pause: a peer that takes
        one object at a time comes along, and the others have their turn all the same.
        """
        failures = self.failures + 1
        if failures < self.tolerated:
            return replace(self, failures=failures)
        doubled_s = 0.0 if answered_before else self.pause_s * 2
        pause_s = min(doubled_s or self.first_s, self.longest_s)
        return replace(self, failures=failures, pause_s=pause_s, open_until_s=now_s + pause_s)
