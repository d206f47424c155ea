"""Where connections wait until they have asked for an association.

One thread watches all of them, so that a port scanner, a health check or a peer that never says
anything costs a file descriptor and no association: pynetdicom counts a connection from its TCP
accept, and ten silent ones would shut out the next scanner.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

SEATS = 256
REQUEST_LIMIT_BYTES = 1 << 20
_LOOK_EVERY_S = 0.25
_ASSOCIATE_RQ = 0x01
_HEAD = struct.Struct(">BxL")
# A-ABORT of the service provider, reason "unrecognised PDU" (PS3.8 9.3.8)
_ABORT = bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 2, 1))

Begin = Callable[[socket.socket, bytes], None]


@dataclass(slots=True)
class _Guest:
    connection: socket.socket
    address: str
    deadline: float
    heard: bytearray = field(default_factory=bytearray)

    @property
    def missing_bytes(self) -> int:
        """How much more of the request is to come; negative when it is no request."""
        if len(self.heard) < _HEAD.size:
            return _HEAD.size - len(self.heard)
        kind, length = _HEAD.unpack_from(self.heard)
        if kind != _ASSOCIATE_RQ or length > REQUEST_LIMIT_BYTES:
            return -1
        return int(_HEAD.size + length - len(self.heard))


class Lobby:
    """Accepts connections and passes on those that have sent a whole A-ASSOCIATE-RQ.

    Parameters
    ----------
    listener : socket.socket
        A listening socket; closed by `close`.
    begin : callable
        Takes over a connection, in blocking mode, and the request's bytes.
    handshake_s : float
        How long a connection may take to ask.
    busy : callable or None
        How many associations this process serves. Where several processes share the listener a
        busy one lets the others go first by so many milliseconds.
    """

    def __init__(
        self,
        listener: socket.socket,
        begin: Begin,
        *,
        handshake_s: float,
        busy: Callable[[], int] | None = None,
    ) -> None:
        self._listener, self._begin = listener, begin
        self._handshake_s, self._busy = handshake_s, busy
        self._selector = selectors.DefaultSelector()
        self._guests: dict[socket.socket, _Guest] = {}
        self._closing = threading.Event()
        self._waker, self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="lobby", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._bell.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether connections are accepted."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening and send everybody home who has not asked for anything yet."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._waker.send(b"!")
        if self._thread.ident is not None:
            self._thread.join()
        for guest in list(self._guests.values()):
            self._dismiss(guest)
        for one in (self._listener, self._waker, self._bell):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(_LOOK_EVERY_S):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data is not None:
                    self._hear(key.data)
            now = time.monotonic()
            for guest in [g for g in self._guests.values() if g.deadline <= now]:
                log.info("connection.timed_out", peer=guest.address)
                self._dismiss(guest)

    def _accept(self) -> None:
        if self._busy is not None:
            self._closing.wait(min(self._busy(), 20) / 1000)
        try:
            connection, address = self._listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                log.warning("accept.failed", error=type(error).__name__)
                self._make_room()
            return
        if len(self._guests) >= SEATS:
            self._make_room()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # see provider
        guest = _Guest(connection, address[0], time.monotonic() + self._handshake_s)
        self._guests[connection] = guest
        self._selector.register(connection, selectors.EVENT_READ, guest)
        self._hear(guest)

    def _make_room(self) -> None:
        """Dismiss the longest waiting connection of the peer that holds most seats."""
        crowd = Counter(guest.address for guest in self._guests.values()).most_common(1)
        for guest in self._guests.values():
            if guest.address == crowd[0][0]:
                log.warning("connection.crowded_out", peer=guest.address, count=crowd[0][1])
                self._dismiss(guest)
                return

    def _hear(self, guest: _Guest) -> None:
        try:
            while (missing := guest.missing_bytes) > 0:
                heard = guest.connection.recv(min(missing, 65536))
                if not heard:
                    self._dismiss(guest)
                    return
                guest.heard += heard
        except BlockingIOError:
            return
        except OSError:
            self._dismiss(guest)
            return
        if missing < 0:
            log.info("connection.not_understood", peer=guest.address)
            with contextlib.suppress(OSError):
                guest.connection.send(_ABORT)
            self._dismiss(guest)
            return
        self._forget(guest)
        guest.connection.setblocking(True)
        self._begin(guest.connection, bytes(guest.heard))

    def _forget(self, guest: _Guest) -> None:
        self._selector.unregister(guest.connection)
        del self._guests[guest.connection]

    def _dismiss(self, guest: _Guest) -> None:
        self._forget(guest)
        guest.connection.close()
