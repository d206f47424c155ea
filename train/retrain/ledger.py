"""Every look at the locked holdout, in a chain of hashes: who, when, which models, what came out.

Looking at the same patients again and again and keeping what looks good fits to them without
training on them. So the looks are counted, only rounded figures are written down, and when the
budget is used up, fresh patients are needed. A patient more or less makes no other holdout: looks
count where at least half of the patients are the same.

The chain shows what was changed or taken out in the middle, not that the last lines are gone: the
file belongs in the backup.

References
----------
Dwork C et al., The reusable holdout, Science 2015;349:636.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from train.errors import TrainingError

NAME = "holdout-ledger.jsonl"
ROUNDED_TO = 0.005
_START = "0" * 64


class Ledger:
    """The ledger of a registry.

    Parameters
    ----------
    path : Path
        A JSON Lines file; it need not exist. Lines are only ever appended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[dict[str, Any]]:
        """Return every look, checked to be unaltered.

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
            except (ValueError, KeyError, AttributeError):
                raise self._altered(number) from None
            if entry.get("previous") != previous or _digest(entry) != stated:
                raise self._altered(number)
            found.append(entry)
            previous = stated
        return found

    def uses(self, holdout: str, patients: Iterable[str] = (), *, besides: str = "") -> int:
        """Return how many candidates looked at these holdout patients, or at half of them.

        Parameters
        ----------
        holdout : str
            Digest of the holdout's patients and labels.
        patients : iterable of str
            Their pseudonyms.
        besides : str
            A candidate that does not count: what it has seen it may see again.
        """
        now = set(patients)
        return len(
            {
                e["candidate"]
                for e in self.entries()
                if e["holdout"] == holdout or _much_the_same(now, set(e.get("patients", ())))
            }
            - {besides}
        )

    def look(
        self,
        *,
        holdout: str,
        candidate: str,
        champion: str,
        by: str,
        figures: Mapping[str, float],
        patients: Iterable[str] = (),
    ) -> None:
        """Write down a look before its result is used; the same look again changes nothing.

        Parameters
        ----------
        holdout : str
            Digest of the holdout's patients and labels.
        candidate, champion : str
            Model UIDs.
        by : str
            The account that ran it.
        figures : mapping
            What was seen; rounded to 0.005 here.
        patients : iterable of str
            The pseudonyms of the holdout's patients.
        """
        with self._locked():
            self._append(
                {
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "by": by,
                    "holdout": holdout,
                    "patients": sorted(set(patients)),
                    "candidate": candidate,
                    "champion": champion,
                    "figures": {name: _rounded(value) for name, value in figures.items()},
                }
            )

    def _append(self, entry: dict[str, Any]) -> None:
        entries = self.entries()
        look = (entry["holdout"], entry["candidate"])
        if any((e["holdout"], e["candidate"]) == look for e in entries):
            return
        entry = entry | {"previous": self._last_hash()}
        line = json.dumps(entry | {"hash": _digest(entry)}, sort_keys=True)
        whole = sum(len(kept.encode()) + 1 for kept in self._lines())
        with self._path.open("a", encoding="utf-8") as file:
            file.truncate(whole)
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time add a line: two with one predecessor would break the chain."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lines(self) -> list[str]:
        """Return the whole lines; one that a crash cut short was never followed by a look."""
        if not self._path.is_file():
            return []
        return self._path.read_text(encoding="utf-8").split("\n")[:-1]

    def _last_hash(self) -> str:
        lines = self._lines()
        return str(json.loads(lines[-1])["hash"]) if lines else _START

    def _altered(self, number: int) -> TrainingError:
        return TrainingError(
            f"Line {number} of {self._path.name} was altered or cut; the holdout can no longer be "
            "trusted. Restore the file from the backup."
        )


def _digest(entry: Mapping[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _much_the_same(a: Set[str], b: Set[str]) -> bool:
    return bool(b) and 2 * len(a & b) >= min(len(a), len(b)) > 0


def _rounded(value: float) -> float | None:
    """Return a figure as it is written down; None where there is none."""
    if math.isnan(value):
        return None
    return round(round(value / ROUNDED_TO) * ROUNDED_TO, 3)
