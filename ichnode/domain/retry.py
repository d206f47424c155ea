"""Back-off arithmetic: pure, so that it can be read and tested without waiting."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before trying again, and when to stop.

    Parameters
    ----------
    first : timedelta
        The wait after the first failure.
    factor : float
        What each further failure multiplies it by.
    longest : timedelta
        No wait is longer than this.
    attempts : int or None
        After so many attempts the work is given up and shown; None means never (positives).
    """

    first: timedelta = timedelta(seconds=2)
    factor: float = 2.0
    longest: timedelta = timedelta(minutes=5)
    attempts: int | None = 3

    def wait(self, attempts: int, chance: random.Random | None = None) -> timedelta:
        """Return the wait after the `attempts`-th failure, with "equal jitter".

        Half of the wait is fixed, half is random, so that many deliveries that failed together do
        not come back together.

        Examples
        --------
        With the defaults: 1 to 2 s, then 2 to 4 s, then 4 to 8 s, ... at most 150 to 300 s.
        """
        steps = min(max(attempts, 1) - 1, 60)  # keeps the power finite
        grown_s = self.first.total_seconds() * self.factor**steps
        full = timedelta(seconds=min(grown_s, self.longest.total_seconds()))
        return full / 2 + full / 2 * (chance or random).random()

    def exhausted(self, attempts: int) -> bool:
        """Say whether `attempts` attempts are all that there are."""
        return self.attempts is not None and attempts >= self.attempts
