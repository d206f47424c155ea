"""Studies that never arrived, fetched from archives of other projects by the real command."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime

import pytest

from ichnode.send.sender import send_files
from tests.documents import ct_slice, part10
from tests.node import Node, wait_for
from tests.orthanc import Orthanc
from tests.pacs import closed_port

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SLICES = 12


def study(folder, name: str) -> tuple[str, list]:
    """Write a study that began two hours ago; its UID and its files."""
    began = datetime.fromtimestamp(datetime.now().astimezone().timestamp() - 7200)  # noqa: DTZ006
    folder.mkdir()
    files = []
    for number in range(SLICES):
        made = ct_slice(number, name=name)
        made.StudyDate, made.StudyTime = f"{began:%Y%m%d}", f"{began:%H%M%S}"
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(part10(made))
    return str(made.StudyInstanceUID), files


def store(files, port: int, called_ae: str) -> None:
    results = send_files(
        files, host="127.0.0.1", port=port, called_ae=called_ae, calling_ae="SCANNER"
    )
    assert all(result.accepted for result in results), results


def ask(node: Node, *arguments: str) -> tuple[int, dict]:
    done = node.call("reconcile", "--json", *arguments, check=False)
    return done.returncode, json.loads(done.stdout)


def examine(node: Node, receiver: int, archive: int, archive_ae: str, folder) -> None:
    """One study came only in part, one not at all: both are seen, fetched, and seen no more."""
    absent, files = study(folder / "absent", f"absent at {archive_ae}")
    store(files, archive, archive_ae)
    partly, files = study(folder / "partly", f"partly at {archive_ae}")
    store(files, archive, archive_ae)
    store(files[:5], receiver, "ICHNODE")
    wait_for(lambda: node.worklist.views.study(partly), 30, "the part to be recorded")
    code, found = ask(node)
    assert code == 1, found
    rows = {row["study_uid"]: row for row in found["not_received"]}
    assert rows.keys() == {absent, partly}
    assert rows[absent]["nothing_came"]
    assert not rows[partly]["nothing_came"]
    assert found["comparisons"][0]["error"] == ""
    assert "NOT RECEIVED" in node.call("status").stdout
    code, found = ask(node, "--fetch")
    assert dict(found["fetched"]) == {absent: "", partly: ""}

    def arrived() -> bool:
        return not node.worklist.views.not_received().rows

    wait_for(arrived, 30, f"what was fetched to arrive; {node.log()}")
    code, found = ask(node)
    assert (code, found["not_received"]) == (0, []), found
    story = node.worklist.views.study(absent)
    assert sum(series.instances for series in story.series) == SLICES


def test_orthanc_is_asked_and_sends(tmp_path, require_program):
    """C-FIND and C-MOVE with Orthanc, back to our own receiver."""
    program = require_program("Orthanc")
    node = Node(tmp_path)
    try:
        receiver = node.start_receiver()
        with Orthanc(
            program,
            DicomAlwaysAllowFind=True,
            DicomAlwaysAllowMove=True,
            DicomModalities={"node": ["ICHNODE", "127.0.0.1", receiver]},
        ) as orthanc:
            _configure(node, f"{orthanc.aet}@127.0.0.1:{orthanc.dicom_port}")
            examine(node, receiver, orthanc.dicom_port, orthanc.aet, tmp_path)
    finally:
        node.stop()


def test_dcmtk_is_asked_and_sends(tmp_path, require_program):
    """The same with dcmqrscp, which tells of no body part and no number of images."""
    program = require_program("dcmqrscp")
    node = Node(tmp_path)
    try:
        receiver, port = node.start_receiver(), closed_port()
        (tmp_path / "dcmtk").mkdir()
        configuration = tmp_path / "dcmqrscp.cfg"
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nnode = (ICHNODE, 127.0.0.1, {receiver})\nHostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nDCMTK {tmp_path}/dcmtk RW (200, 1024mb) ANY\nAETable END\n"
        )
        with subprocess.Popen([program, "-c", str(configuration)]) as archive:
            try:
                wait_for(lambda: _is_there(port), 20, "dcmqrscp to listen")
                _configure(node, f"DCMTK@127.0.0.1:{port}")
                examine(node, receiver, port, "DCMTK", tmp_path)
            finally:
                archive.terminate()
    finally:
        node.stop()


def _configure(node: Node, peer: str) -> None:
    with node.config.open("a") as file:
        file.write(f'[reconcile]\npeer = "{peer}"\ngrace_minutes = 0\ntimeout_s = 20\n')


def _is_there(port: int) -> bool:
    from ichnode.send.sender import echo

    return echo("127.0.0.1", port, called_ae="DCMTK", calling_ae="SCANNER").ok
