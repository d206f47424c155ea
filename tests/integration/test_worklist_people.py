"""What people and housekeeping do, on both engines."""

from __future__ import annotations

from datetime import timedelta

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis, Band, Delivery
from ichnode.domain.work import Dispatched, Failed, Undelivered
from ichnode.worklist.policy import Policy
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

DAY = timedelta(days=1)


def positive(worklist: Worklist, clock: HandClock, study_uid: str, **slice_facts: object) -> str:
    """A positive series of a study, final; returns its UID."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid, study_uid=study_uid, **slice_facts))  # type: ignore[arg-type]
    clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    return uid


def band_of(worklist: Worklist, study_uid: str) -> Band:
    story = worklist.views.study(study_uid)
    assert story is not None
    return story.row.band


# ------------------------------------------------------------------ people


def test_a_quarantined_series_can_be_queued_again(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """With fresh tries, at once."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, Failed("Boom", transient=False))
    assert worklist.requeue(uid) == 1
    assert look(worklist, analysed(Finding.NEGATIVE)).lease.attempts == 1
    assert worklist.requeue("1.2.3.4.5.6") == 0


def test_requeueing_takes_the_work_from_its_holder(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A worker that hangs does not block a person."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    hanging = worklist.analyses.claim("hanging")
    assert hanging is not None
    worklist.requeue(uid)
    assert look(worklist, analysed(Finding.NEGATIVE)).series_uid == uid
    assert not worklist.analyses.settle(hanging, analysed(Finding.POSITIVE))


def test_requeueing_a_positive_sends_nothing_twice(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """The same model and slices are the same report."""
    uid = positive(worklist, hand_clock, fresh_uid())
    build(worklist)
    send(worklist)
    assert worklist.requeue(uid) == 1
    look(worklist, analysed(Finding.POSITIVE))
    assert build(worklist) == []
    assert send(worklist) == []


def test_a_person_may_lower_and_nothing_old_raises_again(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """What was seen counts as seen; the requeued, unchanged series and other negatives too."""
    study = fresh_uid()
    uid = positive(worklist, hand_clock, study)
    assert worklist.lower(study, "Dr B", "artefact")
    assert not worklist.lower(study, "Dr B", "again")
    assert not worklist.lower("1.2.3.4.5", "Dr B", "unknown")
    worklist.requeue(uid)
    look(worklist, analysed(Finding.POSITIVE))
    worklist.record(slices(3, study_uid=study))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    story = worklist.views.study(study)
    assert story is not None
    assert (story.row.band, story.row.sentence) == (Band.ROUTINE, "Lowered by a person.")
    assert [
        (one.judged_by, one.reason, one.band)
        for one in story.verdicts
        if one.judged_by != "ichnode"
    ] == [("Dr B", "artefact", Band.ROUTINE)]
    assert [one.revision for one in story.verdicts if one.band is Band.URGENT] == [1]


def test_a_new_finding_raises_a_lowered_study(worklist: Worklist, hand_clock: HandClock) -> None:
    """Lowering is of what was found, not of what will be."""
    study = fresh_uid()
    positive(worklist, hand_clock, study)
    assert sent_kinds(send(worklist)) == ["ups"]
    worklist.lower(study, "Dr B", "artefact")
    positive(worklist, hand_clock, study)
    assert band_of(worklist, study) is Band.URGENT
    build(worklist)
    assert sent_kinds(send(worklist)).count("ups") == 1


# ------------------------------------------------------------------ housekeeping


def test_only_what_is_delivered_may_go(open_worklist: OpenWorklist, hand_clock: HandClock) -> None:
    """Pending, unbuilt, undelivered: each keeps the images of its study."""
    worklist = open_worklist(Policy(destinations=(PACS,), key_image=False))
    study = fresh_uid()
    worklist.record(slices(3, study_uid=study))
    hand_clock.forward(30 * 86400)
    assert worklist.purgeable(DAY) == [], "not analysed yet"
    look(worklist, analysed(Finding.POSITIVE))
    assert worklist.purgeable(DAY) == [], "not built"
    build(worklist)
    assert worklist.purgeable(DAY) == [], "not delivered"
    send(worklist)
    assert worklist.purgeable(31 * DAY) == [], "not old enough"
    assert worklist.purgeable(DAY, label_wait=31 * DAY) == [], "a label may come"
    assert len(worklist.purgeable(DAY, limit=2)) == 2
    assert worklist.spool_bytes() == 3 * 1000 + 100
    items = worklist.purgeable(DAY)
    assert items == worklist.mark_purged([item.instance_id for item in items])
    assert worklist.spool_bytes() == 100
    assert worklist.purgeable(DAY) == []
    assert worklist.views.reading_list() == [], "its images are gone"
    assert worklist.views.study(study) is not None, "its story stays"


def test_what_was_given_up_or_withheld_may_go(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """A negative that no PACS takes does not fill the disk."""
    worklist = open_worklist(Policy(destinations=(PACS,), negative_sr=True))
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    build(worklist)
    work = worklist.deliveries.claim("send")
    assert work is not None
    worklist.deliveries.settle(work, Failed("x"))
    assert worklist.purgeable(timedelta(0)) == []
    hand_clock.forward(300)
    work = worklist.deliveries.claim("send")
    assert work is not None
    gone = {item.delivery_id: Undelivered("no", permanent=True) for item in work.items}
    worklist.deliveries.settle(work, Dispatched(gone))
    assert [row.state for row in worklist.views.deliveries()] == [Delivery.FAILED]
    assert len(worklist.purgeable(timedelta(0))) == 3


def test_a_late_slice_saves_the_images(worklist: Worklist, hand_clock: HandClock) -> None:
    """What became wanted again between the question and the deed is not purged."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    items = worklist.purgeable(timedelta(0))
    worklist.record(slices(1, series_uid=uid, first=4))
    assert worklist.mark_purged([item.instance_id for item in items]) == []
    hand_clock.forward(20)
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert len(work.instances) == 4


def test_a_purged_image_that_comes_again_is_kept_and_not_analysed(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Its bytes count again, and may be purged again; nothing is re-opened."""
    brought = slices(3)
    worklist.record(brought)
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    worklist.mark_purged([item.instance_id for item in worklist.purgeable(timedelta(0))])
    worklist.record(brought[:1])
    assert worklist.spool_bytes() == 1000
    assert len(worklist.purgeable(timedelta(0))) == 1
    assert worklist.analyses.claim("infer") is None
    story = worklist.views.series(brought[0].header.series_uid)
    assert story is not None
    assert story.row.analysis is Analysis.NEGATIVE


def test_heartbeats_tell_who_is_alive(worklist: Worklist, hand_clock: HandClock) -> None:
    """One row per process; those of yesterday are forgotten at the next beat of their role."""
    worklist.beat("infer", "host1", 10, {"device": "cpu"})
    hand_clock.forward(10)
    worklist.beat("infer", "host1", 11)
    worklist.beat("infer", "host1", 11)
    assert [(one.pid, one.age_s) for one in worklist.views.heartbeats()] == [(10, 10.0), (11, 0.0)]
    assert worklist.views.heartbeats()[0].detail == {"device": "cpu"}
    hand_clock.forward(2 * 86400)
    worklist.beat("infer", "host1", 11)
    assert [one.pid for one in worklist.views.heartbeats()] == [11]
