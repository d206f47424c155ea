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
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

SEATS = 256
REQUEST_LIMIT_BYTES = 256 << 10
"""Real requests have a few kilobytes; the longest sensible one, 128 contexts of four transfer
syntaxes each, has 50."""
JUDGED_AT_ONCE = 8
"""Requests that are decoded and judged at the same time; the others wait for their turn, since
each costs milliseconds of the interpreter that the transfers of those inside need."""
_LOOK_EVERY_S = 0.25
_AFTER_FAILURE_S = 0.05
_ASSOCIATE_RQ = 0x01
_HEAD = struct.Struct(">BxL")
# A-ABORT of the service provider, reason "unrecognised PDU" (PS3.8 9.3.8)
_ABORT = bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 2, 1))

Begin = Callable[[socket.socket, bytes, Callable[[], None]], None]


@dataclass(slots=True)
class _Guest:
    connection: socket.socket
    address: str
    deadline: float
    is_waiting: bool = False  # has asked, and is not watched any more
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
        Takes over a connection, in blocking mode, the request's bytes, and what is to be called
        exactly once when the request has been judged, or has failed.
    handshake_s : float
        How long a connection may take to ask.
    busy : callable or None
        How many associations this process serves. Where several processes share the listener a
        busy one lets the others go first by so many milliseconds.
    welcome : callable or None
        Says of a connection, by the peer's and our own address, whether it may ask at all.
    tend : callable or None
        Called several times a second.
    """

    def __init__(
        self,
        listener: socket.socket,
        begin: Begin,
        *,
        handshake_s: float,
        busy: Callable[[], int] | None = None,
        welcome: Callable[[str, str], bool] | None = None,
        tend: Callable[[], None] | None = None,
    ) -> None:
        self._listener, self._begin = listener, begin
        self._handshake_s, self._busy = handshake_s, busy
        self._welcome, self._tend = welcome, tend
        self._selector = selectors.DefaultSelector()
        self._guests: dict[socket.socket, _Guest] = {}
        self._asking: deque[_Guest] = deque()  # whole requests, in the order they came
        self._desks = threading.BoundedSemaphore(JUDGED_AT_ONCE)
        self._closing = threading.Event()
        self._waker, self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="lobby", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._bell.setblocking(False)
        self._waker.setblocking(False)
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
        self._ring()
        if self._thread.ident is not None:
            self._thread.join()
        for guest in list(self._guests.values()):
            self._dismiss(guest)
        for one in (self._listener, self._waker, self._bell):
            one.close()
        self._selector.close()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it rings already; closed: nobody listens
            self._waker.send(b"!")

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
            except Exception:
                log.exception("lobby.stumbled")  # the door stays open whatever came through it
                self._closing.wait(_LOOK_EVERY_S)

    def _turn(self) -> None:
        for key, _ in self._selector.select(_LOOK_EVERY_S):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._bell:
                self._bell.recv(4096)
            elif key.data.connection in self._guests:  # else dismissed earlier in this turn
                self._attend(key.data)
        self._pass_on()
        now = time.monotonic()
        for guest in [g for g in self._guests.values() if g.deadline <= now]:
            log.info("connection.timed_out", peer=guest.address)
            self._dismiss(guest)
        if self._tend is not None:
            self._tend()

    def _attend(self, guest: _Guest) -> None:
        try:
            self._hear(guest)
        except Exception:
            log.exception("connection.failed", peer=guest.address)  # it alone: the others go on
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
                self._closing.wait(_AFTER_FAILURE_S)  # the listener stays readable meanwhile
            return
        try:
            self._seat(connection, address[0])
        except Exception:
            connection.close()
            raise

    def _seat(self, connection: socket.socket, address: str) -> None:
        if self._welcome is not None and not self._welcome(address, connection.getsockname()[0]):
            connection.close()
            return
        if len(self._guests) >= SEATS:
            self._make_room()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # see provider
        guest = _Guest(connection, address, time.monotonic() + self._handshake_s)
        self._guests[connection] = guest
        self._selector.register(connection, selectors.EVENT_READ, guest)
        self._attend(guest)

    def _make_room(self) -> None:
        """Dismiss the longest waiting connection of the peer that holds most seats."""
        crowd = Counter(guest.address for guest in self._guests.values()).most_common(1)
        for address, count in crowd:
            guest = next(g for g in self._guests.values() if g.address == address)
            log.warning("connection.crowded_out", peer=address, count=count)
            self._dismiss(guest)

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
        self._selector.unregister(guest.connection)
        guest.is_waiting = True
        self._asking.append(guest)
        self._pass_on()

    def _pass_on(self) -> None:
        """Let those who have asked be judged, as many at once as there are desks."""
        while self._asking and self._desks.acquire(blocking=False):
            guest = self._asking.popleft()
            if self._guests.pop(guest.connection, None) is None:
                self._desks.release()  # dismissed while waiting
                continue
            guest.connection.setblocking(True)
            self._begin(guest.connection, bytes(guest.heard), self._judged)

    def _judged(self) -> None:
        self._desks.release()
        self._ring()

    def _dismiss(self, guest: _Guest) -> None:
        """Close a connection; one that is gone already is left alone."""
        if self._guests.pop(guest.connection, None) is None:
            return
        if not guest.is_waiting:
            self._selector.unregister(guest.connection)
        guest.connection.close()
