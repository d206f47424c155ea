"""What follows from what people say of a study."""

from __future__ import annotations

import itertools

import pytest

from ichnode.domain.findings import LABELS, Presence
from ichnode.domain.labels import (
    KINDS,
    SOURCES,
    Contradiction,
    Statement,
    Truth,
    completed,
    superseding,
    truth_of,
)

PRESENT, ABSENT, OPEN = Presence.PRESENT, Presence.ABSENT, Presence.UNDETERMINED
NONE = dict.fromkeys(LABELS, False)


def test_a_kind_makes_any():
    """Who says that there is a subdural says that there is a haemorrhage; of the rest nothing."""
    assert completed({"subdural": True}) == {"subdural": True, "any": True}


@pytest.mark.parametrize("stated", [{"any": False}, dict.fromkeys(KINDS, False)])
def test_no_haemorrhage_is_none_of_any_kind(stated):
    """Said of the whole or of every kind, it is the same."""
    assert completed(stated) == NONE


def test_one_absent_kind_says_nothing_of_the_rest():
    """No subdural may be any other haemorrhage, or none."""
    assert completed({"subdural": False}) == {"subdural": False}


@pytest.mark.parametrize(
    "stated",
    [{"any": False, "epidural": True}, {"any": True, **dict.fromkeys(KINDS, False)}],
)
def test_contradictions_are_refused(stated):
    """A kind without any, and any without a kind."""
    with pytest.raises(Contradiction, match="any"):
        completed(stated)


def test_the_same_again_changes_nothing():
    """What was said is said."""
    assert superseding({"any": PRESENT, "epidural": PRESENT}, {"any": True}) == {}


def test_what_is_not_mentioned_stays():
    """A later word about one kind leaves the others alone."""
    before = {"any": PRESENT, "epidural": PRESENT, "subdural": ABSENT}
    stated = completed({"subdural": True})
    assert superseding(before, stated) == {"subdural": PRESENT}


def test_a_negative_that_turns_positive_leaves_its_kinds_open():
    """They were absent because nothing was there; which one it is nobody said."""
    before = dict.fromkeys(LABELS, ABSENT)
    changes = superseding(before, completed({"any": True}))
    assert changes == {"any": PRESENT, **dict.fromkeys(KINDS, OPEN)}
    named = superseding(before, completed({"epidural": True}))
    assert named == {"any": PRESENT, "epidural": PRESENT}


def test_nothing_said_is_nothing_known():
    """Unknown is not absent."""
    assert truth_of([]) == Truth((None,) * 6)
    assert truth_of([Statement("any", OPEN, "reader")]).positive is None


def test_the_most_trusted_source_decides():
    """Readers who agreed, before one reader, before a report; whoever spoke last."""
    said = [Statement("any", PRESENT, "report"), Statement("any", ABSENT, "reader")]
    assert truth_of(said) == Truth((False,) * 6, "reader")
    said.append(Statement("any", PRESENT, "adjudicated"))
    assert truth_of(said).source == "adjudicated"
    assert truth_of(said).positive is True


def test_others_add_kinds_where_that_fits():
    """The reader says that there is blood, the report says which."""
    said = [
        Statement("any", PRESENT, "reader"),
        Statement("any", PRESENT, "report"),
        Statement("subdural", PRESENT, "report"),
    ]
    assert truth_of(said).of("subdural") is True
    assert truth_of(said).source == "reader"


def test_the_kinds_of_who_was_overruled_do_not_contradict():
    """A report of no haemorrhage, overruled by a reader, says nothing of the kind that it is."""
    said = [Statement("any", PRESENT, "reader")]
    said += [Statement(label, ABSENT, "report") for label in LABELS]
    assert truth_of(said) == Truth((True, *(None,) * 5), "reader")


def test_no_two_sources_ever_make_a_contradiction():
    """Whatever two sources say, each by itself consistent: any is one of the kinds."""
    ways = [
        {"any": False},
        {"any": True},
        {"epidural": True},
        {"epidural": False},
        {"epidural": True, "subdural": False},
        {"any": True, **dict.fromkeys(KINDS[1:], False)},
    ]
    for source, other in itertools.permutations(SOURCES, 2):
        for mine, yours in itertools.product(ways, ways):
            said = [
                Statement(label, PRESENT if there else ABSENT, who)
                for who, what in ((source, mine), (other, yours))
                for label, there in completed(what).items()
            ]
            truth = truth_of(said)
            pairs = zip(LABELS, truth.labels, strict=True)
            known = {label: there for label, there in pairs if there is not None}
            assert completed(known).items() >= known.items(), (source, mine, other, yours)
