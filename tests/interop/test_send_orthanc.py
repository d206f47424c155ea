"""Deliveries to archives of other projects: Orthanc, and dcmtk's storescp."""

from __future__ import annotations

import socket
import subprocess
import threading
import time

import pytest
from pydicom import dcmread
from pynetdicom import AE

from ichnode.domain.work import DOCUMENT_KINDS, Acknowledged
from ichnode.send.sender import echo, find_files, send_files
from ichnode.send.stage import SendStage
from ichnode.settings import DestinationSettings, SendSettings
from ichnode.spool import resolve
from tests.documents import ct_slice, data_set_of, delivery_work, part10, stored_documents
from tests.orthanc import Orthanc
from tests.pacs import EXPLICIT_LE, SR_3D, closed_port

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def orthanc(require_program):
    """One Orthanc for this module."""
    with Orthanc(require_program("Orthanc")) as running:
        yield running


def stage_for(spool, port, ae_title):
    destination = DestinationSettings(name="pacs", ae_title=ae_title, host="127.0.0.1", port=port)
    return SendStage(spool, [destination], SendSettings(), calling_ae="ICHNODE")


def test_documents_are_stored_and_found_once_however_often_they_are_sent(tmp_path, orthanc):
    """Every document is in Orthanc byte for byte; sent again they are still one each."""
    documents = [one for kind in DOCUMENT_KINDS for one in stored_documents(tmp_path, 1, kind)]
    stage = stage_for(tmp_path, orthanc.dicom_port, orthanc.aet)
    for _ in range(2):
        results = stage.handle(delivery_work(documents)).results
        assert results == {number: Acknowledged(0) for number in (1, 2, 3, 4)}
        assert orthanc.sop_uids() == {document.sop_uid for document in documents}
    by_uid = {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in orthanc.instances()}
    for document in documents:
        held = orthanc.file(by_uid[document.sop_uid])
        assert data_set_of(held) == data_set_of(resolve(tmp_path, document.path).read_bytes())
    modalities = {series["MainDicomTags"]["Modality"] for series in orthanc.get("series?expand")}
    assert modalities == {"SR", "OT", "KO", "PR"}
    orthanc.clear()


def test_a_folder_of_images_is_sent_to_orthanc(tmp_path, orthanc):
    """`ichnode send` delivers a series; `ichnode echo` finds the archive."""
    for number in range(4):
        (tmp_path / f"{number}.dcm").write_bytes(part10(ct_slice(number, name="to orthanc")))
    results = send_files(
        find_files(tmp_path),
        host="127.0.0.1",
        port=orthanc.dicom_port,
        called_ae=orthanc.aet,
        calling_ae="SCANNER",
        associations=2,
    )
    assert all(result.accepted for result in results)
    assert len(orthanc.instances()) == 4
    who = {"called_ae": orthanc.aet, "calling_ae": "SCANNER"}
    assert echo("127.0.0.1", orthanc.dicom_port, **who).ok
    orthanc.clear()


def test_small_objects_do_not_wait_for_nagle(tmp_path, orthanc):
    """Reports go out without Nagle's delay; both ways are timed and printed, none is asserted."""
    documents = stored_documents(tmp_path, 10)
    paths = [resolve(tmp_path, document.path) for document in documents]
    began = time.monotonic()
    results = stage_for(tmp_path, orthanc.dicom_port, orthanc.aet).handle(delivery_work(documents))
    ours_ms = 1000 * (time.monotonic() - began) / len(paths)
    assert all(isinstance(one, Acknowledged) for one in results.results.values())
    ae = AE("STOCK")
    ae.add_requested_context(SR_3D, EXPLICIT_LE)
    began = time.monotonic()
    association = ae.associate("127.0.0.1", orthanc.dicom_port, ae_title=orthanc.aet)
    for path in paths:
        assert association.send_c_store(path).Status == 0
    association.release()
    stock_ms = 1000 * (time.monotonic() - began) / len(paths)
    print(
        f"\nSR at Orthanc, association included: ichnode {ours_ms:.1f} ms, "
        f"pynetdicom as it comes {stock_ms:.1f} ms each"
    )
    orthanc.clear()


def test_dcmtk_storescp_keeps_the_bytes(tmp_path, require_program):
    """Dcmtk's receiver, writing what it gets unchanged, has our data sets byte for byte."""
    documents = stored_documents(tmp_path) + stored_documents(tmp_path, 1, "sc")
    out = tmp_path / "received"
    out.mkdir()
    port = closed_port()
    command = [require_program("storescp"), "--bit-preserving", "-od", str(out), str(port)]
    with subprocess.Popen(command) as scp:
        try:
            _wait_until_listening(port)
            stage = stage_for(tmp_path, port, "STORESCP")
            results = stage.handle(delivery_work(documents)).results
            assert results == {1: Acknowledged(0), 2: Acknowledged(0)}
        finally:
            scp.terminate()
    received = {str(dcmread(path).SOPInstanceUID): path for path in out.iterdir()}
    for document in documents:
        sent = data_set_of(resolve(tmp_path, document.path).read_bytes())
        assert data_set_of(received[document.sop_uid].read_bytes()) == sent


def _wait_until_listening(port):
    """Wait, bounded, until somebody listens on a port."""
    pause, deadline = threading.Event(), time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            pause.wait(0.05)
    pytest.fail("storescp did not start listening")
