"""Read a CSV file of labels: every line is understood, or refused with a reason.

Whatever is said about a line names its number and its columns and never quotes it: an accession
number is a patient's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.findings import LABELS, Label
from ichnode.domain.ids import is_uid
from ichnode.domain.labels import SOURCES, Contradiction, LabelSource, completed
from ichnode.worklist.labels import LabelLine

KEYS = ("accession_number", "study_uid")
OTHERS = ("series_uid", "source", "by")
_WORDS = {
    **dict.fromkeys(("1", "1.0", "yes", "present", "true"), True),
    **dict.fromkeys(("0", "0.0", "no", "absent", "false"), False),
}
_SEPARATORS = ",;\t"
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was not understood."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What a file says."""

    lines: tuple[LabelLine, ...]
    bad: tuple[BadLine, ...]
    ignored: tuple[str, ...]  # columns that mean nothing to us


def read_labels(path: Path, *, source: LabelSource, by: str = "") -> LabelFile:
    """Read a file of labels.

    One line per study, with ``accession_number`` or ``study_uid`` (or both), where wanted
    ``series_uid``, and a column for each label that is known: ``any``, ``epidural``,
    ``intraparenchymal``, ``intraventricular``, ``subarachnoid``, ``subdural``. A label is 1, yes or
    present, 0, no or absent, or blank where it is not known. Commas, semicolons or tabs.

    Parameters
    ----------
    source, by : str
        Where they come from and who says so, for lines that do not say it themselves in the columns
        ``source`` and ``by``.

    Raises
    ------
    ConfigurationError
        When the file cannot be read, or has no column that names studies or none of a label.
    """
    rows = _rows(path)
    columns = _columns(next(rows, (0, []))[1], path.name)
    seen: dict[tuple[str, ...], LabelLine] = {}
    lines, bad = [], []
    for number, cells in rows:
        if not any(cells):
            continue
        try:
            line = _line(number, _by_name(columns, cells), source, by)
            _same_as_before(line, seen)
            lines.append(line)
        except ValueError as error:
            bad.append(BadLine(number, str(error)))
    known = {*KEYS, *OTHERS, *LABELS}
    ignored = tuple(name for name in columns if name and name not in known)
    return LabelFile(tuple(lines), tuple(bad), ignored)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each line's number and its cells."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not in UTF-8; save it as CSV UTF-8.") from None
    heading = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error:
        raise ConfigurationError(f"Line {reader.line_num} of {path} is not CSV.") from None


def _columns(heading: list[str], file: str) -> list[str]:
    columns = [name.lower().replace(" ", "_").replace("-", "_") for name in heading]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{file} has the column {twice[0]} twice.")
    if not set(KEYS) & set(columns):
        raise ConfigurationError(
            f"{file} has no column accession_number or study_uid; its first line must name the "
            "columns."
        )
    if not set(LABELS) & set(columns):
        raise ConfigurationError(
            f"{file} has no column of a label; give one or more of {', '.join(LABELS)}."
        )
    return columns


def _by_name(columns: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        raise ValueError(f"{len(cells)} cells under {len(columns)} columns")
    return dict(zip(columns, cells, strict=False))


def _line(number: int, cells: Mapping[str, str], source: LabelSource, by: str) -> LabelLine:
    if not any(cells.get(key) for key in KEYS):
        raise ValueError("neither accession_number nor study_uid")
    for name in ("study_uid", "series_uid"):
        if cells.get(name) and not is_uid(cells[name]):
            raise ValueError(f"{name} is no UID")
    stated = {label: _there(label, cells[label]) for label in LABELS if cells.get(label)}
    if not stated:
        raise ValueError("no label")
    try:
        whole = completed(stated)
    except Contradiction as error:
        raise ValueError(f"a contradiction: {error}") from None
    return LabelLine(
        line=number,
        study_uid=cells.get("study_uid", ""),
        accession_number=cells.get("accession_number", ""),
        series_uid=cells.get("series_uid", ""),
        stated=whole,
        source=_source(cells.get("source", "").lower(), source),
        said_by=(cells.get("by") or by)[:LONGEST_NAME],
    )


def _there(label: Label, cell: str) -> bool:
    if (there := _WORDS.get(cell.lower())) is None:
        raise ValueError(f"{label} is neither 1, yes, present, 0, no, absent nor blank")
    return there


def _source(stated: str, otherwise: LabelSource) -> LabelSource:
    if not stated:
        return otherwise
    for source in SOURCES:
        if stated == source:
            return source
    raise ValueError(f"source is none of {', '.join(SOURCES)}")


def _same_as_before(line: LabelLine, seen: dict[tuple[str, ...], LabelLine]) -> None:
    """Refuse a line that says something else of the same study than an earlier one."""
    keys = [("uid", line.study_uid), ("number", line.accession_number)]
    for kind, value in keys:
        if not value:
            continue
        earlier = seen.setdefault((kind, value, line.series_uid, line.source), line)
        if any(line.stated.get(k) is not there for k, there in earlier.stated.items()):
            raise ValueError(f"it says something else of the same study than line {earlier.line}")
