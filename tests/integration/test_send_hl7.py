"""Results and orders over MLLP, to receivers on real sockets that answer well, badly or not."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest
import trustme
from hl7 import Message

from ichnode.domain.findings import Finding
from ichnode.domain.ids import result_uid
from ichnode.domain.lifecycle import Delivery
from ichnode.domain.work import Acknowledged, DeliveryItem, DeliveryResult, Undelivered
from ichnode.hl7v2.framing import framed
from ichnode.send.asking import ask
from ichnode.send.hl7_messages import control_id
from ichnode.send.mechanisms import mechanisms_for
from ichnode.send.mllp import Hl7Mechanism
from ichnode.send.stage import SendStage
from ichnode.settings import Hl7Destination, SendSettings
from ichnode.worklist.policy import Policy, Route
from tests.documents import study_ref
from tests.hl7_kit import (
    ANALYSED_AT,
    MODEL_UID,
    Answer,
    Peer,
    accepts,
    acknowledgement,
    destination,
    item,
    receiver,
    saying,
    sending,
    work,
)
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import HandClock, analysed, fresh_uid, look, slices

AT = f"{ANALYSED_AT.astimezone():%Y%m%d%H%M%S%z}"
STUDY_UID = study_ref().study_uid


def deliver(to: Hl7Destination, *items: DeliveryItem) -> dict[int, DeliveryResult]:
    """Deliver rows as the send stage does."""
    stage = SendStage(Path("spool"), [to], SendSettings(), calling_ae="ICHNODE")
    return dict(stage.handle(work(*items)).results)


def fields(message: Message, name: str, which: int = 0) -> dict[int, str]:
    """The fields of a segment that hold something, as they are written."""
    segment = message.segments(name)[which]
    return {n: str(one) for n, one in enumerate(segment) if n and str(one)}


def test_a_result_is_told_field_by_field() -> None:
    """The header, the patient, the request and its urgency are where the standard has them."""
    with receiver() as peer:
        to = destination(peer.port, receiving_application="RIS", assigning_authority="HOSP&1.2&ISO")
        assert deliver(to, item()) == {1: Acknowledged(note="AA")}
    (message,) = peer.parsed()
    assert [str(one[0]) for one in message][:5] == ["MSH", "PID", "ORC", "OBR", "TQ1"]
    assert fields(message, "MSH") == {
        1: "|",
        2: "^~\\&",
        3: "ICHNODE",
        5: "RIS",
        7: AT,
        9: "ORU^R01^ORU_R01",
        10: control_id(item(), "ris"),
        11: "P",
        12: "2.5.1",
        18: "UNICODE UTF-8",
    }
    assert fields(message, "PID") == {
        1: "1",
        3: "SIM-9^^^HOSP&1.2&ISO^MR",
        5: "Tést^Simulated",
        7: "19500101",
        8: "F",
    }
    assert fields(message, "ORC") == {1: "RE", 3: "ACC-9"}
    assert fields(message, "OBR") == {
        1: "1",
        3: "ACC-9",
        4: "24725-4^CT Head^LN",
        7: "20260304050001",
        18: "ACC-9",
        20: STUDY_UID,
        22: AT,
        24: "CT",
        25: "P",
        27: "^^^^^S",
    }
    assert fields(message, "TQ1") == {1: "1", 7: AT, 9: "S^Stat^HL70485"}


def test_every_finding_is_a_coded_observation_with_its_certainty() -> None:
    """Codes, flags, per cent, millilitres, the actionable category, the model and the words."""
    with receiver() as peer:
        deliver(destination(peer.port), item())
    (message,) = peer.parsed()
    rows = [fields(message, "OBX", n) for n in range(len(message.segments("OBX")))]
    assert [row[1] for row in rows] == [str(n) for n in range(1, len(rows) + 1)]
    assert {(row[11], row[14], row[17], row[18]) for row in rows} == {
        ("P", AT, "tiny^tiny 2026.1^99ICHNODE", f"{MODEL_UID}^tiny^{MODEL_UID}^ISO")
    }
    told = [
        (row[2], row[3], row.get(4, ""), row[5], row.get(6, ""), row.get(8, ""), row.get(9, ""))
        for row in rows
    ]
    certainty, percent = "111012^Certainty of Finding^DCM", "%^Percent^UCUM"
    present, absent = "52101004^Present^SCT", "272519000^Absent^SCT"
    assert told[:7] == [
        ("CWE", "1386000^Intracranial hemorrhage^SCT", "1", present, "", "AA", "0.93"),
        ("NM", certainty, "1", "93.1", percent, "AA", ""),
        (
            "CWE",
            "121403^Level of Significance^DCM",
            "1",
            "RID49480^ACR Category 1 Actionable Finding^RADLEX",
            "",
            "AA",
            "",
        ),
        ("CWE", "82999001^Epidural hemorrhage^SCT", "2", absent, "", "N", "0.02"),
        ("NM", certainty, "2", "2.0", percent, "N", ""),
        ("CWE", "274100004^Cerebral hemorrhage^SCT", "3", present, "", "AA", "0.88"),
        ("NM", certainty, "3", "88.0", percent, "AA", ""),
    ]
    volume = ("NM", "118565006^Volume^SCT", "3", "12.3", "ml^Milliliter^UCUM", "AA", "")
    undetermined = "373068000^Undetermined^SCT"
    assert told[7] == volume
    assert told[8] == (
        "CWE",
        "23276006^Intraventricular hemorrhage^SCT",
        "4",
        undetermined,
        "",
        "A",
        "0.40",
    )
    assert [row[1] for row in told[-2:]] == [
        "110180^Study Instance UID^DCM",
        "121106^Comment^DCM",
    ]
    assert told[-2][3] == STUDY_UID
    assert "Preliminary" in told[-1][3]
    assert "not for diagnostic use" in told[-1][3]


def test_what_a_person_withdrew_is_withdrawn() -> None:
    """Every observation is W, nothing is urgent, and it is another message than the first."""
    with receiver() as peer:
        to = destination(peer.port)
        deliver(to, item())
        deliver(to, item(revision=2, withdrawn=True))
    first, second = peer.parsed()
    assert {str(one[11]) for one in second.segments("OBX")} == {"W"}
    assert "withdrawn by a person" in str(second.segments("OBX")[-1][5])
    assert 27 not in fields(second, "OBR")
    assert "TQ1" not in [str(one[0]) for one in second]
    assert str(first.segment("MSH")[10]) != str(second.segment("MSH")[10])


def test_version_2_3_1_has_nothing_that_came_later() -> None:
    """CE instead of CWE, no TQ1, no OBX-18, the message type in two parts."""
    with receiver() as peer:
        deliver(destination(peer.port, version="2.3.1", charset="8859/1"), item())
    (message,) = peer.parsed("iso8859-1")
    assert fields(message, "MSH")[9] == "ORU^R01"
    assert fields(message, "MSH")[12] == "2.3.1"
    assert fields(message, "PID")[5] == "Tést^Simulated"
    assert {str(one[2]) for one in message.segments("OBX")} == {"CE", "NM", "ST", "TX"}
    assert all(18 not in fields(message, "OBX", n) for n in range(3))
    assert "TQ1" not in [str(one[0]) for one in message]


def test_an_order_is_made_urgent_by_omi() -> None:
    """XO with the priority in TQ1-9, ORC-7.6, OBR-5 and OBR-27.6, and the study in IPC."""
    with receiver() as peer:
        to = destination(peer.port, order="OMI", result=False)
        assert deliver(to, item("hl7_order")) == {1: Acknowledged(note="AA")}
    (message,) = peer.parsed()
    assert [str(one[0]) for one in message] == ["MSH", "PID", "ORC", "TQ1", "OBR", "IPC"]
    assert fields(message, "MSH")[9] == "OMI^O23^OMI_O23"
    assert fields(message, "ORC") == {1: "XO", 3: "ACC-9", 5: "SC", 7: "^^^^^S", 9: AT}
    assert fields(message, "TQ1")[9] == "S^Stat^HL70485"
    assert fields(message, "OBR")[5] == "S"
    assert fields(message, "OBR")[27] == "^^^^^S"
    assert fields(message, "IPC") == {1: "ACC-9", 3: f"{STUDY_UID}^^{STUDY_UID}^ISO"}


def test_an_order_is_made_urgent_by_orm() -> None:
    """The same as ORM^O01 of 2.3.1, with the study in ZDS as IHE has it."""
    with receiver() as peer:
        deliver(destination(peer.port, order="ORM", version="2.3.1"), item("hl7_order"))
    (message,) = peer.parsed()
    assert [str(one[0]) for one in message] == ["MSH", "PID", "ORC", "OBR", "ZDS"]
    assert fields(message, "MSH")[9] == "ORM^O01"
    assert fields(message, "ORC")[7] == "^^^^^S"
    assert fields(message, "ZDS") == {1: f"{STUDY_UID}^ICHNODE^Application^DICOM"}


def test_orders_are_never_lowered_nor_changed_without_a_name() -> None:
    """A withdrawal sends no order; a study without accession number is said to have none."""
    with receiver() as peer:
        to = destination(peer.port, order="ORM")
        nameless = study_ref(accession_number=" ")
        results = deliver(
            to,
            item("hl7_order", withdrawn=True),
            item("hl7_order", number=2, study=nameless),
        )
    assert results[1] == Acknowledged(note="orders are raised only, never lowered")
    assert isinstance(results[2], Undelivered)
    assert results[2].permanent
    assert peer.messages == []


def test_the_same_row_is_the_same_bytes_at_every_try() -> None:
    """A retry repeats the message; another revision, kind or destination has another identifier."""
    with receiver(saying("AE"), accepts) as peer:
        to = destination(peer.port)
        assert isinstance(deliver(to, item())[1], Undelivered)
        assert isinstance(deliver(to, item())[1], Acknowledged)
    assert peer.messages[0] == peer.messages[1]
    ids = {
        control_id(item(), "ris"),
        control_id(item(revision=2), "ris"),
        control_id(item("hl7_order"), "ris"),
        control_id(item(), "other"),
        control_id(item(study=study_ref(study_uid=result_uid("test", "x"))), "ris"),
    }
    assert len(ids) == 5
    assert all(len(one) == 20 for one in ids)


@pytest.mark.parametrize(
    ("code", "tail", "told"),
    [
        ("CA", "", Acknowledged(note="CA")),
        ("AE", "", Undelivered("The peer answered AE.")),
        ("CE", "|PATIENT^TEST is unknown", Undelivered("The peer answered CE.")),
        (
            "AE",
            "\rERR|||204^Unknown key identifier^HL70357|E||||PATIENT^TEST",
            Undelivered("The peer answered AE with error 204.", 204),
        ),
        (
            "AR",
            "||||207^Application internal error^HL70357",
            Undelivered("The peer answered AR with error 207.", 207),
        ),
        (
            "CR",
            "\rERR|MSH^1^12^203&Unsupported version id&HL70357",
            Undelivered("The peer answered CR with error 203.", 203, permanent=True),
        ),
        (
            "AR",
            "\rERR|||203^Unsupported version id^HL70357|E",
            Undelivered("The peer answered AR with error 203.", 203, permanent=True),
        ),
        ("AX", "", Undelivered("The peer's answer is none of AA, AE, AR, CA, CE, CR.")),
    ],
)
def test_what_the_receiver_says_is_what_becomes_of_the_row(
    code: str, tail: str, told: DeliveryResult
) -> None:
    """Each answer has its result; nothing that the receiver wrote in words is repeated."""
    with receiver(saying(code, tail)) as peer:
        assert deliver(destination(peer.port), item()) == {1: told}


NO_MSA = b"MSH|^~\\&|RIS||ICHNODE||20260304||ACK|1|P|2.5.1\r"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (sending(b"HTTP/1.1 400\r\n"), "The peer's answer is not MLLP: The bytes are"),
        (sending(framed(b"nonsense")), "The peer's answer cannot be understood."),
        (sending(framed(b"")), "The peer's answer cannot be understood."),
        (sending(framed(NO_MSA)), "The peer's answer has no acknowledgement (MSA)."),
        (sending(b"\x0b" + b"x" * 70_000), "The peer's answer is not MLLP: The message is longer"),
        (
            sending(framed(b"MSH|^~\\&|||||||ACK|1|P|2.5\rMSA|AA|ANOTHER\r")),
            "The peer acknowledged another message than ours.",
        ),
        (sending(b"\x0bMSH|^~", stays=False), "The peer closed the connection in the middle of"),
        (sending(b"", stays=False), "The peer closed the connection."),
    ],
)
def test_an_answer_that_is_none_leaves_the_row_to_be_tried_again(
    answer: Answer, sentence: str
) -> None:
    """Garbage, halves, strangers' answers and closed doors end in one plain sentence."""
    with receiver(answer) as peer:
        result = deliver(destination(peer.port), item())[1]
    assert isinstance(result, Undelivered)
    assert not result.permanent
    assert result.error.startswith(sentence)


@pytest.mark.parametrize("half", [b"", b"\x0bMSH|^~\\&|RIS"])
def test_a_receiver_that_falls_silent_costs_one_time_out(half: bytes) -> None:
    """What comes after the silent row is not tried, and comes again."""
    with receiver(sending(half)) as peer:
        began = time.monotonic()
        results = deliver(destination(peer.port, timeout_s=0.4), item(), item(number=2))
        took_s = time.monotonic() - began
    assert results.keys() == {1}
    assert isinstance(results[1], Undelivered)
    assert results[1].error.startswith("The peer does not answer")
    assert took_s < 4


def test_a_receiver_that_drips_cannot_hold_us_for_ever() -> None:
    """The deadline is of the whole answer, not of each byte."""

    def drip(peer: Peer, connection: socket.socket, message: bytes) -> bool:
        connection.sendall(b"\x0b")
        while not peer.stopping.wait(0.05):
            connection.sendall(b"x")
        return False

    with receiver(drip) as peer:
        result = deliver(destination(peer.port, timeout_s=0.5), item())[1]
    assert result == Undelivered("The peer does not answer in the middle of its answer.")


def test_two_silences_shut_the_door_for_a_while() -> None:
    """The breaker counts a receiver that takes the message and says nothing."""
    with receiver(sending(b"")) as peer:
        to = destination(peer.port, timeout_s=0.2)
        stage = SendStage(Path("spool"), [to], SendSettings(), calling_ae="ICHNODE")
        stage.handle(work(item()))
        stage.handle(work(item()))
        assert stage.shut() == {"ris"}


def test_a_receiver_that_refuses_does_not_shut_the_door() -> None:
    """An answer is an answer."""
    with receiver(saying("AR")) as peer:
        stage = SendStage(
            Path("spool"), [destination(peer.port)], SendSettings(), calling_ae="ICHNODE"
        )
        for _ in range(3):
            stage.handle(work(item()))
        assert stage.shut() == frozenset()


def test_an_answer_in_many_packets_is_one_answer() -> None:
    """The acknowledgement comes byte by byte, and without the last carriage return."""

    def byte_by_byte(peer: Peer, connection: socket.socket, message: bytes) -> bool:
        for one in framed(acknowledgement(message))[:-1]:
            connection.sendall(bytes((one,)))
        return True

    with receiver(byte_by_byte) as peer:
        assert deliver(destination(peer.port), item()) == {1: Acknowledged(note="AA")}


def test_several_rows_share_a_connection() -> None:
    """One connection for what is due, one message after the other was answered."""
    with receiver() as peer:
        results = deliver(destination(peer.port), *(item(number=n, revision=n) for n in (1, 2, 3)))
    assert set(results.values()) == {Acknowledged(note="AA")}
    assert peer.connections == 1
    assert len(peer.messages) == 3


def test_a_receiver_may_close_after_each_message() -> None:
    """Then each message has a connection of its own, and none is lost."""

    def once(peer: Peer, connection: socket.socket, message: bytes) -> bool:
        accepts(peer, connection, message)
        return False

    with receiver(once) as peer:
        results = deliver(destination(peer.port), *(item(number=n, revision=n) for n in (1, 2, 3)))
    assert len(results) == 3
    assert set(results.values()) == {Acknowledged(note="AA")}
    assert peer.connections == 3


def test_nobody_there_is_said_so() -> None:
    """A closed port and an unknown name are failures of the peer, for every row."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    results = deliver(destination(port), item(), item(number=2))
    assert set(results.values()) == {Undelivered("The peer cannot be reached.")}
    away = destination(host="nowhere.invalid")
    assert deliver(away, item()) == {1: Undelivered("The peer's address is not known.")}


def test_the_preview_is_what_is_sent() -> None:
    """One segment a line, and nothing goes anywhere."""
    with receiver() as peer:
        to = destination(peer.port, order="ORM")
        mechanism = mechanisms_for(to, Path("spool"), "ICHNODE")["hl7"]
        shown = mechanism.preview(item())
        assert peer.messages == []
        deliver(to, item())
    assert peer.messages[0].decode() == shown.replace("\n", "\r") + "\r"
    assert Hl7Mechanism(to).preview(item("hl7_order", withdrawn=True)).startswith("Nothing: ")


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("UNICODE UTF-8", "utf-8", "Łukáš^Ünal^^^^^^A~山田^太郎^^^^^^I"),
        ("8859/1", "iso8859-1", "?ukás^Ünal^^^^^^A~??^??^^^^^^I"),
        ("ASCII", "ascii", "?ukas^Unal^^^^^^A~??^??^^^^^^I"),
    ],
)
def test_names_travel_in_the_character_set_that_is_named(
    charset: str, codec: str, name: str
) -> None:
    """Names outside of it lose their accents; other scripts become question marks."""
    study = study_ref(patient_name="Łukáš^Ünal=山田^太郎")
    with receiver() as peer:
        deliver(destination(peer.port, charset=charset), item(study=study))
    (message,) = peer.parsed(codec)
    assert str(message.segment("PID")[5]) == name


def test_an_accept_acknowledgement_is_asked_for() -> None:
    """Enhanced mode says so in MSH-15 and MSH-16."""
    with receiver(saying("CA")) as peer:
        assert deliver(destination(peer.port, accept_ack=True), item()) == {
            1: Acknowledged(note="CA")
        }
    (message,) = peer.parsed()
    assert (fields(message, "MSH")[15], fields(message, "MSH")[16]) == ("AL", "NE")


# ------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """A certificate authority and its file."""
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(file)
    return ca, file


def test_over_tls_with_certificates_on_both_sides(
    authority: tuple[trustme.CA, Path], tmp_path: Path
) -> None:
    """The receiver wants to know who we are, and is told."""
    ca, file = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = tmp_path / "mine.pem"
    ca.issue_cert("ichnode").private_key_and_cert_chain_pem.write_to_path(mine)
    with receiver(context=context) as peer:
        to = destination(peer.port, tls=True, tls_ca=str(file), tls_certificate=str(mine))
        results = deliver(to, item(), item(number=2, revision=2))
        assert set(results.values()) == {Acknowledged(note="AA")}
        assert ask(to, "ICHNODE").ok


def test_a_stranger_over_tls_gets_nothing(
    authority: tuple[trustme.CA, Path], tmp_path: Path
) -> None:
    """A certificate of an unknown authority, a peer without TLS, and a missing file are said."""
    _, file = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with receiver(context=context) as peer:
        answer = ask(destination(peer.port, tls=True, tls_ca=str(file)), "ICHNODE")
        assert answer.sentence.startswith("The peer's certificate is not trusted")
        assert peer.messages == []
    with receiver(sending(b"")) as peer:
        to = destination(peer.port, tls=True, tls_ca=str(file), timeout_s=0.3)
        assert ask(to, "ICHNODE").sentence == "The peer does not speak TLS with us."
    with receiver() as peer:
        to = destination(peer.port, tls=True, tls_ca=str(tmp_path / "none.pem"))
        assert ask(to, "ICHNODE").sentence.startswith("The files for TLS cannot be used")


def test_doctor_asks_by_a_connection() -> None:
    """Nothing is sent."""
    with receiver() as peer:
        assert ask(destination(peer.port), "ICHNODE").ok
    assert peer.messages == []


# ------------------------------------------------------------------ from the worklist


def test_a_positive_of_the_worklist_is_told_once(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """From the verdict to the acknowledgement: who, which study, what, and no second time."""
    route = Route("ris", frozenset({"hl7", "hl7_order"}), loopback=True)
    worklist = open_worklist(Policy(destinations=(route,)))
    uid = fresh_uid()
    worklist.record(slices(3, series_uid=uid))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    with receiver(saying("AE"), accepts) as peer:
        to = destination(peer.port, order="ORM")
        stage = SendStage(Path("spool"), [to], SendSettings(), calling_ae="ICHNODE")
        for _ in range(2):
            due = worklist.deliveries.claim("test")
            assert due is not None
            worklist.deliveries.settle(due, stage.handle(due))
            hand_clock.forward(10)
        assert worklist.deliveries.claim("test") is None
    told = [str(one.segment("MSH")[9]).split("^")[0] for one in peer.parsed()]
    assert sorted(told) == ["ORM", "ORU", "ORU"]
    assert peer.messages.count(peer.messages[0]) == 2
    assert fields(peer.parsed()[0], "PID")[3] == "4711^^^^MR"
    assert {(row.kind, row.state) for row in worklist.views.deliveries()} == {
        ("hl7", Delivery.DELIVERED),
        ("hl7_order", Delivery.DELIVERED),
    }
