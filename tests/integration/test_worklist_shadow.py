"""The queue of the shadow: after everything else, never a result; on both engines."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Band
from ichnode.domain.reasons import Reason
from ichnode.domain.work import Declined, Failed, Interrupted, Shadowed, ShadowWork
from ichnode.worklist.shadows import Challenger, Disagreement, ShadowQueue
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import MODEL, HandClock, analysed, fresh_uid, look, slices

CHALLENGER = "2.25.777"
SIX = (0.5,) * 6


@pytest.fixture
def challenger(hand_clock: HandClock) -> Challenger:
    return Challenger(CHALLENGER, hand_clock.now())


@pytest.fixture
def shadow(worklist: Worklist, challenger: Challenger) -> ShadowQueue:
    return worklist.shadow(lambda: challenger)


def study(worklist: Worklist, clock: HandClock, *findings: Finding) -> str:
    """A study with one finished series per finding."""
    uid = fresh_uid()
    for finding in findings:
        worklist.record(slices(3, study_uid=uid))
        clock.forward(20)
        look(worklist, analysed(finding))
    return uid


def read(queue: ShadowQueue, *findings: Finding) -> list[ShadowWork]:
    """Let the challenger say these things, one after the other."""
    done = []
    for finding in findings:
        work = queue.claim("shadow")
        assert work is not None
        assert queue.settle(work, Shadowed(finding, SIX, 1.5))
        done.append(work)
    return done


def test_what_is_finished_is_read_once(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """The set that the champion read, and the list says what it said before."""
    uid = study(worklist, hand_clock, Finding.NEGATIVE)
    before = worklist.views.study(uid)
    (work,) = read(shadow, Finding.POSITIVE)
    assert (work.study_uid, work.model_uid, len(work.instances)) == (uid, CHALLENGER, 3)
    assert shadow.claim("shadow") is None
    assert worklist.views.study(uid) == before
    assert worklist.documents.claim("report") is None
    figures = shadow.figures(CHALLENGER)
    assert (figures.studies, figures.failed, figures.seconds) == (1, 0, 1.5)
    assert figures.disagreements == (Disagreement(uid, Band.ROUTINE, Band.URGENT),)


def test_live_work_goes_first(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """While anything is due, in somebody's hands or not, the shadow gets nothing."""
    study(worklist, hand_clock, Finding.NEGATIVE)
    worklist.record(slices(3))
    assert not shadow.busy(), "it arrives and is not due yet"
    hand_clock.forward(20)
    assert shadow.busy()
    assert shadow.claim("shadow") is None
    live = worklist.analyses.claim("infer")
    assert live is not None
    assert shadow.claim("shadow") is None, "it is being looked at"
    worklist.analyses.settle(live, analysed(Finding.NEGATIVE))
    assert shadow.claim("shadow") is not None


def test_who_gives_way_loses_no_try(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """However often live work interrupts it."""
    study(worklist, hand_clock, Finding.NEGATIVE)
    for _ in range(9):
        work = shadow.claim("shadow")
        assert work is not None
        assert work.lease.attempts == 1
        assert shadow.settle(work, Interrupted())


def test_a_killed_worker_is_replaced_and_given_up_after_three(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """Its lease runs out; a challenger that kills its worker every time is recorded as failed."""
    uid = study(worklist, hand_clock, Finding.NEGATIVE)
    for attempt in (1, 2, 3):
        work = shadow.claim("killed")
        assert work is not None
        assert work.lease.attempts == attempt
        assert shadow.claim("other") is None, "held"
        hand_clock.forward(61)
    assert shadow.claim("fourth") is None
    assert shadow.figures(CHALLENGER).failed == 1
    story = worklist.views.study(uid)
    assert story is not None
    assert [e.detail["model_uid"] for e in story.events if e.noun == "shadow"] == [CHALLENGER]


def test_a_zombie_writes_nothing(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """The fence stands here, too."""
    study(worklist, hand_clock, Finding.NEGATIVE)
    zombie = shadow.claim("zombie")
    assert zombie is not None
    assert shadow.renew(zombie.lease, timedelta(seconds=60))
    hand_clock.forward(61)
    read(shadow, Finding.NEGATIVE)
    assert not shadow.renew(zombie.lease, timedelta(seconds=60))
    assert not shadow.settle(zombie, Shadowed(Finding.POSITIVE, SIX, 1.0))
    assert shadow.figures(CHALLENGER).disagreements == ()


def test_a_failure_is_tried_again_later(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """Three times in all; a permanent one once."""
    study(worklist, hand_clock, Finding.NEGATIVE)
    for _ in range(3):
        work = shadow.claim("shadow")
        assert work is not None
        shadow.settle(work, Failed("Boom"))
        assert shadow.claim("shadow") is None
        hand_clock.forward(600)
    assert shadow.claim("shadow") is None
    study(worklist, hand_clock, Finding.NEGATIVE)
    work = shadow.claim("shadow")
    assert work is not None
    shadow.settle(work, Failed("ModelUnusable", transient=False))
    assert shadow.figures(CHALLENGER).failed == 2
    assert shadow.figures(CHALLENGER).studies == 0


def test_only_live_studies_count(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue, challenger: Challenger
) -> None:
    """What came before it was challenger it may have learnt from."""
    study(worklist, hand_clock, Finding.NEGATIVE)
    later = Challenger(CHALLENGER, hand_clock.now() + timedelta(seconds=1))
    assert worklist.shadow(lambda: later).claim("shadow") is None
    assert worklist.shadow(lambda: challenger).claim("shadow") is not None


def test_what_is_not_stated_or_purged_is_left_alone(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """Declined series, studies whose images are gone, and those that the challenger itself read."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, Declined(Reason.CONTRAST))
    study(worklist, hand_clock, Finding.NEGATIVE)
    worklist.mark_purged([i.instance_id for i in worklist.purgeable(timedelta(0))])
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE, model_uid=CHALLENGER))
    assert shadow.claim("shadow") is None


def test_without_a_challenger_there_is_no_shadow(worklist: Worklist, hand_clock: HandClock) -> None:
    """And a new one begins anew."""
    study(worklist, hand_clock, Finding.NEGATIVE)
    assert worklist.shadow().claim("shadow") is None


def test_a_late_slice_is_read_again(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """Of several sets the last one counts."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    read(shadow, Finding.POSITIVE)
    worklist.record(slices(1, series_uid=uid, first=4))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    (work,) = read(shadow, Finding.NEGATIVE)
    assert len(work.instances) == 4
    figures = shadow.figures(CHALLENGER)
    assert (figures.studies, figures.disagreements) == (1, ())


def test_a_study_is_judged_by_all_of_its_series(
    worklist: Worklist, hand_clock: HandClock, shadow: ShadowQueue
) -> None:
    """Thin and thick positives are one alert: where either model sees one, both did."""
    study(worklist, hand_clock, Finding.POSITIVE, Finding.NEGATIVE)
    read(shadow, Finding.NEGATIVE, Finding.POSITIVE)
    assert shadow.figures(CHALLENGER).disagreements == ()
    uid = study(worklist, hand_clock, Finding.REVIEW, Finding.REVIEW)
    work = shadow.claim("shadow")
    assert work is not None
    shadow.settle(work, Declined(Reason.UNREADABLE))
    read(shadow, Finding.NEGATIVE)
    figures = shadow.figures(CHALLENGER)
    assert figures.disagreements == (Disagreement(uid, Band.REVIEW, Band.ROUTINE),)
    assert figures.share == 0.5
    assert shadow.figures(MODEL).studies == 0


def test_many_shadows_read_each_series_once(
    open_worklist: OpenWorklist, hand_clock: HandClock, challenger: Challenger
) -> None:
    """Workers of several hosts share the work."""
    seed = open_worklist()
    for _ in range(12):
        study(seed, hand_clock, Finding.NEGATIVE)
    queues = [open_worklist().shadow(lambda: challenger) for _ in range(4)]
    start = threading.Barrier(len(queues))

    def work(queue: ShadowQueue) -> list[str]:
        start.wait()
        return [one.series_uid for one in iter(lambda: queue.claim("race"), None)]

    with ThreadPoolExecutor(len(queues)) as pool:
        claimed = [uid for uids in pool.map(work, queues) for uid in uids]
    claimed += [one.series_uid for one in iter(lambda: queues[0].claim("rest"), None)]
    assert len(claimed) == len(set(claimed)) == 12
