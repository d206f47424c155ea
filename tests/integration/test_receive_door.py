"""Who gets in: allow-lists, limits, idle and slow peers, and how the door closes."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ichnode.domain.errors import ConfigurationError
from ichnode.receive.lobby import JUDGED_AT_ONCE, SEATS, Lobby
from ichnode.receive.scp import Receiver, open_listener
from ichnode.settings import NodeSettings, ReceiveSettings
from tests.integration.test_receive_storing import SEGMENT_BYTES, Start, start
from tests.scanner import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    RELEASE_RP,
    Notebook,
    RawPeer,
    associate_request,
    ct,
    echoes,
    scanner,
    send,
    store_pdus,
)

__all__ = ["start"]  # the fixture


def seconds_to_associate(port: int) -> float:
    began = time.monotonic()
    with scanner(port) as association:
        assert association.is_established
        return time.monotonic() - began


def verdict(
    port: int, calling: str = "CT01", called: str = "ICHNODE"
) -> tuple[int, int, int] | None:
    """Return result, source and reason of the rejection; None when the peer is let in."""
    with RawPeer(port) as peer:
        request = associate_request(calling)
        peer.say(request.replace(b"ICHNODE".ljust(16), called.encode().ljust(16), 1))
        kind, body = peer.hear()
        if kind == ASSOCIATE_AC:
            assert peer.release() == RELEASE_RP
            return None
        assert kind == ASSOCIATE_RJ
        return body[1], body[2], body[3]


@pytest.fixture
def silent() -> Iterator[ExitStack]:
    """Holds connections open until the end."""
    with ExitStack() as stack:
        yield stack


def test_idle_connections_do_not_keep_a_scanner_out(start: Start, silent: ExitStack) -> None:
    """With 50 silent peers and room for two associations, a scanner gets in within a second."""
    receiver, _ = start(max_associations=2)
    for _ in range(50):
        silent.enter_context(RawPeer(receiver.port))
    assert seconds_to_associate(receiver.port) < 1.0


def test_more_idle_connections_than_seats_make_room_for_newcomers(
    start: Start, silent: ExitStack
) -> None:
    """The peer that holds most seats loses its oldest; somebody who asks is still heard."""
    receiver, _ = start()
    first = silent.enter_context(RawPeer(receiver.port))
    for _ in range(300):
        silent.enter_context(RawPeer(receiver.port))
    assert first.hear() == (0, b"")
    assert seconds_to_associate(receiver.port) < 1.0


def test_who_speaks_while_being_crowded_out_does_not_close_the_door(silent: ExitStack) -> None:
    """The oldest guest's byte and one guest too many come in one turn, many times over."""
    busy = threading.Event()

    def hold_up() -> None:  # so that both events are there when the lobby looks
        if busy.is_set():
            threading.Event().wait(0.01)

    listener = open_listener(ReceiveSettings(port=0))
    lobby = Lobby(listener, lambda *_: None, handshake_s=30, tend=hold_up)
    lobby.start()
    port = listener.getsockname()[1]
    peers = [silent.enter_context(RawPeer(port)) for _ in range(SEATS)]
    busy.set()
    for number in range(30):
        newcomer = RawPeer(port)
        peers[number].say(associate_request()[:1])
        peers.append(silent.enter_context(newcomer))
    busy.clear()
    assert peers[0].hear() == (0, b"")
    assert lobby.is_alive
    lobby.close()


def test_a_guest_that_cannot_be_served_does_not_close_the_door() -> None:
    """Whatever goes wrong with one connection, the next one is served."""
    served = threading.Event()

    def begin(connection: socket.socket, request: bytes, judged: Callable[[], None]) -> None:
        judged()
        connection.close()
        if b"BROKEN" in request:
            raise LookupError
        served.set()

    listener = open_listener(ReceiveSettings(port=0))
    lobby = Lobby(listener, begin, handshake_s=30)
    lobby.start()
    port = listener.getsockname()[1]
    with RawPeer(port) as first, RawPeer(port) as second:
        first.say(associate_request("BROKEN"))
        assert first.hear() == (0, b"")
        second.say(associate_request())
        assert served.wait(10)
    lobby.close()


def test_requests_wait_for_a_desk(silent: ExitStack) -> None:
    """So many are judged at once and no more; the next one when one is done."""
    begun: queue.Queue[Callable[[], None]] = queue.Queue()

    def begin(connection: socket.socket, _request: bytes, judged: Callable[[], None]) -> None:
        silent.enter_context(connection)
        begun.put(judged)

    listener = open_listener(ReceiveSettings(port=0))
    lobby = Lobby(listener, begin, handshake_s=30)
    lobby.start()
    for _ in range(JUDGED_AT_ONCE + 2):
        silent.enter_context(RawPeer(listener.getsockname()[1])).say(associate_request())
    desks = [begun.get(timeout=10) for _ in range(JUDGED_AT_ONCE)]
    with pytest.raises(queue.Empty):
        begun.get(timeout=0.3)
    for judged in desks[:2]:
        judged()
        begun.get(timeout=10)
    lobby.close()


def test_a_peer_from_elsewhere_is_turned_away_before_it_asks(start: Start) -> None:
    """It is heard no byte of, and people are told; this machine's own check still passes."""
    receiver, notebook = start(networks=("10.0.0.0/8",))
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.settimeout(10)
        stranger.connect(("127.0.0.1", receiver.port))
        assert stranger.recv(1) == b""
    notebook.wait(lambda n: n.refusals)
    assert notebook.refusals[0].peer_address == "127.0.0.2"
    assert "receive.networks" in notebook.refusals[0].sentence
    assert echoes(receiver.port)


def test_refused_associations_are_counted_and_not_listed_one_by_one(start: Start) -> None:
    """Thirty knocks become two refusals: the first, and the rest at the end."""
    receiver, notebook = start(calling_ae_titles=("CT01",))
    for _ in range(30):
        with RawPeer(receiver.port) as peer:
            peer.say(associate_request("KNOCKER"))
            assert peer.hear()[0] == ASSOCIATE_RJ
    notebook.wait(lambda n: n.refusals)
    receiver.stop()
    assert len(notebook.refusals) == 2
    assert notebook.refusals[1].sentence.endswith(" 29 times.")


def test_a_full_house_still_answers_this_machines_echo(start: Start) -> None:
    """Otherwise a receiver that is busy would be taken for a dead one."""
    receiver, _ = start(max_associations=1)
    with scanner(receiver.port) as first:
        assert first.is_established
        assert echoes(receiver.port)


def test_a_slow_request_does_not_block_others_and_is_closed_in_time(
    start: Start, silent: ExitStack
) -> None:
    """A peer that dribbles its request is closed after the handshake time."""
    receiver, _ = start(handshake_s=0.5)
    slow = silent.enter_context(RawPeer(receiver.port))
    for byte in associate_request()[:20]:
        slow.say(bytes([byte]))
    assert seconds_to_associate(receiver.port) < 1.0
    assert slow.hear() == (0, b"")


def test_a_request_in_pieces_is_heard(start: Start) -> None:
    """TCP may cut it anywhere."""
    receiver, _ = start()
    with RawPeer(receiver.port) as peer:
        for byte in associate_request():
            peer.say(bytes([byte]))
        assert peer.hear()[0] == ASSOCIATE_AC
        assert peer.release() == RELEASE_RP


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff",
        b"\x01\x00\x00\x04\x00\x01",
        b"\x04\x00\0\0\0\x04abcd",
    ],
)
def test_what_is_no_request_is_turned_away_at_once(start: Start, greeting: bytes) -> None:
    """HTTP, requests of 4 GB and of a byte over 256 KiB, and data without an association."""
    receiver, _ = start()
    with RawPeer(receiver.port) as peer:
        peer.say(greeting)
        assert peer.hear()[0] in (ABORT, 0)
    assert echoes(receiver.port)


def test_a_broken_request_is_aborted(start: Start) -> None:
    """The right type and length, and nonsense inside."""
    receiver, _ = start()
    with RawPeer(receiver.port) as peer:
        peer.say(b"\x01\x00\x00\x00\x00\x44" + b"\xff" * 0x44)
        assert peer.hear()[0] in (ABORT, 0)
    assert echoes(receiver.port)


def test_a_silent_association_is_aborted(start: Start) -> None:
    """After the idle time, also when half a PDU has come; its place is free again."""
    # Three places for six in a row, since a place is given back a moment after the abort was heard.
    receiver, notebook = start(idle_s=0.4, max_associations=3)
    for beginning in (b"", store_pdus(ct())[0][:30]) * 3:
        with RawPeer(receiver.port) as peer:
            peer.associate()
            peer.say(beginning)
            assert peer.hear()[0] == ABORT
    assert seconds_to_associate(receiver.port) < 1.0
    assert not notebook.arrivals


def test_a_dribbling_association_is_aborted(start: Start) -> None:
    """A byte now and then does not keep an association: a whole PDU has to come in time."""
    receiver, _ = start(idle_s=0.5)
    with RawPeer(receiver.port) as peer:
        peer.associate()
        stop = threading.Event()
        pdu = store_pdus(ct())[0]

        def dribble() -> None:
            for byte in pdu[:40]:
                if stop.wait(0.1):
                    return
                try:
                    peer.say(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        assert peer.hear()[0] in (ABORT, 0)
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("settings", "calling", "called", "rejection"),
    [
        ({"calling_ae_titles": ("CT01",)}, "CT01", "ICHNODE", None),
        ({"calling_ae_titles": ("CT01",)}, "CT02", "ICHNODE", (1, 1, 3)),
        ({"calling_ae_titles": ("CT01",)}, "ct01", "ICHNODE", (1, 1, 3)),
        ({"calling_ae_titles": (" CT01 ",)}, "CT01", "ICHNODE", None),
        ({"calling_ae_titles": ("SIXTEENLETTERSAE",)}, "SIXTEENLETTERSAE", "ICHNODE", None),
        ({"check_called_ae_title": True}, "CT01", "ICHNODE", None),
        ({"check_called_ae_title": True}, "CT01", "ARCHIVE", (1, 1, 7)),
        ({"check_called_ae_title": False}, "CT01", "ARCHIVE", None),
        ({"networks": ("127.0.0.0/8",)}, "CT01", "ICHNODE", None),
        ({"networks": ("10.0.0.0/8", "::1/128")}, "CT01", "ICHNODE", (1, 1, 1)),
    ],
)
def test_allow_lists(
    start: Start,
    settings: dict[str, object],
    calling: str,
    called: str,
    rejection: tuple[int, int, int] | None,
) -> None:
    """AE titles count without their padding and with their case; addresses by network."""
    receiver, notebook = start(**settings)
    assert verdict(receiver.port, calling, called) == rejection
    if rejection is None:
        return
    notebook.wait(lambda n: n.refusals)
    assert notebook.refusals[0].status == 0
    assert notebook.refusals[0].calling_ae == calling


def test_limits_reject_for_the_time_being(start: Start) -> None:
    """Too many in all, or of one peer: local limit exceeded, transient; a place is given on."""
    for limit in ("max_associations", "max_associations_per_peer"):
        receiver, _ = start(**{limit: 1})
        with scanner(receiver.port) as first:
            assert first.is_established
            assert verdict(receiver.port) == (2, 3, 2)
        assert seconds_to_associate(receiver.port) < 1.0
        receiver.stop()


def test_stopping_lets_a_live_transfer_finish(start: Start) -> None:
    """The door closes first; who is inside sends to the end, and it is all recorded."""
    receiver, notebook = start()
    with scanner(receiver.port) as association:
        assert send(association, ct(1)) == 0
        stopping = threading.Thread(target=receiver.stop)
        stopping.start()
        _await_closed(receiver)
        assert [send(association, ct(number)) for number in range(2, 30)] == [0] * 28
    stopping.join()
    assert len(notebook.arrivals) == 29
    assert notebook.events[-1][0] == "released"


def _await_closed(receiver: Receiver) -> None:
    deadline = time.monotonic() + 10
    while receiver.is_alive and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert not receiver.is_alive


def test_stopping_aborts_who_does_not_leave(start: Start) -> None:
    """Waiting is bounded; what was acknowledged is recorded all the same."""
    receiver, notebook = start(drain_s=0.2)
    with RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(*store_pdus(ct()))
        assert peer.hear_status() == 0
        began = time.monotonic()
        assert receiver.stop() is False
        assert time.monotonic() - began < 5
        assert peer.hear()[0] == ABORT
    assert len(notebook.arrivals) == 1


def test_stopping_twice_is_stopping_once(start: Start) -> None:
    """The second call does nothing."""
    receiver, _ = start()
    assert receiver.stop() is True
    assert receiver.stop() is True


def test_what_could_not_be_recorded_before_the_stop_is_replayed(start: Start) -> None:
    """The database is down until after a restart; then everything arrives, once."""
    receiver, notebook = start()
    notebook.down = True
    with scanner(receiver.port) as association:
        assert [send(association, ct(number)) for number in range(1, 8)] == [0] * 7
    crash(receiver)
    again, fresh = start()
    fresh.wait(lambda n: len(n.arrivals) == 7)
    assert fresh.sop_uids == [f"1.2.826.9.1.{number}" for number in range(1, 8)]
    again.stop()
    _, third = start()
    assert not third.arrivals


def crash(receiver: Receiver) -> None:
    """Stop without flushing, as far as that goes within one process."""
    receiver._recorder.stop(0)
    receiver.stop(0)


def test_an_occupied_port_is_a_configuration_error(tmp_path: Path) -> None:
    """The message names the settings; the journal is free again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"receive\.port"):
                Receiver(
                    NodeSettings(host_id="x", spool=tmp_path),
                    ReceiveSettings(port=port),
                    Notebook(),
                    segment_bytes=SEGMENT_BYTES,
                )


def test_two_receivers_share_a_port_each_with_its_journal(tmp_path: Path) -> None:
    """Both serve, neither loses anything, and one goes on when the other stops."""
    settings = ReceiveSettings(port=0, reserve_bytes=0)
    node, notebook = NodeSettings(host_id="x", spool=tmp_path), Notebook()
    listener = open_listener(settings)
    receivers = [
        Receiver(
            node,
            settings,
            notebook,
            listener=socket.socket(fileno=listener.dup().detach()),
            number=number,
            segment_bytes=SEGMENT_BYTES,
        )
        for number in range(2)
    ]
    for receiver in receivers:
        receiver.start()
    port = listener.getsockname()[1]
    with ExitStack() as stack:
        scanners = [stack.enter_context(scanner(port)) for _ in range(6)]
        for number, association in enumerate(scanners, start=1):
            assert send(association, ct(number)) == 0
    receivers[0].stop()
    with scanner(port) as association:
        assert send(association, ct(9)) == 0
    receivers[1].stop()
    listener.close()
    assert len(notebook.arrivals) == 7
    assert {p.name for p in (tmp_path / "incoming").iterdir()} == {"x", "x.1"}


def test_the_journal_of_a_process_that_is_no_more_is_adopted(tmp_path: Path) -> None:
    """After receive.processes shrank, the first process records what the second had left."""
    node, notebook = NodeSettings(host_id="x", spool=tmp_path), Notebook()
    two = ReceiveSettings(port=0, reserve_bytes=0, processes=2)
    second = Receiver(node, two, notebook, number=1, segment_bytes=SEGMENT_BYTES)
    second.start()
    notebook.down = True
    with scanner(second.port) as association:
        assert [send(association, ct(number)) for number in (1, 2)] == [0, 0]
    crash(second)
    notebook.down = False
    for settings, expected in ((two, 0), (two.model_copy(update={"processes": 1}), 2)) * 2:
        first = Receiver(node, settings, notebook, segment_bytes=SEGMENT_BYTES)
        first.start()
        first.stop()
        assert len(notebook.arrivals) in (expected, 2)
    assert notebook.sop_uids == ["1.2.826.9.1.1", "1.2.826.9.1.2"]


def test_the_log_never_names_the_patient(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a good object nor a bad one leaves patient data in the log."""
    receiver, notebook = start()
    with RawPeer(receiver.port) as peer:
        peer.associate()
        for image in (ct(), ct(SOPInstanceUID="1.2.3"), ct(PatientName="Secret^Name\\Other^One")):
            peer.say(*store_pdus(image))
            peer.hear_status()
    notebook.wait(lambda n: n.arrivals and n.refusals)
    receiver.stop()
    out, err = capfd.readouterr()
    assert "instance.refused" in out + err
    assert "secret" not in (out + err).lower()
