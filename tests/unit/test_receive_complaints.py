"""Refusals by the thousand: what people see of them, and what they cost."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from ichnode.domain.series import Refusal
from ichnode.receive.complaints import KINDS, KINDS_PER_PEER, Complaints


def refusal(address: str = "10.0.0.1", calling: str = "CT01") -> Refusal:
    return Refusal(datetime.now(UTC), calling, address, 0, "No.")


def test_the_first_comes_at_once_and_the_rest_as_one_with_its_count() -> None:
    """What follows within the time is held back, and not lost."""
    passed: list[Refusal] = []
    complaints = Complaints(passed.append, every_s=0.2)
    assert [complaints.add(refusal()) for _ in range(3)] == [True, False, False]
    complaints.hand_over(4)
    assert [one.sentence for one in passed] == ["No. 3 times."]
    for _ in range(5):
        assert not complaints.add(refusal())
    complaints.hand_over(4)
    assert len(passed) == 1
    threading.Event().wait(0.25)
    complaints.hand_over(4)
    assert [one.sentence for one in passed[1:]] == ["No. 5 times."]


def test_nothing_is_handed_over_twice_and_the_end_leaves_nothing() -> None:
    """A kind that stays quiet is forgotten; the last call passes on what is not due."""
    passed: list[Refusal] = []
    complaints = Complaints(passed.append)
    complaints.add(refusal())
    complaints.hand_over(4)
    complaints.hand_over()
    complaints.add(refusal())
    complaints.hand_over()
    assert [one.sentence for one in passed] == ["No.", "No."]


def test_a_few_at_a_time() -> None:
    """Images need not wait for more than were asked for."""
    passed: list[Refusal] = []
    complaints = Complaints(passed.append)
    for number in range(6):
        complaints.add(refusal(f"10.0.0.{number}"))
    complaints.hand_over(4)
    assert len(passed) == 4
    complaints.hand_over(4)
    assert len(passed) == 6


def test_invented_names_and_many_peers_share_a_kind() -> None:
    """However a peer varies its title, and however many peers there are, kinds are bounded."""
    passed: list[Refusal] = []
    complaints = Complaints(passed.append)
    for number in range(1000):
        complaints.add(refusal("10.0.0.1", f"AE{number}"))
    complaints.hand_over()
    assert len(passed) == KINDS_PER_PEER + 1
    for number in range(1000):
        complaints.add(refusal(f"10.1.{number // 250}.{number % 250}"))
    complaints.hand_over()
    assert len(passed) <= KINDS_PER_PEER + 1 + KINDS + 1
    assert passed[-1].sentence.startswith("More peers were refused")
