"""Deliveries to archives of other projects: Orthanc (also by REST), and dcmtk's storescp."""

from __future__ import annotations

import socket
import subprocess
import threading
import time

import pytest
from pydicom import dcmread
from pynetdicom import AE

from ichnode.domain.work import DOCUMENT_KINDS, Acknowledged, Undelivered
from ichnode.send.asking import ask
from ichnode.send.sender import echo, find_files, send_files
from ichnode.send.stage import SendStage
from ichnode.settings import DestinationSettings, OrthancSettings, SendSettings
from ichnode.spool import resolve
from tests.documents import (
    alert_work,
    ct_slice,
    data_set_of,
    delivery_work,
    part10,
    stored_documents,
    study_ref,
)
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


def test_a_real_orthanc_keeps_metadata_and_labels_as_far_as_it_has_them(tmp_path, orthanc):
    """Told before the study is there, after, and that it was a mistake; as its version can."""
    scan = ct_slice(0, name="of an alert")
    study = study_ref(study_uid=str(scan.StudyInstanceUID))
    has_labels = orthanc.get("system").get("HasLabels") is True
    label = "ich-suspected" if has_labels else ""
    url = f"http://127.0.0.1:{orthanc.http_port}"
    destination = OrthancSettings(name="archive", url=url, label=label, metadata="1024")
    stage = SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE")
    work = alert_work("orthanc", "archive", study=study)
    assert ask(destination, "ICHNODE").ok
    waiting = stage.handle(work).results[1]
    assert waiting == Undelivered("The study is not in this Orthanc yet.")

    (tmp_path / "scan.dcm").write_bytes(part10(scan))
    who = {"called_ae": orthanc.aet, "calling_ae": "SCANNER"}
    send_files([tmp_path / "scan.dcm"], host="127.0.0.1", port=orthanc.dicom_port, **who)
    (number,) = orthanc.get("studies")
    for _ in range(2):
        assert stage.handle(work).results[1] == Acknowledged(200)
        assert orthanc.get(f"studies/{number}/metadata/1024")["finding"] == "positive"
        if has_labels:
            assert orthanc.get(f"studies/{number}/labels") == [label]

    withdrawn = alert_work("orthanc", "archive", study=study, revision=2, withdrawn=True)
    for _ in range(2):
        assert stage.handle(withdrawn).results[1] == Acknowledged(200)
        assert "1024" not in orthanc.get(f"studies/{number}/metadata")
    orthanc.clear()


def test_a_real_orthanc_without_labels_is_told_apart(tmp_path, orthanc):
    """The default is a label; a version before 1.12.0 refuses it, and we say what to do."""
    if orthanc.get("system").get("HasLabels") is True:
        pytest.skip("this Orthanc has labels")
    scan = ct_slice(0, name="of an alert")
    (tmp_path / "scan.dcm").write_bytes(part10(scan))
    who = {"called_ae": orthanc.aet, "calling_ae": "SCANNER"}
    send_files([tmp_path / "scan.dcm"], host="127.0.0.1", port=orthanc.dicom_port, **who)
    destination = OrthancSettings(name="archive", url=f"http://127.0.0.1:{orthanc.http_port}")
    stage = SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE")
    study = study_ref(study_uid=str(scan.StudyInstanceUID))
    refused = stage.handle(alert_work("orthanc", "archive", study=study)).results[1]
    assert (refused.status, refused.permanent) == (404, True)
    assert 'set label = ""' in refused.error
    assert not ask(destination, "ICHNODE").ok
    orthanc.clear()


def test_a_real_orthanc_that_checks_revisions_and_passwords(tmp_path, require_program):
    """CheckRevisions is on and a user is asked for: a later revision still takes its place."""
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"ich": "secret"}}
    with Orthanc(require_program("Orthanc"), CheckRevisions=True, **users) as running:
        url = f"http://127.0.0.1:{running.http_port}"
        at_the_door = {"name": "archive", "url": url, "label": "", "metadata": "1024"}
        stranger = OrthancSettings(**at_the_door)
        destination = OrthancSettings(**at_the_door, user="ich", password="secret")
        assert not ask(stranger, "ICHNODE").ok
        assert ask(destination, "ICHNODE").ok
        scan = ct_slice(0, name="of an alert")
        (tmp_path / "scan.dcm").write_bytes(part10(scan))
        who = {"called_ae": running.aet, "calling_ae": "SCANNER"}
        send_files([tmp_path / "scan.dcm"], host="127.0.0.1", port=running.dicom_port, **who)
        study = study_ref(study_uid=str(scan.StudyInstanceUID))
        stage = SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE")
        for revision in (1, 1, 2):
            work = alert_work("orthanc", "archive", study=study, revision=revision)
            assert stage.handle(work).results[1] == Acknowledged(200)
        withdrawn = alert_work("orthanc", "archive", study=study, revision=3, withdrawn=True)
        assert stage.handle(withdrawn).results[1] == Acknowledged(200)
