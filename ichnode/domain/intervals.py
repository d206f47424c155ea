"""Intervals of a proportion: what so many hits of so many say. Standard library only.

Shared by the node's `validate` and by training, so that both mean the same by "at least 90 %".

References
----------
Wilson EB, Probable inference, the law of succession, and statistical inference, JASA 1927.
Clopper CJ, Pearson ES, The use of confidence or fiducial limits, Biometrika 1934.
Brown LD, Cai TT, DasGupta A, Interval estimation for a binomial proportion, Stat Sci 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

_HALVINGS = 60  # of the interval 0 to 1: closer than a float can tell near 1
_TERMS = 500  # of the continued fraction; it needs about the square root of the count
_TINY = 1e-300
_MOST = 10_000_000  # observations: beyond this the answer is "too many"


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided score interval of a proportion; (0, 1) for no observations.

    About as often right as it says on average; for a bound that must hold, `clopper_pearson`.

    Raises
    ------
    ValueError
        When there are more hits than observations, or the confidence is none.
    """
    _check(hits, count, confidence)
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = hits / count
    middle = p + z * z / (2 * count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low = 0.0 if hits == 0 else max((middle - half) / scale, 0.0)
    high = 1.0 if hits == count else min((middle + half) / scale, 1.0)
    return low, high


def clopper_pearson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided exact interval of a proportion; (0, 1) for no observations.

    It holds the true value at least so often, whatever that is, for independent observations.
    """
    tail = 1 - (1 - confidence) / 2
    return clopper_pearson_lower(hits, count, tail), clopper_pearson_upper(hits, count, tail)


def clopper_pearson_lower(hits: float, count: float, confidence: float = 0.95) -> float:
    """Return the exact one-sided lower bound of a proportion (Clopper-Pearson).

    Parameters
    ----------
    hits, count : float
        Whole numbers as a rule; parts of one make the bound continuous, for planning.
    confidence : float
        One-sided: 0.95 leaves 5 % below.
    """
    _check(hits, count, confidence)
    if hits <= 0:
        return 0.0
    return _root(lambda p: beta_cdf(p, hits, count - hits + 1) - (1 - confidence))


def clopper_pearson_upper(hits: float, count: float, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a proportion (Clopper-Pearson)."""
    _check(hits, count, confidence)
    if hits >= count:
        return 1.0
    return _root(lambda p: beta_cdf(p, hits + 1, count - hits) - confidence)


def binomial_cdf(hits: int, count: int, p: float) -> float:
    """Return the chance of at most so many hits of so many, each with chance `p`."""
    if hits < 0:
        return 0.0
    if hits >= count or p <= 0:
        return 1.0
    return 0.0 if p >= 1 else beta_cdf(1 - p, count - hits, hits + 1)


def observations_needed(target: float, observed: float, confidence: float = 0.95) -> int | None:
    """Return how many observations make the lower bound reach a target.

    Parameters
    ----------
    target : float
        What the one-sided lower bound must reach, such as a sensitivity of 0.9.
    observed : float
        The proportion of hits that is expected to go on.

    Returns
    -------
    int or None
        None when no number is enough, because what is observed is not above the target.
    """
    if observed <= target:
        return None
    low, high = 0, 1
    while clopper_pearson_lower(observed * high, high, confidence) < target:
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if clopper_pearson_lower(observed * middle, middle, confidence) < target:
            low = middle
        else:
            high = middle
    return high


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b).

    By its continued fraction, on the side of the mean on which that converges quickly.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = math.exp(
        a * math.log(x)
        + b * math.log1p(-x)
        - (math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
    )
    return min(front / a * _continued(x, a, b), 1.0)


def _continued(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function after Lentz."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            change = c * d
            value *= change
        if abs(change - 1) < 1e-14:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _check(hits: float, count: float, confidence: float) -> None:
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} hits of {count} observations are no proportion")
    if not 0 < confidence < 1:
        raise ValueError("a confidence lies between 0 and 1")
