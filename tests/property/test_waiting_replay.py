"""A replayed list is the list: whoever is read next is who stands first at that moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ichnode.domain.lifecycle import Band
from ichnode.domain.triage import ListEntry, list_key
from ichnode.domain.waiting import Case, first_come, listed, replay

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
CAP = timedelta(minutes=20)

cases = st.lists(
    st.builds(
        Case,
        arrives_min=st.integers(0, 60).map(float),
        reading_min=st.integers(1, 9).map(float),
        positive=st.booleans(),
        band=st.sampled_from(Band),
        ordered_priority=st.sampled_from(["STAT", "", "LOW"]),
    ),
    max_size=14,
)


def case(arrives: float, reading: float = 10.0, **facts: object) -> Case:
    """A routine study."""
    return Case(arrives, reading, **({"positive": False, "band": Band.ROUTINE} | facts))  # type: ignore[arg-type]


@given(cases, st.integers(1, 3), st.integers(0, 5))
def test_the_first_of_the_list_is_read_next(drawn, readers, result_after_min):
    """By the key of the domain at the moment when somebody is free, whatever came before."""
    result_after = timedelta(minutes=result_after_min)
    places = [listed(one, CAP, result_after=result_after) for one in drawn]
    starts = [
        one.arrives_min + wait
        for one, wait in zip(drawn, replay(drawn, places, readers), strict=True)
    ]

    def key(one: Case, now_min: float) -> tuple[int, int, float]:
        known = now_min - one.arrives_min >= result_after_min
        entry = ListEntry(
            one.band if known else Band.NOT_ANALYSED,
            one.ordered_priority,
            EPOCH + timedelta(minutes=one.arrives_min),
        )
        return list_key(entry, EPOCH + timedelta(minutes=now_min), CAP)

    for one, start in zip(drawn, starts, strict=True):
        waiting = [
            other
            for other, later in zip(drawn, starts, strict=True)
            if other.arrives_min <= start < later
        ]
        assert all(key(one, start) <= key(other, start) for other in waiting)


@given(cases, st.integers(1, 3))
def test_nobody_waits_while_somebody_is_free(drawn, readers):
    """No more are read at once than there are people, and no fewer while anybody waits."""
    for places in (map(first_come, drawn), [listed(one, CAP) for one in drawn]):
        waits = replay(drawn, places, readers)
        spans = [
            (one.arrives_min + wait, one.arrives_min + wait + one.reading_min)
            for one, wait in zip(drawn, waits, strict=True)
        ]
        for one, (start, _) in zip(drawn, spans, strict=True):
            busy = sum(begin <= start < end for begin, end in spans)
            assert 1 <= busy <= readers
            if start > one.arrives_min:
                just_before = (one.arrives_min + start) / 2
                assert sum(begin <= just_before < end for begin, end in spans) == readers


@given(cases)
def test_an_order_gives_to_one_what_it_takes_from_another(drawn):
    """With equal reading times the waits add up to the same, whatever the order (conservation)."""
    equal = [
        Case(one.arrives_min, 5.0, one.positive, one.band, one.ordered_priority) for one in drawn
    ]
    by_arrival = replay(equal, map(first_come, equal), 1)
    by_rules = replay(equal, [listed(one, CAP) for one in equal], 1)
    assert sum(by_rules) == pytest.approx(sum(by_arrival))


def test_an_urgent_study_interrupts_only_where_that_is_meant():
    """The interrupted reading goes on where it stopped, and its interruption counts as waiting."""
    drawn = [case(0), case(4, 3, band=Band.URGENT)]
    for preemptive, waits in ((False, [0, 6]), (True, [3, 0])):
        places = [listed(one, timedelta.max, preemptive=preemptive) for one in drawn]
        assert replay(drawn, places, 1) == waits


def test_a_verdict_that_comes_during_the_reading_changes_nothing_for_it():
    """Nor does it interrupt another one that is as urgent."""
    drawn = [case(0, band=Band.URGENT), case(1, band=Band.URGENT), case(2)]
    places = [
        listed(one, timedelta.max, result_after=timedelta(minutes=3), preemptive=True)
        for one in drawn
    ]
    assert replay(drawn, places, 1) == [0, 9, 18]


def test_a_call_is_answered_at_once_on_every_list():
    """Whoever calls interrupts even the reading of a bleed."""
    drawn = [case(0, band=Band.URGENT), case(4, 3, interrupting=True)]
    for places in (
        [first_come(one) for one in drawn],
        [listed(one, CAP, preemptive=True) for one in drawn],
    ):
        assert replay(drawn, places, 1) == [3, 0]


def test_the_cap_lifts_a_missed_bleed_over_whoever_was_ordered_stat():
    """At the moment when it has waited that long, and not before."""
    missed = case(0, ordered_priority="LOW")
    stream = [case(float(minute), 5, ordered_priority="STAT") for minute in range(0, 60, 5)]
    drawn = [missed, *stream]
    waits = replay(drawn, [listed(one, CAP) for one in drawn], 1)
    assert waits[0] == 20
    assert replay(drawn, [listed(one, timedelta.max) for one in drawn], 1)[0] == 60
