"""Identifiers, back-off, errors, reasons and sets."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from ichnode.domain import errors
from ichnode.domain.ids import is_ae_title, is_strict_uid, is_uid, result_uid
from ichnode.domain.reasons import Reason
from ichnode.domain.retry import RetryPolicy
from ichnode.domain.series import Header, set_digest


@pytest.mark.parametrize(
    "text", ["", "1.2.", ".1", "1..2", "../etc/passwd", "1.2/3", "1.2\n", "a.b", "1." * 32 + "12"]
)
def test_what_is_no_uid_is_refused(text):
    """Path characters, letters, empty components and overlong texts are no keys."""
    assert not is_uid(text)


def test_scanners_leading_zeros_are_let_through_but_never_written():
    """PS3.5 9.1 forbids 1.02; real scanners send it, so it is accepted and not produced."""
    assert is_uid("1.02")
    assert not is_strict_uid("1.02")


def test_results_have_deterministic_valid_uids():
    """The same parts give the same UID, other parts another, all valid and at most 44 long."""
    uid = result_uid("sr", "1.2.3", "digest")
    assert uid == result_uid("sr", "1.2.3", "digest")
    assert uid != result_uid("sc", "1.2.3", "digest")
    assert is_strict_uid(uid)
    assert len(uid) <= 44


@pytest.mark.parametrize(
    ("text", "good"),
    [("CT1", True), ("A" * 17, False), ("", False), ("A\\B", False), ("   ", False)],
)
def test_ae_titles_are_1_to_16_printable_characters(text, good):
    """As PS3.5 6.2 defines the value representation AE."""
    assert is_ae_title(text) is good


def test_backoff_grows_is_jittered_and_bounded():
    """Waits lie between half and all of first * factor**n, and never above the longest."""
    policy = RetryPolicy(first=timedelta(seconds=2), longest=timedelta(seconds=60), attempts=None)
    chance = random.Random(7)
    for attempts, full_s in [(1, 2), (2, 4), (3, 8), (6, 60), (1000, 60)]:
        waits = [policy.wait(attempts, chance).total_seconds() for _ in range(200)]
        assert full_s / 2 <= min(waits)
        assert max(waits) <= full_s
        assert len(set(waits)) > 100
    assert not policy.exhausted(10**6)
    assert RetryPolicy(attempts=3).exhausted(3)
    assert not RetryPolicy(attempts=3).exhausted(2)


def test_every_reason_has_a_code_of_its_own_and_a_sentence():
    """Codes are kept in databases: unique, plain, and found again."""
    assert len({r.code for r in Reason}) == len(Reason)
    for reason in Reason:
        assert Reason.from_code(reason.code) is reason
        assert reason.sentence.endswith(".")
        assert reason.code.replace("_", "").isalpha()


def test_errors_speak_for_themselves():
    """An error without a message says what its class says."""
    assert str(errors.OutOfSpace()) == "There is no room for more images."
    declined = errors.NotAnalysable(Reason.TOO_FEW_SLICES, "3 slices", may_change=True)
    assert str(declined) == "There are too few slices. (3 slices)"


def test_a_set_is_the_same_in_any_order_and_other_with_other_bytes():
    """The digest of a frozen set depends on its members alone."""
    one, two = ("1.2.1", "aa"), ("1.2.2", "bb")
    assert set_digest([one, two]) == set_digest([two, one])
    assert set_digest([one, two]) != set_digest([one, ("1.2.2", "cc")])


def test_the_patient_key_tells_patients_apart_without_telling_who_they_are():
    """Issuer and ID make the key; neither can be read from it."""
    header = Header("1.2.3", "1.2", "1.3", "1.4", patient_id="P7", issuer_of_patient_id="A")
    other = Header("1.2.3", "1.2", "1.3", "1.4", patient_id="P7", issuer_of_patient_id="B")
    assert header.patient_key != other.patient_key
    assert "P7" not in header.patient_key
