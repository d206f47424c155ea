"""A CSV file of labels: what is understood, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.findings import LABELS
from ichnode.service.label_files import LabelFile, read_labels


@pytest.fixture
def read(tmp_path: Path):
    """Write a file and read it."""

    def read_(text: str | bytes, **changes: str) -> LabelFile:
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_labels(path, source=changes.get("source", "reader"), by=changes.get("by", ""))

    return read_


def test_a_line_is_a_study_with_what_is_known_of_it(read):
    """Blank is not known, what follows is filled in, a line's source goes before the file's."""
    found = read(
        "accession_number,study_uid,any,subdural,epidural,source,by\n"
        "A1,,1,yes,,,\n"
        ",1.2.3,No,,,report,Dr C\n",
        by="Dr B",
    )
    first, second = found.lines
    assert (first.line, first.accession_number, first.study_uid) == (2, "A1", "")
    assert first.stated == {"any": True, "subdural": True}
    assert (first.source, first.said_by) == ("reader", "Dr B")
    assert second.stated == dict.fromkeys(LABELS, False)
    assert (second.study_uid, second.source, second.said_by) == ("1.2.3", "report", "Dr C")
    assert found.bad == ()


@pytest.mark.parametrize("word", ["1", "yes", "YES", "present", "1.0", "True", " 1 "])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_words_and_separators_of_the_trade_are_understood(read, word, separator):
    """A spreadsheet in any language may write the file."""
    found = read(f"study_uid{separator}any\r\n1.2.3{separator}{word}\r\n")
    assert found.lines[0].stated["any"] is True


def test_a_byte_order_mark_and_headings_of_a_person_are_understood(read):
    """Excel's "CSV UTF-8" begins with one; "Accession Number" is accession_number."""
    found = read(b"\xef\xbb\xbfAccession Number,Any,Patient Name\nA1,0,Somebody\n")
    assert found.lines[0].accession_number == "A1"
    assert found.ignored == ("patient_name",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",,1,", "neither accession_number nor study_uid"),
        ("A1,,maybe,", "any is neither 1, yes"),
        ("A1,,,", "no label"),
        ("A1,,0,1", "a contradiction: epidural is present and any is absent"),
        ("A1,../etc,1,", "study_uid is no UID"),
        ("A1,,1,,surplus", "5 cells under 4 columns"),
    ],
)
def test_a_bad_line_says_why_without_quoting_itself(read, line, reason):
    """Its number and its columns, and no value: an accession number is a patient's."""
    found = read(f"accession_number,study_uid,any,epidural\nA0,,1,1\n{line}\n")
    (bad,) = found.bad
    assert bad.line == 3
    assert reason in bad.reason
    assert "A1" not in bad.reason
    assert "maybe" not in bad.reason
    assert len(found.lines) == 1


def test_a_source_that_is_none_is_refused(read):
    """Least of all the model itself."""
    found = read("accession_number,any,source\nA1,1,model\n")
    assert found.bad[0].reason == "source is none of adjudicated, reader, report"


def test_two_lines_about_one_study_must_agree(read):
    """The later one is refused and names the earlier; the same again is no mistake."""
    found = read("accession_number,any\nA1,1\nA2,0\nA1,1\nA1,0\n")
    assert [bad.line for bad in found.bad] == [5]
    assert "line 2" in found.bad[0].reason
    assert len(found.lines) == 3


def test_two_sources_may_disagree(read):
    """That is what the sources are for."""
    found = read("accession_number,any,source\nA1,1,report\nA1,0,reader\n")
    assert found.bad == ()


def test_empty_lines_are_nothing(read):
    """Nor is a line of empty cells, as spreadsheets leave at the end."""
    found = read("accession_number,any\n\nA1,1\n,\n")
    assert (len(found.lines), found.bad) == (1, ())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no column accession_number or study_uid"),
        (b"name,any\nx,1\n", "no column accession_number or study_uid"),
        (b"study_uid,bleed\n1.2,1\n", "no column of a label"),
        (b"study_uid,any,Any\n1.2,1,1\n", "column any twice"),
        (b"study_uid,any\n1.2,\xe9\n", "not in UTF-8"),
    ],
)
def test_a_file_that_is_none_of_ours_is_a_sentence(read, content, sentence):
    """One sentence that says what to do."""
    with pytest.raises(ConfigurationError, match=sentence):
        read(content)


def test_a_missing_file_is_a_sentence(tmp_path):
    """Not a stack trace."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", source="reader")
