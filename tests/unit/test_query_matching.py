"""Matching by the rules of DICOM, and the distrust that data sets are read with."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pynetdicom.dsutils import encode

from ichnode.query.identifiers import read, write
from ichnode.query.matching import answer_to, is_like, matches, moments
from ichnode.query.statuses import Refused
from ichnode.query.structure import Broken, Structure

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.fixture
def in_utc() -> Iterator[None]:
    """Live in Greenwich, in winter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def keyed(**values: object) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_wild_cards_are_those_of_file_names(pattern: str, text: str) -> None:
    """The same as a library that is known to be right, without its blow-ups."""
    assert is_like(pattern, text) == bool(re.fullmatch(fnmatch.translate(pattern), text))


def test_no_pattern_blows_up() -> None:
    """What would take other matchers longer than the world stands."""
    assert not is_like("*a" * 400 + "b", "a" * 1000)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("2026", utc(2026, 1, 1), utc(2026, 12, 31, 23, 59, 59, 999999)),
        ("202602", utc(2026, 2, 1), utc(2026, 2, 28, 23, 59, 59, 999999)),
        ("20261231", utc(2026, 12, 31), utc(2026, 12, 31, 23, 59, 59, 999999)),
        ("20260301120000.5", *[utc(2026, 3, 1, 12, 0, 0, 500000)] * 2),
        ("2026030112+0100", utc(2026, 3, 1, 11), utc(2026, 3, 1, 11, 59, 59, 999999)),
        ("2026030112-0500", utc(2026, 3, 1, 17), utc(2026, 3, 1, 17, 59, 59, 999999)),
        ("2025-2026", utc(2025, 1, 1), utc(2026, 12, 31, 23, 59, 59, 999999)),
        ("20260301-", utc(2026, 3, 1), None),
        ("-20260301", None, utc(2026, 3, 1, 23, 59, 59, 999999)),
        (
            "20260301+0000-20260302+0000",
            utc(2026, 3, 1),
            utc(2026, 3, 2, 23, 59, 59, 999999),
        ),
    ],
)
@pytest.mark.usefixtures("in_utc")
def test_moments_and_ranges(asked: str, first: datetime | None, last: datetime | None) -> None:
    """A value means all of its smallest part; a hyphen begins an offset where it can be one."""
    assert moments(asked) == (first, last)


@pytest.mark.parametrize("asked", ["soon", "-", "20261301", "2026030125", "2026-99", "9999"])
def test_what_is_no_moment_is_refused(asked: str) -> None:
    """Instead of matching anything."""
    with pytest.raises(Refused):
        moments(asked)


def test_names_and_sequences() -> None:
    """Letters of either case, empty components, and what an item lacks."""
    name = keyed(PatientName="Müller^Jürgen^^^")
    assert matches(keyed(PatientName="mÜLLER^jürgen"), name)
    assert not matches(keyed(PatientName="Müller"), name)
    coded = keyed(ScheduledWorkitemCodeSequence=[keyed(CodeValue="1", CodingSchemeDesignator="D")])
    for item, hit in (
        ({"CodeValue": "1"}, True),
        ({"CodeValue": "1", "CodingSchemeDesignator": "E"}, False),
        ({"CodeValue": "1", "CodeMeaning": "x"}, False),
        ({"CodeValue": ""}, True),
    ):
        assert matches(keyed(ScheduledWorkitemCodeSequence=[keyed(**item)]), coded) is hit
    empty = keyed(ScheduledWorkitemCodeSequence=[])
    assert matches(keyed(ScheduledWorkitemCodeSequence=[]), empty)
    asked = keyed(ScheduledWorkitemCodeSequence=[keyed(CodeValue="")])
    assert answer_to(asked, coded) == keyed(ScheduledWorkitemCodeSequence=[keyed(CodeValue="1")])
    assert answer_to(empty, coded) == coded


# ------------------------------------------------------------------ distrust

GOOD = keyed(
    SpecificCharacterSet="ISO_IR 192",
    PatientName="Müller^Jürgen",
    StudyInstanceUID="1.2.3",
    ReferencedRequestSequence=[keyed(AccessionNumber="A1", RequestedProcedureCodeSequence=[])],
)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_was_written_is_read(syntax: str) -> None:
    """In both syntaxes, letters of every kind included."""
    assert read(write(GOOD, syntax), syntax) == GOOD


def test_sequences_of_undefined_length_are_read() -> None:
    """As many programs write them."""
    GOOD["ReferencedRequestSequence"].is_undefined_length = True
    GOOD.ReferencedRequestSequence[0].is_undefined_length_sequence_item = True
    content = encode(GOOD, False, True)
    GOOD["ReferencedRequestSequence"].is_undefined_length = False
    assert b"\xff\xff\xff\xff" in content
    assert read(BytesIO(content), EXPLICIT).ReferencedRequestSequence[0].AccessionNumber == "A1"
    with pytest.raises(Broken, match="cut off"):
        Structure(content[:-8], False, True).check()


@settings(max_examples=300)
@given(st.data(), st.sampled_from([EXPLICIT, IMPLICIT]))
def test_damaged_data_sets_are_read_or_refused(data: st.DataObject, syntax: str) -> None:
    """Nothing else ever comes of them, and never a query that has lost its keys in silence."""
    whole = write(GOOD, syntax).getvalue()
    kind = data.draw(st.sampled_from(["cut", "changed", "noise"]))
    if kind == "cut":
        content = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "changed":
        at = data.draw(st.integers(0, len(whole) - 1))
        content = whole[:at] + data.draw(st.binary(min_size=1, max_size=4)) + whole[at + 2 :]
    else:
        content = data.draw(st.binary(max_size=60))
    assert said_of(content, syntax) != ""


def said_of(content: bytes, syntax: str) -> str:
    """What was read, or why it was refused."""
    try:
        return str(read(BytesIO(content), syntax))
    except Refused as refused:
        return "" if "ller" in refused.sentence else refused.sentence
