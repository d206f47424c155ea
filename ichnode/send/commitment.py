"""Asking a peer whether it answers for what it was given: storage commitment as its SCU.

The peer may report on the association on which it was asked, even before it answers the question,
or on one of its own to our receiver, minutes later.

References
----------
DICOM PS3.4 annex J (Storage Commitment Push Model), PS3.7 10.1.1 and 10.1.4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import decode

from ichnode.domain.commitment import CommitmentReport
from ichnode.imaging.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    read_report,
    request_data,
)
from ichnode.send.association import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    NothingAccepted,
    Peer,
    abandon,
    associate,
    is_warning,
    status_of,
)

LINGER_S = 2.0  # that long a report may take to come on the same association
_SUCCESS, _PROCESSING_FAILURE, _INVALID_ARGUMENT = 0x0000, 0x0110, 0x0115
_NO_SUCH_SERVICE = frozenset((0x0118, 0x0122, 0x0211))

Tell = Callable[[CommitmentReport], bool]
"""Takes a report in; False when nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the peer made of the question; `error` is empty where it took it."""

    error: str = ""
    refused: bool = False  # it does not do this at all


def ask_commitment(
    peer: Peer,
    transaction_uid: str,
    references: Sequence[tuple[str, str]],
    tell: Tell,
    *,
    linger_s: float = LINGER_S,
) -> Asked:
    """Ask a peer to answer for objects.

    Parameters
    ----------
    references : sequence of (str, str)
        SOP class and instance of each.
    tell : callable
        Is told what comes on this association.
    linger_s : float
        How long to wait for that.

    Raises
    ------
    PeerFailure
        When the peer cannot be reached, rejects or closes.
    """
    try:
        with associate(peer, [(PUSH_MODEL, EXPLICIT_LE), (PUSH_MODEL, IMPLICIT_LE)]) as association:
            talk = _Talk(association, tell)
            status = talk.ask(transaction_uid, references, linger_s)
            if status is None:
                abandon(association)
    except NothingAccepted:
        return Asked("The peer does no storage commitment.", refused=True)
    if status is None:
        return Asked("The peer did not answer the request for storage commitment.")
    if status == _SUCCESS or is_warning(status):
        return Asked()
    return Asked(
        f"The peer refused the request for storage commitment with status 0x{status:04X}.",
        refused=status in _NO_SUCH_SERVICE,
    )


class _Talk:
    """One association, on which the peer may report while it is asked.

    pynetdicom serves such a report in a thread of its own, at any time, and then takes its reactor
    for one that runs: a release would wait for ever. So it is served here instead.
    """

    def __init__(self, association: Any, tell: Tell) -> None:
        self._association, self._tell = association, tell
        syntax = association.accepted_contexts[0].transfer_syntax[0]
        self._coding = (syntax.is_implicit_VR, syntax.is_little_endian)
        self._reported = threading.Event()
        association._serve_request = self._take

    def ask(
        self, transaction_uid: str, references: Sequence[tuple[str, str]], linger_s: float
    ) -> int | None:
        """Send the question, wait for a report, and return the status of the answer."""
        asked = request_data(transaction_uid, references)
        try:
            answer, _ = self._association.send_n_action(asked, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        except (RuntimeError, ValueError):  # the association ended
            return None
        status = status_of(answer)
        if status == _SUCCESS:
            self._reported.wait(linger_s)
        return status

    def _take(self, message: Any, context_id: int) -> None:
        """Take a report in and answer it."""
        if not isinstance(message, N_EVENT_REPORT):
            return
        status = _PROCESSING_FAILURE
        try:
            status = _SUCCESS if self._is_known(message) else _INVALID_ARGUMENT
        finally:
            answer = N_EVENT_REPORT()
            answer.MessageIDBeingRespondedTo = message.MessageID
            answer.AffectedSOPClassUID = message.AffectedSOPClassUID
            answer.AffectedSOPInstanceUID = message.AffectedSOPInstanceUID
            answer.EventTypeID = message.EventTypeID
            answer.Status = status
            self._association.dimse.send_msg(answer, context_id)
            self._reported.set()

    def _is_known(self, message: Any) -> bool:
        if message.EventInformation is None:
            return False
        try:
            told = decode(message.EventInformation, *self._coding)
            report = read_report(message.EventTypeID, told)
        except Exception:  # noqa: BLE001 - garbage fails in pydicom in many ways
            return False
        return report is not None and self._tell(report)
