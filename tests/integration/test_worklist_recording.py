"""What arrivals do to series and studies, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis, Band, Reception
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Refusal
from ichnode.domain.work import Declined, Phase
from ichnode.worklist.rows import SeriesRow
from ichnode.worklist.worklist import Worklist
from tests.worklist_kit import HandClock, analysed, fresh_uid, look, slices


def the_series(worklist: Worklist) -> SeriesRow:
    (row,) = worklist.views.reading_list()
    (series,) = row.series
    return series


def settle_negative(worklist: Worklist, clock: HandClock) -> None:
    clock.forward(100)
    look(worklist, analysed(Finding.NEGATIVE))


def test_identical_bytes_again_change_nothing(worklist: Worklist, hand_clock: HandClock) -> None:
    """A scanner that sends a settled series again does not re-open it."""
    brought = slices(3)
    worklist.record(brought)
    settle_negative(worklist, hand_clock)
    before = the_series(worklist)
    worklist.record([replace(one, association_id="a2", path="elsewhere") for one in brought])
    worklist.association_released("a2")
    assert before == the_series(worklist)
    assert worklist.analyses.claim("infer") is None


def test_one_batch_may_hold_the_same_slice_twice(worklist: Worklist) -> None:
    """Duplicates inside a batch are one instance."""
    brought = slices(2)
    worklist.record(brought + brought)
    assert the_series(worklist).instances == 2


def test_other_bytes_under_a_known_uid_are_kept_beside(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Nothing is overwritten: both are in the next set, and the series is open again."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    settle_negative(worklist, hand_clock)
    worklist.record(slices(1, series_uid=uid, salt="recompressed"))
    assert the_series(worklist).analysis is Analysis.PENDING
    hand_clock.forward(100)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert len(work.instances) == 4
    assert len({ref.sha256 for ref in work.instances}) == 4
    assert work.generation == 2


def test_a_header_variant_does_not_complete_the_expected_count(worklist: Worklist) -> None:
    """The announced count is of instances, not of versions of them."""
    uid = fresh_uid()
    worklist.record(slices(2, series_uid=uid, expected_count=3))
    worklist.record(slices(1, series_uid=uid, expected_count=3, salt="variant"))
    assert worklist.analyses.claim("infer") is None


def test_the_expected_count_makes_a_series_due_and_not_final(worklist: Worklist) -> None:
    """It is looked at at once, and strictly: a count says nothing about holes."""
    worklist.record(slices(4, expected_count=4))
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert work.phase is Phase.PLAUSIBLE


def test_a_late_slice_reopens_what_was_settled(worklist: Worklist, hand_clock: HandClock) -> None:
    """A negative of an incomplete series is taken back, and the study says pending again."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    settle_negative(worklist, hand_clock)
    assert worklist.views.reading_list()[0].band is Band.ROUTINE
    worklist.record(slices(1, series_uid=uid, first=4))
    (row,) = worklist.views.reading_list()
    assert (row.band, row.sentence) == (Band.NOT_ANALYSED, "An analysis is pending.")
    assert row.series[0].reception is Reception.ARRIVING
    assert not row.findings, "an old negative must not be shown of an open series"


def test_a_late_slice_reopens_what_was_not_analysed(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Too few slices may be cured by more of them."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(100)
    look(worklist, Declined(Reason.TOO_FEW_SLICES, "3 slices"))
    assert the_series(worklist).reason is Reason.TOO_FEW_SLICES
    worklist.record(slices(1, series_uid=uid, first=4))
    assert (the_series(worklist).analysis, the_series(worklist).reason) == (Analysis.PENDING, None)


def test_a_positive_stays_positive_when_slices_follow(worklist: Worklist) -> None:
    """An alert is not taken back by arrivals."""
    uid = fresh_uid()
    worklist.record(slices(20, series_uid=uid))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE))
    worklist.record(slices(5, series_uid=uid, first=21))
    series = the_series(worklist)
    assert (series.analysis, series.final) == (Analysis.POSITIVE, False)


def test_release_makes_due_what_the_association_brought(worklist: Worklist) -> None:
    """Two slices or more and a release: look now; a lone slice waits for the quiet time."""
    worklist.record(slices(2, association="pair") + slices(1, association="lone"))
    worklist.association_released("lone")
    assert worklist.analyses.claim("infer") is None
    worklist.association_released("pair")
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert len(work.instances) == 2


def test_quiet_is_looked_at_without_a_release(worklist: Worklist, hand_clock: HandClock) -> None:
    """An association that is held open or aborted costs the quiet time and no more."""
    worklist.record(slices(5))
    hand_clock.forward(1.9)
    assert worklist.analyses.claim("infer") is None
    hand_clock.forward(0.1)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert work.phase is Phase.PLAUSIBLE


def test_a_release_after_the_look_asks_for_no_second_look(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """What was looked at as it is would be answered as before."""
    worklist.record(slices(5))
    hand_clock.forward(2)
    look(worklist, analysed(Finding.NEGATIVE))
    worklist.association_released("a1")
    assert worklist.analyses.claim("infer") is None


def test_the_highest_ordered_priority_of_a_study_counts(worklist: Worklist) -> None:
    """STAT in any slice makes the study STAT."""
    study = fresh_uid()
    worklist.record(slices(1, study_uid=study, requested_priority="LOW"))
    worklist.record(slices(1, study_uid=study, requested_priority="stat "))
    worklist.record(slices(1, study_uid=study, requested_priority="ROUTINE"))
    (row,) = worklist.views.reading_list()
    assert row.ordered_priority == "STAT"


def test_a_low_order_that_comes_late_moves_nothing_down(worklist: Worklist) -> None:
    """An unstated order stands above LOW: the study keeps its place; a first LOW counts."""
    unstated, low = fresh_uid(), fresh_uid()
    worklist.record(slices(1, study_uid=unstated))
    worklist.record(slices(1, study_uid=unstated, requested_priority="LOW"))
    worklist.record(slices(1, study_uid=low, requested_priority="LOW"))
    worklist.record(slices(1, study_uid=low))
    orders = {row.study_uid: row.ordered_priority for row in worklist.views.reading_list()}
    assert orders == {unstated: "", low: "LOW"}


def test_hostile_headers_are_kept_and_come_back_as_they_were(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """NUL, lone surrogates, absurd numbers and megabytes of text harm no database."""
    (nasty,) = slices(
        1,
        study_description="a\x00b\ud800" + "x" * 2_000_000,
        series_description="\x00",
        series_number=10**30,
        expected_count=10**30,
        requested_priority="\x00" * 100,
    )
    worklist.record([nasty])
    hand_clock.forward(100)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert work.instances[0].header == nasty.header
    (row,) = worklist.views.reading_list()
    assert row.study_description.startswith("ab?x")
    assert len(row.study_description) < 2000
    assert row.series[0].series_number is None


def test_a_series_that_mixes_studies_is_one_series(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """It reaches infer whole, which declines it, and shows under the study that it came under.

    The other study has no series about which anything could ever be said: it gets no row.
    """
    uid, one, other = fresh_uid(), fresh_uid(), fresh_uid()
    worklist.record(slices(2, series_uid=uid, study_uid=one))
    worklist.record(slices(2, series_uid=uid, study_uid=other, first=3))
    hand_clock.forward(100)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert {one, other} == {ref.header.study_uid for ref in work.instances}
    worklist.analyses.settle(work, Declined(Reason.IDENTITY, "2 studies"))
    (row,) = worklist.views.reading_list()
    assert (row.study_uid, row.series[0].reason) == (one, Reason.IDENTITY)
    story = worklist.views.series(uid)
    assert story is not None
    assert [event.study_uid for event in story.events if event.verb == "mixed"] == [other]


def test_a_study_that_another_s_series_named_comes_in_its_own_right(worklist: Worklist) -> None:
    """As soon as a series of its own arrives it is on the list, beside the mixture."""
    uid, one, other = fresh_uid(), fresh_uid(), fresh_uid()
    mixed = slices(1, series_uid=uid, study_uid=other, first=2)
    worklist.record(slices(1, series_uid=uid, study_uid=one) + mixed)
    assert [one] == [row.study_uid for row in worklist.views.reading_list()]
    worklist.record(slices(1, study_uid=other))
    assert {one, other} == {row.study_uid for row in worklist.views.reading_list()}


def test_a_second_series_reopens_a_routine_study(worklist: Worklist, hand_clock: HandClock) -> None:
    """ROUTINE holds only while nothing of the study is pending."""
    study = fresh_uid()
    worklist.record(slices(3, study_uid=study))
    settle_negative(worklist, hand_clock)
    worklist.record(slices(3, study_uid=study))
    assert worklist.views.reading_list()[0].band is Band.NOT_ANALYSED


def test_what_was_turned_away_is_shown(worklist: Worklist) -> None:
    """A refusal is kept as it was reported."""
    refusal = Refusal(
        at=datetime(2026, 3, 1, tzinfo=UTC),
        calling_ae="CT9",
        peer_address="10.0.0.9",
        status=0xA900,
        sentence="The data set does not match its SOP class.",
        sop_class_uid="1.2.3",
    )
    worklist.refuse(refusal)
    assert [refusal] == worklist.views.refusals()


def test_an_empty_batch_is_nothing(worklist: Worklist) -> None:
    """A receiver may flush without having anything."""
    worklist.record([])
    assert worklist.views.reading_list() == []
