"""Storage commitment with a real Orthanc, which reports on an association of its own."""

from __future__ import annotations

import pytest

from ichnode.domain.work import DeliveryWork
from ichnode.receive.scp import Receiver
from ichnode.send.association import Peer
from ichnode.send.commitment import ask_commitment
from ichnode.send.stage import SendStage
from ichnode.settings import DestinationSettings, NodeSettings, ReceiveSettings, SendSettings
from tests.documents import delivery_work, stored_documents
from tests.node import wait_for
from tests.orthanc import Orthanc

pytestmark = pytest.mark.peer


class Book:
    """A worklist that keeps reports."""

    def __init__(self) -> None:
        self.reports = []

    def record(self, arrivals) -> None: ...

    def released(self, association_id) -> None: ...

    def refuse(self, refusal) -> None: ...

    def committed(self, told) -> bool:
        self.reports.append(told)
        return True


def test_orthanc_answers_for_what_it_has_and_says_what_it_has_not(tmp_path, require_program):
    """One document that was delivered is kept, one that was not is lost."""
    program, book = require_program("Orthanc"), Book()
    receiver = Receiver(
        NodeSettings(host_id="test", spool=tmp_path),
        ReceiveSettings(port=0, reserve_bytes=0),
        book,
        segment_bytes=256 << 10,
        committed=book.committed,
    )
    receiver.start()
    ours = {"AET": "ICHNODE", "Host": "127.0.0.1", "Port": receiver.port}
    try:
        with Orthanc(program, DicomModalities={"node": ours}) as orthanc:
            there, absent = stored_documents(tmp_path, 2)
            destination = DestinationSettings(
                name="pacs", ae_title=orthanc.aet, host="127.0.0.1", port=orthanc.dicom_port
            )
            stage = SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE")
            work: DeliveryWork = delivery_work([there])
            stage.handle(work)
            peer = Peer("127.0.0.1", orthanc.dicom_port, orthanc.aet, "ICHNODE")
            references = [(one.sop_class_uid, one.sop_uid) for one in (there, absent)]
            for uid, asked in (("2.25.1", references[:1]), ("2.25.2", references)):
                assert ask_commitment(peer, uid, asked, book.committed).error == ""
            wait_for(lambda: len(book.reports) == 2, 30, "Orthanc to report twice")
    finally:
        receiver.stop(0)
    reports = {told.transaction_uid: told for told in book.reports}
    assert (reports["2.25.1"].kept, reports["2.25.1"].lost) == ({there.sop_uid}, {})
    assert reports["2.25.2"].kept == {there.sop_uid}
    assert reports["2.25.2"].lost == {absent.sop_uid: 0x0112}
