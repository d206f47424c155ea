"""The breaker, without any clock but the one that is handed in."""

from __future__ import annotations

from ichnode.send.breaker import Breaker, State


def test_it_opens_after_so_many_failures_in_a_row():
    """One failure is tolerated; the second in a row opens for the first pause."""
    breaker = Breaker(tolerated=2, first_s=2.0).after_failure(10.0)
    assert breaker.state(10.0) is State.CLOSED
    breaker = breaker.after_failure(11.0)
    assert breaker.state(12.9) is State.OPEN
    assert breaker.state(13.0) is State.HALF_OPEN


def test_a_success_in_between_starts_the_count_again():
    """Failures that are not in a row never open it."""
    breaker = Breaker(tolerated=2)
    for now_s in range(10):
        breaker = breaker.after_failure(float(now_s)).after_success()
    assert breaker.state(10.0) is State.CLOSED


def test_the_pause_doubles_with_each_failed_attempt_up_to_its_limit():
    """Half-open attempts that fail double the pause: 2, 4, 8, then 10 for ever."""
    breaker, now_s, pauses = Breaker(tolerated=1, first_s=2.0, longest_s=10.0), 0.0, []
    for _ in range(5):
        breaker = breaker.after_failure(now_s)
        pauses.append(breaker.pause_s)
        now_s = breaker.open_until_s
        assert breaker.state(now_s) is State.HALF_OPEN
    assert pauses == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_an_attempt_that_succeeds_closes_it_for_good():
    """After a success it takes the full count of failures to open again, with the first pause."""
    breaker = Breaker(tolerated=1, first_s=2.0)
    breaker = breaker.after_failure(0.0).after_failure(2.0).after_success()
    assert breaker.state(2.0) is State.CLOSED
    assert breaker.after_failure(3.0).pause_s == 2.0


def test_who_answered_before_falling_silent_gets_the_first_pause():
    """A peer that makes some progress each time is let in again as soon as the first time."""
    breaker = Breaker(tolerated=1, first_s=2.0).after_failure(0.0).after_failure(2.0)
    assert breaker.pause_s == 4.0
    assert breaker.after_failure(6.0, answered_before=True).pause_s == 2.0
