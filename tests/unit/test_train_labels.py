"""CSV files of labels: what they may say, and the sentence where they are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from train.data.labels import read_labels
from train.errors import TrainingError

NAN = float("nan")


def written(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder / "labels.csv"


@pytest.mark.parametrize(
    "text",
    [
        "series_uid,any,subdural\n1.2,1,1\n1.3,0,\n1.4,,\n",
        "\ufeffSeries_UID;Any;Subdural\n1.2;yes;present\n1.3;no;\n1.4;;n/a\n\n",
        "series_uid\tany\tsubdural\n1.2\tTrue\t1.0\n1.3\tabsent\t?\n1.4\tunknown\tnan\n",
    ],
)
def test_labels_are_read_however_they_are_written(tmp_path: Path, text: str) -> None:
    """Numbers or words, with any separator; what follows from the rest is filled in."""
    table = read_labels(written(tmp_path, text))
    assert table.level == "series_uid"
    found = {one: labels.tolist() for one, labels in table.labels.items()}
    assert found["1.3"] == [0] * 6
    assert str(found["1.2"]) == str([1, NAN, NAN, NAN, NAN, 1.0]).replace("[1,", "[1.0,")
    assert np.isnan(table.labels["1.4"]).all()
    assert table.sources["1.2"] == "readers"
    assert table.rows["1.3"] == 3


def test_what_follows_is_filled_in(tmp_path: Path) -> None:
    """A kind makes a bleed, and none of the five kinds makes none."""
    kinds = "epidural,intraparenchymal,intraventricular,subarachnoid,subdural"
    table = read_labels(written(tmp_path, f"file,{kinds}\na,1,,,,\nb,0,0,0,0,0\nc,0,,,,\n"))
    assert table.labels["a"][0] == 1
    assert table.labels["b"][0] == 0
    assert np.isnan(table.labels["c"][0])


def test_equal_rows_are_one(tmp_path: Path) -> None:
    """Rows that say the same twice are counted and used once."""
    table = read_labels(written(tmp_path, "study_uid,any,label_source\n1,1,report\n1,1,report\n"))
    assert table.repeated == 1
    assert table.sources == {"1": "report"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has 0 columns that identify"),
        ("study_uid,any,ich\n1,1,1\n", "has the column ich, which is none of"),
        ("study_uid,any,any\n1,1,1\n", "the column any more than once"),
        ("any,subdural\n1,1\n", "has 0 columns that identify"),
        ("study_uid,series_uid,any\n1,2,1\n", "has 2 columns that identify"),
        ("study_uid,label_source\n1,report\n", "no label column"),
        ("study_uid,any\n", "has no rows"),
        ("study_uid,any\n1,2\n", "Line 2 .* says neither 1, 0 nor blank of any"),
        ("study_uid,any\n,1\n", "Line 2 .* has no study_uid"),
        ("study_uid,any\n1,1\n2\n", "Line 3 .* has 1 columns"),
        ("study_uid,any\n1,1\n2,0\n1,0\n", "Lines 2 and 4 .* label the same study_uid differently"),
        ("study_uid,any,subdural\n1,0,1\n", "Line 2 .* contradicts itself: subdural is present"),
        (
            "study_uid,any,epidural,intraparenchymal,intraventricular,subarachnoid,subdural\n"
            "1,1,0,0,0,0,0\n",
            "Line 2 .* contradicts itself: any is present and all five",
        ),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    """Unknown columns, values, contradictions within a row and between rows."""
    with pytest.raises(TrainingError, match=sentence):
        read_labels(written(tmp_path, text))


def test_errors_name_lines_and_no_patients(tmp_path: Path) -> None:
    """An accession number or patient ID never gets into a message."""
    for column in ("accession_number", "patient_id"):
        with pytest.raises(TrainingError) as error:
            read_labels(written(tmp_path, f"{column},any\nSECRET7,1\nSECRET7,0\n"))
        assert "SECRET7" not in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A spreadsheet is not a CSV, and neither is a file that is not there."""
    (tmp_path / "labels.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    for path in (tmp_path / "labels.csv", tmp_path / "none.csv"):
        with pytest.raises(TrainingError, match="cannot be read as a CSV"):
            read_labels(path)


def test_an_open_quotation_mark_is_told_in_a_sentence(tmp_path: Path) -> None:
    """The rest of a long file is one cell then, which is too long."""
    with pytest.raises(TrainingError, match="quotation mark"):
        read_labels(written(tmp_path, 'series_uid,any\n"1.2,1\n' + "1.3,0\n" * 30000))
