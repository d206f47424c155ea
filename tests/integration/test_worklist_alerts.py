"""Alerts that are needed no longer, and alerts that are taken back; on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Band, Delivery
from ichnode.domain.telling import Seen
from ichnode.domain.work import (
    ALERT_KINDS,
    WITHDRAWABLE,
    Acknowledged,
    DeliveryItem,
    Dispatched,
    Undelivered,
)
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import MODEL, HandClock, analysed, build, fresh_uid, look, slices

EVERYTHING = Route("ris", frozenset(ALERT_KINDS), loopback=True)
FAR = Route("far", frozenset({"hl7"}), loopback=False)
POLICY = Policy(destinations=(EVERYTHING,), key_image=False)


@pytest.fixture
def worklist(open_worklist: OpenWorklist) -> Worklist:
    """A worklist with one destination that is told in every way there is."""
    return open_worklist(POLICY)


def found(
    worklist: Worklist,
    clock: HandClock,
    study_uid: str,
    finding: Finding = Finding.POSITIVE,
    **header: object,
) -> str:
    """A series of a study, complete and looked at; returns its UID."""
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid, study_uid=study_uid, **header))  # type: ignore[arg-type]
    clock.forward(20)
    look(worklist, analysed(finding))
    clock.forward(1)
    return uid


def told(worklist: Worklist) -> list[DeliveryItem]:
    """Deliver what is due, and return what it was."""
    items = []
    while work := worklist.deliveries.claim("send"):
        answers = {item.delivery_id: Acknowledged() for item in work.items}
        assert worklist.deliveries.settle(work, Dispatched(answers))
        items += work.items
    return items


def states(worklist: Worklist, study_uid: str) -> set[Delivery]:
    story = worklist.views.study(study_uid)
    assert story is not None
    return {one.state for one in story.deliveries}


def history(worklist: Worklist, study_uid: str) -> str:
    story = worklist.views.study(study_uid)
    assert story is not None
    return " ".join(one.sentence for one in story.events)


# ------------------------------------------------------------------ seen


@pytest.mark.parametrize("how", Seen)
def test_what_a_person_has_seen_is_told_to_nobody(
    how: Seen, worklist: Worklist, hand_clock: HandClock
) -> None:
    """Visible in the history, with who and why; the study keeps its band."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    assert worklist.seen(study, how=how, by="Dr B") == 1
    assert told(worklist) == []
    assert states(worklist, study) == {Delivery.SUPPRESSED}
    (row,) = worklist.views.reading_list()
    assert (row.band, row.seen_how, row.seen_at) == (Band.URGENT, how, hand_clock.now())
    assert f"because a person {how.value} the study" in history(worklist, study)
    assert f"Study {how.value}: by Dr B" in history(worklist, study)


def test_what_is_delivered_stays(worklist: Worklist, hand_clock: HandClock) -> None:
    """Nobody's alert is taken back because somebody looked."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    assert len(told(worklist)) == len(ALERT_KINDS)
    worklist.seen(study, how=Seen.REPORTED, by="Dr B")
    assert states(worklist, study) == {Delivery.DELIVERED}
    assert told(worklist) == []


def test_a_withheld_alert_is_not_released_after_a_look(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Opening the outputs tells nobody what was read meanwhile."""
    worklist = open_worklist(Policy(destinations=(FAR,), key_image=False))
    study = fresh_uid()
    found(worklist, hand_clock, study)
    assert states(worklist, study) == {Delivery.WITHHELD}
    worklist.seen(study, how=Seen.OPENED, by="Dr B")
    assert worklist.commission("2.25.1234567890", "Dr C") == 0
    assert states(worklist, study) == {Delivery.SUPPRESSED}


def test_documents_are_sent_whoever_looked(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """A report belongs to the study; only what calls for attention is needless."""
    pacs = Route("pacs", frozenset({"sr", "hl7"}), loopback=True)
    worklist = open_worklist(Policy(destinations=(pacs,), key_image=False))
    study = fresh_uid()
    found(worklist, hand_clock, study)
    worklist.seen(study, how=Seen.REPORTED, by="Dr B")
    build(worklist)
    assert [item.kind for item in told(worklist)] == ["sr"]


def test_a_new_finding_after_a_study_was_opened_is_told(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Who opened it saw a negative: a positive is news."""
    study = fresh_uid()
    found(worklist, hand_clock, study, Finding.NEGATIVE)
    worklist.seen(study, how=Seen.OPENED, by="Dr B")
    hand_clock.forward(60)
    found(worklist, hand_clock, study)
    assert {item.kind for item in told(worklist)} == set(ALERT_KINDS)


def test_a_late_verdict_about_reported_images_is_not_told(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Somebody has spoken about these images; the band shows what the model says."""
    study, uid = fresh_uid(), fresh_uid()
    worklist.record(slices(3, series_uid=uid, study_uid=study))
    hand_clock.forward(20)
    worklist.seen(study, how=Seen.REPORTED, by="Dr B")
    worklist.seen(study, how=Seen.OPENED, by="Dr C")  # does not undo the report
    look(worklist, analysed(Finding.POSITIVE))
    assert told(worklist) == []
    assert states(worklist, study) == {Delivery.SUPPRESSED}
    assert worklist.views.reading_list()[0].band is Band.URGENT
    assert "because a person reported the study" in history(worklist, study)


def test_images_that_came_after_the_report_are_told(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Nobody has read them."""
    study = fresh_uid()
    found(worklist, hand_clock, study, Finding.NEGATIVE)
    worklist.seen(study, how=Seen.REPORTED, by="Dr B")
    hand_clock.forward(60)
    found(worklist, hand_clock, study)
    assert {item.kind for item in told(worklist)} == set(ALERT_KINDS)


@pytest.mark.parametrize("how", Seen)
def test_a_control_scan_that_bleeds_is_told_although_the_study_is_urgent_already(
    how: Seen, worklist: Worklist, hand_clock: HandClock
) -> None:
    """The alert before it was of images that were seen; thin and thick are told as one."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    worklist.seen(study, how=how, by="Dr B")
    assert told(worklist) == []
    hand_clock.forward(3600)
    found(worklist, hand_clock, study)
    items = told(worklist)
    assert {item.kind for item in items} == set(ALERT_KINDS)
    assert len(items) == len(ALERT_KINDS)
    found(worklist, hand_clock, study)
    assert told(worklist) == []


def test_who_has_opened_what_was_told_is_not_told_again(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Thin slices that come while somebody reads are of the same bleed."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    assert len(told(worklist)) == len(ALERT_KINDS)
    worklist.seen(study, how=Seen.OPENED, by="Dr B")
    hand_clock.forward(10)
    found(worklist, hand_clock, study)
    assert told(worklist) == []


def test_a_late_report_of_before_a_control_scan_leaves_that_to_be_told(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """One alert stood for both scans, and was suppressed for the first one's sake."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    reported_at = hand_clock.now()
    hand_clock.forward(60)
    control = found(worklist, hand_clock, study)
    worklist.seen(study, how=Seen.REPORTED, by="RIS", at=reported_at)
    items = told(worklist)
    assert {item.kind for item in items} == set(ALERT_KINDS)
    assert {item.study.series_uid for item in items if item.study} == {control}


def test_a_look_of_before_the_verdict_suppresses_nothing_that_came_after(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """A message that is late says when it was; of a report the images are decisive."""
    study = fresh_uid()
    arrived = hand_clock.now()
    found(worklist, hand_clock, study)
    before = arrived + timedelta(seconds=10)
    worklist.seen(study, how=Seen.OPENED, by="RIS", at=before)
    assert states(worklist, study) == {Delivery.DUE}
    worklist.seen(study, how=Seen.REPORTED, by="RIS", at=arrived - timedelta(seconds=1))
    assert states(worklist, study) == {Delivery.DUE}
    worklist.seen(study, how=Seen.REPORTED, by="RIS", at=before)
    assert states(worklist, study) == {Delivery.SUPPRESSED}


def test_a_moment_in_the_future_is_now(worklist: Worklist, hand_clock: HandClock) -> None:
    """A wrong clock elsewhere does not silence what is yet to come."""
    study = fresh_uid()
    found(worklist, hand_clock, study, Finding.NEGATIVE)
    tomorrow = hand_clock.now() + timedelta(days=1)
    worklist.seen(study, how=Seen.REPORTED, by="RIS", at=tomorrow)
    hand_clock.forward(60)
    found(worklist, hand_clock, study)
    assert told(worklist)


def test_an_accession_number_names_the_studies_of_one_patient(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """All of them; of several patients none, and each study says why."""
    studies = [fresh_uid(), fresh_uid()]
    for study in studies:
        found(worklist, hand_clock, study)
    assert worklist.seen(accession_number=" A1 ", how=Seen.REPORTED, by="RIS") == 2
    assert told(worklist) == []
    assert worklist.seen(accession_number="B2", how=Seen.REPORTED, by="RIS") == 0
    assert worklist.seen(how=Seen.REPORTED, by="RIS") == 0


def test_an_accession_number_of_several_patients_suppresses_nothing(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Better one alert too many than the alert of somebody else."""
    study, other = fresh_uid(), fresh_uid()
    found(worklist, hand_clock, study)
    (stranger,) = slices(1, study_uid=other, expected_count=1)
    object.__setattr__(stranger.header, "patient_id", "0815")
    worklist.record([stranger])
    assert worklist.seen(accession_number="A1", how=Seen.REPORTED, by="RIS") == 0
    assert "several patients have this accession number" in history(worklist, study)
    assert len(told(worklist)) == len(ALERT_KINDS)


def test_an_alert_that_is_on_its_way_may_arrive(worklist: Worklist, hand_clock: HandClock) -> None:
    """It counts as delivered if it does; if not, it is not tried again."""
    study, other = fresh_uid(), fresh_uid()
    for uid, answer in ((study, Acknowledged()), (other, Undelivered("no answer"))):
        found(worklist, hand_clock, uid)
        work = worklist.deliveries.claim("send")
        assert work is not None
        worklist.seen(uid, how=Seen.OPENED, by="Dr B")
        answers = {item.delivery_id: answer for item in work.items}
        assert worklist.deliveries.settle(work, Dispatched(answers))
    hand_clock.forward(3600)
    assert told(worklist) == []
    assert states(worklist, study) == {Delivery.DELIVERED}
    assert states(worklist, other) == {Delivery.SUPPRESSED}


# ------------------------------------------------------------------ withdrawn


def test_a_mistaken_alert_is_taken_back_once(worklist: Worklist, hand_clock: HandClock) -> None:
    """Where the way there can say so, for the revision in which a person lowered the study."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    alerts = told(worklist)
    assert all(one.alert is not None and not one.alert.withdrawn for one in alerts)
    hand_clock.forward(60)
    assert worklist.lower(study, "Dr B", "artefact")
    withdrawals = told(worklist)
    assert {one.kind for one in withdrawals} == WITHDRAWABLE
    assert all(one.alert is not None and one.alert.withdrawn for one in withdrawals)
    assert {one.revision for one in alerts} == {1}
    assert {one.revision for one in withdrawals} == {2}
    assert not worklist.lower(study, "Dr B", "again")
    assert told(worklist) == []
    assert len(worklist.views.latencies()) == len(alerts), "a withdrawal is no latency"


def test_what_nobody_was_told_is_not_taken_back(worklist: Worklist, hand_clock: HandClock) -> None:
    """The alerts are suppressed, and that is all."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    worklist.lower(study, "Dr B", "artefact")
    assert told(worklist) == []
    assert states(worklist, study) == {Delivery.SUPPRESSED}
    assert "because a person lowered the study" in history(worklist, study)


def test_a_later_finding_is_told_again_and_may_be_taken_back_again(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Each in its own revision."""
    study = fresh_uid()
    for _ in range(2):
        found(worklist, hand_clock, study)
        assert {item.kind for item in told(worklist)} == set(ALERT_KINDS)
        worklist.lower(study, "Dr B", "artefact")
        assert {item.kind for item in told(worklist)} == WITHDRAWABLE


def test_a_new_alert_overtakes_a_withdrawal_that_did_not_get_there(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Or the peer, back at last, would hear of the finding first and then that it was none."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    told(worklist)
    worklist.lower(study, "Dr B", "artefact")
    work = worklist.deliveries.claim("send")
    assert work is not None
    refused = {item.delivery_id: Undelivered("refused") for item in work.items}
    worklist.deliveries.settle(work, Dispatched(refused))
    found(worklist, hand_clock, study)
    hand_clock.forward(3600)
    items = told(worklist)
    assert {item.revision for item in items} == {3}
    assert all(item.alert is not None and not item.alert.withdrawn for item in items)
    assert "because a new finding" in history(worklist, study)
    worklist.lower(study, "Dr B", "artefact too")
    assert {item.kind for item in told(worklist)} == WITHDRAWABLE


def test_an_alert_that_may_have_arrived_is_taken_back_after_it(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """While it is on its way its withdrawal waits, so that they arrive in their order."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    on_its_way = worklist.deliveries.claim("send")
    assert on_its_way is not None
    worklist.lower(study, "Dr B", "artefact")
    assert worklist.deliveries.claim("send") is None, "not before the alert has arrived"
    answers = {item.delivery_id: Acknowledged() for item in on_its_way.items}
    assert worklist.deliveries.settle(on_its_way, Dispatched(answers))
    hand_clock.forward(61)
    assert {item.kind for item in told(worklist)} == WITHDRAWABLE


def test_a_withdrawal_overtakes_no_alert_that_another_host_is_sending(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """However long that takes and however often its lease is renewed."""
    one, other = open_worklist(POLICY), open_worklist(POLICY)
    study, lease = fresh_uid(), timedelta(seconds=60)
    found(one, hand_clock, study)
    on_its_way = one.deliveries.claim("one")
    assert on_its_way is not None
    other.lower(study, "Dr B", "artefact")
    for _ in range(5):
        hand_clock.forward(50)
        assert one.deliveries.renew(on_its_way.lease, lease)
        assert other.deliveries.claim("other") is None, "not before the alert has arrived"
    answers = {item.delivery_id: Acknowledged() for item in on_its_way.items}
    assert one.deliveries.settle(on_its_way, Dispatched(answers))
    assert {item.kind for item in told(other)} == WITHDRAWABLE


def test_a_withdrawal_waits_for_no_worker_that_died(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """The end of its lease is the end of waiting."""
    one, other = open_worklist(POLICY), open_worklist(POLICY)
    study = fresh_uid()
    found(one, hand_clock, study)
    assert one.deliveries.claim("one") is not None
    other.lower(study, "Dr B", "artefact")
    hand_clock.forward(61)
    assert {item.kind for item in told(other)} == WITHDRAWABLE


def test_a_lost_answer_is_no_reason_to_leave_an_alert_standing(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """It was tried, and nobody knows what became of it."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    work = worklist.deliveries.claim("send")
    assert work is not None
    silent = {item.delivery_id: Undelivered("no answer") for item in work.items}
    worklist.deliveries.settle(work, Dispatched(silent))
    worklist.lower(study, "Dr B", "artefact")
    assert {item.kind for item in told(worklist)} == WITHDRAWABLE


@pytest.mark.parametrize("revoked_first", [True, False])
def test_what_a_revoked_model_has_told_can_be_taken_back(
    revoked_first: bool, open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Whoever was told hears that it was a mistake; of what nobody was told nothing goes out."""
    worklist = open_worklist(Policy(destinations=(FAR,), key_image=False))
    worklist.commission(MODEL, "A. Physicist")
    study, untold = fresh_uid(), fresh_uid()
    found(worklist, hand_clock, study)
    assert [item.kind for item in told(worklist)] == ["hl7"]
    found(worklist, hand_clock, untold)
    if revoked_first:
        worklist.revoke(MODEL, "A. Physicist")
    worklist.lower(study, "Dr B", "artefact")
    if not revoked_first:
        worklist.revoke(MODEL, "A. Physicist")
    worklist.lower(untold, "Dr B", "artefact")
    (item,) = told(worklist)
    assert item.alert is not None
    assert item.alert.withdrawn
    assert item.study is not None
    assert item.study.study_uid == study
    assert states(worklist, untold) == {Delivery.SUPPRESSED}


def test_a_withdrawal_leaves_no_machine_that_observes(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """A destination that was moved off this machine was never opened by anybody."""
    study = fresh_uid()
    here = open_worklist(Policy(destinations=(replace(FAR, loopback=True),), key_image=False))
    found(here, hand_clock, study)
    assert len(told(here)) == 1
    moved = open_worklist(Policy(destinations=(FAR,), key_image=False))
    moved.lower(study, "Dr B", "artefact")
    assert told(moved) == []
    assert states(moved, study) == {Delivery.DELIVERED, Delivery.WITHHELD}


def test_a_look_does_not_stop_a_withdrawal(worklist: Worklist, hand_clock: HandClock) -> None:
    """A false alarm that others believe is taken back, whoever reads the study."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    told(worklist)
    worklist.lower(study, "Dr B", "artefact")
    worklist.seen(study, how=Seen.REPORTED, by="Dr B")
    assert {item.kind for item in told(worklist)} == WITHDRAWABLE


def test_a_destination_that_left_the_settings_cannot_be_told(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """The history says that the alert still stands there."""
    study = fresh_uid()
    worklist = open_worklist(POLICY)
    found(worklist, hand_clock, study)
    told(worklist)
    later = open_worklist(Policy(destinations=()))
    later.lower(study, "Dr B", "artefact")
    assert "Delivery not withdrawn" in history(later, study)
    assert told(later) == []


def test_an_alert_waits_for_a_withdrawal_that_is_on_its_way(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """The finding arrives last, and holds."""
    study = fresh_uid()
    found(worklist, hand_clock, study)
    told(worklist)
    worklist.lower(study, "Dr B", "artefact")
    worklist.record(slices(3, study_uid=study, expected_count=3))
    on_its_way = worklist.deliveries.claim("send")
    assert on_its_way is not None
    look(worklist, analysed(Finding.POSITIVE))
    at_once = {item.kind for item in told(worklist)}
    assert at_once == set(ALERT_KINDS) - WITHDRAWABLE, "these took nothing back"
    answers = {item.delivery_id: Acknowledged() for item in on_its_way.items}
    assert worklist.deliveries.settle(on_its_way, Dispatched(answers))
    hand_clock.forward(61)
    assert {item.kind for item in told(worklist)} == WITHDRAWABLE
