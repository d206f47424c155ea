"""The learning rate over a run, as a function of how far it is. No state."""

from __future__ import annotations

import math

WARM = 0.25
FIRST = 1 / 25
LAST = 1 / 2000


def one_cycle(progress: float) -> float:
    """Return the learning rate as a fraction of its peak.

    Rises from a 25th by a cosine over the first quarter and falls by one to almost nothing.

    Parameters
    ----------
    progress : float
        0 at the first step, 1 at the end; the loop knows it.

    References
    ----------
    Smith LN, A disciplined approach to neural network hyper-parameters, 2018.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < WARM:
        return _cosine(FIRST, 1.0, progress / WARM)
    return _cosine(1.0, LAST, (progress - WARM) / (1 - WARM))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
