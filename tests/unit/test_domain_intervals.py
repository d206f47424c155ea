"""Intervals of a proportion against SciPy, against published figures, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from ichnode.domain.intervals import (
    beta_cdf,
    binomial_cdf,
    clopper_pearson,
    clopper_pearson_lower,
    clopper_pearson_upper,
    observations_needed,
    wilson,
)

COUNTS = [(0, 1), (1, 1), (3, 10), (10, 10), (95, 100), (190, 200), (1000, 1000), (49_000, 50_000)]


@pytest.mark.parametrize(("hits", "count"), COUNTS)
def test_exact_bounds_are_quantiles_of_the_beta_distribution(hits, count):
    """SciPy's quantiles agree, at the ends and for tens of thousands of observations."""
    low = beta.ppf(0.05, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(0.95, hits + 1, count - hits) if hits < count else 1.0
    assert clopper_pearson_lower(hits, count) == pytest.approx(low, abs=1e-10)
    assert clopper_pearson_upper(hits, count) == pytest.approx(high, abs=1e-10)


def test_published_wilson_intervals_come_out():
    """95 of 100 is 0.888 to 0.978, 475 of 500 is 0.927 to 0.966; no observation says nothing."""
    assert wilson(95, 100) == pytest.approx((0.888, 0.978), abs=5e-4)
    assert wilson(475, 500) == pytest.approx((0.927, 0.966), abs=5e-4)
    assert wilson(10, 10) == (pytest.approx(0.7225, abs=1e-3), 1.0)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_rule_of_three_is_nearly_right():
    """No miss in n leaves room for about 3 in n."""
    assert 1 - clopper_pearson_lower(300, 300) == pytest.approx(3 / 300, rel=0.01)


def test_binomial_tails_agree_with_scipy():
    """From certain to impossible."""
    for hits, count, p in [(0, 5, 0.1), (4, 500, 0.02), (20, 20, 0.5), (7, 9, 0.0), (3, 9, 1.0)]:
        assert binomial_cdf(hits, count, p) == pytest.approx(binom.cdf(hits, count, p), abs=1e-12)
    assert binomial_cdf(-1, 5, 0.5) == 0.0


def test_the_incomplete_beta_function_has_its_known_values():
    """I_x(1, 1) = x; I_x(a, b) + I_(1-x)(b, a) = 1; far out it stays between 0 and 1."""
    assert beta_cdf(0.3, 1, 1) == pytest.approx(0.3)
    assert beta_cdf(0.2, 3, 7) + beta_cdf(0.8, 7, 3) == pytest.approx(1.0)
    assert 0 <= beta_cdf(1e-9, 4e4, 2) <= beta_cdf(1 - 1e-12, 4e4, 2) <= 1


def test_the_exact_interval_holds_as_often_as_it_says():
    """Summed over all outcomes, never less than 95 %; Wilson dips below for some truths."""
    count = 30
    exact = [clopper_pearson(k, count) for k in range(count + 1)]
    score = [wilson(k, count) for k in range(count + 1)]

    def holds(intervals, p):
        chance = binom.pmf(np.arange(count + 1), count, p)
        return sum(c for c, (a, b) in zip(chance, intervals, strict=True) if a <= p <= b)

    truths = np.linspace(0.01, 0.99, 99)
    assert min(holds(exact, p) for p in truths) >= 0.95
    assert min(holds(score, p) for p in truths) < 0.95


def test_how_many_are_needed_is_the_first_number_that_is_enough():
    """29 without a miss show 90 %; at 95 % observed it takes more than a hundred; never at 90 %."""
    assert observations_needed(0.9, 1.0) == 29
    needed = observations_needed(0.9, 0.95)
    assert needed is not None
    assert (
        clopper_pearson_lower(0.95 * needed, needed)
        >= 0.9
        > clopper_pearson_lower(0.95 * needed - 0.95, needed - 1)
    )
    assert observations_needed(0.9, 0.9) is None
    assert observations_needed(0.9, 0.900_001) is None


def test_what_is_no_proportion_is_refused():
    """More hits than observations, and a confidence of one, are mistakes of the caller."""
    with pytest.raises(ValueError, match="no proportion"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        clopper_pearson_lower(1, 2, 1.0)
    assert math.isclose(clopper_pearson_upper(0, 29), 1 - 0.05 ** (1 / 29), rel_tol=1e-9)
