"""pynetdicom, without its waiting: one thread per association that blocks in the socket.

pynetdicom 3.0.4 runs two threads per association that look for work every millisecond, reads 4 KiB
at a time, copies a PDU four times on its way into the message, and never sets TCP_NODELAY; a
sender then gets some 200 images/s at best, and several senders together get fewer. Here the
association's own thread reads whole PDUs and drives pynetdicom's state machine, ACSE and DIMSE
codecs by hand. Everything of pynetdicom's inner workings that the receiver leans on is in this
module, `provider` and `assembly`; tests/unit/test_receive_transport.py fails when it changes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import structlog
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from ichnode.domain.tasks import Answer
from ichnode.receive.assembly import Assembly
from ichnode.receive.budget import Budget
from ichnode.receive.commands import StoreRequest, store_response
from ichnode.receive.provider import (
    PDU_LIMIT_BYTES,
    Hurried,
    InlineProvider,
    Silence,
    set_timeouts,
)

log = structlog.get_logger(__name__)

LINGER_S = 2.0


class Door(Protocol):
    """What an association asks of the receiver."""

    max_instance_bytes: int
    budget: Budget
    lingering: threading.Semaphore
    """Held while a peer that was not admitted reads our last words."""

    def admit(self, association: ScannerAssociation) -> bool:
        """Judge an application; where the answer is False it has been rejected."""
        ...

    def store(self, association: ScannerAssociation, request: StoreRequest, context: Any) -> int:
        """Keep an object; return the status for its sender."""
        ...

    def answer(
        self,
        association: ScannerAssociation,
        request: Any,
        context: Any,
        is_canceled: Callable[[], bool],
    ) -> Iterator[Answer] | None:
        """Answer a request that is no C-STORE; None where it belongs to no service of ours."""
        ...

    def released(self, association: ScannerAssociation) -> None:
        """Note that the peer released the association in order."""
        ...

    def ended(self, association: ScannerAssociation, manner: str) -> None:
        """Note that an association that was admitted is over."""
        ...


class ScannerAssociation(Association):  # type: ignore[misc]
    """An association with a peer that sends us objects, in one thread.

    Parameters
    ----------
    ae : ApplicationEntity
        pynetdicom's application entity: titles and sizes.
    door : Door
        Who decides and keeps.
    connection : socket.socket
        The accepted connection, in blocking mode.
    request : bytes
        The whole A-ASSOCIATE-RQ PDU, which somebody else has read.
    judged : callable
        Called once the request has been judged, or has failed.
    idle_s : float
        A silent association is aborted after so long.
    """

    def __init__(
        self,
        ae: ApplicationEntity,
        door: Door,
        connection: socket.socket,
        request: bytes,
        judged: Callable[[], None],
        *,
        idle_s: float,
    ) -> None:
        super().__init__(ae, "acceptor")
        self.door = door
        self._request, self._judged = request, judged
        self.is_hurried = False
        self.is_established: bool = False
        self._connection = connection
        self.dul = InlineProvider(self)
        self.dimse = Assembly(self, door.max_instance_bytes, door.budget)
        self.network_timeout = idle_s
        set_timeouts(connection, idle_s)
        local, remote = connection.getsockname(), connection.getpeername()
        self.set_socket(AssociationSocket(self, client_socket=connection))
        self.acceptor.maximum_length = ae.maximum_pdu_size
        self.acceptor.ae_title = ae.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(local)
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.requestor.address_info = AddressInformation.from_tuple(remote)
        self.name = f"association-{remote[0]}"

    def _bind_defaults(self) -> None:
        # Only what answers: pynetdicom's handlers for its log format every PDU, and quote them.
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def hurry(self) -> None:
        """Make the association abort as soon as it has answered what it is working on."""
        self.is_hurried = True
        try:
            self._connection.shutdown(socket.SHUT_RD)
        except OSError:
            return  # it is gone already

    def run_reactor(self) -> None:
        """Negotiate, serve, and close: the life of the association."""
        manner = "failed"
        admitted = False
        try:
            admitted = self._apply()
            if admitted:
                self.acse.negotiate_association()
                manner = self._serve()
        except Silence:
            manner = self._abort("timed_out")
        except Hurried:
            manner = self._abort("hurried")
        except Exception:
            log.exception("association.failed")  # it alone: the others go on
            manner = self._abort("failed")
        finally:
            if admitted:
                self.door.ended(self, manner)
            self.dimse.drop()
            self._close(is_stranger=not admitted)

    def _apply(self) -> bool:
        """Have the request judged; say whether the peer is in."""
        try:
            self.dul.settle()
            self.dul.take(self._request)
            self.requestor.primitive = self.dul.receive_pdu()
            asked = isinstance(self.requestor.primitive, A_ASSOCIATE)
            return asked and self.door.admit(self)
        finally:
            self._judged()

    def offer(self, contexts: list[PresentationContext]) -> None:
        """Say which presentation contexts may be accepted, before negotiating."""
        self.acceptor.supported_contexts = contexts

    def _serve(self) -> str:
        """Answer the peer until it has had enough; return how it ended."""
        while self.is_established:
            self._answer()
            primitive = self.dul.receive_pdu()
            if isinstance(primitive, A_RELEASE):
                self.is_established, self.is_released = False, True
                self.door.released(self)
                self.acse.send_release(is_response=True)
                return "released"
            if isinstance(primitive, A_ABORT | A_P_ABORT) or not self.dul.is_open:
                self.is_established, self.is_aborted = False, True
                return "aborted"
            if self.is_hurried:
                raise Hurried
            self.dul.read()
        return "aborted"

    def _answer(self) -> None:
        while self.is_established and not self.dimse.msg_queue.empty():
            context_id, message = self.dimse.msg_queue.get_nowait()
            if isinstance(message, StoreRequest):
                self._store(message, context_id)
            elif message is not None:
                self._ask(message, context_id)

    def _ask(self, request: Any, context_id: int) -> None:
        """Answer a request as long as its sender listens."""
        context = self._accepted_cx.get(context_id)
        if context is None:
            self._abort("failed")
            return
        message_id = int(getattr(request, "MessageID", None) or 0)
        self.dimse.canceled.clear()  # of requests that are answered
        canceled = lambda: message_id in self.dimse.canceled  # noqa: E731
        answers = self.door.answer(self, request, context, canceled)
        if answers is None:
            self._serve_request(request, context_id)
            return
        for answer in answers:
            if answer.message is not None:
                self.dimse.send_msg(answer.message, context_id)
            if not self.dul.is_open:
                return
            self._overhear()

    def _overhear(self) -> None:
        """Take what came in the meantime, one PDU at most: it may say that it is enough."""
        if self.is_hurried:
            raise Hurried
        with contextlib.suppress(BlockingIOError):  # nothing came
            self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            self.dul.read()

    def _store(self, request: StoreRequest, context_id: int) -> None:
        context = self._accepted_cx.get(context_id)
        if context is None:
            self.dimse.let_go(request)
            self._abort("failed")
            return
        try:
            status = self.door.store(self, request, context)
        finally:
            self.dimse.let_go(request)
        self.dul.answer(store_response(request, context_id, status))

    def _abort(self, manner: str) -> str:
        self.is_established, self.is_aborted = False, True
        try:
            self.acse.send_abort(0x02)
        except Exception as error:  # noqa: BLE001 - the state machine refuses when it is over
            log.debug("abort.unsent", error=type(error).__name__)
        return manner

    def _close(self, *, is_stranger: bool) -> None:
        """Let the peer read our last words, then close.

        Closing with something unread would reset the connection, and the peer might lose them.
        """
        connection = self._connection
        if is_stranger and not self.door.lingering.acquire(blocking=False):
            connection.close()  # so many threads wait for strangers already
            return
        try:
            connection.shutdown(socket.SHUT_WR)
            set_timeouts(connection, LINGER_S)
            deadline = time.monotonic() + LINGER_S
            while connection.recv(PDU_LIMIT_BYTES) and time.monotonic() < deadline:
                continue
        except OSError:
            pass
        finally:
            connection.close()
            if is_stranger:
                self.door.lingering.release()
