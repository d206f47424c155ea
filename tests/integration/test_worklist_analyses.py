"""What follows from the answers about a series, on both engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis, Band, Reception
from ichnode.domain.reasons import Reason
from ichnode.domain.work import (
    Analysed,
    AnalysisWork,
    Declined,
    DocumentRef,
    Failed,
    NotYet,
    Phase,
)
from ichnode.imaging.masks import Heat, pack, pack_heat
from ichnode.worklist.policy import Policy
from ichnode.worklist.rows import ListRow
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import (
    PACS,
    HandClock,
    analysed,
    build,
    fresh_uid,
    look,
    send,
    sent_kinds,
    slices,
)


def the_study(worklist: Worklist) -> ListRow:
    (row,) = worklist.views.reading_list()
    return row


def verbs(worklist: Worklist, series_uid: str) -> list[str]:
    story = worklist.views.series(series_uid)
    assert story is not None
    return [event.verb for event in story.events]


def test_a_volume_and_what_was_drawn_are_kept(worklist: Worklist, hand_clock: HandClock) -> None:
    """The report that is built later, by another process, has them as they were."""
    plain = analysed(Finding.POSITIVE).result
    mask = np.zeros((64, 64), np.bool_)
    mask[20:30, 10:40] = True
    labels = (replace(plain.labels[0], volume_ml=12.3), *plain.labels[1:])
    heat = Heat(np.arange(64, dtype=np.uint8).reshape(8, 8), (-2, 3, 70, 60))
    drawn = replace(
        plain,
        labels=labels,
        key_mask=pack("1.2.3", mask),
        volume_how="measured so",
        key_heat=pack_heat("1.2.3", (64, 64), heat),
    )
    worklist.record(slices(32))
    worklist.association_released("a1")
    look(worklist, Analysed(drawn))
    hand_clock.forward(20)
    assert look(worklist, Analysed(drawn)).earlier == drawn
    works = build(worklist)
    assert works
    assert {work.result for work in works} == {drawn}


def test_an_unchanged_set_reuses_its_document(worklist: Worklist, hand_clock: HandClock) -> None:
    """An early positive and the final look at the same slices are one report."""
    worklist.record(slices(32))
    worklist.association_released("a1")
    early = look(worklist, analysed(Finding.POSITIVE))
    build(worklist)
    send(worklist)
    assert worklist.analyses.claim("infer") is None, "the next look is the final one"
    hand_clock.forward(20)
    final = look(worklist, analysed(Finding.POSITIVE))
    assert (early.generation, early.set_digest) == (final.generation, final.set_digest)
    assert final.phase is Phase.FINAL
    assert final.earlier == analysed(Finding.POSITIVE).result
    assert build(worklist) == []
    assert send(worklist) == []
    assert the_study(worklist).series[0].final
    hand_clock.forward(1000)
    assert worklist.analyses.claim("infer") is None


def test_a_later_set_gets_a_successor(worklist: Worklist, hand_clock: HandClock) -> None:
    """More slices after an early positive: one more report, which names the first."""
    uid = fresh_uid()
    worklist.record(slices(20, series_uid=uid))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE))
    (first, _) = build(worklist)
    worklist.record(slices(12, series_uid=uid, first=21))
    hand_clock.forward(19)
    assert worklist.analyses.claim("infer") is None, "one early positive is enough"
    hand_clock.forward(1)
    look(worklist, analysed(Finding.POSITIVE))
    (second, image) = build(worklist)
    assert first.predecessors == ()
    expected = DocumentRef(first.sop_class_uid, first.sop_uid, "2.25.77", first.study_uid)
    assert (expected,) == second.predecessors
    assert image.predecessors == ()
    assert first.sop_uid != second.sop_uid
    assert len(second.instances) == 32
    assert sent_kinds(send(worklist)) == ["sc", "sc", "sr", "sr", "ups"]


def test_a_later_negative_corrects_the_report_and_not_the_list(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Whoever got the positive gets its successor; the study stays at the front."""
    uid = fresh_uid()
    worklist.record(slices(20, series_uid=uid))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE))
    build(worklist)
    worklist.record(slices(12, series_uid=uid, first=21))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    (successor,) = build(worklist)
    assert (successor.kind, successor.result.finding) == ("sr", Finding.NEGATIVE)
    assert len(successor.predecessors) == 1
    study = the_study(worklist)
    assert study.series[0].analysis is Analysis.NEGATIVE
    assert study.band is Band.URGENT
    assert study.sentence == "Haemorrhage suspected."


def test_one_image_per_association_gets_no_report_per_slice(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """At most one early positive and one final result, however the slices trickle in."""
    uid = fresh_uid()
    for number in range(1, 33):
        worklist.record(slices(1, series_uid=uid, first=number, association=f"a{number}"))
        worklist.association_released(f"a{number}")
        assert worklist.analyses.claim("nobody") is None, "looked at before it was quiet"
        hand_clock.forward(0.5)
    looks = []
    for _ in range(20):
        hand_clock.forward(2)
        if (work := worklist.analyses.claim("infer")) is not None:
            worklist.analyses.settle(work, analysed(Finding.POSITIVE))
            looks.append(work.phase)
    assert looks == [Phase.PLAUSIBLE, Phase.FINAL]
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sc", "sr", "ups"]


def test_slow_single_images_get_one_early_report(worklist: Worklist, hand_clock: HandClock) -> None:
    """Even when each slice comes after the quiet time there is one early and one final report."""
    uid = fresh_uid()
    for number in range(1, 13):
        worklist.record(slices(1, series_uid=uid, first=number, association=f"a{number}"))
        worklist.association_released(f"a{number}")
        hand_clock.forward(3)
        if (work := worklist.analyses.claim("infer")) is not None:
            brain = number >= 6
            worklist.analyses.settle(work, analysed(Finding.POSITIVE) if brain else NotYet())
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sc", "sc", "sr", "sr", "ups"]


def test_slices_during_the_look_keep_a_negative_unsaid(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A negative of a stale set is stored and not stated; the series stays due."""
    uid = fresh_uid()
    worklist.record(slices(20, series_uid=uid))
    hand_clock.forward(20)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert work.phase is Phase.FINAL
    worklist.record(slices(12, series_uid=uid, first=21))
    assert worklist.analyses.settle(work, analysed(Finding.NEGATIVE))
    assert the_study(worklist).series[0].analysis is Analysis.PENDING
    hand_clock.forward(2)
    again = worklist.analyses.claim("infer")
    assert again is not None
    assert (again.generation, len(again.instances), again.earlier) == (2, 32, None)


def test_slices_during_the_look_do_not_hold_back_a_positive(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A positive of a stale set is stated early, of its own set."""
    uid = fresh_uid()
    worklist.record(slices(20, series_uid=uid))
    hand_clock.forward(20)
    work = worklist.analyses.claim("infer")
    assert work is not None
    worklist.record(slices(12, series_uid=uid, first=21))
    assert worklist.analyses.settle(work, analysed(Finding.POSITIVE))
    series = the_study(worklist).series[0]
    assert (series.analysis, series.final) == (Analysis.POSITIVE, False)
    assert {20} == {len(one.instances) for one in build(worklist)}
    assert worklist.analyses.claim("infer") is None
    hand_clock.forward(20)
    assert look(worklist, analysed(Finding.POSITIVE)).phase is Phase.FINAL


def test_thin_slices_are_waited_for_longer(worklist: Worklist, hand_clock: HandClock) -> None:
    """A thin series is complete after a minute of quiet, not after 20 seconds."""
    worklist.record(slices(100, thickness_mm=0.6))
    hand_clock.forward(59)
    assert look(worklist, analysed(Finding.NEGATIVE)).phase is Phase.PLAUSIBLE
    hand_clock.forward(1)
    assert look(worklist, analysed(Finding.NEGATIVE)).phase is Phase.FINAL


def test_review_is_stated_when_final(worklist: Worklist, hand_clock: HandClock) -> None:
    """An indeterminate series is reported and moves up on our list; no alarm goes elsewhere."""
    worklist.record(slices(32))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.REVIEW))
    assert the_study(worklist).band is Band.NOT_ANALYSED
    hand_clock.forward(20)
    look(worklist, analysed(Finding.REVIEW))
    assert the_study(worklist).band is Band.REVIEW
    assert [one.kind for one in build(worklist)] == ["sr"]
    assert sent_kinds(send(worklist)) == ["sr"]


def test_negatives_are_reported_where_that_is_set(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """A negative SR is a setting; it raises no priority."""
    worklist = open_worklist(Policy(destinations=(PACS,), negative_sr=True))
    worklist.record(slices(32))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sr"]


def test_declined_for_good_is_settled_at_once(worklist: Worklist) -> None:
    """A localizer needs no final look."""
    worklist.record(slices(2))
    worklist.association_released("a1")
    look(worklist, Declined(Reason.LOCALIZER, "2 slices"))
    series = the_study(worklist).series[0]
    assert (series.analysis, series.reason, series.detail, series.due_at) == (
        Analysis.NOT_ANALYSED,
        Reason.LOCALIZER,
        "2 slices",
        None,
    )
    assert [series] == worklist.views.not_analysed()


def test_declined_for_now_is_asked_again_when_final(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """What later slices could cure is not stated of an incomplete series."""
    worklist.record(slices(3))
    worklist.association_released("a1")
    look(worklist, Declined(Reason.TOO_FEW_SLICES, "3 slices", may_change=True))
    assert the_study(worklist).series[0].analysis is Analysis.PENDING
    hand_clock.forward(20)
    look(worklist, Declined(Reason.TOO_FEW_SLICES, "3 slices", may_change=True))
    assert the_study(worklist).series[0].analysis is Analysis.NOT_ANALYSED


def test_not_yet_waits_for_the_final_look_and_ends_there(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Asking again about a complete series would go on for ever: it is a visible failure."""
    worklist.record(slices(3))
    worklist.association_released("a1")
    look(worklist, NotYet("a hole"))
    assert worklist.analyses.claim("infer") is None
    hand_clock.forward(20)
    look(worklist, NotYet("a hole"))
    series = the_study(worklist).series[0]
    assert (series.analysis, series.due_at) == (Analysis.FAILED, None)
    assert "a hole" in series.detail


def test_a_failure_is_tried_three_times_and_shown(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Back-off, then quarantine; the study says so and is no negative."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    for attempt in (1, 2, 3):
        assert look(worklist, Failed("Boom: no")).lease.attempts == attempt
        assert worklist.analyses.claim("infer") is None, "not before the back-off is over"
        hand_clock.forward(60)
    assert worklist.analyses.claim("infer") is None
    study = the_study(worklist)
    assert (study.band, study.sentence) == (Band.NOT_ANALYSED, "An analysis failed.")
    assert (study.series[0].analysis, study.series[0].detail) == (Analysis.FAILED, "Boom: no")
    assert verbs(worklist, uid)[-2:] == ["failed", "quarantined"]


def test_a_hopeless_failure_is_not_tried_again(worklist: Worklist, hand_clock: HandClock) -> None:
    """A permanent failure is shown at once."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, Failed("Boom", transient=False))
    assert the_study(worklist).series[0].analysis is Analysis.FAILED


def test_a_series_that_kills_its_workers_is_quarantined(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Attempts count at claim: three dead workers are enough, and the rest goes on."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    for _ in range(3):
        assert worklist.analyses.claim("doomed") is not None
        hand_clock.forward(61)
    healthy = slices(3)
    worklist.record(healthy)
    hand_clock.forward(20)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert work.series_uid == healthy[0].header.series_uid
    assert [one.analysis for one in worklist.views.not_analysed()] == [Analysis.FAILED]


def test_a_new_slice_gives_new_tries(worklist: Worklist, hand_clock: HandClock) -> None:
    """Attempts are per set."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, Failed("Boom"))
    worklist.record(slices(1, series_uid=uid, first=4))
    hand_clock.forward(20)
    assert look(worklist, Failed("Boom")).lease.attempts == 1


def test_a_failed_confirmation_takes_back_no_alert(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """When the final look at an early positive fails the series stays positive."""
    worklist.record(slices(32))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE))
    hand_clock.forward(20)
    look(worklist, Failed("Boom", transient=False))
    study = the_study(worklist)
    assert study.band is Band.URGENT
    assert (study.series[0].analysis, study.series[0].final) == (Analysis.POSITIVE, False)
    assert study.series[0].due_at is None


def test_thin_and_thick_positives_are_one_alert(worklist: Worklist, hand_clock: HandClock) -> None:
    """Two positive series of one study raise its priority once."""
    study = fresh_uid()
    worklist.record(slices(32, study_uid=study, association="a"))
    worklist.association_released("a")
    look(worklist, analysed(Finding.POSITIVE))
    worklist.record(slices(200, study_uid=study, association="b", thickness_mm=0.6))
    worklist.association_released("b")
    look(worklist, analysed(Finding.POSITIVE, series_score=2.0))
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sc", "sc", "sr", "sr", "ups"]
    story = worklist.views.study(study)
    assert story is not None
    assert [one.revision for one in story.verdicts] == [1, 2]
    assert {Band.URGENT} == {one.band for one in story.verdicts}


def test_review_then_positive_is_one_alert(worklist: Worklist, hand_clock: HandClock) -> None:
    """Only the rise to URGENT is announced, under its own revision."""
    study = fresh_uid()
    worklist.record(slices(32, study_uid=study))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.REVIEW))
    worklist.record(slices(32, study_uid=study))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    build(worklist)
    alerts = [one for work in send(worklist) for one in work.items if one.kind == "ups"]
    assert [(one.urgent, one.revision) for one in alerts] == [(True, 2)]


def test_another_model_gets_its_own_report(worklist: Worklist, hand_clock: HandClock) -> None:
    """One report per model: a swapped bundle between early and final look is no duplicate."""
    worklist.record(slices(32))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE, model_uid="2.25.1"))
    build(worklist)
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE, model_uid="2.25.2"))
    later = build(worklist)
    assert {"2.25.2"} == {one.result.model_uid for one in later}
    assert len(later[0].predecessors) == 1


def test_what_a_model_said_of_a_set_stands(worklist: Worklist, hand_clock: HandClock) -> None:
    """The same model and the same slices give one result, whatever a second run says."""
    worklist.record(slices(32))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    assert the_study(worklist).series[0].analysis is Analysis.POSITIVE


def test_the_more_urgent_order_is_looked_at_first(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """STAT before ROUTINE when both are due."""
    routine, stat = fresh_uid(), fresh_uid()
    worklist.record(slices(3, series_uid=routine, requested_priority="ROUTINE"))
    hand_clock.forward(10)
    worklist.record(slices(3, series_uid=stat, requested_priority="STAT"))
    hand_clock.forward(10)
    claimed = [worklist.analyses.claim("infer") for _ in range(2)]
    assert [stat, routine] == [work.series_uid for work in claimed if work]


def test_nothing_starves(worklist: Worklist, hand_clock: HandClock) -> None:
    """A low order that has waited long enough comes before a fresh STAT."""
    low, stat = fresh_uid(), fresh_uid()
    worklist.record(slices(3, series_uid=low, requested_priority="LOW"))
    hand_clock.forward(600)
    worklist.record(slices(3, series_uid=stat, requested_priority="STAT"))
    hand_clock.forward(10)
    claimed = [worklist.analyses.claim("infer") for _ in range(2)]
    assert [low, stat] == [work.series_uid for work in claimed if work]


# ------------------------------------------------------------------ the announced count


def test_the_announced_count_and_a_strict_look_make_a_negative(worklist: Worklist) -> None:
    """As many as announced and nothing missing: stated at once, as final."""
    worklist.record(slices(32, expected_count=32))
    assert look(worklist, analysed(Finding.NEGATIVE)).phase is Phase.PLAUSIBLE
    study = the_study(worklist)
    assert study.band is Band.ROUTINE
    series = study.series[0]
    assert (series.final, series.reception, series.due_at) == (True, Reception.FINAL, None)


def test_a_count_that_is_reached_with_a_hole_waits_for_quiet(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A wrong count cannot clear a series: the final look comes after the quiet time."""
    worklist.record(slices(32, expected_count=32))
    look(worklist, NotYet("1 holes"))
    assert the_study(worklist).series[0].analysis is Analysis.PENDING
    hand_clock.forward(19)
    assert worklist.analyses.claim("infer") is None
    hand_clock.forward(1)
    assert look(worklist, analysed(Finding.NEGATIVE)).phase is Phase.FINAL


# ------------------------------------------------------------------ header variants


def again(worklist: Worklist) -> AnalysisWork:
    """Look at a series and recognise all that is new as header variants."""
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert work.earlier is not None
    assert worklist.analyses.settle(work, Analysed(work.earlier, kept=True))
    return work


def test_header_variants_after_a_report_make_no_second_one(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A scanner and the archive's forward of the same images are one report and one alert."""
    uid = fresh_uid()
    worklist.record(slices(32, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    build(worklist)
    send(worklist)
    worklist.record(slices(32, series_uid=uid, association="pacs", salt="coerced"))
    worklist.association_released("pacs")
    hand_clock.forward(20)
    work = again(worklist)
    assert (len(work.instances), work.earlier_count) == (64, 32)
    series = the_study(worklist).series[0]
    assert (series.analysis, series.final, series.due_at) == (Analysis.POSITIVE, True, None)
    assert build(worklist) == []
    assert send(worklist) == []
    assert len(worklist.views.deliveries()) == 3


def test_header_variants_leave_a_negative_what_it_was(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """The series is checked again and ends with the same statement and nothing to send."""
    uid = fresh_uid()
    worklist.record(slices(32, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    worklist.record(slices(3, series_uid=uid, salt="coerced"))
    hand_clock.forward(20)
    again(worklist)
    study = the_study(worklist)
    assert (study.band, study.series[0].final) == (Band.ROUTINE, True)
    assert worklist.views.deliveries() == []
    worklist.record(slices(3, series_uid=uid, salt="coerced again"))
    hand_clock.forward(20)
    assert again(worklist).earlier_count == 32, "variants of variants rest on the first look"


def test_header_variants_beside_slices_that_are_new_are_another_set(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """What was said of fewer slices is no answer about more of them."""
    uid = fresh_uid()
    worklist.record(slices(20, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    worklist.record(slices(21, series_uid=uid, salt="coerced"))
    hand_clock.forward(20)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert (work.earlier, work.earlier_count) == (None, 0)


def test_other_pixels_under_a_known_uid_end_in_not_analysed(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A person must look; what was alerted stays at the front."""
    uid = fresh_uid()
    worklist.record(slices(32, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    worklist.record(slices(1, series_uid=uid, salt="other pixels"))
    hand_clock.forward(20)
    look(worklist, Declined(Reason.CONFLICTING_PIXELS))
    study = the_study(worklist)
    assert study.band is Band.URGENT
    assert study.series[0].reason is Reason.CONFLICTING_PIXELS
