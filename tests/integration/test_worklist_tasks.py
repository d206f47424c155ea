"""Reading tasks on both engines: the order, one winner, the rules of each state, who is told."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Band, Task
from ichnode.domain.tasks import Change, Search, TaskReply, task_key, task_uid
from ichnode.domain.triage import reading_priority
from ichnode.domain.work import Acknowledged, Dispatched, Undelivered
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import HandClock, analysed, look, send, sent_kinds, slices

T1, T2 = "1.2.3.1", "1.2.3.2"
EVERYTHING = Search()


def arrive(worklist: Worklist, finding: Finding | None = None, **header: object) -> str:
    """Record one study, perhaps with a finding; return its task's UID."""
    # Without a finding it is not due yet, so that the next look is not at this one.
    brought = slices(1, expected_count=None if finding is None else 1, **header)
    worklist.record(brought)
    if finding is not None:
        look(worklist, analysed(finding))
    study_uid = brought[0].header.study_uid
    (key,) = worklist.tasks.keys(Search(study_uids=frozenset({study_uid})), 5)
    return task_uid(study_uid, key)


def told(worklist: Worklist, ae_title: str = "WATCHER") -> list[tuple[int, dict[str, str]]]:
    """Take, and acknowledge, what a subscriber is to be told: event types with plain values."""
    queue, found = worklist.tasks.notices(ae_title), []
    while (work := queue.claim("test")) is not None:
        queue.settle(work, Dispatched({i.notice_id: Acknowledged(0) for i in work.items}))
        for item in work.items:
            content = json.loads(item.content)
            found.append((item.event_type, {tag: one["Value"][0] for tag, one in content.items()}))
    return found


def merge(attributes: str = "{}", priority: str | None = None, **more: object) -> object:
    return lambda before, state: Change(attributes, priority, **more)


@pytest.mark.parametrize(("key", "study_uid"), [(1, "1.2"), (2**40 + 5, "1.2.840." + "9" * 50)])
def test_a_task_is_found_by_its_uid_alone(key: int, study_uid: str) -> None:
    """The key is in it, and the rest says that it is this study's."""
    uid = task_uid(study_uid, key)
    assert uid == task_uid(study_uid, key)
    assert task_key(uid) == key
    assert uid != task_uid(study_uid + "1", key)
    assert len(uid) <= 44
    assert [task_key(odd) for odd in ("", "1.2.3", "2.25.0", "2.25.x", "2.25." + "1" * 60)] == [
        None
    ] * 5


def test_priorities_keep_the_bands_apart_and_lower_no_order() -> None:
    """What a client that sorts by priority sees is the list, but for the order's own urgency."""
    assert reading_priority(Band.URGENT, "LOW") == "HIGH"
    assert [reading_priority(Band.REVIEW, order) for order in ("", "LOW", "STAT")] == [
        "MEDIUM",
        "MEDIUM",
        "HIGH",
    ]
    orders = ("STAT", "HIGH", "MEDIUM", "", "ROUTINE", "LOW", "nonsense")
    for band in (Band.ROUTINE, Band.NOT_ANALYSED):
        assert [reading_priority(band, order) for order in orders] == [
            "HIGH",
            "HIGH",
            "MEDIUM",
            "LOW",
            "LOW",
            "LOW",
            "LOW",
        ]


def test_tasks_are_in_the_order_of_the_list(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """The same studies, one for one, as on the page."""
    worklist = open_worklist(Policy(waiting_cap=timedelta(minutes=10)))
    findings = [Finding.NEGATIVE, None, Finding.POSITIVE, Finding.REVIEW, Finding.POSITIVE]
    orders = ["", "STAT", "LOW", "ROUTINE", "HIGH", "MEDIUM"]
    for number in range(24):
        arrive(worklist, findings[number % 5], requested_priority=orders[number % 6])
        hand_clock.forward(60)
    listed = [row.study_uid for row in worklist.views.reading_list()]
    found = worklist.tasks.listed(worklist.tasks.keys(EVERYTHING, 100))
    assert [one.study.study_uid for one in found] == listed
    assert len(listed) == 24
    # All that a search by priority returns, and no more, is of that priority.
    for priority in ("HIGH", "MEDIUM", "LOW"):
        keys = set(worklist.tasks.keys(Search(priorities=frozenset({priority})), 100))
        assert {one.study.key for one in found if one.priority == priority} <= keys
    assert worklist.tasks.keys(EVERYTHING, 7) == [one.study.key for one in found][:7]


def test_searches_find_at_least_what_they_say(worklist: Worklist, hand_clock: HandClock) -> None:
    """Names with wild cards, whatever the letters, and orders to the letter."""
    uid = arrive(worklist, study_date="20260301", study_description="CT 100%_head")
    (key,) = worklist.tasks.keys(EVERYTHING, 5)

    def found(**search: object) -> bool:
        return worklist.tasks.keys(Search(**search), 5) == [key]  # type: ignore[arg-type]

    for pattern in ("doe*", "DOE^JANE", "*jan?", "d*e*j*n*", "*", "dö*", "d*o*e*j*impossible"):
        assert found(texts=(("patient_name", pattern),)), pattern
    assert not found(texts=(("patient_name", "Do"),))
    assert found(texts=(("study_description", "ct 100%_*"),))
    assert not found(texts=(("study_description", "ct 100%%*"),)), "no wild card of SQL gets in"
    assert found(texts=(("accession_number", "A1"),))
    assert not found(texts=(("accession_number", "a1"),))
    assert found(study_dates=("20260101", ""))
    assert not found(study_dates=("", "20260228"))
    assert found(task_uids=frozenset({uid, "1.2.3"}))
    assert not found(task_uids=frozenset({"1.2.3"}))
    assert found(states=frozenset({Task.SCHEDULED}))
    assert not found(states=frozenset({Task.COMPLETED}))
    now = hand_clock.now()
    assert found(arrived=(now, None))
    assert not found(arrived=(now + timedelta(seconds=1), None))
    assert not found(set_by_clients=True)
    assert worklist.tasks.change(uid, "", "RIS", merge('{"00741202":{}}')) is TaskReply.DONE
    assert found(set_by_clients=True)
    assert found(arrived=(now + timedelta(days=1), None)), "its start may have been set"


def test_of_two_clients_exactly_one_takes_a_task_up(open_worklist: OpenWorklist) -> None:
    """Twenty tasks, four clients with connections of their own, one winner each."""
    worklist = open_worklist(real_time=True)
    uids = [arrive(worklist) for _ in range(20)]
    clients = [open_worklist(real_time=True) for _ in range(4)]
    start = threading.Barrier(len(clients))

    def race(number: int) -> list[TaskReply]:
        start.wait()
        return [
            clients[number].tasks.take(uid, f"1.2.{number + 1}", f"READER{number}") for uid in uids
        ]

    with ThreadPoolExecutor(len(clients)) as pool:
        replies = list(zip(*pool.map(race, range(len(clients))), strict=True))
    for of_task in replies:
        assert sorted(reply.value for reply in of_task) == ["already_taken"] * 3 + ["done"]
    states = {one.state for one in worklist.tasks.listed(worklist.tasks.keys(EVERYTHING, 50))}
    assert states == {Task.IN_PROGRESS}


def test_a_task_goes_its_way_and_no_other(worklist: Worklist, hand_clock: HandClock) -> None:
    """PS3.4 Table CC.1.1-2, row by row, and the moments that others go by."""
    tasks, uid = worklist.tasks, arrive(worklist)
    finished, unfinished = (lambda _: True), (lambda _: False)
    keep = lambda held, _now: held  # noqa: E731
    assert tasks.complete(uid, T1, "R", finished) is TaskReply.NOT_TAKEN
    assert tasks.cancel(uid, T1, "R", keep) is TaskReply.NOT_TAKEN
    assert tasks.take("2.25.77", T1, "R") is TaskReply.UNKNOWN
    hand_clock.forward(5)
    assert tasks.take(uid, T1, "R") is TaskReply.DONE
    assert tasks.take(uid, T1, "R") is TaskReply.ALREADY_TAKEN
    assert tasks.complete(uid, T2, "R", finished) is TaskReply.WRONG_TRANSACTION
    assert tasks.cancel(uid, T2, "R", keep) is TaskReply.WRONG_TRANSACTION
    assert tasks.complete(uid, T1, "R", unfinished) is TaskReply.UNFINISHED
    assert tasks.change(uid, "", "X", merge()) is TaskReply.WRONG_TRANSACTION
    assert tasks.change(uid, T1, "R", merge('{"00741202":{}}')) is TaskReply.DONE
    hand_clock.forward(5)
    assert tasks.complete(uid, T1, "R", finished) is TaskReply.DONE
    assert tasks.complete(uid, T1, "R", finished) is TaskReply.ALREADY_COMPLETED
    assert tasks.cancel(uid, T1, "R", keep) is TaskReply.CLOSED
    assert tasks.take(uid, T1, "R") is TaskReply.CLOSED
    assert tasks.change(uid, T1, "R", merge()) is TaskReply.CLOSED
    with worklist._database.reading() as transaction:
        row = transaction.session.execute(
            text("SELECT state, performer, opened_at, read_at FROM task")
        ).one()
    assert (row.state, row.performer) == ("completed", "R")
    assert row.opened_at is not None
    assert row.read_at is not None

    other = arrive(worklist)
    assert tasks.take(other, T1, "R") is TaskReply.DONE
    assert tasks.cancel(other, T1, "R", lambda _, now: f'{{"{now.year}":{{}}}}') is TaskReply.DONE
    assert tasks.cancel(other, T1, "R", keep) is TaskReply.ALREADY_CANCELED
    assert tasks.complete(other, T1, "R", finished) is TaskReply.CLOSED
    found = tasks.get(other)
    assert found is not None
    assert (found.state, found.attributes) == (Task.CANCELED, '{"2026":{}}')
    told_of = {
        f"{one.noun} {one.verb}" for one in worklist.views.study(found.study.study_uid).events
    }
    assert {"task taken", "task canceled"} <= told_of


def test_a_cancellation_is_asked_of_whoever_reads(worklist: Worklist) -> None:
    """What nobody has is canceled at once; who cannot be told is not bothered."""
    tasks, keep = worklist.tasks, lambda held, _now: held
    near = frozenset({"READER"})
    uid = arrive(worklist)
    assert tasks.request_cancel(uid, "RIS", keep, "{}", near) is TaskReply.DONE
    assert tasks.request_cancel(uid, "RIS", keep, "{}", near) is TaskReply.ALREADY_CANCELED
    uid = arrive(worklist)
    tasks.take(uid, T1, "READER")
    assert tasks.request_cancel(uid, "RIS", keep, "{}", near) is TaskReply.NO_PERFORMER
    tasks.subscribe(uid, "READER", locks=False)
    assert tasks.request_cancel(uid, "RIS", keep, "{}", frozenset()) is TaskReply.NO_PERFORMER
    assert tasks.request_cancel(uid, "RIS", keep, "{}", near) is TaskReply.DONE
    assert [kind for kind, _ in told(worklist, "READER")] == [1, 2]
    assert tasks.get(uid).state is Task.IN_PROGRESS


def test_who_subscribes_to_all_is_told_in_order(worklist: Worklist, hand_clock: HandClock) -> None:
    """A new study, ready, HIGH, and each change of state; nothing before, nothing after."""
    arrive(worklist)
    assert worklist.tasks.subscribe(None, "WATCHER", locks=False) is TaskReply.DONE
    uid = arrive(worklist, Finding.POSITIVE)
    worklist.tasks.take(uid, T1, "R")
    worklist.tasks.complete(uid, T1, "R", lambda _: True)
    said = [(one["00741000"], one["00404041"], one["00741200"]) for _, one in told(worklist)]
    assert said == [
        ("SCHEDULED", "INCOMPLETE", "LOW"),
        ("SCHEDULED", "READY", "LOW"),
        ("SCHEDULED", "READY", "HIGH"),
        ("IN PROGRESS", "READY", "HIGH"),
        ("COMPLETED", "READY", "HIGH"),
    ]
    assert told(worklist, "SOMEBODY") == []
    other = slices(1, expected_count=1)
    worklist.record(other)
    look(worklist, analysed(Finding.NEGATIVE))
    told(worklist)
    worklist.record(slices(1, first=2, series_uid=other[0].header.series_uid))
    assert [one["00404041"] for _, one in told(worklist)] == ["INCOMPLETE"], "a late slice"
    worklist.tasks.unsubscribe(None, "WATCHER")
    arrive(worklist, Finding.POSITIVE)
    assert told(worklist) == []


def test_single_subscriptions_overrule_the_global_one(worklist: Worklist) -> None:
    """Suspended: those that are there. Unsubscribed from one: all but that one."""
    tasks = worklist.tasks
    first, second = arrive(worklist), arrive(worklist)
    tasks.subscribe(None, "WATCHER", locks=False)
    tasks.unsubscribe(first, "WATCHER")
    tasks.suspend("WATCHER")
    third = arrive(worklist)
    for uid in (first, second, third):
        tasks.take(uid, T1, "R")
    assert len(told(worklist)) == 1, "of the second"
    tasks.subscribe(third, "WATCHER", locks=False)
    assert [one["00741000"] for _, one in told(worklist)] == ["IN PROGRESS"], "at once"
    tasks.complete(third, T1, "R", lambda _: True)
    assert [one["00741000"] for _, one in told(worklist)] == ["COMPLETED"]
    assert tasks.subscribe(third, "WATCHER", locks=True) is TaskReply.LOCK_NOT_GRANTED
    assert tasks.subscribe("2.25.9", "WATCHER", locks=True) is TaskReply.UNKNOWN
    assert tasks.unsubscribe("2.25.9", "WATCHER") is TaskReply.UNKNOWN


def test_changes_by_clients_are_told_too(worklist: Worklist) -> None:
    """A priority as a state report, the others as the events that they are."""
    tasks = worklist.tasks
    uid = arrive(worklist)
    tasks.subscribe(uid, "WATCHER", locks=False)
    told(worklist)
    tasks.change(uid, "", "RIS", merge(priority="HIGH"))
    tasks.change(uid, "", "RIS", merge(priority="HIGH"))  # no news
    tasks.change(uid, "", "RIS", merge(reports=((5, '{"00741204":{"Value":["x"]}}'),)))
    assert [(kind, one.get("00741200")) for kind, one in told(worklist)] == [(1, "HIGH"), (5, None)]
    assert tasks.get(uid).priority == "HIGH"
    assert tasks.keys(Search(priorities=frozenset({"HIGH"})), 5) == [tasks.get(uid).study.key]


def test_a_priority_of_before_the_finding_is_outgrown(worklist: Worklist) -> None:
    """A RIS that sets LOW of every new study hides no bleed; of what is known it may."""
    tasks = worklist.tasks
    brought = slices(1, expected_count=1)
    worklist.record(brought)
    (key,) = tasks.keys(EVERYTHING, 5)
    uid = task_uid(brought[0].header.study_uid, key)
    tasks.subscribe(uid, "WATCHER", locks=False)
    tasks.change(uid, "", "RIS", merge(priority="LOW"))
    look(worklist, analysed(Finding.POSITIVE))
    assert tasks.get(uid).priority == "HIGH"
    assert told(worklist)[-1][1]["00741200"] == "HIGH"
    tasks.change(uid, "", "RIS", merge(priority="LOW"))
    assert tasks.get(uid).priority == "LOW"


def test_a_study_that_is_given_back_unread_is_told_after_all(worklist: Worklist) -> None:
    """Taking it up had suppressed the alert; nobody has read it."""
    uid = arrive(worklist, Finding.POSITIVE)
    worklist.tasks.take(uid, T1, "READER")
    assert send(worklist) == []
    assert worklist.tasks.cancel(uid, T1, "READER", lambda before, _: before) is TaskReply.DONE
    assert sent_kinds(send(worklist)) == ["ups"]
    assert worklist.views.reading_list()[0].seen_how is None


def test_a_study_that_is_given_back_is_told_of_the_look_that_found_blood(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """The final look found nothing: the study is urgent all the same, and no alert is negative."""
    brought = slices(3)
    worklist.record(brought)
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE))
    (key,) = worklist.tasks.keys(EVERYTHING, 5)
    uid = task_uid(brought[0].header.study_uid, key)
    worklist.tasks.take(uid, T1, "READER")
    worklist.record(slices(1, series_uid=brought[0].header.series_uid, first=4))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.NEGATIVE))
    worklist.tasks.cancel(uid, T1, "READER", lambda before, _: before)
    assert worklist.views.reading_list()[0].band is Band.URGENT
    ((item,),) = (work.items for work in send(worklist))
    assert item.alert is not None
    assert (item.alert.finding, item.alert.withdrawn) == (Finding.POSITIVE, False)
    assert max(one.probability for one in item.alert.labels) == 0.97


@pytest.mark.parametrize("first", [Finding.NEGATIVE, Finding.POSITIVE])
def test_blood_that_nobody_has_read_gets_a_task_of_its_own(
    worklist: Worklist, hand_clock: HandClock, first: Finding
) -> None:
    """What is completed stays so; a control scan that bleeds is on the list all the same."""
    tasks = worklist.tasks
    tasks.subscribe(None, "WATCHER", locks=False)
    uid = arrive(worklist, first, study_uid="1.2.9")
    tasks.take(uid, T1, "READER")
    tasks.complete(uid, T1, "READER", lambda _: True)
    assert tasks.get(uid).state is Task.COMPLETED
    hand_clock.forward(3600)
    worklist.record(slices(1, study_uid="1.2.9", expected_count=1))
    told(worklist)
    look(worklist, analysed(Finding.POSITIVE))
    [task] = tasks.listed(tasks.keys(EVERYTHING, 5))
    assert (task.uid != uid, task.state, task.priority) == (True, Task.SCHEDULED, "HIGH")
    assert tasks.get(uid) is None
    work = tasks.notices("WATCHER").claim("test")
    assert {item.task_uid for item in work.items} == {task.uid}
    assert json.loads(work.items[-1].content)["00741000"]["Value"] == ["SCHEDULED"]
    assert tasks.take(task.uid, T2, "READER") is TaskReply.DONE


def test_a_task_that_was_canceled_before_the_finding_hides_no_bleed(worklist: Worklist) -> None:
    """Whoever canceled it did not know; who cancels it knowing has it canceled."""
    tasks = worklist.tasks
    brought = slices(1, expected_count=1)
    worklist.record(brought)
    (key,) = tasks.keys(EVERYTHING, 5)
    uid = task_uid(brought[0].header.study_uid, key)
    nobody = frozenset[str]()
    tasks.request_cancel(uid, "RIS", lambda before, _: before, "{}", nobody)
    assert tasks.get(uid).state is Task.CANCELED
    look(worklist, analysed(Finding.POSITIVE))
    [task] = tasks.listed([key])
    assert task.state is Task.SCHEDULED
    tasks.request_cancel(task.uid, "RIS", lambda before, _: before, "{}", nobody)
    worklist.requeue(brought[0].header.series_uid)
    look(worklist, analysed(Finding.POSITIVE))  # the same images once more are no news
    assert tasks.get(task.uid).state is Task.CANCELED


def test_a_deletion_lock_keeps_a_task_of_a_purged_study(worklist: Worklist) -> None:
    """It is off the list, and can still be asked for by whoever wants it kept."""
    locked, free = arrive(worklist), arrive(worklist)
    worklist.tasks.subscribe(locked, "WATCHER", locks=True)
    with worklist._database.writing() as transaction:
        transaction.session.execute(text("UPDATE study SET purged_at = arrived_at"))
    assert worklist.tasks.keys(EVERYTHING, 5) == []
    assert worklist.tasks.get(free) is None
    assert worklist.tasks.get(locked) is not None
    worklist.tasks.unsubscribe(locked, "WATCHER")
    assert worklist.tasks.get(locked) is None


def test_what_is_owed_survives_a_subscriber_that_is_away(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """It is tried again, in order, by one worker at a time, and forgotten after a day."""
    worklist, other = open_worklist(), open_worklist()
    worklist.tasks.subscribe(None, "WATCHER", locks=False)
    uid = arrive(worklist)
    worklist.tasks.take(uid, T1, "R")
    queue = worklist.tasks.notices("WATCHER")
    assert worklist.tasks.notices("WATCHER", lambda: False).claim("a") is None, "observe mode"
    work = queue.claim("a")
    arrive(worklist)
    assert other.tasks.notices("WATCHER").claim("b") is None, "the order matters"
    assert queue.renew(work.lease, timedelta(seconds=30))
    first, second = work.items
    assert queue.settle(
        work, Dispatched({first.notice_id: Acknowledged(0), second.notice_id: Undelivered("no")})
    )
    assert not queue.settle(work, Dispatched({})), "the lease is gone"
    assert queue.claim("a") is None, "nothing comes before what came before it"
    hand_clock.forward(400)
    again = other.tasks.notices("WATCHER").claim("b")
    assert again.items[0] == second
    assert len(again.items) == 2
    other.tasks.notices("WATCHER").settle(again, Dispatched({}))
    hand_clock.forward(86_500)
    assert worklist.tasks.notices("WATCHER").claim("a") is None


def test_who_is_a_subscriber_no_longer_is_forgotten(worklist: Worklist) -> None:
    """So that nothing piles up for somebody whom nobody knows any more."""
    for title in ("WATCHER", "GONE"):
        worklist.tasks.subscribe(None, title, locks=False)
    arrive(worklist)
    worklist.tasks.keep_subscribers(frozenset({"WATCHER"}))
    arrive(worklist)
    assert len(told(worklist)) == 2
    assert told(worklist, "GONE") == []
    worklist.tasks.keep_subscribers(frozenset())
    arrive(worklist)
    assert told(worklist) == []
