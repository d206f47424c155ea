"""dcmtk asks us: Study Root, and UPS by pynetdicom's own client program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from ichnode.domain.findings import Finding
from ichnode.worklist.worklist import Worklist
from tests.integration.test_query_tasks import record
from tests.query_kit import published
from tests.worklist_fixtures import (  # noqa: F401 - pytest finds fixtures by name
    database_url,
    databases,
    engine_name,
    hand_clock,
    open_worklist,
    worklist,
)

pytestmark = pytest.mark.peer


@pytest.fixture
def engine_name() -> str:  # noqa: F811 - one engine is enough for the wire
    """SQLite."""
    return "sqlite"


@pytest.fixture
def port(worklist: Worklist, tmp_path: Path) -> Iterator[int]:  # noqa: F811 - the fixture
    """The port of a receiver that publishes three studies."""
    record(worklist, patient_name="Müller^Jürgen", accession_number="M1")
    record(worklist, patient_name="Doe^Jane", accession_number="M2")
    record(worklist, Finding.POSITIVE, patient_name="Roe^Richard", accession_number="M3")
    with published(worklist, tmp_path / "spool", calling_ae_titles=("FINDSCU",)) as receiver:
        yield receiver.port


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"TCP_NODELAY": "1"}
    return subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)


def answers(folder: Path) -> list[str]:
    """The accession numbers of the answers that findscu wrote, in their order."""
    return [str(dcmread(one, force=True).AccessionNumber) for one in sorted(folder.glob("rsp*"))]


def find(program: str, port: int, folder: Path, *keys: str) -> subprocess.CompletedProcess[bytes]:
    folder.mkdir()
    asked = [word for key in ("QueryRetrieveLevel=STUDY", *keys) for word in ("-k", key)]
    return run(
        program, "-S", "-aec", "ICHNODE", "-X", "-od", str(folder), *asked, "127.0.0.1", str(port)
    )


def test_findscu_gets_the_list_in_its_order(
    port: int, require_program: object, tmp_path: Path
) -> None:
    """The urgent one first."""
    program = require_program("findscu")
    done = find(program, port, tmp_path / "all", "AccessionNumber", "PatientName")
    assert done.returncode == 0, done.stderr
    assert answers(tmp_path / "all") == ["M3", "M1", "M2"]


def test_findscu_narrows_and_cancels(port: int, require_program: object, tmp_path: Path) -> None:
    """A wild card; and after one answer, no more of them."""
    program = require_program("findscu")
    done = find(program, port, tmp_path / "wild", "AccessionNumber", "PatientName=*oe*")
    assert done.returncode == 0, done.stderr
    assert answers(tmp_path / "wild") == ["M3", "M2"]
    asked = ["-k", "QueryRetrieveLevel=STUDY", "-k", "AccessionNumber", "--cancel", "1"]
    done = run(program, "-v", "-S", "-aec", "ICHNODE", *asked, "127.0.0.1", str(port))
    assert b"Cancel" in done.stderr + done.stdout, done


def test_findscu_is_refused_the_modality_worklist(port: int, require_program: object) -> None:
    """That would offer scanned studies to scanners."""
    program = require_program("findscu")
    done = run(program, "-W", "-aec", "ICHNODE", "-k", "PatientName", "127.0.0.1", str(port))
    assert b"No Acceptable Presentation Contexts" in done.stderr + done.stdout


def test_pynetdicoms_own_program_asks(port: int) -> None:
    """`python -m pynetdicom findscu`: somebody else's client from end to end."""
    done = run(
        sys.executable,
        *("-m", "pynetdicom", "findscu", "-S", "-v", "127.0.0.1", str(port)),
        *("-aec", "ICHNODE", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=Roe*"),
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert b"Find SCP Result: 0x0000" in said, said
