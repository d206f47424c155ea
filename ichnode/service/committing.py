"""Asking destinations to answer for the documents that they were given, before any purging."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ichnode.domain.commitment import CommitmentWork
from ichnode.domain.errors import PeerFailure
from ichnode.domain.work import Acknowledged
from ichnode.send.association import Peer
from ichnode.send.commitment import LINGER_S, ask_commitment
from ichnode.send.scu import StoreMechanism
from ichnode.settings import DestinationSettings, Settings
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

LOOK_S = 30.0  # how often housekeeping looks whether there is something to ask for


class Committing:
    """Asks every destination that is to be asked; a job of housekeeping."""

    def __init__(
        self,
        settings: Settings,
        worklist: Worklist,
        *,
        stopped: Callable[[], bool] = lambda: False,
        linger_s: float = LINGER_S,
    ) -> None:
        self._destinations = [one for one in settings.destinations if one.commit]
        self._spool, self._us = settings.node.spool, settings.receive.ae_title
        self._worklist, self._stopped, self._linger_s = worklist, stopped, linger_s

    def commit(self) -> int:
        """Ask for what is due; return how many objects were asked for."""
        asked = 0
        for destination in self._destinations:
            while not self._stopped() and (
                work := self._worklist.commitments.claim(destination.name)
            ):
                if not self._ask(destination, work):
                    break  # one time-out at a time
                asked += len(work.items)
        return asked

    def _ask(self, destination: DestinationSettings, work: CommitmentWork) -> bool:
        """Ask once; say whether the peer took the question."""
        one, commitments = destination, self._worklist.commitments
        peer = Peer(one.host, one.port, one.ae_title, self._us, one.timeout_s)
        references = [
            (item.document.sop_class_uid, item.document.sop_uid)
            for item in work.items
            if item.document
        ]
        try:
            self._store_again(peer, work)
            answer = ask_commitment(
                peer, work.transaction_uid, references, commitments.report, linger_s=self._linger_s
            )
        except PeerFailure as failure:
            commitments.unanswered(work, str(failure))
            return False
        if answer.refused:
            commitments.refused(work, answer.error)
        elif answer.error:
            commitments.unanswered(work, answer.error)
        else:
            commitments.asked(work)
        log.info(
            "commitment.asked",
            destination=one.name,
            count=len(references),
            again=len(work.again) or None,
            error=answer.error or None,
        )
        return not answer.error

    def _store_again(self, peer: Peer, work: CommitmentWork) -> None:
        """Deliver the same bytes again of what the peer has lost."""
        items = [item for item in work.items if item.delivery_id in work.again]
        if not items:
            return
        results = dict(StoreMechanism(peer, self._spool).deliver(items))
        if not all(isinstance(results.get(i.delivery_id), Acknowledged) for i in items):
            raise PeerFailure("What the peer had lost could not be delivered again.")
