"""The listener, over real sockets into a real worklist, with peers that behave and that do not."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import hl7
import pytest
import trustme
from sqlalchemy import select

from ichnode.domain.errors import WorklistDown
from ichnode.domain.hearing import Heard
from ichnode.hl7v2.framing import Deframer, framed
from ichnode.hl7v2.reading import read
from ichnode.listen.answering import Answering
from ichnode.listen.server import Listener
from ichnode.settings import Hl7ListenSettings
from ichnode.worklist import tables as t
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import fresh_uid, slices

ORDER = (
    "MSH|^~\\&|RIS|HOSP|ICHNODE||20260304||ORM^O01|M1|P|2.3.1\r"
    "PID|1||4711^^^HOSP^MR||PATIENT^TEST\r"
    "ORC|NW|P1|A1||||^^^^^S\r"
    "OBR|1|P1|A1|CTH^CT Head|||||||||||||||A1\r"
)
IMAGING_ORDER = (
    "MSH|^~\\&|RIS|HOSP|ICHNODE||20260304||OMI^O23^OMI_O23|M2|P|2.5.1\r"
    "PID|1||4711^^^HOSP^MR\r"
    "ORC|XO|P1|F1\r"
    "TQ1|1||||||||A^ASAP^HL70485\r"
    "OBR|1|P1|F1|CTH^CT Head\r"
    "IPC|A1|RP1|1.2.3|SPS1\r"
)
REPORT = (
    "MSH|^~\\&|RIS|HOSP|ICHNODE||20260304||ORU^R01|M3|P|2.5.1\r"
    "PID|1||4711^^^HOSP^MR\r"
    "OBR|1|P1|A1|CTH^CT Head|||||||||||||||||||||F\r"
    "OBX|1|TX|GDT||Findings: PATIENT^TEST||||||F\r"
    "OBX|2|FT|GDT||Acute subdural\\.br\\haemorrhage \\T\\ shift~8 mm||||||F\r"
    "OBX|3|TX|GDT||taken back||||||D\r"
)
CORRECTION = (
    "MSH|^~\\&|ADT|HOSP|ICHNODE||20260304||ADT^A08^ADT_A01|M4|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||4711^^^HOSP^MR||Pätient&von^Test^T^II^Dr||19600102|F\r"
)
MERGE = (
    "MSH|^~\\&|ADT|HOSP|ICHNODE||20260304||ADT^A40^ADT_A39|M5|P|2.5.1\r"
    "PID|1||8888^^^HOSP^MR||KEPT^TEST\r"
    "MRG|4711^^^HOSP^MR\r"
)
ADMISSION = "MSH|^~\\&|ADT|HOSP|ICHNODE||20260304||ADT^A01|M6|P|2.5.1\rPID|1||4711\r"


class Client:
    """A sender of messages."""

    def __init__(
        self, port: int, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=10, source_address=(host, 0)
        )
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self._deframer, self._answers = Deframer(1 << 20), list[bytes]()

    def answer(self) -> hl7.Message:
        """The next acknowledgement."""
        while not self._answers:
            data = self.socket.recv(4096)
            assert data, "the connection was closed"
            self._answers += self._deframer.feed(data)
        return hl7.parse(self._answers.pop(0).decode())

    def tell(self, message: str | bytes) -> hl7.Message:
        """Send a message and return what is answered."""
        data = message.encode() if isinstance(message, str) else message
        self.socket.sendall(framed(data))
        return self.answer()

    def ends(self) -> bool:
        """Whether the other side closes."""
        try:
            return self.socket.recv(4096) == b""
        except ConnectionError:
            return True


def said(answer: hl7.Message) -> tuple[str, str, str]:
    """Code, control identifier and sentence of an acknowledgement."""
    segment = answer.segment("MSA")
    return str(segment[1]), str(segment[2]), str(segment[3]) if len(segment) > 3 else ""


@contextmanager
def listening(
    worklist: Worklist | None = None, *, ear: object = None, **settings: object
) -> Iterator[tuple[Callable[..., Client], Listener, Answering]]:
    given = Hl7ListenSettings(enabled=True, port=0, **settings)  # type: ignore[arg-type]
    answering = Answering(ear or worklist.orders, given.unknown)  # type: ignore
    listener = Listener(given, answering.answer)
    listener.start()
    clients: list[Client] = []

    def connect(context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Client:
        clients.append(Client(listener.port, context, host))
        return clients[-1]

    try:
        yield connect, listener, answering
    finally:
        for one in clients:
            one.socket.close()
        listener.stop()


def credentials(folder: Path) -> tuple[dict[str, object], ssl.SSLContext]:
    """The settings of a listener with a certificate, and what a client that trusts it goes by."""
    ca, certificate = trustme.CA(), folder / "server.pem"
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return {"tls_certificate": str(certificate)}, context


def bring(worklist: Worklist) -> None:
    uid = fresh_uid()
    worklist.record(slices(2, series_uid=uid, association=uid))


def row(worklist: Worklist) -> t.Study:
    with worklist._database.reading() as transaction:
        return transaction.session.scalars(select(t.Study)).one()


class Recorder:
    """An ear that keeps what it hears, or does not work."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.heard: list[tuple[str, tuple[Heard, ...]]] = []
        self._failure = failure

    def hear(self, digest: str, kind: str, things: Sequence[Heard]) -> object:
        if self._failure is not None:
            raise self._failure
        self.heard.append((kind, tuple(things)))
        return None


class Slow(Recorder):
    """One that takes as long as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def hear(self, digest: str, kind: str, things: Sequence[Heard]) -> object:
        self.entered.set()
        self.go_on.wait(10)
        return super().hear(digest, kind, things)


# ------------------------------------------------------------------ what is learnt


def test_messages_change_the_list_before_they_are_acknowledged(
    open_worklist: OpenWorklist,
) -> None:
    """Orders, a report, a correction and a merge, one after the other over one connection."""
    worklist = open_worklist(Policy(keep_reports=True))
    bring(worklist)
    with listening(worklist) as (connect, _, answering):
        client = connect()
        assert said(client.tell(IMAGING_ORDER)) == ("AA", "M2", "")
        assert row(worklist).ordered_priority == "HIGH"
        assert said(client.tell(ORDER)) == ("AA", "M1", "")
        assert row(worklist).ordered_priority == "STAT"
        assert said(client.tell(REPORT)) == ("AA", "M3", "")
        (text,) = worklist.orders.report_texts()
        assert text.text == ("Findings: PATIENT^TEST\nAcute subdural\nhaemorrhage & shift\n8 mm")
        assert said(client.tell(CORRECTION)) == ("AA", "M4", "")
        assert row(worklist).patient_name == "Pätient^Test^T^Dr^II"
        assert (row(worklist).patient_birth_date, row(worklist).patient_sex) == ("19600102", "F")
        assert said(client.tell(MERGE)) == ("AA", "M5", "")
        assert row(worklist).patient_id == "8888"
        assert row(worklist).patient_name == "KEPT^TEST"
        assert answering.counts()["heard"] == {
            "OMI^O23": 1,
            "ORM^O01": 1,
            "ORU^R01": 1,
            "ADT^A08": 1,
            "ADT^A40": 1,
        }


def test_a_repeated_message_is_acknowledged_and_done_once(worklist: Worklist) -> None:
    """Over another connection as well."""
    bring(worklist)
    with listening(worklist) as (connect, _, _):
        assert said(connect().tell(CORRECTION))[0] == "AA"
        assert said(connect().tell(CORRECTION))[0] == "AA"
    with worklist._database.reading() as transaction:
        verbs = transaction.session.scalars(select(t.Event.verb).where(t.Event.noun == "study"))
        assert list(verbs) == ["corrected"]


@pytest.mark.parametrize(
    ("segments", "priority"),
    [
        ("ORC|NW||A1||||^^^^^S\rOBR|1||A1\r", "STAT"),
        ("ORC|NW||A1||||^^^^^P\rOBR|1||A1\r", "HIGH"),
        ("ORC|NW||A1||||^^^^^C\rOBR|1||A1\r", "HIGH"),
        ("ORC|NW||A1||||^^^^^R\rOBR|1||A1\r", "ROUTINE"),
        ("ORC|NW||A1||||^^^^^TM30\rOBR|1||A1\r", "MEDIUM"),
        ("ORC|NW||A1||||^^^^^stat\rOBR|1||A1\r", "STAT"),
        ("ORC|NW||A1\rOBR|1||A1||S\r", "STAT"),
        ("ORC|NW||A1\rTQ1|1||||||||A\rOBR|1||A1||R\r", "HIGH"),
        ("ORC|NW||A1||||^^^^^?\rOBR|1||A1\r", None),
        ("ORC|CA||A1||||^^^^^S\rOBR|1||A1\r", None),
        ("ORC|NW\rOBR|1||A1\r", None),
    ],
)
def test_priorities_are_read_where_each_version_has_them(
    segments: str, priority: str | None
) -> None:
    """TQ1-9, ORC-7.6, OBR-27.6, OBR-5; a cancelled order has none."""
    ear = Recorder()
    with listening(ear=ear) as (connect, _, _):
        head = "MSH|^~\\&|RIS||||||ORM^O01|X|P|2.5.1\rPID|1||4711\r"
        assert said(connect().tell(head + segments))[0] == "AA"
    ((_, things),) = ear.heard
    assert [one.priority for one in things] == ([priority] if priority else [])  # type: ignore


def test_one_message_may_have_several_orders() -> None:
    """Each with its number and its priority."""
    ear = Recorder()
    with listening(ear=ear) as (connect, _, _):
        connect().tell(
            "MSH|^~\\&|RIS||||||OMG^O19|X|P|2.5.1\rPID|1||4711\r"
            "ORC|NW||F1\rTQ1|1||||||||S\rOBR|1||F1|||||||||||||||A1\r"
            "ORC|NW||F2\rTQ1|1||||||||R\rOBR|1||F2|||||||||||||||A2\r"
        )
    ((_, things),) = ear.heard
    told = [(one.accession_number, one.priority) for one in things]  # type: ignore[union-attr]
    assert told == [("A1", "STAT"), ("A2", "ROUTINE")]


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("20260304101530.5+0100", datetime(2026, 3, 4, 9, 15, 30, tzinfo=UTC)),
        ("202603041015", datetime(2026, 3, 4, 10, 15).astimezone(UTC)),  # of this host
        ("20260304", None),  # as early as a day is would be wrong, as late as one too
        ("20261304101530", None),
        ("000101010000+0100", None),
        ("", None),
    ],
)
def test_a_report_says_when_it_was_made(written: str, at: datetime | None) -> None:
    """OBR-22; where that says nothing it is when the report is heard."""
    ear = Recorder()
    with listening(ear=ear) as (connect, _, _):
        made = REPORT.replace("|||F\rOBX|1", f"{written}|||F\rOBX|1")
        assert said(connect().tell(made))[0] == "AA"
    ((_, (report,)),) = ear.heard
    assert report.at == at  # type: ignore[union-attr]


def test_preliminary_results_are_no_reports() -> None:
    """Our own messages, should they come back, mean nothing."""
    ear = Recorder()
    with listening(ear=ear) as (connect, _, _):
        assert said(connect().tell(REPORT.replace("|F\rOBX|1", "|P\rOBX|1")))[0] == "AA"
    assert ear.heard == [("ORU^R01", ())]


# ------------------------------------------------------------------ what is answered


def test_an_acknowledgement_goes_back_to_who_sent() -> None:
    """Application and facility change places; version and control identifier are the sender's."""
    with listening(ear=Recorder()) as (connect, _, _):
        answer = connect().tell(ORDER)
    header = [str(one) for one in answer.segment("MSH")]
    assert header[3:7] == ["ICHNODE", "", "RIS", "HOSP"]
    assert (header[9], header[11], header[12]) == ("ACK^O01", "P", "2.3.1")


def test_a_message_that_says_too_much_is_refused() -> None:
    """All of it would be one transaction, for which the images would have to wait."""
    ear = Recorder()
    head, patient, control, request = ORDER.split("\r")[:4]
    orders = f"{control}\r{request}\r" * 201
    answer = hl7.parse(
        Answering(ear, "AA").answer(f"{head}\r{patient}\r{orders}".encode(), "a").decode()
    )
    assert said(answer)[0] == "AE"
    assert ear.heard == []


def test_a_name_of_many_parts_costs_no_more_than_its_length() -> None:
    """It is taken apart once, not once for each part: one message must not hold the others up."""

    def cost_s(parts: int) -> float:
        name = "^".join("A" if number % 2 else "" for number in range(parts))
        message = read(f"MSH|^~\\&|{name}|HOSP|ICHNODE||20260304||ORM^O01|M1|P|2.3.1\r".encode())
        begun = time.process_time()
        assert message.header.components(3) == name.split("^")
        return time.process_time() - begun

    cost_s(100)
    assert cost_s(16_000) < 40 * cost_s(1000)


def test_enhanced_mode_is_answered_in_enhanced_mode() -> None:
    """CA and CE where the sender asks for an accept acknowledgement and no other."""
    enhanced = ORDER.replace("|P|2.3.1", "|P|2.5.1|||AL|NE")
    with listening(ear=Recorder()) as (connect, _, _):
        client = connect()
        assert said(client.tell(enhanced))[0] == "CA"
        assert said(client.tell(enhanced.replace("A1", "")))[0] == "CE"


@pytest.mark.parametrize(("unknown", "code"), [("AA", "AA"), ("AR", "AR")])
def test_kinds_that_mean_nothing_are_counted(unknown: str, code: str) -> None:
    """Accepted or rejected as the site wants, and visible either way."""
    with listening(ear=Recorder(), unknown=unknown) as (connect, _, answering):
        client = connect()
        assert said(client.tell(ADMISSION))[:2] == (code, "M6")
        strange = ADMISSION.replace("ADT^A01", "<script>^PATIENT TEST")
        assert said(client.tell(strange))[0] == code
    assert answering.counts()["ignored"] == {"ADT^A01": 1, "?^?": 1}


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (b"", "The message does not begin with MSH."),
        (b"hello", "The message does not begin with MSH."),
        (b"MSH|^~\\", "The message does not begin with MSH."),
        (b"MSH|||||||||||||", "The separators of the message are not five different characters."),
        (b"MSHa^~\\&abcdef", "The separators of the message are not visible signs."),
        (
            b"MSH|^~\\&|||||||ORM^O01|X|P|2.5||||||UTF-16\r",
            "The character set that MSH-18 names is not supported.",
        ),
        (
            b"MSH|^~\\&|||||||ORM^O01|X|P|2.5||||||UNICODE UTF-8\rPID|\xff\r",
            "The text is not in the character set that MSH-18 names.",
        ),
        (b"MSH|^~\\&|" + b"|" * 30_000, "The message has more than 20000 fields and components."),
        (
            b"MSH|^~\\&|||||||ORM^O01||P|2.5\r",
            "The message has no control identifier (MSH-10).",
        ),
        (
            ORDER.replace("A1", "").encode(),
            "An order has no accession number (IPC-1, OBR-18, OBR-3 or ORC-3).",
        ),
        (CORRECTION.replace("4711", "").encode(), "The message has no Patient ID (PID-3)."),
        (REPORT.replace("PID|1", "ZZZ|1").encode(), "The message has no Patient ID (PID-3)."),
        (
            MERGE.replace("MRG|4711", "MRG|").encode(),
            "A merge does not say which Patient ID is gone (MRG-1).",
        ),
        (
            MERGE.replace("MRG", "ZZZ").encode(),
            "A merge does not say which Patient ID is gone (MRG-1).",
        ),
    ],
)
def test_what_cannot_be_understood_is_said_in_one_sentence(message: bytes, sentence: str) -> None:
    """AE, and the connection goes on."""
    ear = Recorder()
    with listening(ear=ear) as (connect, _, _):
        client = connect()
        code, _, told = said(client.tell(message))
        assert (code, told) == ("AE", sentence)
        assert said(client.tell(ORDER))[0] == "AA"
    assert len(ear.heard) == 1


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (WorklistDown(), "The message cannot be kept now; send it again."),
        (ValueError("PATIENT^TEST"), "The message could not be handled."),
    ],
)
def test_what_goes_wrong_here_is_answered_without_a_value(
    failure: Exception, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """AE, so that the sender keeps the message; nothing of it is repeated."""
    with listening(ear=Recorder(failure)) as (connect, _, _):
        assert said(connect().tell(ORDER)) == ("AE", "M1", sentence)


def test_texts_without_a_named_character_set_are_taken_as_they_are() -> None:
    """UTF-8 where it is, Latin-1 otherwise, and line feeds for carriage returns."""
    ear = Recorder()
    plain = CORRECTION.replace("|UNICODE UTF-8", "|")
    with listening(ear=ear) as (connect, _, _):
        client = connect()
        client.tell(plain)
        client.tell(plain.encode("iso8859-1"))
        client.tell(plain.replace("\r", "\r\n"))
        client.tell(CORRECTION.replace("UNICODE UTF-8", "8859/15").encode("iso8859-15"))
    names = [things[0].now.name for _, things in ear.heard]  # type: ignore[union-attr]
    assert names == ["Pätient^Test^T^Dr^II"] * 4


# ------------------------------------------------------------------ hostile and unlucky peers


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x16\x03\x01\x02\x00",
        b"\x0bMSH|^~\\&|\x0bMSH",
        b"\x0b" + b"x" * 3000,
    ],
)
def test_bytes_that_are_no_mllp_end_their_connection(data: bytes) -> None:
    """And nobody else's."""
    with listening(ear=Recorder(), max_message_bytes=2048) as (connect, listener, _):
        other, bad = connect(), connect()
        bad.socket.sendall(data)
        assert bad.ends()
        assert said(other.tell(ORDER))[0] == "AA"
        assert listener.is_alive


def test_a_message_may_come_byte_by_byte() -> None:
    """And two may come in one packet."""
    with listening(ear=Recorder()) as (connect, _, _):
        client = connect()
        for one in framed(ORDER.encode()):
            client.socket.sendall(bytes((one,)))
        assert said(client.answer())[0] == "AA"
        client.socket.sendall(framed(ORDER.encode()) + framed(REPORT.encode()))
        assert [said(client.answer())[1] for _ in range(2)] == ["M1", "M3"]


def test_a_message_that_does_not_end_loses_its_place() -> None:
    """Dripping does not prolong it."""
    with listening(ear=Recorder(), idle_s=0.5) as (connect, _, _):
        client, over = connect(), threading.Event()
        began = time.monotonic()

        def drip() -> None:
            with suppress(OSError):
                client.socket.sendall(b"\x0b")
                while not over.wait(0.05):
                    client.socket.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert client.ends()
            assert time.monotonic() - began < 15
        finally:
            over.set()
            thread.join()


def test_connections_are_bounded_in_number() -> None:
    """One too many is closed, and counted; a place that gets free is taken."""
    with listening(ear=Recorder(), max_connections=1) as (connect, listener, _):
        first = connect(host="127.0.0.2")
        assert said(first.tell(ORDER))[0] == "AA"
        assert connect().ends()
        assert listener.counts() == {"refused": {"too many connections": 1}, "made_room": 0}
        first.socket.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if said(connect().tell(ORDER))[0] == "AA":
                    break
            except (AssertionError, ConnectionError):
                continue
        else:
            pytest.fail("the place was not freed")


def test_those_who_say_nothing_shut_nobody_out() -> None:
    """The oldest connection that never brought a message makes way for a new one."""
    with listening(ear=Recorder(), max_connections=2) as (connect, _, _):
        known, idle = connect(), connect()
        assert said(known.tell(ORDER))[0] == "AA"
        assert said(connect().tell(ORDER))[0] == "AA"
        assert idle.ends()
        assert said(known.tell(ORDER))[0] == "AA"


def test_who_closes_no_connection_shuts_nobody_out() -> None:
    """The peer with most connections loses the one that was idle for longest, and nobody else."""
    with listening(ear=Recorder(), max_connections=3) as (connect, listener, _):
        other = connect(host="127.0.0.3")
        assert said(other.tell(ORDER))[0] == "AA"
        leaking = [connect(host="127.0.0.2") for _ in range(2)]
        for client in (*leaking, leaking[0]):
            assert said(client.tell(ORDER))[0] == "AA"
        assert said(connect().tell(ORDER))[0] == "AA"
        assert leaking[1].ends()
        assert said(other.tell(ORDER))[0] == "AA"
        assert said(leaking[0].tell(ORDER))[0] == "AA"
        assert said(connect().tell(ORDER))[0] == "AA"  # the peer at the door has most itself now
        assert said(other.tell(ORDER))[0] == "AA"
        assert listener.counts() == {"refused": {}, "made_room": 2}


def test_a_message_that_is_being_acted_on_keeps_its_connection() -> None:
    """It is acknowledged, and the one that finds no place is closed and counted."""
    slow = Slow()
    with listening(ear=slow, max_connections=1) as (connect, listener, _):
        client = connect()
        client.socket.sendall(framed(ORDER.encode()))
        assert slow.entered.wait(10)
        assert connect().ends()
        slow.go_on.set()
        assert said(client.answer())[0] == "AA"
        assert listener.counts() == {"refused": {"too many connections": 1}, "made_room": 0}


def test_those_who_begin_no_handshake_shut_nobody_out(tmp_path: Path) -> None:
    """Over TLS too the oldest of those who say nothing makes way, and within the handshake."""
    files, context = credentials(tmp_path)
    with listening(ear=Recorder(), max_connections=2, **files) as (connect, _, _):
        silent = [connect(), connect()]
        assert said(connect(context).tell(ORDER))[0] == "AA"
        assert silent[0].ends()


def test_strangers_are_not_let_in() -> None:
    """Who is in no allowed network is closed before a word."""
    with listening(ear=Recorder(), networks=("192.0.2.0/24",)) as (connect, _, _):
        assert connect().ends()
    with listening(ear=Recorder(), networks=("127.0.0.0/8",)) as (connect, _, _):
        assert said(connect().tell(ORDER))[0] == "AA"


@pytest.mark.parametrize("secured", [False, True])
def test_a_stop_answers_what_is_being_acted_on(tmp_path: Path, secured: bool) -> None:
    """The message in hand is acknowledged, over TLS as before, and then the connection ends."""
    files, context = credentials(tmp_path) if secured else ({}, None)
    slow = Slow()
    with listening(ear=slow, **files) as (connect, listener, _):
        client = connect(context)
        client.socket.sendall(framed(ORDER.encode()))
        assert slow.entered.wait(10)
        stopping = threading.Thread(target=listener.stop)
        stopping.start()
        slow.go_on.set()
        assert said(client.answer())[0] == "AA"
        stopping.join(15)
        assert not stopping.is_alive()
        assert client.ends()


def test_over_tls_only_those_with_a_certificate_are_heard(tmp_path: Path) -> None:
    """Mutual TLS: who has none of our authority, or speaks in the clear, is not."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "s.pem")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    known = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    ca.issue_cert("ris").configure_cert(known)
    ear = Recorder()
    with listening(
        ear=ear, tls_certificate=str(tmp_path / "s.pem"), tls_ca=str(tmp_path / "ca.pem")
    ) as (connect, _, _):
        assert said(connect(known).tell(ORDER))[0] == "AA"
        with pytest.raises((OSError, AssertionError)):
            connect(trusting).tell(ORDER)
        clear = connect()
        clear.socket.sendall(framed(ORDER.encode()))
        with suppress(ConnectionError):
            assert clear.socket.recv(1) != b"\x0b"
    assert len(ear.heard) == 1
