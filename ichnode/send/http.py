"""HTTP exchanges as a sender needs them: bounded in time and in size, and with nobody in between.

httpx by itself bounds each read and not the whole, keeps all that a server sends, and goes through
whatever proxy the environment names. Here an exchange is cut when its time is over, however busily
a server drips; an answer is read up to `LONGEST_ANSWER` bytes; no redirect is followed and no proxy
is used: what is said to be sent to this machine does not leave it by another's configuration.

References
----------
RFC 9110 (statuses: 15).
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import httpx

from ichnode.domain.errors import PeerFailure
from ichnode.domain.work import Acknowledged, DeliveryItem, DeliveryResult, Undelivered
from ichnode.send.association import LONGEST_CONNECT_S, LONGEST_ROUND_S, FellSilent
from ichnode.send.http_security import credentials, tls_context, why_not_connected
from ichnode.send.sender import Echo
from ichnode.settings.over_http import ServerDestination

LONGEST_ANSWER = 4 << 20  # bytes
LONGEST_STUDY_S = 120.0  # of exchanges about one: what a server lists does not bound itself
USER_AGENT = "ichnode"
HIDDEN = "***"
DestinationT = TypeVar("DestinationT", bound=ServerDestination)
_COMES_BACK = frozenset((408, 425, 429))  # of the refusals: too slow, too early, too many


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server; the headers that only the connection knows are added there."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes
    ----------
    headers : mapping of str to str
        By their names in lower case.
    whole : bool
        False where there was more than `LONGEST_ANSWER`, which was not read.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    whole: bool = True

    @property
    def is_good(self) -> bool:
        """Whether the server did what was asked."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body as JSON.

        Raises
        ------
        Strange
            When it is none.
        """
        if not self.whole:
            raise Strange("The server's answer is longer than anything we asked for.")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Strange("The server's answer is not JSON.") from None


class Silent(Exception):
    """No whole answer came."""


class Strange(Exception):
    """An answer came that nobody can make sense of."""


class Refused(Exception):
    """The server answered, and did not do it."""

    def __init__(self, result: Undelivered) -> None:
        super().__init__(result.error)
        self.result = result


class Exchange:
    """A connection to a server for a while; see `HttpPeer.connected`."""

    def __init__(
        self, client: httpx.Client, headers: Sequence[tuple[str, str]], timeout_s: float
    ) -> None:
        self._client, self._headers, self._timeout_s = client, headers, timeout_s
        self._line: socket.socket | None = None
        self._over = threading.Event()
        self._until_s = time.monotonic() + LONGEST_STUDY_S

    def begin(self) -> None:
        """Begin with another study: it has its own time."""
        self._until_s = time.monotonic() + LONGEST_STUDY_S

    def ask(self, request: Request) -> Answer:
        """Ask and return the answer, whatever its status.

        Raises
        ------
        PeerFailure
            When there is no connection.
        Silent
            When no whole answer comes in time.
        """
        if time.monotonic() > self._until_s:
            raise Silent("The server took too long over one study.")
        over = self._over = threading.Event()
        watch = threading.Timer(self._timeout_s, self._cut, [over])
        watch.daemon = True
        watch.start()
        try:
            return self._ask(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise PeerFailure(why_not_connected(error)) from None
        except httpx.TransportError as error:
            if over.is_set() or isinstance(error, httpx.TimeoutException):
                raise Silent("The server did not answer in time.") from None
            raise Silent("The server closed the connection, or its answer is not HTTP.") from None
        finally:
            watch.cancel()

    def _ask(self, request: Request) -> Answer:
        with self._client.stream(
            request.method,
            request.url,
            headers=[*self._headers, *request.headers],
            content=request.body or None,
            extensions={"trace": self._noted},
        ) as response:
            body, whole = _read(response)
            return Answer(response.status_code, dict(response.headers), body, whole)

    def _noted(self, what: str, about: Mapping[str, Any]) -> None:
        """Keep hold of the line itself: httpx hands it to TLS and shows it no more."""
        if what == "connection.connect_tcp.complete":
            self.close()
            self._line = about["return_value"].get_extra_info("socket").dup()
            if self._over.is_set():  # such as where the first of several addresses was dead
                self._shut()

    def _cut(self, over: threading.Event) -> None:
        over.set()
        self._shut()

    def _shut(self) -> None:
        if (line := self._line) is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the line."""
        if self._line is not None:
            self._line.close()


class HttpPeer:
    """A server, and how to get in.

    Parameters
    ----------
    destination : ServerDestination
        Where it is.
    headers : sequence of (str, str), optional
        Sent with every request and shown to nobody.
    """

    def __init__(
        self, destination: ServerDestination, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._destination, self._timeout_s = destination, destination.timeout_s
        self._headers = (*credentials(destination), *headers)

    @contextmanager
    def connected(self) -> Iterator[Exchange]:
        """Hold a connection while the block runs; it is made with the first request.

        Raises
        ------
        PeerFailure
            When a file of certificates or keys cannot be used.
        """
        is_tls = self._destination.url.startswith("https:")
        own = [("User-Agent", USER_AGENT), ("Accept-Encoding", "identity"), *self._headers]
        timeout = httpx.Timeout(self._timeout_s, connect=min(self._timeout_s, LONGEST_CONNECT_S))
        with httpx.Client(
            verify=tls_context(self._destination) if is_tls else False,
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
        ) as client:
            exchange = Exchange(client, own, self._timeout_s)
            try:
                yield exchange
            finally:
                exchange.close()

    def one_by_one(
        self,
        items: Sequence[DeliveryItem],
        tell: Callable[[Exchange, DeliveryItem], DeliveryResult],
    ) -> Iterator[tuple[int, DeliveryResult]]:
        """Tell a server of each row over one connection and yield each one's result.

        After `LONGEST_ROUND_S` the rest is not tried: those rows get no result.

        Raises
        ------
        PeerFailure
            When there is no connection; `FellSilent` after the result of the row whose answer did
            not come.
        """
        until_s = time.monotonic() + LONGEST_ROUND_S
        with self.connected() as server:
            for item in items:
                server.begin()
                try:
                    result = tell(server, item)
                except Refused as refused:
                    result = refused.result
                except Strange as strange:
                    result = Undelivered(str(strange))
                except Silent as silent:
                    yield item.delivery_id, Undelivered(str(silent))
                    raise FellSilent("The server does not answer any more.") from silent
                yield item.delivery_id, result
                if time.monotonic() > until_s:
                    return

    def shown(self, request: Request) -> str:
        """Return a request as text, without what is secret."""
        headers = [*request.headers, *((name, HIDDEN) for name, _ in self._headers)]
        lines = [
            f"{request.method} {request.url}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        if request.body:
            lines += ["", request.body.decode("utf-8", "replace")]
        return "\n".join(lines)

    def look(self, request: Request, judged: Callable[[Answer], str | None]) -> Echo:
        """Ask something harmless; `judged` says what is wrong with the answer, if anything is."""
        try:
            with self.connected() as server:
                answer = server.ask(request)
            if not answer.is_good:
                return Echo(False, refusal(answer).error)
            wrong = judged(answer)
        except (PeerFailure, Silent, Strange) as error:
            return Echo(False, str(error))
        return Echo(wrong is None, wrong or "It answers.")


class HttpMechanism(ABC, Generic[DestinationT]):
    """A way to tell a server of one study after the other.

    Parameters
    ----------
    destination : ServerDestination
        The server, and what it wants.
    headers : sequence of (str, str), optional
        Sent with every request and shown to nobody.
    """

    def __init__(self, destination: DestinationT, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._destination, self._peer = destination, HttpPeer(destination, headers)

    @abstractmethod
    def tell(self, server: Exchange, item: DeliveryItem) -> DeliveryResult:
        """Tell of one study; may raise `Refused`, `Strange` and `Silent`."""

    def deliver(self, items: Sequence[DeliveryItem]) -> Iterator[tuple[int, DeliveryResult]]:
        """Tell of each study over one connection and yield each row's result.

        Raises
        ------
        PeerFailure
            When there is no connection; `FellSilent` after the result of the row whose answer did
            not come.
        """
        return self._peer.one_by_one(items, self.tell)


def expect_good(answer: Answer) -> Answer:
    """Return an answer whose status is good.

    Raises
    ------
    Refused
        For any other.
    """
    if not answer.is_good:
        raise Refused(refusal(answer))
    return answer


def judge(answer: Answer) -> DeliveryResult:
    """Say what a status means for the delivery where nothing else of the answer counts."""
    return Acknowledged(answer.status) if answer.is_good else refusal(answer)


def refusal(answer: Answer, detail: str = "") -> Undelivered:
    """Say what a status that is not good means.

    A server that is ill or busy is asked again; a refusal will not change by asking again, but it
    may once somebody repairs the cause, so that positives go on trying all the same.
    """
    status = answer.status
    if 300 <= status < 400:
        return Undelivered(
            f"The server points elsewhere (status {status}), which is not followed: "
            "the configuration must name the right address.",
            status,
            permanent=True,
        )
    permanent = 400 <= status < 500 and status not in _COMES_BACK
    said = f"The server refused it with status {status}{_phrase(status)}"
    return Undelivered(f"{said}: {detail}." if detail else f"{said}.", status, permanent)


def _phrase(status: int) -> str:
    """Return the name of a status by the standard; the server's own words may hold anything."""
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""


def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """Read the body as it comes, unpacked by nobody."""
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            return bytes(body[:LONGEST_ANSWER]), False
    return bytes(body), True
