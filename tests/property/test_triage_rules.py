"""The rules of triage hold for whatever a study is made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ichnode.domain.lifecycle import Analysis, Band
from ichnode.domain.triage import ListEntry, SeriesStanding, judge, list_key, ordered_rank

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
entries = st.builds(
    ListEntry,
    band=st.sampled_from(Band),
    ordered_priority=st.sampled_from(["STAT", "HIGH", "", "MEDIUM", "ROUTINE", "LOW", "odd"]),
    arrived_at=st.timedeltas(timedelta(0), timedelta(hours=9)).map(lambda ago: NOW - ago),
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


def test_ordered_priorities_are_ranked_as_dicom_lists_them():
    """STAT before HIGH before MEDIUM (or unstated) before ROUTINE before LOW; case is ignored."""
    ranks = [ordered_rank(p) for p in ("stat ", "HIGH", "MEDIUM", "ROUTINE", "LOW")]
    assert ranks == sorted(set(ranks))
    assert ordered_rank("") == ordered_rank("nonsense") == ordered_rank("MEDIUM")
