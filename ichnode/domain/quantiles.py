"""Quantiles with intervals that assume nothing about the distribution.

References
----------
David HA, Nagaraja HN, Order Statistics, 3rd ed., 7.1: the ranks that enclose a quantile are
binomial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ichnode.domain.intervals import binomial_cdf


def quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that at least the share `q` of the values does not exceed.

    Raises
    ------
    ValueError
        When there is no value, or `q` is not between 0 and 1.
    """
    _check(values, q)
    return sorted(values)[max(math.ceil(q * len(values) - 1e-9), 1) - 1]


def quantile_interval(
    values: Sequence[float], q: float, confidence: float = 0.95
) -> tuple[float | None, float | None]:
    """Return two of the values that enclose the true quantile, at least so often.

    None on a side where so few values allow no bound.
    """
    _check(values, q)
    ordered, count, tail = sorted(values), len(values), (1 - confidence) / 2
    low = high = None
    for rank in range(1, count + 1):
        below = binomial_cdf(rank - 1, count, q)  # chance that fewer than `rank` are below it
        if below <= tail:
            low = ordered[rank - 1]
        if high is None and below >= 1 - tail:
            high = ordered[rank - 1]
    return low, high


def _check(values: Sequence[float], q: float) -> None:
    if not values:
        raise ValueError("there is no value")
    if not 0 < q < 1:
        raise ValueError("a quantile is between 0 and 1")
