"""Lines that only grow, in a chain of hashes: what was changed or taken out in the middle shows.

It does not show that the last lines are gone: such a file belongs in the backup.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from train.errors import TrainingError

ROUNDED_TO = 0.005
_START = "0" * 64
_ODD_BYTES = "surrogateescape"  # bytes that are not UTF-8 fail at the hash of their line


class Chain:
    """A JSON Lines file whose lines each hold the hash of the one before.

    Parameters
    ----------
    path : Path
        It need not exist.
    of : str
        What can no longer be trusted when it was altered, for people.
    """

    def __init__(self, path: Path, of: str) -> None:
        self._path, self._of = path, of

    def entries(self) -> list[dict[str, Any]]:
        """Return every entry, checked to be unaltered.

        Raises
        ------
        TrainingError
            When a line was changed or taken out.
        """
        found: list[dict[str, Any]] = []
        previous = _START
        for number, line in enumerate(self._lines(), 1):
            try:
                entry = json.loads(line)
                stated = entry.pop("hash")
            except (ValueError, KeyError, AttributeError, TypeError):
                raise self._altered(number) from None
            if entry.get("previous") != previous or _digest(entry) != stated:
                raise self._altered(number)
            found.append(entry)
            previous = stated
        return found

    @contextlib.contextmanager
    def growing(self) -> Iterator[IO[str]]:
        """Let one process at a time add lines: two with one predecessor would break the chain."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def append(self, file: IO[str], entry: Mapping[str, Any]) -> None:
        """Add an entry to the file that `growing` opened, and make it durable."""
        lines = self._lines()
        whole = {**entry, "previous": json.loads(lines[-1])["hash"] if lines else _START}
        file.truncate(sum(len(kept.encode(errors=_ODD_BYTES)) + 1 for kept in lines))
        file.write(json.dumps(whole | {"hash": _digest(whole)}, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())

    def _lines(self) -> list[str]:
        """Return the whole lines; one that a crash cut short was never followed by a result."""
        if not self._path.is_file():
            return []
        return self._path.read_text(encoding="utf-8", errors=_ODD_BYTES).split("\n")[:-1]

    def _altered(self, number: int) -> TrainingError:
        return TrainingError(
            f"Line {number} of {self._path.name} was altered or cut; {self._of} can no longer be "
            "trusted. Restore the file from the backup."
        )


def _digest(entry: Mapping[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def rounded(value: float | None) -> float | None:
    """Return a figure as it is written down, to 0.005; None where there is none."""
    if value is None or math.isnan(value):
        return None
    return round(round(value / ROUNDED_TO) * ROUNDED_TO, 3)
