"""pynetdicom's upper layer without its waiting: driven by the association's own thread.

Part of what the receiver changes in pynetdicom; `ichnode.receive.transport` says why.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import structlog
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

log = structlog.get_logger(__name__)

MAX_PDU_BYTES = 131_072
"""What we tell senders. Fewer, larger PDUs; dcmtk sends no larger ones."""
PDU_LIMIT_BYTES = 1 << 20
"""A PDU that claims more is not read: an A-ASSOCIATE-RQ with 128 contexts needs 0.6 MB at most."""
_PDU_HEAD = struct.Struct(">BxL")
_PDV_HEAD = struct.Struct(">LBB")
_TIMEVAL = struct.Struct("ll")
_P_DATA_TYPE, _LAST_TYPE = 0x04, 0x07
ESTABLISHED = "Sta6"
CLOSED, P_DATA_RECEIVED, UNKNOWN = "Evt17", "Evt10", "Evt19"


class Silence(Exception):
    """The peer sent nothing, or no whole PDU, for too long."""


class Hurried(Exception):
    """The receiver stops and waits no longer."""


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
        if self.state_machine.current_state == ESTABLISHED:
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
        # Acknowledge at once, for the peers that leave Nagle's algorithm on: they hold the second
        # part of a message back until the first is acknowledged, 40 ms for each image otherwise.
        self.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        head = memoryview(self._buffer)[:6]
        if self._receive(head) and not self._read_rest():
            self.event_queue.put(UNKNOWN)
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
                if self.state_machine.current_state == ESTABLISHED and self.event_queue.empty():
                    # DT-2, which changes no state: no need to go through two queues
                    self.assoc.dimse.receive_primitive(Fragments(view[6:]))
                    return
                self._recv_pdu.put(Fragments(view[6:]))
                self.event_queue.put(P_DATA_RECEIVED)
                return
            pdu, event = self._decode_pdu(bytearray(view))
        except Exception as error:  # noqa: BLE001 - hostile bytes fail in pynetdicom in many ways
            log.warning("pdu.unreadable", kind=kind, error=type(error).__name__)
            self.event_queue.put(UNKNOWN)
            return
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _receive(self, view: memoryview) -> bool:
        """Fill the view from the socket; False, and the event, when the peer closed."""
        connection = self.socket.socket
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
                self.event_queue.put(CLOSED)
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
