"""One association as its requestor: opened within bounds, never Nagled, always closed.

pynetdicom by itself waits without end for a connection, lets a peer that stops reading block the
sender for good, and leaves Nagle's algorithm on, which costs 40 ms per small object.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.presentation import build_context, build_role

from ichnode.domain.errors import PeerFailure
from ichnode.domain.ids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers of one byte
MAX_PDU = 131072
LONGEST_CONNECT_S = 5.0  # a host that is there answers at once; one that is not must not hold us up
LONGEST_RELEASE_S = 5.0
LONGEST_ROUND_S = 120.0  # then the rest waits for its turn: a loop that is silent counts as hung
PARK_S = 1.0  # that thread looks every millisecond

# Both switches exist for the whole process only, and nothing in ichnode wants the other way: files
# are sent as the bytes that they are, not decoded and encoded again; and no log line describes the
# data sets that go by.
_config.STORE_SEND_CHUNKED_DATASET = True
_config.LOG_HANDLER_LEVEL = "none"


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an association goes, and in whose name.

    Attributes
    ----------
    timeout_s : float
        How long an answer may take.
    """

    host: str
    port: int
    called_ae: str
    calling_ae: str
    timeout_s: float = 30.0


class NothingAccepted(PeerFailure):
    """The peer answers but takes none of the kinds of objects that were offered."""


class FellSilent(PeerFailure):
    """The peer took the association and then did not answer: the rest was not tried."""


@contextmanager
def associate(
    peer: Peer,
    contexts: Iterable[tuple[str, str]],
    *,
    max_pdu: int = MAX_PDU,
    serving: Iterable[str] = (),
) -> Iterator[Any]:
    """Hold an association while the block runs, then release it.

    Parameters
    ----------
    peer : Peer
        The other side.
    contexts : iterable of (str, str)
        Abstract and transfer syntax; each pair is a presentation context of its own, so that the
        answer says of each whether it is taken.
    max_pdu : int
        The largest PDU that we take, in bytes; what we send is bounded by the peer's.
    serving : iterable of str
        SOP classes of which we are the provider though we open the association: their roles are
        negotiated (PS3.7 D.3.3.4).

    Yields
    ------
    pynetdicom.association.Association
        An established association.

    Raises
    ------
    PeerFailure
        When the peer cannot be reached, rejects, closes or stays silent; `NothingAccepted` when it
        takes none of the contexts.
    """
    association = _request(peer, contexts, max_pdu, serving)
    with parked(association):
        try:
            yield association
        finally:
            if association.is_established:
                # The work is done; a peer that does not answer the release must not hold us up.
                association.acse_timeout = min(peer.timeout_s, LONGEST_RELEASE_S)
                association.release()


class _Berth(threading.Event):
    """Where pynetdicom's own thread of an association waits until the association is over."""

    def __init__(self, association: Any) -> None:
        super().__init__()
        self._association = association
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, and say that somebody does."""
        self.reached.set()
        return super().wait(timeout)

    def set(self) -> None:
        """Let go only of an association that is over; `leave` always does."""
        if not self._association.is_established:
            super().set()

    def leave(self) -> None:
        """Let go."""
        super().set()


@contextmanager
def parked(association: Any) -> Iterator[None]:
    """Keep pynetdicom's own thread from taking an answer that we wait for.

    Between two requests that thread looks into the queue of answers. It is paused for each request,
    but says that it is paused an instant before it looks once more; a peer that answers within
    microseconds then loses its answer to it ("unexpected C-STORE message"), and we would wait for
    the whole time-out and send again. A requestor's association needs no such thread, so that it
    waits here from the beginning.
    """
    if not association.is_established:
        yield
        return
    berth, free = _Berth(association), association._reactor_checkpoint
    association._reactor_checkpoint = berth
    free.set()
    berth.reached.wait(PARK_S)
    try:
        yield
    finally:
        berth.leave()


def _request(
    peer: Peer, contexts: Iterable[tuple[str, str]], max_pdu: int, serving: Iterable[str]
) -> Any:
    ae = AE(peer.calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = min(peer.timeout_s, LONGEST_CONNECT_S)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout_s
    try:
        association = ae.associate(
            peer.host,
            peer.port,
            contexts=[build_context(abstract, [transfer]) for abstract, transfer in contexts],
            ae_title=peer.called_ae,
            max_pdu=max_pdu,
            ext_neg=[build_role(one, scp_role=True) for one in serving],
            evt_handlers=[(evt.EVT_CONN_OPEN, _tune, [peer.timeout_s])],
        )
    except (OSError, ValueError) as error:  # the name does not resolve
        raise PeerFailure("The peer's address is not known.") from error
    if association.is_established:
        return association
    raise _failure(association)


def _tune(event: Any, timeout_s: float) -> None:
    """Set up the socket; pynetdicom has just cleared its time-out."""
    connection = event.assoc.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(timeout_s)


def _failure(association: Any) -> PeerFailure:
    """Say why there is no association."""
    if association.is_rejected:
        answer = association.acceptor.primitive
        return PeerFailure(f"The peer rejected the association: {answer.reason_str}.")
    if association.rejected_contexts and not association.accepted_contexts:
        return NothingAccepted("The peer takes none of the SOP classes that were offered.")
    if association.acceptor.primitive is None and not _was_connected(association):
        return PeerFailure("The peer cannot be reached.")
    return PeerFailure("The peer closed the connection or did not answer the association request.")


def _was_connected(association: Any) -> bool:
    # The requestor's own port is only known once there was a connection.
    return bool(association.requestor.address_info.port)


def accepted(association: Any) -> frozenset[tuple[str, str]]:
    """Return the (abstract, transfer) syntaxes that the peer accepted."""
    return frozenset(
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
    )


def abandon(association: Any) -> None:
    """End an association on which an answer did not come.

    Nothing that comes after it can be trusted, and pynetdicom learns only later that a connection
    was lost: the next request would wait for its whole time-out.
    """
    if association.is_established:
        association.abort()


def status_of(answer: Any) -> int | None:
    """Return the status of an answer; None when there was none."""
    return int(answer.Status) if answer is not None and "Status" in answer else None


def is_warning(status: int) -> bool:
    """Say whether a status is a Warning: the peer did it, with a remark (PS3.7 annex C)."""
    return status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF
