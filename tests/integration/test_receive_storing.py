"""Real associations: what is acknowledged is kept and recorded; what is not gets a status."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.config import IGNORE
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from ichnode.domain.clock import Clock
from ichnode.domain.series import SET_ASIDE, Arrival
from ichnode.receive.journal import Journal
from ichnode.receive.layout import Facts
from ichnode.receive.part10 import file_head
from ichnode.receive.scp import Receiver
from ichnode.settings import NodeSettings, ReceiveSettings
from tests.scanner import (
    ABORT,
    RELEASE_RP,
    Notebook,
    RawPeer,
    ct,
    echoes,
    scanner,
    send,
    store_pdus,
)
from tests.worklist_kit import HandClock

Start = Callable[..., tuple[Receiver, Notebook]]
SEGMENT_BYTES = 1 << 20


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a receiver with these settings; it is stopped at the end."""
    running: list[Receiver] = []

    def begin(
        notebook: Notebook | None = None, *, clock: Clock | None = None, **settings: object
    ) -> tuple[Receiver, Notebook]:
        notebook = notebook or Notebook()
        receiver = Receiver(
            NodeSettings(host_id="test", spool=tmp_path),
            ReceiveSettings(**{"port": 0, "reserve_bytes": 0, "drain_s": 5} | settings),
            notebook,
            segment_bytes=SEGMENT_BYTES,
            clock=clock,
        )
        receiver.start()
        running.append(receiver)
        return receiver, notebook

    yield begin
    for receiver in running:
        receiver.stop()


def test_an_instance_is_filed_and_recorded_as_it_was_sent(start: Start, tmp_path: Path) -> None:
    """The file under its digest holds the sender's data set byte for byte."""
    receiver, notebook = start()
    image = ct(3)
    with scanner(receiver.port) as association:
        assert send(association, image) == 0
    notebook.wait(lambda n: n.arrivals)
    arrival = notebook.arrivals[0]
    content = (tmp_path / arrival.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == arrival.sha256
    assert arrival.size_bytes == len(content)
    assert dcmread(BytesIO(content)) == image
    assert (arrival.calling_ae, arrival.called_ae) == ("CT01", "ICHNODE")
    assert (arrival.peer_address, arrival.header.sop_uid) == ("127.0.0.1", image.SOPInstanceUID)
    assert arrival.transfer_syntax_uid == ExplicitVRLittleEndian


def test_the_release_is_passed_on_after_the_last_instance(start: Start) -> None:
    """The hint that a series may be complete never overtakes an instance."""
    receiver, notebook = start()
    with scanner(receiver.port) as association:
        for number in range(1, 21):
            assert send(association, ct(number)) == 0
    # The receiver's own echo at the start is a release, too.
    notebook.wait(lambda n: n.arrivals and n.events[-1][0] == "released")
    recorded, released = notebook.events[:-1], notebook.events[-1]
    assert [event for event, _ in recorded if event == "recorded"] == ["recorded"] * 20
    assert released[1] == notebook.arrivals[0].association_id


def test_an_abort_mid_transfer_keeps_what_was_acknowledged(start: Start) -> None:
    """An A-ABORT is no release, a half object leaves nothing, and a resend completes the series."""
    receiver, notebook = start()
    with scanner(receiver.port) as association:
        assert send(association, ct(1)) == 0
        association.abort()
    with RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(*store_pdus(ct(2, rows=512), sop_uid="1.2.826.9.1.2")[:-1])
        peer.reset()
    with scanner(receiver.port) as association:
        assert [send(association, ct(number)) for number in (1, 2, 3)] == [0, 0, 0]
    notebook.wait(lambda n: any(event == "released" for event, _ in n.events[1:]))
    assert notebook.sop_uids == [f"1.2.826.9.1.{number}" for number in (1, 1, 2, 3)]
    resent = [a.sha256 for a in notebook.arrivals if a.header.sop_uid.endswith(".1")]
    assert len(set(resent)) == 1


def test_two_scanners_with_the_same_uids_are_both_kept(start: Start, tmp_path: Path) -> None:
    """Other bytes under a known UID become another file; the worklist judges."""
    receiver, notebook = start()
    with scanner(receiver.port, calling="A") as one, scanner(receiver.port, calling="B") as other:
        for number in range(1, 6):
            assert send(one, ct(number)) == 0
            assert send(other, ct(number, PatientID="OTHER")) == 0
    notebook.wait(lambda n: len(n.arrivals) == 10)
    assert len({arrival.sha256 for arrival in notebook.arrivals}) == 10
    assert len({arrival.header.sop_uid for arrival in notebook.arrivals}) == 5
    assert all((tmp_path / arrival.path).is_file() for arrival in notebook.arrivals)


@pytest.mark.parametrize(
    ("dataset", "command", "status"),
    [
        (ct(SOPClassUID=MRImageStorage), {}, 0xA900),
        (ct(SOPInstanceUID="1.2.3.4"), {}, 0xA900),
        (ct(SOPInstanceUID=None), {}, 0xA900),
        (ct(SeriesInstanceUID=None), {}, 0xA900),
        (ct(StudyInstanceUID=""), {}, 0xA900),
        (ct(), {"class_uid": MRImageStorage}, 0x0122),
        (ct(), {"sop_uid": "../../../etc/passwd"}, 0xC000),
        (ct(), {"sop_uid": ""}, 0xC000),
        (b"this is no data set at all, but it is long enough to look at" * 3, {}, 0xA900),
        (b"", {}, 0xA900),
        (None, {}, 0xC000),
        (b"\x08\x00\x05\x00CS\xff\xff\x08\x00", {}, 0xA900),
        (b"\x08\x00\x18\x00UT\0\0\xfe\xff\xff\xff1.2", {}, 0xA900),
    ],
)
def test_bad_objects_get_a_status_and_a_visible_refusal(
    start: Start, dataset: object, command: dict[str, str], status: int
) -> None:
    """Each is refused in its own way, without patient data, and the next object is welcome."""
    receiver, notebook = start()
    with RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(*store_pdus(dataset, **command))
        assert peer.hear_status() == status
        peer.say(*store_pdus(ct()))
        assert peer.hear_status() == 0
    notebook.wait(lambda n: n.refusals and n.arrivals)
    refusal = notebook.refusals[0]
    assert refusal.status == status
    assert refusal.sentence.endswith(".")
    assert "secret" not in repr(refusal).lower()
    assert "etc" not in repr(refusal)


def test_path_characters_in_a_data_sets_uid_never_reach_the_disk(
    start: Start, tmp_path: Path
) -> None:
    """A UID that would be a path is no UID."""
    receiver, notebook = start()
    evil = "1.2/../../../../evil"
    with RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(*store_pdus(_with_uid("SOPInstanceUID", evil), sop_uid=evil))
        assert peer.hear_status() == 0xC000
        peer.say(*store_pdus(_with_uid("StudyInstanceUID", evil)))
        assert peer.hear_status() == 0xA900
    notebook.wait(lambda n: len(n.refusals) == 2)
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(tmp_path.rglob("*.dcm"))


def _with_uid(keyword: str, uid: str) -> Dataset:
    image = ct()
    image[keyword] = DataElement(keyword, "UI", uid, validation_mode=IGNORE)
    return image


def test_an_object_over_the_limit_is_out_of_resources(start: Start) -> None:
    """It is read to its end without being kept in memory; the association goes on."""
    receiver, notebook = start(max_instance_bytes=1 << 20)
    with RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(*store_pdus(ct(rows=20_000)))
        assert peer.hear_status() == 0xA700
        peer.say(*store_pdus(ct()))
        assert peer.hear_status() == 0
    notebook.wait(lambda n: n.refusals)
    assert "larger than" in notebook.refusals[0].sentence


def test_a_whole_object_larger_than_a_segment_is_kept(start: Start, tmp_path: Path) -> None:
    """Size is no reason to lose it."""
    receiver, notebook = start()
    with RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(*store_pdus(ct(rows=40_000)))
        assert peer.hear_status() == 0
    notebook.wait(lambda n: n.arrivals)
    assert (tmp_path / notebook.arrivals[0].path).stat().st_size > 2 * SEGMENT_BYTES


def test_private_and_unknown_storage_classes_are_taken(start: Start) -> None:
    """Refusing one class would fail a scanner's whole send; a query class is still not offered."""
    receiver, notebook = start()
    private, future = "1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.999.1"
    syntaxes = (ExplicitVRLittleEndian,)
    find = StudyRootQueryRetrieveInformationModelFind
    contexts = [(uid, syntaxes) for uid in (private, future, find)]
    with scanner(receiver.port, contexts=contexts) as association:
        assert {c.abstract_syntax for c in association.accepted_contexts} == {private, future}
    for sop_class in (private, future):
        with RawPeer(receiver.port) as peer:
            peer.associate(abstract=sop_class)
            image = ct(SOPClassUID=sop_class)
            peer.say(*store_pdus(image, class_uid=sop_class))
            assert peer.hear_status() == 0
    notebook.wait(lambda n: len(n.arrivals) == 2)


def test_of_several_syntaxes_explicit_little_endian_is_chosen(start: Start) -> None:
    """Private elements then keep their value representation."""
    receiver, _ = start()
    offered = (ImplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian)
    with scanner(receiver.port, contexts=[(CTImageStorage, offered)]) as association:
        assert association.accepted_contexts[0].transfer_syntax == [ExplicitVRLittleEndian]


def test_a_syntax_that_leaves_the_pixels_at_the_sender_is_not_accepted(start: Start) -> None:
    """JPIP Referenced objects cannot be kept."""
    receiver, _ = start()
    contexts = [(CTImageStorage, ("1.2.840.10008.1.2.4.94",))]
    with scanner(receiver.port, contexts=contexts) as association:
        assert not association.accepted_contexts


def test_an_echo_in_the_middle_of_a_transfer_is_answered(start: Start) -> None:
    """Verification and storage share an association."""
    receiver, notebook = start()
    contexts = [(c, (ExplicitVRLittleEndian,)) for c in (CTImageStorage, Verification)]
    with scanner(receiver.port, contexts=contexts) as association:
        assert send(association, ct(1)) == 0
        assert association.send_c_echo().Status == 0
        assert send(association, ct(2)) == 0
    notebook.wait(lambda n: len(n.arrivals) == 2)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x04\x00\x00\x00\x00\x08\xff\xff\xff\xff\x01\x03\x00\x00",  # a PDV longer than its PDU
        b"\x04\x00\x00\x00\x00\x03\x00\x00\x00",  # a PDV that is cut off
        b"\x04\x00\xff\xff\xff\xff\x00\x00",  # 4 GB
        b"\x09\x00\x00\x00\x00\x00",  # no such PDU
        b"\x04\x00\x00\x00\x00\x08\x00\x00\x00\x04\x01\x03\x00\x00",  # no command set
        b"\x04\x00\x00\x00\x00\x08\x00\x00\x00\x04\x01\x02\x00\x00",  # data without a command
        b"\x01\x00\x00\x00\x00\x04abcd",  # a second, broken A-ASSOCIATE-RQ
    ],
)
def test_garbage_within_an_association_aborts_it_and_nothing_else(
    start: Start, garbage: bytes
) -> None:
    """The peer gets an A-ABORT at once; another association does not notice."""
    receiver, notebook = start()
    with scanner(receiver.port) as bystander, RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(garbage)
        assert peer.hear()[0] in (ABORT, 0)
        assert send(bystander, ct(1)) == 0
    notebook.wait(lambda n: n.arrivals)
    assert echoes(receiver.port)


def test_the_worklist_being_down_delays_recording_and_nothing_else(start: Start) -> None:
    """Images are acknowledged while the database is away, and recorded when it is back."""
    clock = HandClock()
    receiver, notebook = start(clock=clock)
    notebook.down = True
    with scanner(receiver.port) as association:
        assert [send(association, ct(number)) for number in range(1, 6)] == [0] * 5
    assert receiver.backlog == 5
    clock.forward(75)
    assert receiver.counts() == {"backlog": 5, "backlog_oldest_s": 75.0}
    assert not notebook.arrivals
    notebook.down = False
    notebook.wait(lambda n: any(event == "released" for event, _ in n.events[1:]))
    assert len(notebook.arrivals) == 5
    receiver.stop()
    assert receiver.counts() == {"backlog": 0, "backlog_oldest_s": 0.0}


def test_a_full_backlog_refuses_objects_then_associations_and_recovers(start: Start) -> None:
    """0xA700, then a transient rejection, then welcome again; nothing acknowledged is missing."""
    receiver, notebook = start(max_backlog=3)
    notebook.down = True
    with scanner(receiver.port) as association:
        statuses = [send(association, ct(number)) for number in range(1, 6)]
        assert statuses == [0, 0, 0, 0xA700, 0xA700]
    with RawPeer(receiver.port) as peer:
        assert peer.hear_rejection() == (2, 3, 1)
    assert echoes(receiver.port)
    notebook.down = False
    notebook.wait(lambda n: len(n.arrivals) == 3 and len(n.refusals) == 2)
    with scanner(receiver.port) as association:
        assert send(association, ct(4)) == 0
    notebook.wait(lambda n: len(n.arrivals) == 4)


def test_an_instance_that_the_worklist_rejects_does_not_stop_the_others(
    start: Start, tmp_path: Path
) -> None:
    """It is set aside visibly, the rest is recorded, and the next start tries it again."""
    notebook = Notebook()
    notebook.rejects = lambda arrival: arrival.header.sop_uid.endswith(".2")
    receiver, _ = start(notebook)
    with scanner(receiver.port) as association:
        assert [send(association, ct(number)) for number in (1, 2, 3)] == [0, 0, 0]
    notebook.wait(lambda n: len(n.arrivals) == 2 and n.refusals)
    assert [uid[-1] for uid in notebook.sop_uids] == ["1", "3"]
    assert "could not record" in notebook.refusals[0].sentence
    assert notebook.refusals[0].status == SET_ASIDE
    assert len(list(tmp_path.rglob("*.dcm"))) == 3
    receiver.stop()
    _, later = start()
    later.wait(lambda n: n.arrivals)
    assert later.sop_uids[0].endswith(".2")


def test_a_file_that_is_deleted_while_it_is_recorded_is_written_again(
    start: Start, tmp_path: Path
) -> None:
    """Housekeeping may purge the old copy of what a scanner sends once more."""
    notebook = Notebook()
    deleted: list[str] = []

    def purge(arrival: Arrival) -> bool:
        (tmp_path / arrival.path).unlink()
        deleted.append(arrival.path)
        return False

    notebook.rejects = purge
    receiver, _ = start(notebook)
    with scanner(receiver.port) as association:
        assert send(association, ct(1)) == 0
    notebook.wait(lambda n: n.arrivals)
    receiver.stop()
    (arrival,) = notebook.arrivals
    assert deleted == [arrival.path]
    content = (tmp_path / arrival.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == arrival.sha256


def test_less_room_than_the_reserve_refuses_new_objects_only(start: Start) -> None:
    """With the disk down to its reserve a scanner is asked to come back; C-ECHO still answers."""
    receiver, notebook = start(reserve_bytes=1 << 62)
    with RawPeer(receiver.port) as peer:
        assert peer.hear_rejection() == (2, 3, 1)
    assert echoes(receiver.port)
    notebook.wait(lambda n: n.refusals)
    assert "reserve" in notebook.refusals[0].sentence


def test_objects_share_a_budget_of_memory(tmp_path: Path) -> None:
    """What does not fit beside the others is drained and answered 0xA700; then there is room."""
    notebook = Notebook()
    receiver = Receiver(
        NodeSettings(host_id="test", spool=tmp_path),
        ReceiveSettings(port=0, reserve_bytes=0, drain_s=5),
        notebook,
        segment_bytes=SEGMENT_BYTES,
        budget_bytes=1 << 20,
    )
    receiver.start()
    large = store_pdus(ct(1, rows=12_000))  # 768 KB
    with RawPeer(receiver.port) as one, RawPeer(receiver.port) as other:
        one.associate()
        other.associate()
        one.say(*large[:-1])
        _await_held(receiver, 700_000)
        other.say(*store_pdus(ct(2, rows=12_000), sop_uid="1.2.826.9.1.2"))
        assert other.hear_status() == 0xA700
        one.say(large[-1])
        assert one.hear_status() == 0
        other.say(*store_pdus(ct(2, rows=12_000), sop_uid="1.2.826.9.1.2"))
        assert other.hear_status() == 0
        one.say(*large[:-1])
        _await_held(receiver, 700_000)
        one.reset()
        assert other.release() == RELEASE_RP
    receiver.stop()
    assert receiver.budget.held_bytes == 0
    assert "at once" in notebook.refusals[0].sentence


def _await_held(receiver: Receiver, size_bytes: int) -> None:
    deadline = time.monotonic() + 10
    while receiver.budget.held_bytes < size_bytes and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert receiver.budget.held_bytes >= size_bytes


def test_an_object_of_very_many_elements_is_refused(start: Start) -> None:
    """Elements of eight bytes cost the reader more than they cost the sender."""
    receiver, notebook = start()
    element = b"\x09\x00\x01\x10UL\0\0"
    with RawPeer(receiver.port) as peer:
        peer.associate()
        peer.say(*store_pdus(element * 20_001))
        assert peer.hear_status() == 0xC000
    notebook.wait(lambda n: n.refusals)
    assert "20000 elements" in notebook.refusals[0].sentence


def test_an_acknowledged_object_that_cannot_be_read_back_does_not_stop_the_start(
    start: Start, tmp_path: Path
) -> None:
    """It is shown and stays in the journal; the one behind it is recorded."""
    folder = tmp_path / "incoming" / "test"
    journal = Journal(folder, segment_bytes=SEGMENT_BYTES, spares=0)
    facts = Facts(ExplicitVRLittleEndian, "a1", "CT01", "ICHNODE", "10.0.0.1", datetime.now(UTC))
    image = ct(2)
    body = encode(image, False, True)
    head = file_head(CTImageStorage, image.SOPInstanceUID, ExplicitVRLittleEndian)
    journal.append(facts, b"no DICOM file")
    journal.append(facts, head + body)
    journal.close()
    receiver, notebook = start()
    notebook.wait(lambda n: n.arrivals and n.refusals)
    assert notebook.sop_uids == [image.SOPInstanceUID]
    assert notebook.refusals[0].peer_address == "10.0.0.1"
    receiver.stop()
    again = Journal(folder, segment_bytes=SEGMENT_BYTES, spares=0)
    assert b"no DICOM file" in [place.read() for place, _ in again.replay()]
    again.close()
