"""The rules of triage hold for whatever a study is made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ichnode.domain.lifecycle import Analysis, Band, Delivery
from ichnode.domain.telling import PENDING, Seen, Told, is_needed, standing
from ichnode.domain.triage import (
    LAST_RANK,
    ListEntry,
    SeriesStanding,
    Weights,
    judge,
    list_key,
    list_rank,
    ordered_rank,
)

standings = st.lists(
    st.builds(
        SeriesStanding,
        series_uid=st.integers(1, 10_000).map(lambda n: f"1.2.{n}"),
        analysis=st.sampled_from(Analysis),
        final=st.booleans(),
        score=st.none() | st.floats(-100, 150),
    ),
    max_size=8,
    unique_by=lambda s: s.series_uid,
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = ["STAT", "HIGH", "", "MEDIUM", "ROUTINE", "LOW", "odd"]
entries = st.builds(
    ListEntry,
    band=st.sampled_from(Band),
    ordered_priority=st.sampled_from(ORDERS),
    arrived_at=st.timedeltas(timedelta(0), timedelta(hours=9)).map(lambda ago: NOW - ago),
    weight=st.integers(-9, 9),
)
CAP = timedelta(hours=2)


@given(standings, st.randoms())
def test_the_verdict_does_not_depend_on_the_order_of_series(series, random):
    """Shuffled series give the same judgement."""
    shuffled = list(series)
    random.shuffle(shuffled)
    assert judge(shuffled) == judge(series)


@given(standings)
def test_any_positive_series_makes_the_study_urgent(series):
    """URGENT if and only if some series is positive."""
    positive = any(s.analysis is Analysis.POSITIVE for s in series)
    assert (judge(series).band is Band.URGENT) == positive


@given(standings)
def test_routine_is_only_said_when_everything_eligible_is_settled(series):
    """No pending, failed, positive or indeterminate series, and the trusted one final."""
    verdict = judge(series)
    if verdict.band is Band.ROUTINE:
        kinds = {s.analysis for s in series}
        assert kinds <= {Analysis.NEGATIVE, Analysis.NOT_ANALYSED}
        trusted = next(s for s in series if s.series_uid == verdict.trusted_series_uid)
        assert trusted.final
        assert trusted.analysis is Analysis.NEGATIVE
        rivals = [s.score or float("-inf") for s in series if s.analysis is Analysis.NEGATIVE]
        assert (trusted.score or float("-inf")) >= max(rivals) or trusted.score == 0


@given(standings)
def test_an_empty_or_declined_study_is_never_negative(series):
    """Without a negative series there is no ROUTINE: silence never looks like a negative."""
    if not any(s.analysis is Analysis.NEGATIVE for s in series):
        assert judge(series).band is not Band.ROUTINE


@given(entries, entries)
def test_bleeds_come_before_everything_else(one, other):
    """Whatever was ordered and however long it has waited, the band decides first."""
    if one.band.rank < other.band.rank:
        assert list_key(one, NOW, CAP) < list_key(other, NOW, CAP)


@given(entries)
def test_nothing_starves(entry):
    """In the last group a study over the waiting cap precedes every fresh one, even STAT."""
    old = ListEntry(Band.ROUTINE, "LOW", NOW - CAP - timedelta(seconds=1))
    fresh = NOW - entry.arrived_at < CAP
    if entry.band.rank == 2 and fresh:
        assert list_key(old, NOW, CAP) < list_key(entry, NOW, CAP)


@given(entries)
def test_waiting_never_moves_a_study_back(entry):
    """As time passes the key of a study stays or falls: it only ever moves forward."""
    keys = [list_key(entry, NOW + timedelta(hours=hours), CAP) for hours in range(12)]
    assert sorted(keys, reverse=True) == keys


@given(entries, st.integers(-9, 9))
def test_weights_shift_nothing_outside_the_last_group(entry, weight):
    """A bleed, and whoever has waited too long, stands where it stands."""
    weighed = replace(entry, weight=weight)
    settled = entry.band.rank < 2 or NOW - entry.arrived_at >= CAP
    if settled:
        assert list_key(weighed, NOW, CAP) == list_key(entry, NOW, CAP)
    elif weight >= entry.weight:
        assert list_key(weighed, NOW, CAP) <= list_key(entry, NOW, CAP)


@given(st.sampled_from(ORDERS), st.integers(-99, 99))
def test_no_weight_passes_what_was_ordered_stat(order, weight):
    """At most a study is read as if it were ordered STAT, and at worst as if LOW."""
    assert list_rank("STAT") <= list_rank(order, weight) <= LAST_RANK
    assert list_rank(order) == ordered_rank(order)


def test_the_weights_of_a_study_are_added_up():
    """By scanner, station and order; what nobody mentions weighs nothing."""
    weights = Weights({"CT_ED": 1}, {"ROOM 7": 2}, {"HIGH": -1, "": 3})
    assert weights.of("CT_ED ", " ROOM 7", "high") == 2
    assert weights.of("CT1", "", "STAT") == 0
    assert weights.of("CT1", "", "") == 3


moments = st.timedeltas(timedelta(0), timedelta(hours=9)).map(lambda ago: NOW - ago)


@given(moments, moments, moments)
def test_what_is_news_to_a_person_is_told(seen_at, judged_at, images_at):
    """A later verdict is news to who opened, later images to who reported; a report covers more."""
    assert is_needed(Seen.OPENED, seen_at, judged_at, images_at) == (judged_at > seen_at)
    assert is_needed(Seen.REPORTED, seen_at, judged_at, images_at) == (images_at > seen_at)
    judged_at = max(judged_at, images_at)  # a verdict rests on images that are there
    if not is_needed(Seen.OPENED, seen_at, judged_at, images_at):
        assert not is_needed(Seen.REPORTED, seen_at, judged_at, images_at)


histories = st.lists(
    st.tuples(st.booleans(), st.sampled_from(Delivery), st.integers(0, 3)), max_size=7
).map(lambda rows: [Told(revision, *row) for revision, row in enumerate(rows, start=1)])


@given(histories, st.randoms())
def test_an_alert_stands_until_its_withdrawal_is_sure_to_arrive(history, random):
    """The last alert that may be known, unless something delivered or pending takes it back."""
    shuffled = list(history)
    random.shuffle(shuffled)
    believed = standing(shuffled)
    known = [one for one in history if not one.withdrawn and one.may_be_known]
    sure = [
        one.revision
        for one in history
        if one.withdrawn and (one.state is Delivery.DELIVERED or one.state in PENDING)
    ]
    last = known[-1] if known else None
    overtaken = last is not None and any(revision > last.revision for revision in sure)
    assert believed == (None if overtaken else last)


def test_ordered_priorities_are_ranked_as_dicom_lists_them():
    """STAT before HIGH before MEDIUM (or unstated) before ROUTINE before LOW; case is ignored."""
    ranks = [ordered_rank(p) for p in ("stat ", "HIGH", "MEDIUM", "ROUTINE", "LOW")]
    assert ranks == sorted(set(ranks))
    assert ordered_rank("") == ordered_rank("nonsense") == ordered_rank("MEDIUM")
