"""Reports from a CSV or a folder of text files, and tables of what they say.

Errors and messages name lines and columns and never quote what is in them: reports are full of
patients.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ichnode.domain.findings import LABELS, Label
from ichnode.spool import write_durable
from train.errors import TrainingError
from train.reports.labelling import ReportLabels
from train.reports.training_labels import TrainingLabel

IDENTIFIERS = ("accession_number", "study_uid")
TEXTS = ("text", "report", "report_text", "narrative")
PARTS = (
    "clinical_history",
    "history",
    "indication",
    "comparison",
    "findings",
    "impression",
    "addendum",
)
"""Columns that are read as sections where no column holds the whole text."""
SOURCE = "report"
"""What `ichnode labels import` and the training data call labels that come from a report."""
_WORDS = {True: "present", False: "absent", None: ""}
_EVIDENCE = (
    "label",
    "answer",
    "acuity",
    "value",
    "reason",
    "rule",
    "cue",
    "overruled",
    "section",
    "start",
    "end",
)
_LONGEST_TEXT = 2_000_000  # characters of a cell


@dataclass(frozen=True, slots=True)
class Report:
    """The text of one report; `line` is where it stands in the file, from 1."""

    identifier: str = field(repr=False)
    text: str = field(repr=False)
    line: int
    cells: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports of a file or folder, and what its identifiers are of."""

    column: str
    reports: tuple[Report, ...]
    without_text: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A study, what its report says, and the labels that follow."""

    identifier: str = field(repr=False)
    report: ReportLabels
    labels: Mapping[Label, TrainingLabel]
    text: str = field(repr=False)


def read_reports(source: Path, *, identifier: str = "", text: str = "") -> Reports:
    """Read the reports of a CSV, or of a folder with one text file per study.

    Parameters
    ----------
    source : Path
        A CSV in UTF-8 (commas, semicolons or tabulators) with the columns `identifier` and `text`,
        or a folder of .txt files that are named by the identifier.
    identifier, text : str
        Columns; by default the first of ``accession_number`` and ``study_uid``, and of ``text``,
        ``report``, ``report_text`` and ``narrative``, or else ``findings``, ``impression`` and
        other sections together.

    Raises
    ------
    TrainingError
        When there is nothing to read, or a column is missing.
    """
    if source.is_dir():
        return _folder(source, identifier or IDENTIFIERS[0])
    rows = iter(_rows(source))
    columns = [name.strip().lower().replace(" ", "_") for name in next(rows, (0, []))[1]]
    column = _column(source, columns, identifier, IDENTIFIERS, "--id")
    parts = [name for name in PARTS if name in columns]
    if text or not {"findings", "impression"} & set(parts) or set(TEXTS) & set(columns):
        parts = [_column(source, columns, text, TEXTS, "--text")]
    found, empty = [], 0
    for line, row in rows:
        cells = dict(zip(columns, row, strict=False))
        whole = _text(cells, parts)
        if not cells.get(column, "").strip() or not whole.strip():
            empty += any(cell.strip() for cell in row)
            continue
        found.append(Report(cells[column].strip(), whole, line, cells))
    if not found:
        raise TrainingError(f"{source.name} has no line with both {column} and {parts[0]}.")
    return Reports(column, tuple(found), empty)


def _text(cells: Mapping[str, str], parts: Sequence[str]) -> str:
    """Return the text of a report; sections of their own get their headings back."""
    if len(parts) == 1:
        return cells.get(parts[0], "")
    said = [(name, cells.get(name, "").strip()) for name in parts]
    return "\n\n".join(f"{name.replace('_', ' ').upper()}: {text}" for name, text in said if text)


def _folder(folder: Path, column: str) -> Reports:
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise TrainingError(f"{folder} holds no .txt files.")
    found, empty = [], 0
    for number, path in enumerate(paths, start=1):
        text = _decoded(path, f"File {number} of {folder}")
        if text.strip():
            found.append(Report(path.stem, text, number))
        else:
            empty += 1
    if not found:
        raise TrainingError(f"The .txt files of {folder} are all empty.")
    return Reports(column, tuple(found), empty)


def _decoded(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TrainingError(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise TrainingError(f"{name} is not in UTF-8; save it as UTF-8.") from None


def _rows(source: Path) -> list[tuple[int, list[str]]]:
    text = _decoded(source, source.name)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    usual = csv.field_size_limit(_LONGEST_TEXT)  # of the whole process, so it is put back
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error:
        raise TrainingError(
            f"{source.name} is no CSV near line {reader.line_num}; texts of several lines need "
            "quotes around them."
        ) from None
    finally:
        csv.field_size_limit(usual)


def _column(
    source: Path, columns: Sequence[str], wanted: str, known: Sequence[str], option: str
) -> str:
    if wanted and wanted.lower() in columns:
        return wanted.lower()
    found = None if wanted else next((name for name in known if name in columns), None)
    if found is None:
        raise TrainingError(
            f"{source.name} has no column {wanted or ' or '.join(known)}; say which with {option}."
        )
    return found


def write_labels(path: Path, column: str, studies: Iterable[Labelled]) -> int:
    """Write the labels of studies of which any is known; return how many those are.

    The file is what ``ichnode labels import`` and ``data add dicom-folder --labels`` read: unknown
    labels are blank, ``source`` is report. It holds no text of reports.
    """
    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    writer.writerow([column, *LABELS, "source"])
    written = 0
    for study in studies:
        values = [study.labels[label].value for label in LABELS]
        if any(value is not None for value in values):
            writer.writerow([study.identifier, *(_WORDS[value] for value in values), SOURCE])
            written += 1
    write_durable(path, lines.getvalue().encode())
    return written


def write_evidence(
    path: Path, column: str, studies: Iterable[Labelled], *, with_sentences: bool = True
) -> None:
    """Write why each label is what it is: answer, rule, and the sentence that decided.

    It holds patient data, as reports do, and only its owner may read the file. Without sentences
    and cues the places in the text remain.
    """
    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    writer.writerow([column, *_EVIDENCE, *(["sentence"] if with_sentences else [])])
    for study in studies:
        for label in LABELS:
            writer.writerow(_evidence(study, label, with_sentences=with_sentences))
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(lines.getvalue().encode())


def _evidence(study: Labelled, label: Label, *, with_sentences: bool) -> list[str | int]:
    said, value = study.report[label], study.labels[label]
    found = said.evidence
    where: list[str | int] = [found.section, found.start, found.end] if found else ["", "", ""]
    sentence = " ".join(study.text[found.start : found.end].split()) if found else ""
    return [
        study.identifier,
        label,
        said.answer,
        said.acuity,
        _WORDS[value.value],
        value.reason,
        said.rule,
        found.said.words if found and with_sentences else "",
        said.overruled,
        *where,
        *([sentence] if with_sentences else []),
    ]
