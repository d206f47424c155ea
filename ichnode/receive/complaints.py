"""Refusals on their way to people: the same one over and over becomes one with a count.

A peer that is refused knocks again at once, and whoever chooses to can make us refuse thousands of
times a minute; each would be a transaction beside those that record images, and a row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ichnode.domain.series import Refusal

EVERY_S = 60.0
KINDS = 64
"""Kinds of refusal that are told apart within a minute."""
KINDS_PER_PEER = 8
IN_ONE_GO = 4

_Kind = tuple[str, str, int, str]


@dataclass(slots=True)
class _Tally:
    last: Refusal
    not_before: float
    count: int = 1


class Complaints:
    """Merges refusals of one kind: peer address, calling AE title, status and sentence.

    The first of a kind is handed over at the next `hand_over`, those of the following minute
    together at its end, as one whose sentence ends with their number.

    Parameters
    ----------
    pass_on : callable
        Takes a refusal over.
    every_s : float
        How often, at most, a kind is handed over.
    """

    def __init__(self, pass_on: Callable[[Refusal], None], *, every_s: float = EVERY_S) -> None:
        self._pass_on, self._every_s = pass_on, every_s
        self._lock = threading.Lock()
        self._tallies: dict[_Kind, _Tally] = {}

    def add(self, refusal: Refusal) -> bool:
        """Take a refusal in; return whether it is the first of its kind for a while."""
        with self._lock:
            kind, refusal = self._kind(refusal)
            tally = self._tallies.get(kind)
            if tally is None:
                self._tallies[kind] = _Tally(refusal, time.monotonic())
                return True
            tally.last = refusal
            tally.count += 1
            return False

    def hand_over(self, most: int | None = None) -> None:
        """Pass on what is due, so many at most; without `most`, everything, due or not."""
        for refusal in self._take(most):
            self._pass_on(refusal)

    def _take(self, most: int | None) -> list[Refusal]:
        taken: list[Refusal] = []
        now = time.monotonic()
        with self._lock:
            for kind, tally in list(self._tallies.items()):
                if most is not None and (tally.not_before > now or len(taken) >= most):
                    continue
                del self._tallies[kind]
                if tally.count:
                    taken.append(_summed(tally))
                    self._tallies[kind] = _Tally(tally.last, now + self._every_s, 0)
        return taken

    def _kind(self, refusal: Refusal) -> tuple[_Kind, Refusal]:
        """Return the kind to count a refusal under; a coarser one where there are too many."""
        kind = _kind(refusal)
        if kind in self._tallies:
            return kind, refusal
        address = refusal.peer_address
        if sum(known[0] == address for known in self._tallies) >= KINDS_PER_PEER:
            sentence = "This peer was refused in more ways than are shown."
            refusal = replace(refusal, calling_ae="", status=0, sentence=sentence, sop_class_uid="")
        elif len(self._tallies) >= KINDS:
            sentence = "More peers were refused than are shown."
            refusal = replace(
                refusal,
                peer_address="",
                calling_ae="",
                status=0,
                sentence=sentence,
                sop_class_uid="",
            )
        return _kind(refusal), refusal


def _kind(refusal: Refusal) -> _Kind:
    return refusal.peer_address, refusal.calling_ae, refusal.status, refusal.sentence


def _summed(tally: _Tally) -> Refusal:
    if tally.count == 1:
        return tally.last
    return replace(tally.last, sentence=f"{tally.last.sentence} {tally.count} times.")
