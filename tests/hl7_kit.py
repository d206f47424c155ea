"""What the tests of HL7 are made of: alerts, and a receiver that answers as it is told."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import hl7

from ichnode.domain.findings import LABELS, Finding, LabelResult, Presence
from ichnode.domain.work import Alert, DeliveryItem, DeliveryKind, DeliveryWork, StudyRef
from ichnode.hl7v2.framing import BadFrame, Deframer, framed
from ichnode.settings import Hl7Destination
from tests.documents import LEASE, study_ref

ANALYSED_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MODEL_UID = "2.25.77"

_PRESENCES = (
    Presence.PRESENT,
    Presence.ABSENT,
    Presence.PRESENT,
    Presence.UNDETERMINED,
    Presence.ABSENT,
    Presence.ABSENT,
)
_PROBABILITIES = (0.931, 0.02, 0.88, 0.4, 0.031, 0.049)


def alert(*, withdrawn: bool = False) -> Alert:
    """What there is to tell of a study: any and intraparenchymal, 12.3 ml of it."""
    labels = tuple(
        LabelResult(label, probability, presence, "1.2.3", 12.34 if label == LABELS[2] else None)
        for label, probability, presence in zip(LABELS, _PROBABILITIES, _PRESENCES, strict=True)
    )
    return Alert(
        withdrawn=withdrawn,
        finding=Finding.POSITIVE,
        labels=labels,
        model_name="tiny",
        model_version="2026.1",
        model_uid=MODEL_UID,
        analysed_at=ANALYSED_AT,
    )


def item(
    kind: DeliveryKind = "hl7",
    *,
    number: int = 1,
    revision: int = 1,
    withdrawn: bool = False,
    study: StudyRef | None = None,
) -> DeliveryItem:
    """One row of the outbox."""
    return DeliveryItem(
        number,
        kind,
        urgent=True,
        attempts=1,
        revision=revision,
        study=study or study_ref(study_date="20260304", study_time="050001.5"),
        alert=alert(withdrawn=withdrawn),
    )


def work(*items: DeliveryItem) -> DeliveryWork:
    """Rows for the destination "ris"."""
    return DeliveryWork(LEASE, "ris", items)


def destination(port: int = 2575, **settings: object) -> Hl7Destination:
    """The destination "ris" on this machine."""
    given = {"name": "ris", "host": "127.0.0.1", "port": port, "timeout_s": 5.0} | settings
    return Hl7Destination(**given)


def acknowledgement(
    message: bytes, code: str = "AA", *, control_id: str = "", tail: str = ""
) -> bytes:
    """What a receiver would say to a message."""
    wanted = str(hl7.parse(message.decode("utf-8", "replace")).segment("MSH")[10])
    said = f"MSH|^~\\&|RIS||ICHNODE||20260304||ACK|1|P|2.5.1\rMSA|{code}|{wanted}{tail}\r"
    return said.encode()


Answer = Callable[["Peer", socket.socket, bytes], bool]
"""Answers a message on a connection; says whether the connection stays open."""


def accepts(peer: Peer, connection: socket.socket, message: bytes) -> bool:
    """Answer AA."""
    connection.sendall(framed(acknowledgement(message)))
    return True


def saying(code: str, tail: str = "") -> Answer:
    """Answer another code."""

    def answer(peer: Peer, connection: socket.socket, message: bytes) -> bool:
        connection.sendall(framed(acknowledgement(message, code, tail=tail)))
        return True

    return answer


def sending(data: bytes, *, stays: bool = True) -> Answer:
    """Answer these very bytes."""

    def answer(peer: Peer, connection: socket.socket, message: bytes) -> bool:
        connection.sendall(data)
        return stays

    return answer


@dataclass
class Peer:
    """A receiver of messages on a real socket."""

    answers: Sequence[Answer] = (accepts,)
    port: int = 0
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def parsed(self, encoding: str = "utf-8") -> list[hl7.Message]:
        """What came, taken apart by the library."""
        return [hl7.parse(one.decode(encoding)) for one in self.messages]

    def serve(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take one connection after the other."""
        while not self.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                self._talk(connection)
            except (OSError, BadFrame):
                pass
            finally:
                connection.close()

    def _talk(self, connection: socket.socket) -> None:
        deframer = Deframer(1 << 20)
        while data := connection.recv(4096):
            for message in deframer.feed(data):
                self.messages.append(message)
                answer = self.answers[min(len(self.messages), len(self.answers)) - 1]
                if not answer(self, connection, message):
                    return


@contextmanager
def receiver(*answers: Answer, context: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """A receiver that gives these answers in turn, and the last one for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Peer(answers or (accepts,), listener.getsockname()[1])
        thread = threading.Thread(target=peer.serve, args=(listener, context), daemon=True)
        thread.start()
        try:
            yield peer
        finally:
            peer.stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
