"""A file of arrivals, to be replayed instead of drawn ones."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.lifecycle import Band

_COLUMNS = {"arrived", "positive", "band", "priority", "minutes"}
_TRUTH = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}


@dataclass(frozen=True, slots=True)
class Arrival:
    """One study of a file; None is drawn."""

    arrives_min: float
    positive: bool | None = None
    band: Band | None = None
    priority: str = ""
    reading_min: float | None = None


def read_arrivals(path: Path) -> list[Arrival]:
    """Read a CSV of arrivals.

    The column ``arrived`` holds minutes, or moments in ISO 8601; of the others each may be missing,
    or empty in a line: ``positive`` (1 or 0), ``band``, ``priority`` (ordered), ``minutes`` (to
    read it).

    Raises
    ------
    ConfigurationError
        When it is not such a file; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            names = set(lines.fieldnames or ())
            if "arrived" not in names or names - _COLUMNS:
                known = ", ".join(sorted(_COLUMNS - {"arrived"}))
                raise ConfigurationError(
                    f"{path} needs a column 'arrived', and may have {known}; no others."
                )
            arrivals = [_arrival(path, lines.line_num, line) for line in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} cannot be read as CSV: {error}") from None
    if not arrivals:
        raise ConfigurationError(f"{path} holds no arrival.")
    first = min(one.arrives_min for one in arrivals)
    return [replace(one, arrives_min=one.arrives_min - first) for one in arrivals]


def _arrival(path: Path, number: int, line: Mapping[str, str | None]) -> Arrival:
    def cell(name: str) -> str:
        return (line.get(name) or "").strip()

    try:
        minutes = float(cell("minutes")) if cell("minutes") else None
        if minutes is not None and not 0 < minutes < float("inf"):
            raise ValueError("minutes are more than 0")
        return Arrival(
            arrives_min=_moment_min(cell("arrived")),
            positive=_TRUTH[cell("positive").lower()] if cell("positive") else None,
            band=Band(cell("band").lower()) if cell("band") else None,
            priority=cell("priority").upper(),
            reading_min=minutes,
        )
    except (ValueError, KeyError, OverflowError) as error:
        raise ConfigurationError(f"Line {number} of {path} is wrong: {error}.") from None


def _moment_min(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() / 60
    if not math.isfinite(minutes):
        raise ValueError("arrived is no moment")
    return minutes
