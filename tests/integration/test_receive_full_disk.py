"""A disk that really is full: statuses, no lies, and recovery by itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ichnode.receive.scp import Receiver
from ichnode.settings import NodeSettings, ReceiveSettings
from tests.conftest import absent
from tests.scanner import Notebook, RawPeer, ct, store_pdus

SEGMENT_BYTES = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=12m", "ichnode-test", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        absent("a file system of its own (mount)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def store(peer: RawPeer, number: int) -> int:
    peer.say(*store_pdus(ct(number, rows=6000), sop_uid=f"1.2.826.9.1.{number}"))
    return peer.hear_status()


def test_a_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    """0xA700 and never 0x0000 once there is no room; all that was acknowledged gets recorded."""
    notebook = Notebook()
    receiver = Receiver(
        NodeSettings(host_id="full", spool=small_disk),
        ReceiveSettings(port=0, reserve_bytes=0, drain_s=5),
        notebook,
        segment_bytes=SEGMENT_BYTES,
    )
    receiver.start()
    with RawPeer(receiver.port) as peer:
        peer.associate()
        acknowledged = [n for n in range(1, 40) if store(peer, n) == 0]
        assert 3 <= len(acknowledged) < 39
        assert store(peer, 50) == 0xA700
        notebook.wait(lambda n: len(n.arrivals) == len(acknowledged))
        assert any(_stored_after_purge(small_disk, notebook, peer, 51) for _ in range(100))
        peer.release()
    receiver.stop()
    assert "room" in notebook.refusals[0].sentence or "disk" in notebook.refusals[0].sentence


def _stored_after_purge(spool: Path, notebook: Notebook, peer: RawPeer, number: int) -> bool:
    """Purge what is recorded, as housekeeping does again and again, and try once more.

    Once is not enough: a file that goes before the journal has let go of it is written again.
    """
    for arrival in list(notebook.arrivals):
        (spool / arrival.path).unlink(missing_ok=True)
    return store(peer, number) == 0
