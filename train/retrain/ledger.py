"""Every look at the locked holdout, in a chain of hashes: who, when, which models, what came out.

Looking at the same patients again and again and keeping what looks good fits to them without
training on them. So the looks are counted, only rounded figures are written down, and when the
budget is used up, fresh patients are needed. A patient more or less makes no other holdout: looks
count where at least half of the patients are the same.

References
----------
Dwork C et al., The reusable holdout, Science 2015;349:636.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from train.chain import Chain, rounded

NAME = "holdout-ledger.jsonl"


class Ledger:
    """The ledger of a registry.

    Parameters
    ----------
    path : Path
        A JSON Lines file; it need not exist. Lines are only ever appended.
    """

    def __init__(self, path: Path) -> None:
        self._chain = Chain(path, "the holdout")

    def entries(self) -> list[dict[str, Any]]:
        """Return every look, checked to be unaltered.

        Raises
        ------
        TrainingError
            When a line was changed or taken out.
        """
        return self._chain.entries()

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
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": by,
            "holdout": holdout,
            "patients": sorted(set(patients)),
            "candidate": candidate,
            "champion": champion,
            "figures": {name: rounded(value) for name, value in figures.items()},
        }
        with self._chain.growing() as file:
            if not any(_look(kept) == _look(entry) for kept in self.entries()):
                self._chain.append(file, entry)


def _look(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["holdout"], entry["candidate"]


def _much_the_same(a: Set[str], b: Set[str]) -> bool:
    return bool(b) and 2 * len(a & b) >= min(len(a), len(b)) > 0
