"""Has something changed? Figures for before and after, with chance taken into account.

References
----------
Gelman A et al., Bayesian Data Analysis, 3rd ed.: the posterior predictive of a count is
beta-binomial. Lin J, Divergence measures based on the Shannon entropy, IEEE Trans Inf Theory 1991,
and, for the usual limits of the population stability index, Siddiqi N, Credit Risk Scorecards 2006.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

PRIOR = 0.5  # Jeffreys' prior, of hits and of misses
WORTH_A_LOOK, DRIFTED = 0.1, 0.25
"""Limits of the population stability index."""


def tails(hits_before: int, before: int, hits: int, count: int) -> tuple[float, float]:
    """Return how probable at most and at least so many hits are, by what was seen before.

    Both sides count the uncertainty of the rate before, so that few observations before raise no
    alarm.

    Parameters
    ----------
    hits_before, before : int
        Hits and observations before.
    hits, count : int
        Hits and observations now.

    Returns
    -------
    at_most, at_least : float
        Beta-binomial, from Jeffreys' prior and the observations before.

    Raises
    ------
    ValueError
        When there are more hits than observations.
    """
    if not (0 <= hits_before <= before and 0 <= hits <= count):
        raise ValueError("there cannot be more hits than observations")
    a, b = hits_before + PRIOR, before - hits_before + PRIOR
    at_most = math.fsum(math.exp(_log_chance(k, count, a, b)) for k in range(hits + 1))
    here = math.exp(_log_chance(hits, count, a, b))
    return min(at_most, 1.0), min(max(1.0 - at_most + here, 0.0), 1.0)


def _log_chance(k: int, count: int, a: float, b: float) -> float:
    """Return the logarithm of the beta-binomial probability of `k` hits of `count`."""
    choose = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
    return choose + _log_beta(k + a, count - k + b) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def stability_index(before: Mapping[str, int], now: Mapping[str, int]) -> float:
    """Return the population stability index of two counts by the same groups.

    ``sum (p - q) ln(p / q)`` over the groups of either; half an observation is added to each, so
    that a group that is new or gone counts without being infinite.
    """
    groups = set(before) | set(now)
    if not groups:
        return 0.0
    total, total_before = (sum(c.values()) + PRIOR * len(groups) for c in (now, before))
    index = 0.0
    for group in groups:
        p = (now.get(group, 0) + PRIOR) / total
        q = (before.get(group, 0) + PRIOR) / total_before
        index += (p - q) * math.log(p / q)
    return index
