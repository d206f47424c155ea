"""Is it another rate, another mix? And how often would chance alone say so?"""

from __future__ import annotations

import random

import pytest

from ichnode.domain.drift import DRIFTED, WORTH_A_LOOK, stability_index, tails


def test_the_tails_of_a_count_meet_in_it():
    """At most and at least so many share exactly the chance of just so many."""
    for hits in range(11):
        at_most, at_least = tails(3, 20, hits, 10)
        below = tails(3, 20, hits - 1, 10)[0] if hits else 0.0
        assert at_most + at_least == pytest.approx(1 + (at_most - below))


def test_the_chances_of_all_counts_are_one():
    """And with nothing seen before every count is possible."""
    assert tails(3, 20, 10, 10)[0] == pytest.approx(1.0)
    assert tails(0, 0, 0, 10)[1] == pytest.approx(1.0)
    assert tails(0, 0, 10, 10)[1] > 0.1


def test_agrees_with_scipy():
    """The beta-binomial of the textbooks."""
    from scipy.stats import betabinom

    at_most, at_least = tails(12, 200, 15, 100)
    known = betabinom(100, 12.5, 188.5)
    assert at_most == pytest.approx(known.cdf(15))
    assert at_least == pytest.approx(known.sf(14))


def test_twice_the_rate_is_seen_and_the_same_rate_is_not():
    """With two hundred studies on either side."""
    assert tails(20, 200, 50, 200)[1] < 0.0005
    assert min(tails(20, 200, 20, 200)) > 0.3
    assert tails(20, 200, 2, 200)[0] < 0.0005


def test_chance_alone_rarely_says_so():
    """Of a thousand pairs from one rate hardly any is beyond one in two thousand on a side."""
    rng = random.Random(1)

    def drawn(count: int) -> int:
        return sum(rng.random() < 0.12 for _ in range(count))

    alarms = sum(min(tails(drawn(150), 150, drawn(100), 100)) < 0.0005 for _ in range(1000))
    assert alarms <= 5


def test_more_hits_than_observations_are_refused():
    """Somebody counted wrongly."""
    with pytest.raises(ValueError, match="more hits"):
        tails(0, 0, 2, 1)


def test_the_same_mix_is_stable_and_another_is_not():
    """By the limits that are usual."""
    before = {"A": 300, "B": 100}
    assert stability_index(before, {"A": 150, "B": 50}) < 0.001
    assert WORTH_A_LOOK < stability_index(before, {"A": 120, "B": 80}) < DRIFTED
    assert stability_index(before, {"A": 40, "B": 160}) > DRIFTED
    assert stability_index(before, {"C": 200}) > DRIFTED
    assert stability_index({}, {}) == 0
