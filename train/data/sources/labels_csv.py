"""The CSV files that public datasets come with: read as they are, and believed only when sound.

Column names are compared without the blanks around them and inside them made one: published files
have leading blanks and line breaks in their headers.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from train.errors import TrainingError

CONTRADICTORY = "labels contradict themselves"
"""The reason by which a slice or series is left out whose labels cannot all be true."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a CSV.

    Attributes
    ----------
    file : str
        Its name, and `line` its line, for error messages.
    cells : mapping
        Column name to text.
    """

    file: str
    line: int
    cells: Mapping[str, str] = field(repr=False)

    def flag(self, column: str) -> bool | None:
        """Return a cell that says 1 or 0; None where it is blank.

        Raises
        ------
        TrainingError
            When it says something else.
        """
        cell = self.cells[column]
        if cell not in _FLAGS:
            raise TrainingError(
                f"Line {self.line} of {self.file} says neither 1, 0 nor blank of {column}; take "
                "the file as it was published."
            )
        return _FLAGS[cell]

    def whole_number(self, column: str) -> int:
        """Return a cell that holds a whole number.

        Raises
        ------
        TrainingError
            When it does not.
        """
        cell = self.cells[column]
        number = cell.removesuffix(".0")
        if not number.isdecimal():
            raise TrainingError(
                f"Line {self.line} of {self.file} has no whole number in {column}; take the file "
                "as it was published."
            )
        return int(number)


_FLAGS: Mapping[str, bool | None] = {"1": True, "1.0": True, "0": False, "0.0": False, "": None}


def read_rows(path: Path, columns: Iterable[str]) -> list[Row]:
    """Read a CSV that has at least these columns.

    Raises
    ------
    TrainingError
        When the file is not there, cannot be read, or lacks a column.
    """
    (_, header), *lines = _parsed(path)
    names = [" ".join(name.split()) for name in header]
    if missing := [name for name in columns if name not in names]:
        raise TrainingError(
            f"{path.name} has no column {missing[0]}; take the file as it was published."
        )
    rows = []
    for number, cells in lines:
        if any(cell.strip() for cell in cells):
            filled = [cell.strip() for cell in cells] + [""] * (len(names) - len(cells))
            rows.append(Row(path.name, number, dict(zip(names, filled, strict=False))))
    return rows


def _parsed(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of each row with its line; there is at least one row."""
    reader = csv.reader(io.StringIO(text_of(path)))
    try:
        return [(reader.line_num, cells) for cells in reader] or [(1, [])]
    except csv.Error:
        raise TrainingError(
            f"{path.name} is no CSV from line {reader.line_num} on; take the file as it was "
            "published."
        ) from None


def text_of(path: Path) -> str:
    """Return the text of a file of a dataset.

    Raises
    ------
    TrainingError
        When it is not there or is no text.
    """
    try:
        return existing(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read ({type(error).__name__}).") from None


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, by which a cache knows that labels have changed."""
    with existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def existing(path: Path) -> Path:
    """Return a path of a dataset.

    Raises
    ------
    TrainingError
        When there is nothing.
    """
    if not path.exists():
        raise TrainingError(
            f"There is no {path.name} in {path.parent}; give the folder of the dataset as it was "
            "published."
        )
    return path


def refuse_labels(labels: Path | None, dataset: str) -> None:
    """Refuse a CSV of labels for a dataset that has its own.

    Raises
    ------
    TrainingError
        When there is one.
    """
    if labels is not None:
        raise TrainingError(f"{dataset} comes with its labels; leave --labels out.")
