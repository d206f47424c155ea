"""Leases: one holder at a time, and a zombie writes nothing; on both engines."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis
from ichnode.domain.work import Acknowledged, Built, Dispatched
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import HandClock, analysed, build, fresh_uid, look, slices

MINUTE = timedelta(minutes=1)


def test_a_held_series_is_nobody_elses(worklist: Worklist, hand_clock: HandClock) -> None:
    """Until the lease runs out; then it is simply claimed again."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    first = worklist.analyses.claim("one")
    assert first is not None
    hand_clock.forward(59)
    assert worklist.analyses.claim("two") is None
    hand_clock.forward(1)
    second = worklist.analyses.claim("two")
    assert second is not None
    assert (second.series_uid, second.lease.attempts) == (first.series_uid, 2)


def test_a_renewed_lease_lasts(worklist: Worklist, hand_clock: HandClock) -> None:
    """A slow worker that is alive keeps its work."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    work = worklist.analyses.claim("one")
    assert work is not None
    for _ in range(5):
        hand_clock.forward(50)
        assert worklist.analyses.renew(work.lease, MINUTE)
        assert worklist.analyses.claim("two") is None


def test_a_zombie_writes_nothing(worklist: Worklist, hand_clock: HandClock) -> None:
    """Whoever comes back after another took over can neither settle nor renew."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    zombie = worklist.analyses.claim("zombie")
    hand_clock.forward(60)
    heir = worklist.analyses.claim("heir")
    assert zombie is not None
    assert heir is not None
    assert not worklist.analyses.renew(zombie.lease, MINUTE)
    assert not worklist.analyses.settle(zombie, analysed(Finding.POSITIVE))
    assert worklist.documents.claim("report") is None
    assert worklist.analyses.settle(heir, analysed(Finding.NEGATIVE))
    assert not worklist.analyses.settle(heir, analysed(Finding.POSITIVE)), "settled is settled"
    story = worklist.views.series(uid)
    assert story is not None
    assert story.row.analysis is Analysis.NEGATIVE


def test_a_late_worker_without_an_heir_may_settle(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A lease that ran out and that nobody took is still good: the work is not done twice."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    work = worklist.analyses.claim("slow")
    hand_clock.forward(600)
    assert work is not None
    assert worklist.analyses.settle(work, analysed(Finding.NEGATIVE))


def test_zombies_of_reports_and_senders_write_nothing(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """The fence stands in every queue."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    zombie = worklist.documents.claim("zombie")
    assert zombie is not None
    hand_clock.forward(60)
    build(worklist)
    other = Built("f" * 64, "documents/other.dcm", 1, "2.25.9", "1.2.840.10008.1.2.1")
    assert not worklist.documents.settle(zombie, other)
    assert not worklist.documents.renew(zombie.lease, MINUTE)
    sender = worklist.deliveries.claim("zombie")
    assert sender is not None
    hand_clock.forward(60)
    heir = worklist.deliveries.claim("heir")
    assert heir is not None
    answers = Dispatched({item.delivery_id: Acknowledged() for item in sender.items})
    assert not worklist.deliveries.settle(sender, answers)
    assert not worklist.deliveries.renew(sender.lease, MINUTE)
    assert worklist.deliveries.renew(heir.lease, MINUTE)
    assert worklist.deliveries.settle(heir, answers)


def test_many_claimers_get_each_series_once(open_worklist: OpenWorklist) -> None:
    """Eight workers on their own connections, forty series: each is handed out exactly once."""
    policy = Policy(plausible_quiet_s=0.000001)
    seed = open_worklist(policy, real_time=True)
    for _ in range(4):
        seed.record([one for _ in range(10) for one in slices(1)])
    workers = [open_worklist(policy, real_time=True) for _ in range(8)]
    start = threading.Barrier(len(workers))

    def work(worklist: Worklist) -> list[str]:
        start.wait()
        claimed = []
        while (one := worklist.analyses.claim("race")) is not None:
            claimed.append(one.series_uid)
        return claimed

    with ThreadPoolExecutor(len(workers)) as pool:
        claimed = Counter(uid for uids in pool.map(work, workers) for uid in uids)
    assert len(claimed) == 40
    assert {1} == set(claimed.values())


def test_many_senders_get_each_delivery_once(open_worklist: OpenWorklist) -> None:
    """Batches of several senders never overlap."""
    routes = tuple(Route(name=f"pacs{n}", loopback=True) for n in range(3))
    policy = Policy(destinations=routes, batch=3, final_quiet_s=0.000001)
    seed = open_worklist(policy, real_time=True)
    for _ in range(5):
        seed.record(slices(2, expected_count=2))
        look(seed, analysed(Finding.POSITIVE))
    build(seed)
    workers = [open_worklist(policy, real_time=True) for _ in range(4)]
    start = threading.Barrier(len(workers))

    def work(worklist: Worklist) -> list[int]:
        start.wait()
        sent = []
        while (one := worklist.deliveries.claim("race")) is not None:
            answers = {item.delivery_id: Acknowledged() for item in one.items}
            assert worklist.deliveries.settle(one, Dispatched(answers))
            sent += answers
        return sent

    with ThreadPoolExecutor(len(workers)) as pool:
        sent = Counter(id_ for ids in pool.map(work, workers) for id_ in ids)
    # A sender that finds a destination's rows locked looks elsewhere and may leave a few.
    for one in iter(lambda: seed.deliveries.claim("rest"), None):
        sent.update(item.delivery_id for item in one.items)
        seed.deliveries.settle(
            one, Dispatched({item.delivery_id: Acknowledged() for item in one.items})
        )
    assert len(sent) == 5 * 3 * 2
    assert {1} == set(sent.values())


def test_receivers_that_bring_the_same_slices_agree(open_worklist: OpenWorklist) -> None:
    """Four receivers with the same two series, interleaved: each slice is one row."""
    receivers = [open_worklist(real_time=True) for _ in range(4)]
    study = fresh_uid()
    one, other = slices(12, study_uid=study), slices(12, study_uid=study)
    orders = [one + other, other + one, one[::-1] + other, other[::-1] + one[::-1]]
    start = threading.Barrier(len(receivers))

    def bring(number: int) -> None:
        start.wait()
        for at in range(0, 24, 4):
            receivers[number].record(orders[number][at : at + 4])

    with ThreadPoolExecutor(len(receivers)) as pool:
        list(pool.map(bring, range(4)))
    (row,) = receivers[0].views.reading_list()
    assert [series.instances for series in row.series] == [12, 12]


def test_arrivals_and_settling_do_not_lock_each_other_up(open_worklist: OpenWorklist) -> None:
    """A receiver and two workers on one study: all is recorded, nobody waits in a circle."""
    policy = Policy(plausible_quiet_s=0.000001, final_quiet_s=0.000001)
    receiver, *workers = (open_worklist(policy, real_time=True) for _ in range(3))
    study = fresh_uid()
    series = [fresh_uid() for _ in range(3)]
    done = threading.Event()

    def infer(worklist: Worklist) -> None:
        while not done.is_set() or worklist.views.queue_age()["analysis"] > 0:
            if (work := worklist.analyses.claim("infer")) is not None:
                worklist.analyses.settle(work, analysed(Finding.NEGATIVE))

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(infer, worker) for worker in workers]
        try:
            for number in range(1, 16):
                for uid in series:
                    receiver.record(slices(1, series_uid=uid, study_uid=study, first=number))
        finally:
            done.set()
        for future in futures:
            future.result(timeout=60)
    (row,) = receiver.views.reading_list()
    assert [one.instances for one in row.series] == [15, 15, 15]
    assert {Analysis.NEGATIVE} == {one.analysis for one in row.series}
