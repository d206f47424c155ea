"""The listener: MLLP connections, bounded in number, size and time.

Strangers are expected: whoever is not in the networks is closed at once, bytes that are no MLLP end
their connection, and a message that does not end takes neither memory nor a place for ever.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from ichnode.domain.errors import ConfigurationError
from ichnode.hl7v2.framing import BadFrame, Deframer, framed
from ichnode.hl7v2.securing import server_context
from ichnode.settings import Hl7ListenSettings

log = structlog.get_logger(__name__)

HANDSHAKE_S = 10.0  # for TLS
SEND_S = 30.0  # for an acknowledgement, of which a peer that does not read takes nothing
_CHUNK = 1 << 16

Answer = Callable[[bytes, str], bytes]


@dataclass(slots=True)
class _Guest:
    """A connection that was let in."""

    socket: socket.socket
    peer: str
    since: float  # when its last message was acted on, or when it came
    heard: bool = False  # it has brought a message
    acted_on: bool = False  # a message of it, now
    leaving: bool = False  # it was shut down to make room


class Listener:
    """Listens, and answers every message in its order.

    Parameters
    ----------
    settings : Hl7ListenSettings
        Where, whom, how much and how long.
    answer : callable
        Takes a message and the peer's address and returns the acknowledgement.
    """

    def __init__(self, settings: Hl7ListenSettings, answer: Answer) -> None:
        self._settings, self._answer = settings, answer
        self._networks = [ipaddress.ip_network(n, strict=False) for n in settings.networks]
        self._context = tls_context(settings)
        self._socket = _listening(settings)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, _Guest] = {}  # the oldest first
        self._refused: Counter[str] = Counter()
        self._ended = 0
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    @property
    def is_alive(self) -> bool:
        """Whether it still takes connections."""
        return self._thread.is_alive()

    def counts(self) -> dict[str, Any]:
        """Return how many connections were refused, by the reason, and how many made room."""
        with self._lock:
            return {"refused": dict(self._refused), "made_room": self._ended}

    def start(self) -> None:
        """Begin to take connections."""
        self._thread.start()

    def stop(self, within_s: float = 10.0) -> None:
        """Take no more messages; those that are being acted on are answered."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(within_s)
        with self._lock:
            open_ = dict(self._open)
        for guest in open_.values():
            _shut(guest.socket, socket.SHUT_RD)
        deadline = time.monotonic() + within_s
        for thread in open_:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                log.warning("listener.accept_failed", error=type(error).__name__)
                self._stopping.wait(1.0)  # such as: no more file descriptors
                continue
            if not self._is_welcome(str(address[0])):
                connection.close()
                continue
            self._begin(connection, str(address[0]))

    def _is_welcome(self, peer: str) -> bool:
        address = ipaddress.ip_address(peer.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if self._networks and not any(address in one for one in self._networks):
            self._refuse(peer, "network")
            return False
        with self._lock:
            staying = [guest for guest in self._open.values() if not guest.leaving]
            full = len(staying) >= self._settings.max_connections
            full = full and not self._make_room(staying, peer)
        if full:
            self._refuse(peer, "too many connections")
        return not full

    def _refuse(self, peer: str, reason: str) -> None:
        log.warning("connection.refused", peer=peer, reason=reason)
        with self._lock:
            self._refused[reason] += 1

    def _make_room(self, staying: list[_Guest], peer: str) -> bool:
        """End a connection that keeps others out, and none whose message is being acted on.

        The oldest that never brought a message, or else the one that has been idle for longest
        among those of the peer with most, the one at the door counted in: a peer that opens one
        connection after the other and closes none takes the places of its own alone.
        """
        held = Counter(guest.peer for guest in staying) + Counter([peer])
        most = max(held.values())
        idle = [
            guest
            for guest in staying
            if guest.heard and not guest.acted_on and held[guest.peer] == most > 1
        ]
        silent = [guest for guest in staying if not guest.heard]
        for guest in (*silent, *sorted(idle, key=lambda guest: guest.since)):
            guest.leaving = True
            # An answer that is on its way still goes out.
            if _shut(guest.socket, socket.SHUT_RD if guest.heard else socket.SHUT_RDWR):
                self._ended += 1
                log.warning("connection.made_room", peer=guest.peer, silent=not guest.heard)
                return True
        return False

    def _begin(self, connection: socket.socket, peer: str) -> None:
        try:
            connection = self._secured(connection)
        except OSError as error:
            log.info("connection.lost", peer=peer, error=type(error).__name__)
            connection.close()
            return
        guest = _Guest(connection, peer, time.monotonic())
        thread = threading.Thread(
            target=self._serve, args=(guest,), name=f"hl7-{peer}", daemon=True
        )
        with self._lock:
            self._open[thread] = guest
        try:
            thread.start()
        except RuntimeError:  # there are no more threads; that passes
            self._refuse(peer, "no thread")
            connection.close()
            self._forget(thread)

    def _secured(self, connection: socket.socket) -> socket.socket:
        """Put TLS around a connection, where it is spoken.

        Before it is one of the open ones, and the handshake after that: who says nothing makes way
        then too, and only this socket can be shut down, since the bare one is taken out of use.
        """
        if self._context is None:
            return connection
        return self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def _serve(self, guest: _Guest) -> None:
        connection, peer = guest.socket, guest.peer
        try:
            connection.settimeout(HANDSHAKE_S)
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            self._talk(guest)
        except BadFrame as error:
            log.warning("connection.dropped", peer=peer, sentence=str(error))
        except TimeoutError:
            log.info("connection.idle", peer=peer)
        except OSError as error:
            log.info("connection.lost", peer=peer, error=type(error).__name__)
        except Exception:  # a thread that ends with a traceback would tell nobody
            log.exception("connection.broke", peer=peer)
        finally:
            connection.close()
            self._forget(threading.current_thread())

    def _forget(self, thread: threading.Thread) -> None:
        with self._lock:
            self._open.pop(thread, None)

    def _talk(self, guest: _Guest) -> None:
        connection = guest.socket
        deframer = Deframer(self._settings.max_message_bytes)
        deadline = time.monotonic() + self._settings.idle_s
        while not self._stopping.is_set():
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                raise TimeoutError
            data = connection.recv(_CHUNK)
            if not data:
                return
            for message in deframer.feed(data):
                with self._lock:
                    if guest.leaving:
                        return  # nobody could be told
                    guest.heard = guest.acted_on = True
                answer = self._answer(message, guest.peer)
                with self._lock:
                    guest.acted_on, guest.since = False, time.monotonic()
                connection.settimeout(SEND_S)
                connection.sendall(framed(answer))
                # Only a whole message buys time: single bytes would hold the place for ever.
                deadline = time.monotonic() + self._settings.idle_s


def tls_context(settings: Hl7ListenSettings) -> ssl.SSLContext | None:
    """Return what TLS is spoken with; None where it is not.

    Raises
    ------
    ConfigurationError
        When a file cannot be used.
    """
    if not settings.tls_certificate:
        return None
    try:
        return server_context(settings.tls_certificate, settings.tls_key, settings.tls_ca)
    except OSError as error:
        raise ConfigurationError(
            f"The files of hl7_listen for TLS cannot be used: {error.strerror or 'wrong content'}."
        ) from None


def _shut(connection: socket.socket, how: int) -> bool:
    """Shut a connection down; False where it is over already.

    `SSLSocket.shutdown` would let go of TLS, and what is still to be said would be in the clear.
    """
    try:
        socket.socket.shutdown(connection, how)
    except OSError:
        return False
    return True


def _listening(settings: Hl7ListenSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    try:
        return socket.create_server((settings.bind, settings.port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"hl7_listen: {settings.bind}:{settings.port} cannot be listened on: {error.strerror}."
        ) from None
