"""Quantiles and what encloses them."""

from __future__ import annotations

import random

import pytest

from ichnode.domain.quantiles import quantile, quantile_interval


def test_the_middle_and_the_slowest():
    """Of twenty the median is the tenth and the 95th percentile the nineteenth."""
    values = list(range(1, 21))
    assert quantile(values, 0.5) == 10
    assert quantile(values, 0.95) == 19
    assert quantile([7.0], 0.95) == 7.0


def test_few_values_bound_nothing_above():
    """Ten values cannot say how slow the slowest one in twenty is."""
    values = list(range(10))
    low, high = quantile_interval(values, 0.95)
    assert low is not None
    assert high is None
    assert quantile_interval([1.0], 0.5) == (None, None)


def test_known_ranks():
    """Of a hundred values the 40th and the 61st enclose the median (tables of order statistics)."""
    assert quantile_interval(list(range(1, 101)), 0.5) == (40, 61)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """For the median of a skewed distribution, in 95 of 100 cases at least, give or take chance."""
    rng = random.Random(3)
    held = 0
    for _ in range(400):
        low, high = quantile_interval([rng.expovariate(1.0) for _ in range(40)], 0.5)
        assert low is not None
        assert high is not None
        held += low <= 0.693147 <= high
    assert held >= 0.93 * 400


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.0)])
def test_nothing_has_no_quantile(values, q):
    """Nor is there one of 0 or 1."""
    with pytest.raises(ValueError, match=r"no value|between"):
        quantile(values, q)
