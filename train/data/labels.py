"""Labels as people write them: a CSV with one identifier a row, and what follows from what.

What is blank is not known, and is filled in only where it follows from the rest
(`ichnode.domain.labels.completed`).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS, Label
from ichnode.domain.labels import Contradiction, completed
from train.data.records import UNKNOWN
from train.errors import TrainingError

Level: TypeAlias = Literal[
    "sop_uid", "file", "series_uid", "study_uid", "accession_number", "patient_id"
]
LEVELS: tuple[Level, ...] = get_args(Level)
_SOURCE_COLUMNS = ("label_source", "source")
_PRESENT = frozenset(("1", "1.0", "yes", "y", "true", "present", "positive"))
_ABSENT = frozenset(("0", "0.0", "no", "n", "false", "absent", "negative"))
_BLANK = frozenset(("", "nan", "na", "n/a", "unknown", "?"))

Labels: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable:
    """The labels of a CSV.

    Attributes
    ----------
    level : str
        What the identifiers are of.
    labels : mapping
        Identifier to labels (label,), 1, 0 or NaN.
    rows : mapping
        Identifier to the line of the file, for error messages: identifiers may be personal.
    sources : mapping
        Identifier to who labelled it; "readers" where the file does not say.
    repeated : int
        Rows that say the same as an earlier one.
    digest : str
        Of the file.
    """

    level: Level
    labels: Mapping[str, Labels] = field(repr=False)
    rows: Mapping[str, int] = field(repr=False)
    sources: Mapping[str, str] = field(repr=False)
    repeated: int
    digest: str


def as_array(stated: Mapping[Label, bool]) -> Labels:
    """Return labels (label,) as 1, 0 and NaN."""
    values = [UNKNOWN if label not in stated else float(stated[label]) for label in LABELS]
    return np.asarray(values, np.float32)


def read_labels(path: Path) -> LabelTable:
    """Read a CSV of labels.

    It has one column that identifies (``sop_uid``, ``file``, ``series_uid``, ``study_uid``,
    ``accession_number`` or ``patient_id``) and any of the six labels, as 1, yes or present, 0, no
    or absent, and blank where not known; ``label_source`` or ``source`` may say who labelled.
    Commas, semicolons or tabulators part the columns.

    Raises
    ------
    TrainingError
        When columns are unknown or missing, a value is none of these, or rows contradict
        themselves or each other. Messages name lines, never identifiers.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise TrainingError(f"{path} cannot be read as a CSV in UTF-8.") from None
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    digest = hashlib.sha256(text.encode()).hexdigest()
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        return _table(path, _level(path, header), header, reader, digest)
    except csv.Error:
        raise TrainingError(
            f"{path.name} is no CSV from line {reader.line_num} on; is a quotation mark open?"
        ) from None


def _level(path: Path, header: list[str]) -> Level:
    """Check the columns and return the one that identifies."""
    known = {*LEVELS, *LABELS, *_SOURCE_COLUMNS}
    if unknown := [name for name in header if name not in known]:
        raise TrainingError(
            f"{path.name} has the column {unknown[0] or '(without a name)'}, which is none of "
            f"{', '.join((*LEVELS, *LABELS, _SOURCE_COLUMNS[0]))}."
        )
    if twice := [name for name in header if header.count(name) > 1]:
        raise TrainingError(f"{path.name} has the column {twice[0]} more than once.")
    identifying = [level for level in LEVELS if level in header]
    if len(identifying) != 1:
        raise TrainingError(
            f"{path.name} has {len(identifying)} columns that identify; it needs exactly one of "
            f"{', '.join(LEVELS)}."
        )
    if not set(header) & set(LABELS):
        raise TrainingError(f"{path.name} has no label column; known are {', '.join(LABELS)}.")
    return identifying[0]


def _table(
    path: Path, level: Level, header: list[str], reader: Iterable[list[str]], digest: str
) -> LabelTable:
    labels: dict[str, Labels] = {}
    rows: dict[str, int] = {}
    sources: dict[str, str] = {}
    repeated = 0
    for line, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise TrainingError(f"Line {line} of {path.name} has {len(cells)} columns.")
        held = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        identifier = held[level]
        if not identifier:
            raise TrainingError(f"Line {line} of {path.name} has no {level}.")
        stated = _row_labels(path, line, held)
        if identifier not in labels:
            labels[identifier], rows[identifier] = stated, line
            said_by = (held.get(name) for name in _SOURCE_COLUMNS)
            sources[identifier] = next(filter(None, said_by), "readers")
        elif np.array_equal(labels[identifier], stated, equal_nan=True):
            repeated += 1
        else:
            raise TrainingError(
                f"Lines {rows[identifier]} and {line} of {path.name} label the same {level} "
                "differently; keep the one that is right."
            )
    if not labels:
        raise TrainingError(f"{path.name} has no rows.")
    return LabelTable(level, labels, rows, sources, repeated, digest)


def _row_labels(path: Path, line: int, held: Mapping[str, str]) -> Labels:
    stated = {label: _value(path, line, label, held.get(label, "")) for label in LABELS}
    try:
        return as_array(completed({k: v for k, v in stated.items() if v is not None}))
    except Contradiction as wrong:
        raise TrainingError(f"Line {line} of {path.name} contradicts itself: {wrong}.") from None


def _value(path: Path, line: int, label: str, cell: str) -> bool | None:
    word = cell.lower()
    if word in _BLANK:
        return None
    if word in _PRESENT or word in _ABSENT:
        return word in _PRESENT
    raise TrainingError(
        f"Line {line} of {path.name} says neither 1, 0 nor blank of {label}; use these."
    )
