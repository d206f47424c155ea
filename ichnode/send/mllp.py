"""Sending HL7 messages over MLLP and reading the answers: sockets with deadlines, never a wait.

A connection is opened for what is due and closed when it is done. After an answer that did not
come, or was not ours, nothing on that connection can be trusted, and it is closed.

References
----------
HL7 2.5.1 chapter 2: 2.9.2, 2.9.3 (processing), 2.15.8 (MSA), table 0008. ERR-3, table 0357.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Iterator, Sequence

from ichnode.domain.errors import PeerFailure
from ichnode.domain.work import Acknowledged, DeliveryItem, DeliveryResult, Undelivered
from ichnode.hl7v2.framing import BadFrame, Deframer, framed
from ichnode.hl7v2.reading import Received, Unreadable, read
from ichnode.hl7v2.securing import client_context
from ichnode.hl7v2.writing import CODECS
from ichnode.send.association import LONGEST_CONNECT_S, LONGEST_ROUND_S, FellSilent
from ichnode.send.hl7_messages import control_id, order_message, result_message
from ichnode.send.sender import Echo
from ichnode.settings import Hl7Destination

LONGEST_ANSWER = 1 << 16  # an acknowledgement has a few hundred bytes
_ACCEPTED = frozenset(("AA", "CA"))
_REFUSED = frozenset(("AE", "CE", "AR", "CR"))
_REJECTED = frozenset(("AR", "CR"))
_NEVER_TAKEN = frozenset((200, 201, 202, 203))  # type, event, processing ID, version: table 0357
_CODE = re.compile(r"\d{3}")


class Closed(PeerFailure):
    """The peer closed the connection before it answered anything."""


class Strange(Exception):
    """The peer answered, and not what an answer should be; the sentence quotes nothing of it."""


class Connection:
    """A connection to a receiver of messages, for one exchange at a time."""

    def __init__(self, to: Hl7Destination) -> None:
        self._to = to
        self._socket = _connected(to)
        self._answers: list[bytes] = []
        self._deframer = Deframer(LONGEST_ANSWER)

    def close(self) -> None:
        """Close; whatever the peer still says is not heard."""
        self._socket.close()

    def exchange(self, message: bytes) -> bytes:
        """Send a message and return the next one that comes back.

        Raises
        ------
        PeerFailure
            When it does not answer in time, or closes.
        Strange
            When what comes is not framed.
        """
        deadline = time.monotonic() + self._to.timeout_s
        try:
            self._wait_until(deadline)
            self._socket.sendall(framed(message))
            while not self._answers:
                self._wait_until(deadline)
                data = self._socket.recv(4096)
                if not data:
                    raise OSError
                self._answers += self._deframer.feed(data)
        except TimeoutError:
            raise PeerFailure(self._broke_off("The peer does not answer")) from None
        except OSError:
            told = self._broke_off("The peer closed the connection")
            raise (PeerFailure if self._deframer.is_inside else Closed)(told) from None
        except BadFrame as error:
            raise Strange(f"The peer's answer is not MLLP: {error}") from None
        return self._answers.pop(0)

    def _wait_until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def _broke_off(self, what: str) -> str:
        return f"{what} in the middle of its answer." if self._deframer.is_inside else f"{what}."

    @property
    def is_free(self) -> bool:
        """Whether another exchange may be tried: nothing is left over, and no end has come."""
        left_over = self._answers or self._deframer.is_inside
        return not left_over and not select.select([self._socket], [], [], 0)[0]


def _connected(to: Hl7Destination) -> socket.socket:
    """Open a connection within bounds.

    Raises
    ------
    PeerFailure
        When there is none.
    """
    try:
        connection = socket.create_connection(
            (to.host, to.port), timeout=min(to.timeout_s, LONGEST_CONNECT_S)
        )
    except socket.gaierror:
        raise PeerFailure("The peer's address is not known.") from None
    except OSError:
        raise PeerFailure("The peer cannot be reached.") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not to.tls:
        return connection
    try:
        return _secured(to, connection)
    except BaseException:
        connection.close()
        raise


def _secured(to: Hl7Destination, connection: socket.socket) -> socket.socket:
    try:
        context = client_context(to.tls_ca, to.tls_certificate, to.tls_key)
    except OSError:
        raise PeerFailure("The files for TLS cannot be used; see tls_ca and its like.") from None
    connection.settimeout(min(to.timeout_s, LONGEST_CONNECT_S))
    try:
        return context.wrap_socket(connection, server_hostname=to.host)
    except ssl.SSLCertVerificationError as error:
        raise PeerFailure(
            f"The peer's certificate is not trusted: {error.verify_message}."
        ) from None
    except OSError:
        raise PeerFailure("The peer does not speak TLS with us.") from None


def look(to: Hl7Destination) -> Echo:
    """Ask whether a receiver is there; nothing is sent to it."""
    try:
        Connection(to).close()
    except PeerFailure as failure:
        return Echo(False, str(failure))
    return Echo(True, "It takes a connection.")


class Hl7Mechanism:
    """Tells one destination of urgent studies: results, and orders made urgent."""

    def __init__(self, to: Hl7Destination) -> None:
        self._to = to

    def deliver(self, items: Sequence[DeliveryItem]) -> Iterator[tuple[int, DeliveryResult]]:
        """Send a message for each row and yield what the receiver answered.

        After `LONGEST_ROUND_S` the rest is not tried: those rows get no result.

        Raises
        ------
        PeerFailure
            When there is no connection; `FellSilent` after the result of the row whose answer did
            not come.
        """
        line, until_s = _Line(self._to), time.monotonic() + LONGEST_ROUND_S
        try:
            for item in items:
                message = self._message(item)
                if not isinstance(message, str):
                    yield item.delivery_id, message
                    continue
                line.open()
                try:
                    yield item.delivery_id, self._exchange(line, item, message)
                except PeerFailure as failure:
                    yield item.delivery_id, Undelivered(str(failure))
                    raise FellSilent("The peer does not answer any more.") from failure
                except Strange as error:
                    yield item.delivery_id, Undelivered(str(error))
                    return  # it did answer
                if time.monotonic() > until_s:
                    return
        finally:
            line.close()

    def preview(self, item: DeliveryItem) -> str:
        """Return the message, one segment a line."""
        text = self._message(item)
        if not isinstance(text, str):
            return f"Nothing: {text.error if isinstance(text, Undelivered) else text.note}"
        return text.replace("\r", "\n").rstrip("\n")

    def _message(self, item: DeliveryItem) -> str | Acknowledged | Undelivered:
        """Return what is sent about a row, or what becomes of it without a message."""
        study, alert = item.study, item.alert
        if study is None or alert is None:
            return Undelivered("There is nothing to tell of this study.", permanent=True)
        if item.kind == "hl7":
            return result_message(self._to, item, study, alert)
        if alert.withdrawn:
            return Acknowledged(note="orders are raised only, never lowered")
        if not study.accession_number.strip():
            return Undelivered(
                "The study has no accession number: its order has no name.", permanent=True
            )
        return order_message(self._to, item, study, alert)

    def _exchange(self, line: _Line, item: DeliveryItem, text: str) -> DeliveryResult:
        answer = line.exchange(text.encode(CODECS[self._to.charset]))
        try:
            received = read(answer)
        except Unreadable:
            raise Strange("The peer's answer cannot be understood.") from None
        return _judge(received, control_id(item, self._to.name))


class _Line:
    """The connection of the moment; many receivers close theirs after each message."""

    def __init__(self, to: Hl7Destination) -> None:
        self._to = to
        self._connection: Connection | None = None
        self._used = False

    def open(self) -> None:
        """Make sure that there is a connection, or raise `PeerFailure`."""
        if self._connection is not None and self._connection.is_free:
            return
        self.close()
        self._connection, self._used = Connection(self._to), False

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def exchange(self, message: bytes) -> bytes:
        """Exchange, once more on a new connection where a used one was just being closed."""
        self.open()
        try:
            return self._once(message)
        except Closed:
            if not self._used:
                raise
        self.close()
        self.open()
        return self._once(message)

    def _once(self, message: bytes) -> bytes:
        assert self._connection is not None
        answer = self._connection.exchange(message)
        self._used = True
        return answer


def _judge(answer: Received, expected: str) -> DeliveryResult:
    """Say what an answer means; its texts may name a patient and are not repeated."""
    said = answer.first("MSA")
    if said is None:
        raise Strange("The peer's answer has no acknowledgement (MSA).")
    if said.value(2) != expected:
        raise Strange("The peer acknowledged another message than ours.")
    code = said.value(1).upper()
    if code in _ACCEPTED:
        return Acknowledged(note=code)
    if code not in _REFUSED:
        raise Strange("The peer's answer is none of AA, AE, AR, CA, CE, CR.")
    error = _error_code(answer)
    explained = f" with error {error}" if error is not None else ""
    return Undelivered(
        f"The peer answered {code}{explained}.",
        error,
        permanent=code in _REJECTED and error in _NEVER_TAKEN,
    )


def _error_code(answer: Received) -> int | None:
    """Return a number of table 0357: from ERR-3, ERR-1.4 (before 2.5) or MSA-6."""
    found = [answer.named("MSA")[0].value(6)]
    for row in answer.named("ERR"):
        found += [row.value(3), row.value(1, 4)]
    return next((int(one) for one in found if _CODE.fullmatch(one)), None)
