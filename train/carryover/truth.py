"""The truth of series as a table states it: what is not understood is refused, not guessed."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.errors import TrainingError

NEGATIVE = "normal"
"""The name of the label without haemorrhage."""
_SAID = {"1": True, "1.0": True, "true": True, "yes": True}
_SAID |= {"0": False, "0.0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Stated:
    """What is stated of a series; see `train.carryover.folders.Sample`."""

    label: str
    truth: bool | None

    @classmethod
    def of_folder(cls, label: str) -> Stated:
        """Return what the folder of a label states; "" is none."""
        return cls(label, not is_negative(label) if label else None)


def is_negative(label: str) -> bool:
    """Say whether a label is the one without haemorrhage."""
    return label.strip().lower() == NEGATIVE


def read_truth(table: Path) -> dict[str, Stated]:
    """Return what a table states of the series that it names.

    Raises
    ------
    TrainingError
        When the table cannot be read, says something that is not understood, or names a series
        twice.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise TrainingError(f"{table} cannot be read as a table with commas.") from None
    names = set(rows[0]) if rows else set()
    if "series" not in names or not names & {"label", "any"}:
        raise TrainingError(f"{table} needs the columns series and label, or series and any.")
    found: dict[str, Stated] = {}
    for row in rows:
        series, label, said = ((row.get(key) or "").strip() for key in ("series", "label", "any"))
        if not series:
            continue
        if series in found:
            raise TrainingError(f"{table} names the series {series} more than once.")
        truth = _of_any(said, series, table) if "any" in names else _of_label(label)
        found[series] = Stated(label, truth)
    if "any" not in names:
        _check_labels([one.label for one in found.values()], table)
    return found


def match_truth(names: Sequence[str], told: Mapping[str, Stated]) -> dict[str, Stated]:
    """Return what a table states of each series that it names, by its path or its last part.

    Raises
    ------
    TrainingError
        When a row may mean several series, or several rows one series.
    """
    rows = {name: sorted({name, name.rpartition("/")[2]} & told.keys()) for name in names}
    meant = Counter(row for name in names for row in rows[name])
    for name, found in rows.items():
        if len(found) > 1:
            raise TrainingError(f"The table names the series {name} twice: {' and '.join(found)}.")
        if found and meant[found[0]] > 1:
            raise TrainingError(
                f"In the table {found[0]} may mean {meant[found[0]]} series; give their paths "
                f"below the folder, such as {name}."
            )
    return {name: told[found[0]] for name, found in rows.items() if found}


def _of_any(said: str, series: str, table: Path) -> bool | None:
    if not said:
        return None
    if said.lower() not in _SAID:
        raise TrainingError(f"{table} says {said!r} of {series}; any is 1 or 0, or empty.")
    return _SAID[said.lower()]


def _of_label(label: str) -> bool | None:
    if not label:
        return None
    return _SAID.get(label.lower(), not is_negative(label))


def _check_labels(labels: Sequence[str], table: Path) -> None:
    words = sorted({label for label in labels if label and label.lower() not in _SAID})
    if words and not any(map(is_negative, words)):
        raise TrainingError(
            f"{table} has no label {NEGATIVE}, so nothing in it is known to be without "
            f"haemorrhage; there are: {', '.join(words[:8])}."
        )
