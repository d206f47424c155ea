"""Documents and deliveries, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Delivery, Document
from ichnode.domain.retry import RetryPolicy
from ichnode.domain.work import (
    Acknowledged,
    DeliveryResult,
    DeliveryWork,
    Dispatched,
    Failed,
    Reclass,
    Undelivered,
)
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import (
    MODEL,
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

COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
SR_ONLY = Route("pacs", frozenset({"sr"}), loopback=True)
FAR = Route("far", frozenset({"sr", "ups"}), loopback=False)


def owe(
    worklist: Worklist, clock: HandClock, finding: Finding, *, study_uid: str = "", ae: str = "CT1"
) -> str:
    """Bring a series as far as its outbox rows; return its UID."""
    uid = fresh_uid()
    brought = slices(3, series_uid=uid, study_uid=study_uid, calling_ae=ae, association=uid)
    worklist.record(brought)
    clock.forward(20)
    work = worklist.analyses.claim("infer")
    assert work is not None
    worklist.analyses.settle(work, analysed(finding))
    return uid


def claim(worklist: Worklist) -> DeliveryWork:
    work = worklist.deliveries.claim("send")
    assert work is not None
    return work


def answer(worklist: Worklist, result: DeliveryResult) -> None:
    """Claim what is due and answer the same of all of it."""
    work = claim(worklist)
    assert worklist.deliveries.settle(
        work, Dispatched({item.delivery_id: result for item in work.items})
    )


def spoil(worklist: Worklist) -> None:
    """Give up the document that is due."""
    work = worklist.documents.claim("report")
    assert work is not None
    assert worklist.documents.settle(work, Failed("Boom", transient=False))


def states(worklist: Worklist) -> list[Delivery]:
    return [row.state for row in worklist.views.deliveries()]


# ------------------------------------------------------------------ documents


def test_positive_documents_are_built_first(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """A positive overtakes the negatives that wait."""
    worklist = open_worklist(Policy(destinations=(SR_ONLY,), negative_sr=True, key_image=False))
    for finding in (Finding.NEGATIVE, Finding.REVIEW, Finding.POSITIVE):
        owe(worklist, hand_clock, finding)
    order = [one.result.finding for one in build(worklist)]
    assert order == [Finding.POSITIVE, Finding.NEGATIVE, Finding.REVIEW]


def test_a_document_is_built_once_and_by_one(worklist: Worklist, hand_clock: HandClock) -> None:
    """What is held or built is not handed out again; no delivery leaves before."""
    owe(worklist, hand_clock, Finding.REVIEW)
    assert worklist.documents.claim("report") is not None
    assert worklist.documents.claim("report") is None
    assert send(worklist) == []


def test_a_negative_document_is_given_up_and_its_delivery_with_it(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """After three tries it is visible, and a person can queue it again."""
    worklist = open_worklist(Policy(destinations=(SR_ONLY,), negative_sr=True))
    uid = owe(worklist, hand_clock, Finding.NEGATIVE)
    for _ in range(3):
        work = worklist.documents.claim("report")
        assert work is not None
        worklist.documents.settle(work, Failed("Boom"))
        hand_clock.forward(300)
    assert worklist.documents.claim("report") is None
    story = worklist.views.series(uid)
    assert story is not None
    assert [(one.state, one.error) for one in story.documents] == [(Document.FAILED, "Boom")]
    assert states(worklist) == [Delivery.FAILED]
    assert worklist.requeue(uid) == 3, "series, document, delivery"
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sr"]


def test_a_positive_document_is_never_given_up(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """However often it fails, and however hopeless it says it is."""
    worklist = open_worklist(Policy(destinations=(SR_ONLY,), key_image=False))
    owe(worklist, hand_clock, Finding.POSITIVE)
    for _ in range(20):
        work = worklist.documents.claim("report")
        assert work is not None
        worklist.documents.settle(work, Failed("Boom", transient=False))
        hand_clock.forward(300)
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sr"]


def test_a_successor_waits_for_its_predecessor(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Only what was built can be named, so that two workers do not overtake each other."""
    worklist = open_worklist(Policy(destinations=(SR_ONLY,), key_image=False))
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    worklist.association_released("a1")
    look(worklist, analysed(Finding.POSITIVE))
    worklist.record(slices(3, series_uid=uid, first=4))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    first = worklist.documents.claim("one")
    assert first is not None
    assert worklist.documents.claim("two") is None
    worklist.documents.settle(first, Failed("Boom"))
    hand_clock.forward(10)
    assert [len(one.predecessors) for one in build(worklist)] == [0, 1]


# ------------------------------------------------------------------ deliveries


def test_a_positive_overtakes_five_hundred_negatives(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Urgent first, and no more than a batch at a time."""
    worklist = open_worklist(
        Policy(destinations=(SR_ONLY,), negative_sr=True, key_image=False, batch=4)
    )
    for _ in range(6):
        owe(worklist, hand_clock, Finding.NEGATIVE)
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    work = claim(worklist)
    assert [item.urgent for item in work.items] == [True, False, False, False]
    ids = [item.delivery_id for item in work.items[1:]]
    assert sorted(ids) == ids, "then by age"


def test_what_was_not_tried_comes_back_without_a_try(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """When an association breaks half way the rest is due at once."""
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    work = claim(worklist)
    first, *rest = work.items
    assert worklist.deliveries.settle(work, Dispatched({first.delivery_id: Acknowledged()}))
    again = claim(worklist)
    assert [item.delivery_id for item in rest] == [item.delivery_id for item in again.items]
    assert {1} == {item.attempts for item in again.items}


def test_a_shut_destination_is_left_alone(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """One dead PACS does not hold back another."""
    other = replace(SR_ONLY, name="other")
    worklist = open_worklist(Policy(destinations=(SR_ONLY, other), key_image=False))
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    outbox = worklist.outbox(lambda: frozenset({"pacs"}))
    work = outbox.claim("send")
    assert work is not None
    assert work.destination == "other"
    assert outbox.claim("send") is None
    assert outbox.claim("send", shut=frozenset({"other"})) is None


def test_positives_are_tried_for_ever(open_worklist: OpenWorklist, hand_clock: HandClock) -> None:
    """A PACS that was away for days, or says that it never will, still gets it."""
    policy = Policy(
        destinations=(SR_ONLY,), key_image=False, delivery_retry=RetryPolicy(attempts=2)
    )
    worklist = open_worklist(policy)
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    for _ in range(10):
        answer(worklist, Undelivered("refused", status=0xA700, permanent=True))
        assert worklist.deliveries.claim("send") is None, "not before the back-off is over"
        hand_clock.forward(300)
    since = worklist.views.oldest_undelivered_positive()
    assert since is not None
    assert hand_clock.now() - since == timedelta(seconds=3000)
    assert sent_kinds(send(worklist)) == ["sr"]
    assert worklist.views.oldest_undelivered_positive() is None


@pytest.mark.parametrize("permanent", [True, False])
def test_others_are_given_up_in_the_end(
    open_worklist: OpenWorklist, hand_clock: HandClock, permanent: bool
) -> None:
    """At once when it is hopeless, else when the tries are used up; requeued on request."""
    policy = Policy(
        destinations=(SR_ONLY,), negative_sr=True, delivery_retry=RetryPolicy(attempts=2)
    )
    worklist = open_worklist(policy)
    owe(worklist, hand_clock, Finding.NEGATIVE)
    build(worklist)
    for _ in range(1 if permanent else 2):
        answer(worklist, Undelivered("no such class", permanent=permanent))
        hand_clock.forward(300)
    assert states(worklist) == [Delivery.FAILED]
    assert worklist.deliveries.claim("send") is None
    assert worklist.requeue_deliveries("elsewhere") == 0
    assert worklist.requeue_deliveries("pacs") == 1
    assert sent_kinds(send(worklist)) == ["sr"]


def test_a_whole_failure_backs_off_every_row(worklist: Worklist, hand_clock: HandClock) -> None:
    """No association: all of it comes back, later."""
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    assert worklist.deliveries.settle(claim(worklist), Failed("PeerFailure: closed"))
    assert worklist.deliveries.claim("send") is None
    hand_clock.forward(2)
    assert len(claim(worklist).items) == 3


def test_nothing_tried_at_all_is_not_hammered(worklist: Worklist, hand_clock: HandClock) -> None:
    """An empty answer comes back after a pause."""
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    assert worklist.deliveries.settle(claim(worklist), Dispatched({}))
    assert worklist.deliveries.claim("send") is None


def test_a_row_that_kills_its_senders_is_given_up(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Attempts count at claim here too, but a positive goes on."""
    policy = Policy(
        destinations=(SR_ONLY,),
        negative_sr=True,
        key_image=False,
        delivery_retry=RetryPolicy(attempts=2),
    )
    worklist = open_worklist(policy)
    owe(worklist, hand_clock, Finding.NEGATIVE)
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    for _ in range(2):
        assert len(claim(worklist).items) == 2
        hand_clock.forward(61)
    assert [item.urgent for item in claim(worklist).items] == [True]
    assert states(worklist) == [Delivery.DUE, Delivery.FAILED]


def test_reclass_builds_the_class_that_the_peer_takes(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """One SOP Instance UID is of one class for ever: another class is another document."""
    worklist = open_worklist(Policy(destinations=(SR_ONLY,), key_image=False))
    owe(worklist, hand_clock, Finding.POSITIVE)
    (first,) = build(worklist)
    answer(worklist, Reclass(COMPREHENSIVE))
    assert states(worklist) == [Delivery.WAITING]
    (second,) = build(worklist)
    assert (second.sop_class_uid, second.kind) == (COMPREHENSIVE, "sr")
    assert first.sop_uid != second.sop_uid
    (work,) = send(worklist)
    (item,) = work.items
    assert item.document is not None
    assert item.document.sop_uid == second.sop_uid
    assert states(worklist) == [Delivery.DELIVERED]


def test_two_destinations_share_the_document_of_their_class(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """The second that asks for a class gets the document that is there."""
    other = replace(SR_ONLY, name="other")
    worklist = open_worklist(Policy(destinations=(SR_ONLY, other), key_image=False))
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    answer(worklist, Reclass(COMPREHENSIVE))
    assert len(build(worklist)) == 1
    held = claim(worklist)
    answer(worklist, Reclass(COMPREHENSIVE))
    assert build(worklist) == []
    last = claim(worklist)
    assert {held.destination, last.destination} == {"pacs", "other"}
    documents = [item.document for work in (held, last) for item in work.items]
    assert documents[0] == documents[1]


def test_a_destination_that_left_the_settings_gets_nothing(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Its rows stay due and visible."""
    worklist = open_worklist(Policy(destinations=(SR_ONLY,), key_image=False))
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    without = open_worklist(Policy())
    assert without.deliveries.claim("send") is None
    assert states(without) == [Delivery.DUE]


def test_a_priority_delivery_knows_its_study(worklist: Worklist, hand_clock: HandClock) -> None:
    """Who is meant, and which images since when: what a reading task is found or made by."""
    came_at = hand_clock.now()
    uid = owe(worklist, hand_clock, Finding.POSITIVE)
    (item,) = claim(worklist).items
    assert item.study is not None
    assert (item.kind, item.study.series_uid, item.study.patient_id) == ("ups", uid, "4711")
    assert len(item.study.instances) == 3
    assert item.study.complete_at is not None
    assert came_at <= item.study.complete_at <= hand_clock.now()  # aware, or this fails
    assert "4711" not in repr(item)


# ------------------------------------------------------------------ observe mode


def test_nothing_leaves_before_a_person_says_so(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """In observe mode the outbox is shut but for loopback; commissioning opens it."""
    worklist = open_worklist(Policy(destinations=(PACS, FAR)))
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    assert {"pacs"} == {work.destination for work in send(worklist)}
    withheld = worklist.views.deliveries(states=[Delivery.WITHHELD])
    assert sorted((r.destination, r.kind) for r in withheld) == [("far", "sr"), ("far", "ups")]
    assert worklist.commissions() == ()
    assert worklist.commission(MODEL, "A. Physicist", ["*"], "local validation") == 2
    assert {"far"} == {work.destination for work in send(worklist)}
    (standing,) = worklist.commissions()
    assert (standing.model_uid, standing.accepted_by) == (MODEL, "A. Physicist")
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    assert {"pacs", "far"} == {work.destination for work in send(worklist)}


def test_a_commission_is_for_its_model_and_scanners(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Another scanner stays shut; a revoked commission shuts again."""
    worklist = open_worklist(Policy(destinations=(FAR,)))
    worklist.commission("2.25.999", "A. Physicist")
    worklist.commission(MODEL, "A. Physicist", ["CT2"])
    owe(worklist, hand_clock, Finding.POSITIVE, ae="CT1")
    assert {Delivery.WITHHELD} == set(states(worklist))
    owe(worklist, hand_clock, Finding.POSITIVE, ae="CT2")
    assert {Delivery.WAITING, Delivery.DUE, Delivery.WITHHELD} == set(states(worklist))
    assert worklist.revoke(MODEL, "A. Physicist") == 1
    assert worklist.revoke(MODEL, "A. Physicist") == 0
    before = states(worklist).count(Delivery.WITHHELD)
    owe(worklist, hand_clock, Finding.POSITIVE, ae="CT2")
    assert states(worklist).count(Delivery.WITHHELD) == before + 2


def test_an_address_that_is_moved_off_this_machine_opens_nothing(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """What waits for a destination that was on loopback is withheld when it is not any more."""
    here = replace(FAR, loopback=True)
    owe(open_worklist(Policy(destinations=(here,))), hand_clock, Finding.POSITIVE)
    worklist = open_worklist(Policy(destinations=(FAR,)))
    build(worklist)
    assert send(worklist) == []
    assert states(worklist) == [Delivery.WITHHELD] * 2
    assert worklist.commission(MODEL, "A. Physicist") == 2
    assert {"far"} == {work.destination for work in send(worklist)}


def test_queued_again_after_a_revocation_nothing_goes_out(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """A delivery that had been given up is withheld like the others."""
    far = replace(FAR, kinds=frozenset({"sr"}))
    worklist = open_worklist(Policy(destinations=(far,), negative_sr=True))
    worklist.commission(MODEL, "A. Physicist")
    owe(worklist, hand_clock, Finding.NEGATIVE)
    build(worklist)
    answer(worklist, Undelivered("No.", permanent=True))
    assert states(worklist) == [Delivery.FAILED]
    worklist.revoke(MODEL, "A. Physicist")
    assert worklist.requeue_deliveries("far") == 1
    assert send(worklist) == []
    assert states(worklist) == [Delivery.WITHHELD]


@pytest.mark.parametrize("spoilt_first", [True, False])
def test_what_is_released_goes_where_its_document_does(
    spoilt_first: bool, open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Nothing is due behind a document that cannot be built: it is given up, and may be purged."""
    far = replace(FAR, kinds=frozenset({"sr"}))
    worklist = open_worklist(Policy(destinations=(far,), negative_sr=True))
    owe(worklist, hand_clock, Finding.NEGATIVE)
    if spoilt_first:
        spoil(worklist)
        assert worklist.commission(MODEL, "A. Physicist") == 0
    else:
        assert worklist.commission(MODEL, "A. Physicist") == 1
        assert states(worklist) == [Delivery.WAITING]
        spoil(worklist)
    assert states(worklist) == [Delivery.FAILED]
    hand_clock.forward(3600)
    assert worklist.views.queue_age()["delivery"] == 0.0
    assert len(worklist.purgeable(timedelta(0))) == 3
    assert worklist.requeue_deliveries("far") == 1
    spoil(worklist)
    assert states(worklist) == [Delivery.FAILED], "once more, and not due for ever"
    assert worklist.requeue_deliveries("far") == 1
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sr"]


def test_a_delivery_that_was_due_too_early_is_given_up_with_its_document(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """As nodes of before left them: due, and their document not built."""
    worklist = open_worklist(Policy(destinations=(SR_ONLY,), negative_sr=True))
    owe(worklist, hand_clock, Finding.NEGATIVE)
    with worklist._database.writing() as transaction:
        transaction.session.execute(text("UPDATE delivery SET state = 'due'"))
    spoil(worklist)
    assert states(worklist) == [Delivery.FAILED]


def test_what_was_withheld_long_ago_stays_withheld(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Commissioning does not flood the PACS with what was read weeks ago."""
    worklist = open_worklist(Policy(destinations=(FAR,)))
    owe(worklist, hand_clock, Finding.POSITIVE)
    build(worklist)
    hand_clock.forward(25 * 3600)
    assert worklist.commission(MODEL, "A. Physicist") == 0
    assert worklist.deliveries.claim("send") is None


def test_revoking_withholds_what_waits_in_the_outbox(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Nothing more goes out but to this machine; a new commission releases it."""
    worklist = open_worklist(Policy(destinations=(PACS, FAR)))
    worklist.commission(MODEL, "A. Physicist")
    owe(worklist, hand_clock, Finding.POSITIVE)
    assert worklist.revoke(MODEL, "A. Physicist") == 1
    build(worklist)
    assert {"pacs"} == {work.destination for work in send(worklist)}
    withheld = worklist.views.deliveries(states=[Delivery.WITHHELD])
    assert sorted((r.destination, r.kind) for r in withheld) == [("far", "sr"), ("far", "ups")]
    worklist.commission(MODEL, "B. Physicist")
    assert sent_kinds(send(worklist)) == ["sr", "ups"]


@pytest.mark.parametrize(
    ("answer", "state"),
    [(Acknowledged(), Delivery.DELIVERED), (Undelivered("no"), Delivery.WITHHELD)],
)
def test_what_is_on_its_way_while_it_is_revoked_is_told_as_it_was(
    open_worklist: OpenWorklist, hand_clock: HandClock, answer: DeliveryResult, state: Delivery
) -> None:
    """It got there, or it is withheld and not tried again."""
    worklist = open_worklist(Policy(destinations=(FAR,)))
    worklist.commission(MODEL, "A. Physicist")
    owe(worklist, hand_clock, Finding.POSITIVE)
    work = claim(worklist)
    worklist.revoke(MODEL, "A. Physicist")
    (item,) = work.items
    assert worklist.deliveries.settle(work, Dispatched({item.delivery_id: answer}))
    states = {row.kind: row.state for row in worklist.views.deliveries()}
    assert states["ups"] is state
    hand_clock.forward(3600)
    assert worklist.deliveries.claim("send") is None
