"""dcmtk sends to us: every transfer syntax as it is, old habits included."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from ichnode.receive.scp import Receiver
from ichnode.settings import NodeSettings, ReceiveSettings
from tests.scanner import Notebook, scanner

pytestmark = pytest.mark.peer


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[Receiver, Notebook]]:
    notebook = Notebook()
    receiver = Receiver(
        NodeSettings(host_id="interop", spool=tmp_path),
        ReceiveSettings(port=0, reserve_bytes=0, drain_s=5),
        notebook,
        segment_bytes=4 << 20,
    )
    receiver.start()
    yield receiver, notebook
    receiver.stop()


def dataset_bytes(path: Path) -> bytes:
    """Return what follows the file meta information."""
    meta = read_file_meta_info(path)
    content = path.read_bytes()
    return content[132 + 12 + meta.FileMetaInformationGroupLength :]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TCP_NODELAY": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def test_echoscu_is_answered(receiver: tuple[Receiver, Notebook], require_program: object) -> None:
    """C-ECHO from dcmtk."""
    done = run(require_program("echoscu"), "127.0.0.1", str(receiver[0].port))
    assert done.returncode == 0, done.stderr


@pytest.mark.real
def test_a_real_series_arrives_byte_for_byte(
    receiver: tuple[Receiver, Notebook], require_program: object, real_data: Path, tmp_path: Path
) -> None:
    """Twenty-eight slices by storescu: every data set is on disk as it was sent."""
    files = sorted((real_data / "head_ct_ge").glob("*.dcm"))
    storescu, port = require_program("storescu"), str(receiver[0].port)
    done = run(storescu, "-xe", "127.0.0.1", port, *map(str, files))
    assert done.returncode == 0, done.stderr
    notebook = receiver[1]
    # The receiver's own echo at the start is a release, too.
    notebook.wait(lambda n: n.arrivals and n.events[-1][0] == "released")
    kept = {a.header.sop_uid: tmp_path / a.path for a in notebook.arrivals}
    assert len(kept) == len(files)
    for file in files:
        sent = dcmread(file)
        assert dcmread(kept[str(sent.SOPInstanceUID)]) == sent
    assert {a.header.study_uid for a in notebook.arrivals} == {str(sent.StudyInstanceUID)}


_OPTIONS = {
    "implicit_le": "-xi",
    "explicit_le": "-xe",
    "explicit_be": "-xb",
    "deflated_explicit_le": "-xd",
    "jpeg_lossless_p14": "-xs",
    "jpeg_lossless_sv1": "-xs",
    "jpegls_lossless": "-xt",
    "jpegls_near": "-xu",
    "j2k_lossless": "-xv",
    "j2k_lossy": "-xw",
    "rle": "-xr",
}


@pytest.mark.real
@pytest.mark.parametrize("name", sorted([*_OPTIONS, "htj2k_lossless"]))
def test_every_transfer_syntax_is_kept_as_sent(
    receiver: tuple[Receiver, Notebook],
    require_program: object,
    real_data: Path,
    tmp_path: Path,
    name: str,
) -> None:
    """The stored data set is identical to the sender's, byte for byte."""
    file = real_data / "head_ct_syntaxes" / f"{name}.dcm"
    meta = read_file_meta_info(file)
    if name in ("htj2k_lossless", "jpeg_lossless_p14"):  # dcmtk 3.6.7 proposes neither
        _send_as_it_is(file, receiver[0].port)
    else:
        port = str(receiver[0].port)
        done = run(require_program("storescu"), _OPTIONS[name], "127.0.0.1", port, str(file))
        assert done.returncode == 0, done.stderr
    receiver[1].wait(lambda n: n.arrivals)
    arrival = receiver[1].arrivals[0]
    assert arrival.transfer_syntax_uid == meta.TransferSyntaxUID
    kept = tmp_path / arrival.path
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == arrival.sha256
    assert dataset_bytes(kept) == dataset_bytes(file)


def _send_as_it_is(file: Path, port: int) -> None:
    dataset = dcmread(BytesIO(file.read_bytes()))
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    with scanner(port, contexts=[(str(dataset.SOPClassUID), [syntax])]) as association:
        assert association.send_c_store(dataset).Status == 0


@pytest.mark.real
def test_a_localizer_and_a_dose_report_are_taken_too(
    receiver: tuple[Receiver, Notebook], require_program: object, real_data: Path
) -> None:
    """What will not be analysed is not refused: that would fail the scanner's send."""
    files = sorted((real_data / "not_for_analysis").glob("*.dcm"))
    storescu, port = require_program("storescu"), str(receiver[0].port)
    done = run(storescu, "-R", "127.0.0.1", port, *map(str, files))
    assert done.returncode == 0, done.stderr
    receiver[1].wait(lambda n: len(n.arrivals) == len(files))
