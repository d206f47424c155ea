"""Killed at every system call between socket and acknowledgement: nothing acknowledged is lost."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ichnode.receive.journal import Journal
from ichnode.receive.layout import Facts
from tests.conftest import absent
from tests.scanner import RawPeer, ct, store_pdus

ROOT = Path(__file__).parents[2]
IMAGES = 30
LIMIT_S = 30


@contextmanager
def receiving(spool: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a receiver; yield its process and port, and end it in good order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.receiving", str(spool)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        for line in process.stdout:
            if line.strip().isdigit():
                break
        yield process, int(line)
        process.terminate()
        process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def send_until_it_breaks(port: int, numbers: range) -> set[str]:
    """Send images over one association; return the SOP Instance UIDs that were acknowledged."""
    acknowledged = set()
    with RawPeer(port) as peer:
        peer.associate()
        for number in numbers:
            image = ct(number, rows=700)
            try:
                peer.say(*store_pdus(image, sop_uid=str(image.SOPInstanceUID)))
                status = peer.hear_status()
            except (AssertionError, OSError):  # the receiver is gone
                break
            if status == 0:
                acknowledged.add(str(image.SOPInstanceUID))
    return acknowledged


def recorded(spool: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Return (digest, path, size) by SOP Instance UID."""
    connection = sqlite3.connect(spool / "rows.db")
    rows = connection.execute("SELECT uid, sha256, path, size FROM instance").fetchall()
    connection.close()
    found: dict[str, list[tuple[str, str, int]]] = {}
    for uid, *rest in rows:
        found.setdefault(uid, []).append(tuple(rest))
    return found


def check_after_restart(spool: Path, acknowledged: set[str]) -> None:
    """Start again: everything acknowledged is recorded once and whole; a resend completes it."""
    with receiving(spool):
        pass
    found = recorded(spool)
    assert acknowledged <= set(found)
    for versions in found.values():
        assert len(versions) == 1
        digest, path, size = versions[0]
        content = (spool / path).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, size)
    with receiving(spool) as (_, port):
        assert len(send_until_it_breaks(port, range(1, IMAGES + 1))) == IMAGES
    assert len(recorded(spool)) == IMAGES
    assert all(len(versions) == 1 for versions in recorded(spool).values())


@contextmanager
def traced(
    strace: str, process: subprocess.Popen[str], calls: str, inject: str
) -> Iterator[Iterator[str]]:
    """Have strace tamper with the system calls of a process; yield the lines that it writes."""
    tracer = subprocess.Popen(
        [
            *(strace, "-f", "-p", str(process.pid), "-e", f"trace={calls}"),
            *("-e", f"inject={inject}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in tracer.stderr:
            if "attached" in line:
                break
            if "ptrace" in line:
                absent("the right to trace a process (ptrace)")
        yield tracer.stderr
        tracer.communicate(timeout=LIMIT_S)
    finally:
        tracer.kill()
        tracer.wait()
        tracer.stderr.close()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("call", "when"),
    [
        ("recvfrom", 60),  # in the middle of an object
        ("pwritev,pwritev2", 3),  # before a record is written
        ("fdatasync", 1),  # before the first barrier
        ("fdatasync", 9),
        ("sendto", 5),  # durable, and before the status is sent
        ("copy_file_range", 4),  # acknowledged, and before its file is there
        ("rename", 4),
        ("syncfs", 1),  # recorded, and before the files are durable
        ("pwrite64", 1),  # before the journal is told that it may forget
    ],
)
def test_killed_at_a_system_call(
    tmp_path: Path, require_program: object, call: str, when: int
) -> None:
    """Whatever was acknowledged before the kill is there after the restart, whole and once."""
    strace = require_program("strace")
    kill = f"{call}:signal=KILL:when={when}"  # the n-th such call of any one of its threads
    with receiving(tmp_path) as (process, port), traced(strace, process, call, kill):
        acknowledged = send_until_it_breaks(port, range(1, IMAGES + 1))
        process.wait(LIMIT_S)
        assert process.returncode == -signal.SIGKILL
    check_after_restart(tmp_path, acknowledged)


@pytest.mark.parametrize("after", [0, 7, 23])
def test_killed_between_images(tmp_path: Path, after: int) -> None:
    """The same with a kill -9 from outside, again and again on one spool."""
    acknowledged: set[str] = set()
    for _ in range(2):
        with receiving(tmp_path) as (process, port):
            acknowledged |= send_until_it_breaks(port, range(1, after + 1))
            os.kill(process.pid, signal.SIGKILL)
    assert len(acknowledged) == after
    check_after_restart(tmp_path, acknowledged)


@pytest.mark.peer
def test_files_are_written_anew_after_a_barrier_that_failed(
    tmp_path: Path, require_program: object
) -> None:
    """The disk says EIO once, and the pages are lost: the next barrier would succeed without them.

    So every file comes out of the journal again, and the barrier asks about the same open file
    system: one opened later would not be told.
    """
    strace = require_program("strace")
    lost, rewritten = set[str](), set[str]()
    with receiving(tmp_path) as (process, port):
        calls = traced(strace, process, "syncfs,rename,openat", "syncfs:error=EIO:when=1")
        with calls as lines:
            assert len(send_until_it_breaks(port, range(1, IMAGES + 1))) == IMAGES
            named = lost
            for line in lines:
                assert f'"{tmp_path}/instances", ' not in line
                if renamed := re.search(r'rename\(".*", "(.*\.dcm)"', line):
                    named.add(renamed[1])
                elif "syncfs" in line and "EIO" in line:
                    named = rewritten
                elif re.search(r"syncfs.* = 0$", line):
                    break
            process.terminate()
    assert lost
    assert lost <= rewritten


REPLAYED = """
import sys
from pathlib import Path
from ichnode.receive.journal import Journal
journal = Journal(Path(sys.argv[1]), segment_bytes=64 << 10)
places = [place for place, _ in journal.replay()]
print(*(int(place.read()) for place in places))
journal.settle(places)
journal.close()
"""


@pytest.mark.peer
def test_a_bad_sector_costs_the_records_on_it_and_no_other(
    tmp_path: Path, require_program: object
) -> None:
    """The receiver starts, says so, and does not use that file again: a person may save more."""
    facts = Facts("1.2.840.10008.1.2.1", "a1", "CT01", "ICHNODE", "10.0.0.1", datetime.now(UTC))
    with closing(Journal(tmp_path, segment_bytes=64 << 10)) as journal:
        for page in range(1, 11):
            journal.append(facts, b"%d" % page)
    (segment,) = tmp_path.glob("*.seg")
    # The first call is for many pages at once, and then there is one for each from page 0 on.
    fails = "inject=preadv,preadv2:error=EIO:when=1+5"
    command = [
        require_program("strace"),
        "-o",
        os.devnull,
        "-e",
        "trace=preadv,preadv2",
        "-e",
        fails,
    ]
    done = subprocess.run(
        [*command, sys.executable, "-c", REPLAYED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LIMIT_S,
        check=False,
    )
    if "ptrace" in done.stderr:
        absent("the right to trace a process (ptrace)")
    assert done.stdout.splitlines()[-1:] == ["1 2 3 5 6 7 8 10"], done.stderr
    assert "journal.unreadable" in done.stdout
    assert not segment.exists()
    assert segment.with_suffix(".bad").exists()
