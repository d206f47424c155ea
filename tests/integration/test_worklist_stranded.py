"""Deliveries whose destination was renamed, removed, or takes them no more; on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Delivery
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.rows import StrandedRow
from ichnode.worklist.stranded import Decided
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import HandClock, analysed, build, fresh_uid, look, send, sent_kinds, slices

OLD = Route("old", frozenset({"sr", "ups"}), loopback=True)
NEW = replace(OLD, name="new")


@pytest.fixture
def before(open_worklist: OpenWorklist) -> Worklist:
    """The node with the settings of before."""
    return open_worklist(Policy(destinations=(OLD,), key_image=False, negative_sr=True))


@pytest.fixture
def after(open_worklist: OpenWorklist) -> Worklist:
    """The node after its destination got another name."""
    return open_worklist(Policy(destinations=(NEW,), key_image=False))


def found(worklist: Worklist, clock: HandClock, finding: Finding = Finding.POSITIVE) -> str:
    """An analysed study; returns its UID."""
    study = fresh_uid()
    worklist.record(slices(3, study_uid=study))
    clock.forward(20)
    look(worklist, analysed(finding))
    return study


def states(worklist: Worklist, study_uid: str) -> list[tuple[str, str, Delivery]]:
    story = worklist.views.study(study_uid)
    assert story is not None
    return sorted(
        ((one.destination, one.kind, one.state) for one in story.deliveries),
        key=lambda one: one[:2],
    )


def history(worklist: Worklist, study_uid: str) -> str:
    story = worklist.views.study(study_uid)
    assert story is not None
    return " ".join(one.sentence for one in story.events)


def test_what_waits_for_a_destination_that_was_renamed_is_told_and_moved(
    before: Worklist, after: Worklist, hand_clock: HandClock
) -> None:
    """Built or not yet; it goes out under the new name, once, and the images may go at last."""
    study, negative = found(before, hand_clock), found(before, hand_clock, Finding.NEGATIVE)
    build(before)
    later = found(before, hand_clock)
    assert before.views.stranded() == []
    assert after.deliveries.claim("send") is None
    assert after.views.stranded() == [StrandedRow("old", 5, 4)]
    assert "old" in after.views.stranded()[0].sentence
    assert after.stranded.redirect("old", "new", "A. Admin") == Decided(done=5, positives=4)
    assert after.views.stranded() == []
    build(after)
    assert sent_kinds(send(after)) == ["sr", "sr", "sr", "ups", "ups"]
    for one in (study, negative, later):
        assert "Delivery redirected" in history(after, one)
        assert "by A. Admin" in history(after, one)
    assert after.views.oldest_undelivered_positive() is None
    assert len(after.purgeable(timedelta(0))) == 9
    assert after.stranded.redirect("old", "new", "A. Admin").found == 0


def test_what_nobody_shall_get_is_given_up(
    before: Worklist, after: Worklist, hand_clock: HandClock
) -> None:
    """Visibly, positives too: a person says so."""
    study = found(before, hand_clock)
    assert after.stranded.give_up("old", "A. Admin") == Decided(done=2, positives=2)
    assert {state for _, _, state in states(after, study)} == {Delivery.SUPPRESSED}
    assert "because nobody takes it any more" in history(after, study)
    assert after.views.oldest_undelivered_positive() is None
    build(after)
    assert send(after) == []
    assert len(after.purgeable(timedelta(0))) == 3


def test_a_rehearsal_changes_nothing(
    before: Worklist, after: Worklist, hand_clock: HandClock
) -> None:
    """It says what would be done."""
    study = found(before, hand_clock)
    was = states(after, study), history(after, study)
    for decided in (
        after.stranded.redirect("old", "new", "A. Admin", dry_run=True),
        after.stranded.give_up("old", "A. Admin", dry_run=True),
    ):
        assert decided == Decided(done=2, positives=2)
    assert was == (states(after, study), history(after, study))


def test_a_destination_gets_nothing_twice(
    open_worklist: OpenWorklist, after: Worklist, hand_clock: HandClock
) -> None:
    """What it got, or gets, on its own account is given up under the old name."""
    both = open_worklist(Policy(destinations=(OLD, NEW), key_image=False))
    study = found(both, hand_clock)
    decided = after.stranded.redirect("old", "new", "A. Admin")
    assert decided == Decided(there_already=2)
    assert "because new has it already" in history(after, study)
    build(after)
    assert sent_kinds(send(after)) == ["sr", "ups"]


def test_a_withdrawal_follows_its_destination(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Under another name it is the same system, which believes the alert."""
    before, after = (
        open_worklist(Policy(destinations=(replace(one, kinds=frozenset({"hl7"})),)))
        for one in (OLD, NEW)
    )
    study = found(before, hand_clock)
    send(before)
    before.lower(study, "Dr B", "artefact")
    assert send(after) == []
    assert after.stranded.redirect("old", "new", "A. Admin") == Decided(done=1, positives=1)
    ((item,),) = (work.items for work in send(after))
    assert item.alert is not None
    assert item.alert.withdrawn


def test_a_kind_that_is_not_taken_is_left(
    open_worklist: OpenWorklist, before: Worklist, hand_clock: HandClock
) -> None:
    """By the new destination, or by the old one that takes it no more."""
    study = found(before, hand_clock)
    fewer = replace(OLD, kinds=frozenset({"sr"}))
    other = Route("other", frozenset({"sr"}), loopback=True)
    gone = open_worklist(Policy(destinations=(other,), key_image=False))
    assert gone.stranded.redirect("old", "other", "A. Admin") == Decided(
        done=1, positives=1, not_taken=1
    )
    assert gone.views.stranded() == [StrandedRow("old", 1, 1)]
    kept = open_worklist(Policy(destinations=(fewer, other), key_image=False))
    assert kept.views.stranded() == [StrandedRow("old", 1, 1)]
    assert kept.stranded.give_up("old", "A. Admin") == Decided(done=1, positives=1)
    assert states(kept, study) == [
        ("old", "ups", Delivery.SUPPRESSED),
        ("other", "sr", Delivery.WAITING),
    ]


def test_a_kind_that_a_destination_takes_no_more_is_not_claimed(
    open_worklist: OpenWorklist, before: Worklist, hand_clock: HandClock
) -> None:
    """It has no mechanism there, and the rest of its batch would fail with it."""
    found(before, hand_clock)
    build(before)
    fewer = open_worklist(Policy(destinations=(replace(OLD, kinds=frozenset({"ups"})),)))
    assert sent_kinds(send(fewer)) == ["ups"]
    assert fewer.views.stranded() == [StrandedRow("old", 1, 1)]


def test_what_another_host_is_sending_is_left(
    before: Worklist, after: Worklist, hand_clock: HandClock
) -> None:
    """It still has the settings of before; nothing of it is sent under two names."""
    found(before, hand_clock)
    build(before)
    assert before.deliveries.claim("another host") is not None
    assert after.stranded.redirect("old", "new", "A. Admin") == Decided(held=2)
    hand_clock.forward(61)
    assert after.stranded.redirect("old", "new", "A. Admin").done == 2


def test_what_is_moved_to_a_destination_that_is_closed_is_withheld(
    open_worklist: OpenWorklist, before: Worklist, hand_clock: HandClock
) -> None:
    """No way out of observe mode."""
    study = found(before, hand_clock)
    build(before)
    far = replace(NEW, loopback=False)
    after = open_worklist(Policy(destinations=(far,), key_image=False))
    assert after.stranded.redirect("old", "new", "A. Admin").done == 2
    assert send(after) == []
    assert {state for _, _, state in states(after, study)} == {Delivery.WITHHELD}


@pytest.mark.parametrize("to", ["old", "elsewhere"])
def test_there_must_be_another_destination(to: str, after: Worklist) -> None:
    """Or the same would be stranded again."""
    with pytest.raises(ConfigurationError, match="no other destination"):
        after.stranded.redirect("old", to, "A. Admin")
