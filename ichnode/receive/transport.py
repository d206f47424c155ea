"""pynetdicom, without its waiting: one thread per association that blocks in the socket.

pynetdicom 3.0.4 runs two threads per association that look for work every millisecond, reads 4 KiB
at a time, copies a PDU four times on its way into the message, and never sets TCP_NODELAY; a
sender then gets some 200 images/s at best, and several senders together get fewer. Here the
association's own thread reads whole PDUs and drives pynetdicom's state machine, ACSE and DIMSE
codecs by hand. Everything of pynetdicom's inner workings that the receiver leans on is in this
module; tests/unit/test_receive_transport.py fails when one of these parts changes.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Protocol

import structlog
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from ichnode.receive.commands import StoreRequest, read_store_request, store_response
from ichnode.receive.part10 import file_head

log = structlog.get_logger(__name__)

MAX_PDU_BYTES = 131_072
"""What we tell senders. Fewer, larger PDUs; dcmtk sends no larger ones."""
PDU_LIMIT_BYTES = 1 << 20
"""A PDU that claims more is not read: an A-ASSOCIATE-RQ with 128 contexts needs 0.6 MB at most."""
LINGER_S = 2.0
_COMMAND_LIMIT_BYTES = 1 << 16
_IS_COMMAND, _IS_LAST = 0x01, 0x02  # of a message control header (PS3.8 E.2)
_PDU_HEAD = struct.Struct(">BxL")
_PDV_HEAD = struct.Struct(">LBB")
_TIMEVAL = struct.Struct("ll")
_P_DATA_TYPE, _LAST_TYPE = 0x04, 0x07
_CLOSED, _P_DATA_RECEIVED, _UNKNOWN = "Evt17", "Evt10", "Evt19"


class Silence(Exception):
    """The peer sent nothing, or no whole PDU, for too long."""


class Hurried(Exception):
    """The receiver stops and waits no longer."""


class Door(Protocol):
    """What an association asks of the receiver."""

    max_instance_bytes: int

    def admit(self, association: ScannerAssociation) -> bool:
        """Judge an application; where the answer is False it has been rejected."""
        ...

    def store(self, association: ScannerAssociation, request: StoreRequest, context: Any) -> int:
        """Keep an object; return the status for its sender."""
        ...

    def released(self, association: ScannerAssociation) -> None:
        """Note that the peer released the association in order."""
        ...

    def ended(self, association: ScannerAssociation, manner: str) -> None:
        """Note that an association that was admitted is over."""
        ...


def set_timeouts(connection: socket.socket, seconds: float) -> None:
    """Bound every wait in the kernel, so that a whole PDU can be read in one call.

    With a Python timeout each part of a PDU would cost a poll and a turn of the interpreter.
    """
    value = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
    # A response is one small segment: without this it waits for the peer's delayed ACK.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class InlineProvider(DULServiceProvider):  # type: ignore[misc]
    """The upper layer, driven by the association's thread instead of one of its own."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._buffer = bytearray(MAX_PDU_BYTES)

    def start(self) -> None:
        """Start nothing: there is no second thread."""
        self.assoc._dul_ready.set()

    def is_alive(self) -> bool:
        """Say that no thread has to be waited for."""
        return False

    def send_pdu(self, primitive: Any) -> None:
        """Send at once."""
        super().send_pdu(primitive)
        self.settle()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:  # noqa: ARG002
        """Return the next primitive of the peer, reading until there is one if told to wait."""
        while wait and self.to_user_queue.empty() and self.is_open:
            self.read()
        return super().receive_pdu(wait=False)

    @property
    def is_open(self) -> bool:
        """Whether the state machine still has a connection."""
        return not self._kill_thread and self.state_machine.current_state not in ("Sta1", "Sta13")

    def settle(self) -> None:
        """Carry out everything that is due: our own primitives, then what was received."""
        while True:
            if not self.event_queue.empty():
                self.state_machine.do_action(self.event_queue.get_nowait())
            elif not self._process_recv_primitive():
                return

    def answer(self, pdu: bytes) -> None:
        """Send a P-DATA-TF PDU that is already encoded, where the association still stands."""
        if self.state_machine.current_state == "Sta6":
            self.socket.send(pdu)
            self.settle()

    def take(self, pdu: bytes) -> None:
        """Take a whole PDU that somebody else has read."""
        view = memoryview(pdu)
        self._digest(view[0], view)
        self.settle()

    def read(self) -> None:
        """Read one PDU, wait for it if need be, and carry out what follows from it.

        Raises
        ------
        Silence
            When it did not come in time, or not whole.
        """
        head = memoryview(self._buffer)[:6]
        if self._receive(head) and not self._read_rest():
            self.event_queue.put(_UNKNOWN)
        self.settle()

    def _read_rest(self) -> bool:
        kind, length = _PDU_HEAD.unpack_from(self._buffer)
        if not 1 <= kind <= _LAST_TYPE or length > PDU_LIMIT_BYTES:
            return False
        if 6 + length > len(self._buffer):
            self._buffer = self._buffer[:6] + bytearray(length)
        view = memoryview(self._buffer)[: 6 + length]
        if self._receive(view[6:]):
            self._digest(kind, view)
        return True

    def _digest(self, kind: int, view: memoryview) -> None:
        """Turn a PDU into an event for the state machine."""
        try:
            if kind == _P_DATA_TYPE:
                self._recv_pdu.put(Fragments(view[6:]))
                self.event_queue.put(_P_DATA_RECEIVED)
                return
            pdu, event = self._decode_pdu(bytearray(view))
        except Exception as error:  # noqa: BLE001 - hostile bytes fail in pynetdicom in many ways
            log.warning("pdu.unreadable", kind=kind, error=type(error).__name__)
            self.event_queue.put(_UNKNOWN)
            return
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _receive(self, view: memoryview) -> bool:
        """Fill the view from the socket; False, and the event, when the peer closed."""
        connection = self.socket.socket
        # Acknowledge at once, for the peers that leave Nagle's algorithm on: they hold the second
        # part of a message back until the first is acknowledged, 40 ms for each image otherwise.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        got, started = 0, time.monotonic()
        while got < len(view):
            try:
                count = connection.recv_into(view[got:], len(view) - got, socket.MSG_WAITALL)
            except BlockingIOError:
                raise Silence from None
            except OSError:
                count = 0
            if count == 0:
                if self.assoc.is_hurried:
                    raise Hurried
                self.event_queue.put(_CLOSED)
                return False
            got += count
            if got < len(view) and time.monotonic() - started >= self.assoc.network_timeout:
                raise Silence
        return True


class Fragments:
    """The body of a P-DATA-TF PDU, not copied: valid until the next one is read."""

    __slots__ = ("_body",)

    def __init__(self, body: memoryview) -> None:
        self._body = body

    def to_primitive(self) -> Fragments:
        """Return itself: what pynetdicom's state machine hands on to DIMSE."""
        return self

    def __iter__(self) -> Iterator[tuple[int, memoryview]]:
        """Yield (context id, control header and fragment) of each presentation data value.

        Raises
        ------
        ValueError
            When the lengths do not add up (PS3.8 9.3.5.1).
        """
        at, end = 0, len(self._body)
        while at < end:
            if end - at < _PDV_HEAD.size:
                raise ValueError("a presentation data value is cut off")
            length, context_id, _ = _PDV_HEAD.unpack_from(self._body, at)
            stop = at + 4 + length
            if length < 2 or stop > end:
                raise ValueError("a presentation data value claims a length that it has not")
            yield context_id, self._body[at + 5 : stop]
            at = stop


class Assembly(DIMSEServiceProvider):  # type: ignore[misc]
    """Puts messages together; an object that is too large is read to its end but not kept.

    The data set of a C-STORE request is written behind the head of its future file, so that the
    file is complete, in one piece of memory, with the last fragment. All other messages are left
    to pynetdicom.
    """

    def __init__(self, association: ScannerAssociation, max_instance_bytes: int) -> None:
        super().__init__(association)
        self._max_instance_bytes = max_instance_bytes
        self._command = bytearray()
        self._store: StoreRequest | None = None
        self._other: DIMSEMessage | None = None

    def receive_primitive(self, primitive: Any) -> None:
        """Take the fragments of one PDU; what cannot be understood aborts the association."""
        try:
            for context_id, value in primitive:
                if value[0] & _IS_COMMAND:
                    self._take_command(context_id, value)
                elif self._store is not None:
                    self._take_object(context_id, value, self._store)
                else:
                    self._take_other(context_id, value)
        except Exception as error:  # noqa: BLE001 - hostile bytes fail in pydicom in many ways
            log.warning("message.unreadable", error=type(error).__name__)
            self._store = self._other = None
            self.dul.event_queue.put(_UNKNOWN)

    def _take_command(self, context_id: int, value: memoryview) -> None:
        if self._store is not None or self._other is not None:
            raise ValueError("a command within a message")
        self._command += value[1:]
        if len(self._command) > _COMMAND_LIMIT_BYTES:
            raise ValueError("a command set is too long")
        if not value[0] & _IS_LAST:
            return
        command, self._command = bytes(self._command), bytearray()
        request = read_store_request(command)
        if request is None:
            self._other = DIMSEMessage()
            self._take_other(context_id, memoryview(b"\3" + command))
        elif request.has_data_set:
            context = self.assoc._accepted_cx.get(context_id)
            syntax = str(context.transfer_syntax[0]) if context is not None else ""
            request.content.write(file_head(request.sop_class_uid, request.sop_uid, syntax))
            self._store = request
        else:
            self.msg_queue.put((context_id, request))

    def _take_object(self, context_id: int, value: memoryview, request: StoreRequest) -> None:
        if request.content.tell() + len(value) > self._max_instance_bytes:
            request.too_large = True
        else:
            request.content.write(value[1:])
        if value[0] & _IS_LAST:
            self._store = None
            self.msg_queue.put((context_id, request))

    def _take_other(self, context_id: int, value: memoryview) -> None:
        if self._other is None:
            raise ValueError("a data set without a command")
        single = P_DATA()
        single.presentation_data_value_list.append((context_id, value))
        if not self._other.decode_msg(single, self.assoc):
            if self._other.data_set.tell() > _COMMAND_LIMIT_BYTES:
                raise ValueError("an identifier is too long")
            return
        message, self._other = self._other, None
        primitive = message.message_to_primitive()
        if isinstance(primitive, C_STORE):
            raise ValueError("a C-STORE request that is not encoded as one")
        if not isinstance(primitive, C_CANCEL):  # nothing of ours can be cancelled
            self.msg_queue.put((message.context_id, primitive))


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
    idle_s : float
        A silent association is aborted after so long.
    """

    def __init__(
        self,
        ae: ApplicationEntity,
        door: Door,
        connection: socket.socket,
        request: bytes,
        *,
        idle_s: float,
    ) -> None:
        super().__init__(ae, "acceptor")
        self.door = door
        self._request = request
        self.is_hurried = False
        self.is_established: bool = False
        self._connection = connection
        self.dul = InlineProvider(self)
        self.dimse = Assembly(self, door.max_instance_bytes)
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
            self.dul.settle()
            self.dul.take(self._request)
            self.requestor.primitive = self.dul.receive_pdu()
            if isinstance(self.requestor.primitive, A_ASSOCIATE):
                admitted = self.door.admit(self)
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
            self._close()

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
                self._serve_request(message, context_id)

    def _store(self, request: StoreRequest, context_id: int) -> None:
        context = self._accepted_cx.get(context_id)
        if context is None:
            self._abort("failed")
            return
        status = self.door.store(self, request, context)
        request.content.close()
        self.dul.answer(store_response(request, context_id, status))

    def _abort(self, manner: str) -> str:
        self.is_established, self.is_aborted = False, True
        try:
            self.acse.send_abort(0x02)
        except Exception as error:  # noqa: BLE001 - the state machine refuses when it is over
            log.debug("abort.unsent", error=type(error).__name__)
        return manner

    def _close(self) -> None:
        """Let the peer read our last words, then close.

        Closing with something unread would reset the connection, and the peer might lose them.
        """
        connection = self._connection
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
