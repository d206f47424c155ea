"""Documents over real associations to scriptable peers."""

from __future__ import annotations

import time

import pytest
from pydicom import dcmread

from ichnode.domain.errors import PeerFailure
from ichnode.domain.work import Acknowledged, Reclass, StoredDocument, Undelivered
from ichnode.report.stage import ReportStage
from ichnode.send.association import EXPLICIT_LE, Peer, associate
from ichnode.send.stage import SendStage
from ichnode.settings import DestinationSettings, ReportSettings, SendSettings
from ichnode.spool import resolve
from tests.documents import (
    ct_slice,
    data_set_of,
    delivery_work,
    document_work,
    keep,
    part10,
    stored_documents,
)
from tests.pacs import (
    CT_IMAGE,
    IMPLICIT_LE,
    SECONDARY_CAPTURE,
    SR_3D,
    SR_COMPREHENSIVE,
    SR_ENHANCED,
    VERIFICATION,
    Act,
    Pacs,
    black_hole,
    closed_port,
    silent_listener,
)


def stage_for(spool, port, *, timeout_s=5.0, **more):
    """Return a stage with one destination called pacs."""
    destination = DestinationSettings(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=timeout_s, **more
    )
    return SendStage(spool, [destination], SendSettings(), calling_ae="ICHNODE")


@pytest.fixture
def spool(tmp_path):
    return tmp_path


def test_many_documents_go_over_one_association_as_the_stored_bytes(spool):
    """Five documents arrive over one association, each data set byte for byte as it was built."""
    documents = stored_documents(spool, 4) + stored_documents(spool, 1, "sc")
    with Pacs() as pacs:
        results = stage_for(spool, pacs.port).handle(delivery_work(documents)).results
        assert results == {number: Acknowledged(0) for number in range(1, 6)}
        assert pacs.associations == 1
        for document, received in zip(documents, pacs.kept, strict=True):
            content = resolve(spool, document.path).read_bytes()
            assert received.data_set == data_set_of(content)
            assert received.sop_uid == document.sop_uid
            assert received.transfer_syntax_uid == EXPLICIT_LE


@pytest.mark.parametrize(("urgent", "priority"), [(True, 1), (False, 0)])
def test_positives_are_sent_with_high_priority(spool, urgent, priority):
    """C-STORE priority is HIGH for a positive and MEDIUM otherwise."""
    documents = stored_documents(spool)
    with Pacs() as pacs:
        stage_for(spool, pacs.port).handle(delivery_work(documents, urgent=urgent))
        assert [one.priority for one in pacs.received] == [priority]


def test_each_object_has_its_own_answer(spool):
    """Success, Warning, a duplicate and two refusals on one association are told apart."""
    documents = stored_documents(spool, 5)
    script = [0x0000, 0xB000, 0xA700, 0x0111, 0xC000]
    with Pacs(script=script) as pacs:
        results = stage_for(spool, pacs.port).handle(delivery_work(documents)).results
    assert results[1] == Acknowledged(0)
    assert results[2] == Acknowledged(0xB000, "stored with a warning")
    assert results[3] == Undelivered("The peer refused it with status 0xA700.", 0xA700)
    assert results[4] == Acknowledged(0x0111, "it was there already")
    assert results[5] == Undelivered("The peer refused it with status 0xC000.", 0xC000)


@pytest.mark.parametrize("act", [Act.KEEP_AND_CLOSE, Act.CLOSE, Act.ABORT])
def test_a_connection_lost_before_the_answer_is_sent_again_byte_for_byte(spool, act):
    """A peer that closes or aborts before answering gets the identical bytes next time."""
    documents = stored_documents(spool, 2)
    with Pacs(script=[act]) as pacs:
        stage = stage_for(spool, pacs.port)
        first = stage.handle(delivery_work(documents)).results
        assert isinstance(first[1], Undelivered)
        assert first[1].status is None
        assert not first[1].permanent
        assert 2 not in first  # it was not tried
        again = stage.handle(delivery_work(documents)).results
        assert again == {1: Acknowledged(0), 2: Acknowledged(0)}
        before, after = (
            one.data_set for one in pacs.received if one.sop_uid == documents[0].sop_uid
        )
        assert before == after


def test_a_peer_that_hangs_is_given_up_after_the_timeout(spool):
    """A C-STORE without an answer ends after timeout_s as undelivered."""
    with Pacs(script=[Act.STALL]) as pacs:
        began = time.monotonic()
        work = delivery_work(stored_documents(spool))
        results = stage_for(spool, pacs.port, timeout_s=1.0).handle(work).results
        assert time.monotonic() - began < 6
    assert isinstance(results[1], Undelivered)
    assert results[1].status is None


def test_a_listener_that_never_answers_the_request_is_given_up(spool):
    """An association request without an answer ends after timeout_s."""
    with silent_listener() as port:
        began = time.monotonic()
        work = delivery_work(stored_documents(spool))
        results = stage_for(spool, port, timeout_s=1.0).handle(work).results
        assert time.monotonic() - began < 6
    assert isinstance(results[1], Undelivered)


def test_a_host_that_does_not_answer_is_given_up(spool):
    """A connection attempt that goes unanswered ends after the connection time-out."""
    with black_hole() as port:
        began = time.monotonic()
        work = delivery_work(stored_documents(spool))
        results = stage_for(spool, port, timeout_s=1.0).handle(work).results
        assert time.monotonic() - began < 6
    assert results[1] == Undelivered("The peer cannot be reached.")


def test_a_dead_peer_opens_the_breaker_and_a_living_one_closes_it(spool):
    """After two refused connections the destination is shut, and open again in its time."""
    now = [100.0]
    port = closed_port()
    destination = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    stage = SendStage(
        spool, [destination], SendSettings(), calling_ae="ICHNODE", now_s=lambda: now[0]
    )
    work = delivery_work(stored_documents(spool))
    assert stage.handle(work).results[1] == Undelivered("The peer cannot be reached.")
    assert stage.shut() == frozenset()
    stage.handle(work)
    assert stage.shut() == frozenset({"pacs"})
    now[0] += SendSettings().retry_first_s
    assert stage.shut() == frozenset()  # half open: one attempt


def test_a_refusal_is_an_answer_and_leaves_the_breaker_closed(spool):
    """A peer that refuses every object is there: the breaker stays closed."""
    with Pacs(script=[0xA700] * 3) as pacs:
        stage = stage_for(spool, pacs.port)
        work = delivery_work(stored_documents(spool))
        for _ in range(3):
            stage.handle(work)
        assert stage.shut() == frozenset()
        assert stage.handle(work).results == {1: Acknowledged(0)}


def test_another_class_may_be_asked_for_after_attempts_that_reached_nobody(spool):
    """A peer that was down at first still gets the class that it takes."""
    work = delivery_work(stored_documents(spool))
    with Pacs((SR_ENHANCED,), reject=1) as pacs:
        stage = stage_for(spool, pacs.port)
        assert isinstance(stage.handle(work).results[1], Undelivered)
        assert stage.handle(work).results == {1: Reclass(SR_ENHANCED)}


def test_a_rejected_association_is_a_peer_failure(spool):
    """A rejection says so, without trying anything, and the next attempt may succeed."""
    with Pacs(reject=2) as pacs:
        peer = Peer("127.0.0.1", pacs.port, "PACS", "ICHNODE", 5.0)
        with pytest.raises(PeerFailure, match="rejected"), associate(peer, [(SR_3D, EXPLICIT_LE)]):
            pass
        stage = stage_for(spool, pacs.port)
        work = delivery_work(stored_documents(spool))
        assert "rejected" in stage.handle(work).results[1].error
        assert stage.handle(work).results == {1: Acknowledged(0)}


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        ((SR_COMPREHENSIVE, SR_ENHANCED), Reclass(SR_COMPREHENSIVE)),
        ((SR_ENHANCED, SECONDARY_CAPTURE), Reclass(SR_ENHANCED)),
    ],
)
def test_another_sr_class_is_asked_for_where_the_peer_takes_one(spool, accepts, expected):
    """A peer without Comprehensive 3D asks for the first class of the order that it takes."""
    with Pacs(accepts) as pacs:
        results = stage_for(spool, pacs.port).handle(delivery_work(stored_documents(spool))).results
        assert results == {1: expected}
        assert pacs.received == []


def test_comprehensive_3d_comes_first_in_the_order(spool):
    """A document of another class is re-made as Comprehensive 3D where only that is taken."""
    documents = stored_documents(spool, sop_class_uid=SR_ENHANCED)
    with Pacs((SR_3D,)) as pacs:
        results = stage_for(spool, pacs.port).handle(delivery_work(documents)).results
    assert results == {1: Reclass(SR_3D)}


@pytest.mark.parametrize("accepts", [(CT_IMAGE,), (SECONDARY_CAPTURE,)])
def test_no_sr_class_at_all_is_permanent(spool, accepts):
    """Where no SR class is taken the row is undelivered for good, alone or beside an image."""
    documents = stored_documents(spool) + stored_documents(spool, 1, "sc")
    with Pacs(accepts) as pacs:
        results = stage_for(spool, pacs.port).handle(delivery_work(documents)).results
    not_taken = Undelivered("The peer does not take this SOP class.", permanent=True)
    assert results[1] == not_taken
    assert results[2] == (Acknowledged(0) if SECONDARY_CAPTURE in accepts else not_taken)


def test_an_implicit_only_peer_gets_the_same_elements(spool):
    """A peer that takes only Implicit VR gets the same data set in it, twice the same."""
    documents = stored_documents(spool) + stored_documents(spool, 1, "sc")
    with Pacs(syntaxes=(IMPLICIT_LE,)) as pacs:
        stage = stage_for(spool, pacs.port)
        for _ in range(2):
            results = stage.handle(delivery_work(documents)).results
            assert results == {1: Acknowledged(0), 2: Acknowledged(0)}
        first, second = pacs.kept[:2], pacs.kept[2:]
    assert [one.data_set for one in first] == [one.data_set for one in second]
    for received, document in zip(first, documents, strict=True):
        assert received.transfer_syntax_uid == IMPLICIT_LE
        path = spool / "sent.dcm"
        path.write_bytes(_with_head(received.data_set, document))
        sent, built = dcmread(path), dcmread(resolve(spool, document.path))
        if "PixelData" in sent:
            assert sent.PixelData == built.PixelData
            del sent.PixelData, built.PixelData  # OB and OW, the same bytes
        assert sent.to_json() == built.to_json()


def test_an_implicit_only_peer_gets_names_that_cannot_be_decoded(spool):
    """A name in a character set that nobody knows arrives byte for byte in Implicit VR, too."""
    name, declared = b"M\xfcller^J\xff ", b"ISO_IR 999"
    content = part10(ct_slice(0, PatientName="N" * len(name), name="odd"))
    content = content.replace(b"N" * len(name), name).replace(b"ISO_IR 100", declared)
    instances = (keep(spool, content), keep(spool, part10(ct_slice(1, name="odd"))))
    work = document_work(instances)
    built = ReportStage(spool, ReportSettings()).handle(work)
    document = StoredDocument(work.sop_class_uid, work.sop_uid, EXPLICIT_LE, built.path)
    with Pacs(syntaxes=(IMPLICIT_LE,)) as pacs:
        results = stage_for(spool, pacs.port).handle(delivery_work([document])).results
        assert results == {1: Acknowledged(0)}
        (received,) = pacs.kept
    assert name in received.data_set
    assert declared in received.data_set


def _with_head(data_set, document):
    """Put a head before an implicit data set, so that it can be read again."""
    from ichnode.receive.part10 import file_head

    return file_head(document.sop_class_uid, document.sop_uid, IMPLICIT_LE) + data_set


def test_one_failing_mechanism_does_not_undo_what_another_delivered(spool):
    """Documents that arrived stay delivered when the priority service of the peer is missing."""
    from ichnode.domain.work import DeliveryItem, DeliveryWork
    from tests.documents import LEASE, study_ref

    (document,) = stored_documents(spool)
    items = (
        DeliveryItem(1, "sr", True, 1, 1, document=document),
        DeliveryItem(2, "ups", True, 1, 1, study=study_ref()),
    )
    with Pacs() as pacs:
        results = stage_for(spool, pacs.port).handle(DeliveryWork(LEASE, "pacs", items)).results
    assert results[1] == Acknowledged(0)
    assert results[2] == Undelivered("The peer offers no UPS service.", permanent=True)


def test_a_destination_that_left_the_configuration_is_said_so(spool):
    """Rows of an unknown destination are undelivered, not lost and not an error."""
    work = delivery_work(stored_documents(spool), destination="gone")
    results = stage_for(spool, closed_port()).handle(work).results
    assert isinstance(results[1], Undelivered)


def test_a_document_that_is_gone_is_undelivered(spool):
    """A missing file fails its own row; the next one on the association still goes."""
    documents = stored_documents(spool, 2)
    resolve(spool, documents[0].path).unlink()
    with Pacs() as pacs:
        results = stage_for(spool, pacs.port).handle(delivery_work(documents)).results
    assert results[1] == Undelivered("It could not be sent: FileNotFoundError.")
    assert results[2] == Acknowledged(0)


def test_no_answer_is_lost_to_pynetdicoms_own_thread():
    """Hundreds of requests to a peer that answers at once: each has its answer."""
    with Pacs(accepts=(VERIFICATION,)) as pacs:
        peer = Peer("127.0.0.1", pacs.port, pacs.ae_title, "ICHNODE", timeout_s=10.0)
        with associate(peer, [(VERIFICATION, EXPLICIT_LE)]) as association:
            berth = association._reactor_checkpoint
            assert berth.reached.is_set()  # it waits there, and goes on waiting after a request
            assert {association.send_c_echo().Status for _ in range(300)} == {0x0000}
            assert not berth.is_set()
        assert berth.is_set()


def test_we_say_who_we_are(spool):
    """An association that we open names ichnode's implementation, as one that we accept does."""
    from ichnode.domain.ids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

    with Pacs() as pacs:
        stage_for(spool, pacs.port).handle(delivery_work(stored_documents(spool)))
        assert pacs.implementations == {(IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)}
