"""The send stage: what is due for one destination, every row with its own result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from ichnode.domain.errors import PeerFailure
from ichnode.domain.work import (
    Acknowledged,
    DeliveryItem,
    DeliveryKind,
    DeliveryResult,
    DeliveryWork,
    Dispatched,
    Undelivered,
)
from ichnode.send.association import FellSilent
from ichnode.send.breaker import Breaker, State
from ichnode.send.mechanisms import Mechanism, mechanisms_for
from ichnode.settings import Destination, SendSettings

log = structlog.get_logger(__name__)


class SendStage:
    """Delivers to the configured destinations.

    Parameters
    ----------
    spool : Path
        Where documents are.
    destinations : sequence of Destination
        Where results go.
    settings : SendSettings
        How long a destination that does not answer is left alone, at most.
    calling_ae : str
        Our AE title.
    now_s : callable, optional
        A steady clock in seconds, for the breakers.
    """

    def __init__(
        self,
        spool: Path,
        destinations: Sequence[Destination],
        settings: SendSettings,
        *,
        calling_ae: str,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mechanisms: Mapping[str, Mapping[DeliveryKind, Mechanism]] = {
            one.name: mechanisms_for(one, spool, calling_ae) for one in destinations
        }
        breaker = Breaker(first_s=settings.retry_first_s)
        self._breakers = dict.fromkeys(self._mechanisms, breaker)
        self._lock, self._now_s = threading.Lock(), now_s

    def shut(self) -> frozenset[str]:
        """Return the destinations that are not to be tried now."""
        now_s = self._now_s()
        with self._lock:
            return frozenset(
                name for name, one in self._breakers.items() if one.state(now_s) is State.OPEN
            )

    def handle(self, work: DeliveryWork) -> Dispatched:
        """Deliver the rows of one destination, in their order.

        A mechanism that finds nobody there fails its own rows only: what another one has brought
        over stays delivered. After the first answer that does not come nothing more is tried, so
        that a destination costs one time-out at a time; the second in a row shuts it.
        """
        mechanisms = self._mechanisms.get(work.destination)
        if mechanisms is None:
            gone = Undelivered("The configuration has no such destination any more.")
            return Dispatched({item.delivery_id: gone for item in work.items})
        results: dict[int, DeliveryResult] = {}
        answers, silent = 0, False
        for mechanism, items in _by_mechanism(mechanisms, work.items):
            count, silent = _deliver(mechanism, items, results)
            answers += count
            if silent:
                break  # the rest would only wait for the same time-out
        self._note(work.destination, silent=silent, answers=answers)
        self._log(work, results)
        return Dispatched(results)

    def _note(self, destination: str, *, silent: bool, answers: int) -> None:
        """Tell the breaker; only a destination that does not answer opens it, not a refusal."""
        with self._lock:
            before = self._breakers[destination]
            now_s = self._now_s()
            after = (
                before.after_failure(now_s, answered_before=answers > 0)
                if silent
                else before.after_success()
            )
            self._breakers[destination] = after
        if after.state(now_s) is State.OPEN:
            log.warning("destination.shut", destination=destination, wait_s=after.pause_s)
        elif before.pause_s:
            log.info("destination.reopened", destination=destination)

    def _log(self, work: DeliveryWork, results: Mapping[int, DeliveryResult]) -> None:
        delivered = sum(isinstance(one, Acknowledged) for one in results.values())
        errors = sorted({one.error for one in results.values() if isinstance(one, Undelivered)})
        log.info(
            "deliveries.dispatched",
            destination=work.destination,
            count=len(work.items),
            delivered=delivered,
            error="; ".join(errors) or None,
        )


def _by_mechanism(
    mechanisms: Mapping[DeliveryKind, Mechanism], items: Sequence[DeliveryItem]
) -> list[tuple[Mechanism, list[DeliveryItem]]]:
    """Group rows that share an association; the group of the most urgent row comes first."""
    groups: list[tuple[Mechanism, list[DeliveryItem]]] = []
    for item in items:
        mechanism = mechanisms[item.kind]
        for known, members in groups:
            if known is mechanism:
                members.append(item)
                break
        else:
            groups.append((mechanism, [item]))
    return groups


def _deliver(
    mechanism: Mechanism, items: Sequence[DeliveryItem], results: dict[int, DeliveryResult]
) -> tuple[int, bool]:
    """Run one mechanism and collect its results.

    Returns
    -------
    answers : int
        So many rows were answered, whatever the answer.
    silent : bool
        The destination did not answer, from the beginning or any more.
    """
    answers = 0
    try:
        for delivery_id, result in mechanism.deliver(items):
            results[delivery_id] = result
            answers += 1
    except FellSilent:
        return answers - 1, True  # the last result is that of the row without an answer
    except PeerFailure as failure:
        for item in items:
            results.setdefault(item.delivery_id, Undelivered(str(failure)))
        return 0, True
    except Exception as error:  # a strange answer must not undo what was delivered
        log.exception("delivery.broke")
        for item in items:
            results.setdefault(item.delivery_id, Undelivered(type(error).__name__))
    return answers, False
