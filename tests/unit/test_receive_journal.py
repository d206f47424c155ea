"""The journal: what was appended is there again, whatever happened in between."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ichnode.domain.errors import ConfigurationError, OutOfSpace
from ichnode.receive import layout
from ichnode.receive.journal import Journal
from ichnode.receive.layout import Facts
from ichnode.receive.segment import Segment

SMALL = 64 << 10
FACTS = Facts("1.2.840.10008.1.2.1", "a1", "CT01", "ICHNODE", "10.0.0.1", datetime.now(UTC))


def journal(folder: Path, *, segment_bytes: int = SMALL) -> Journal:
    return Journal(folder / "incoming", segment_bytes=segment_bytes, spares=1)


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let every write beyond this offset fail, whatever the file system."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def replayed(folder: Path) -> list[bytes]:
    """Open the journal anew and return the bodies that it replays."""
    again = journal(folder)
    try:
        bodies = [place.read() for place, _ in again.replay()]
    finally:
        again.close()
    return bodies


def test_replay_yields_what_was_appended_in_order_with_its_facts(tmp_path: Path) -> None:
    """Bodies and facts come back as they were, oldest first."""
    first = journal(tmp_path)
    bodies = [bytes([n]) * (n * 1000 + 1) for n in range(5)]
    for body in bodies:
        first.append(FACTS, body)
    first.close()
    again = journal(tmp_path)
    found = list(again.replay())
    assert [place.read() for place, _ in found] == bodies
    assert {facts for _, facts in found} == {FACTS}
    again.close()


def test_settled_records_are_not_replayed(tmp_path: Path) -> None:
    """What is recorded and filed is forgotten; what came later is not."""
    first = journal(tmp_path)
    places = [first.append(FACTS, b"x" * n) for n in (1, 2, 3)]
    first.settle(places[:2])
    first.close()
    assert replayed(tmp_path) == [b"xxx"]


def test_a_gap_in_what_is_settled_replays_everything_after_it(tmp_path: Path) -> None:
    """Settling out of order never skips an unsettled record."""
    first = journal(tmp_path)
    places = [first.append(FACTS, b"x" * n) for n in (1, 2, 3)]
    first.settle([places[2], places[1]])
    first.close()
    assert replayed(tmp_path) == [b"x", b"xx", b"xxx"]


def test_a_second_crash_before_settling_replays_again(tmp_path: Path) -> None:
    """Replaying alone settles nothing, and new records join the old ones."""
    first = journal(tmp_path)
    first.append(FACTS, b"one")
    first.close()
    second = journal(tmp_path)
    assert [place.read() for place, _ in second.replay()] == [b"one"]
    second.append(FACTS, b"two")
    second.close()
    assert replayed(tmp_path) == [b"one", b"two"]


def test_segments_are_used_again_and_stale_records_stay_dead(tmp_path: Path) -> None:
    """Many times a segment's worth passes through a few files, and nothing old comes back."""
    first = journal(tmp_path)
    for n in range(100):
        first.settle([first.append(FACTS, bytes([n]) * 20_000)])
    last = first.append(FACTS, b"last")
    first.close()
    assert len(list((tmp_path / "incoming").glob("*.seg"))) <= 3
    assert last.sequence == 101
    assert replayed(tmp_path) == [b"last"]


def test_an_object_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    """It is replayed like the others, and its file goes once it is settled."""
    first = journal(tmp_path)
    body = os.urandom(3 * SMALL)
    first.append(FACTS, b"small")
    first.append(FACTS, body)
    first.close()
    again = journal(tmp_path)
    found = [place for place, _ in again.replay()]
    assert [place.read() for place in found] == [b"small", body]
    before = len(list((tmp_path / "incoming").glob("*.seg")))
    again.settle(found)
    assert len(list((tmp_path / "incoming").glob("*.seg"))) == before - 1
    again.close()


def test_copying_a_place_gives_the_same_bytes(tmp_path: Path) -> None:
    """Files are made from the journal, not from memory."""
    first = journal(tmp_path)
    body = os.urandom(30_000)
    place = first.append(FACTS, body)
    with (tmp_path / "copy").open("wb") as file:
        place.copy_to(file.fileno())
    first.close()
    assert (tmp_path / "copy").read_bytes() == body


def test_appending_from_many_threads_shares_barriers_and_loses_nothing(tmp_path: Path) -> None:
    """Group commit: every thread's record is there, each once."""
    first = journal(tmp_path)

    def work(name: int) -> None:
        for n in range(25):
            first.append(FACTS, f"{name}-{n}".encode())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    expected = sorted(f"{name}-{n}".encode() for name in range(8) for n in range(25))
    assert sorted(replayed(tmp_path)) == expected


def test_a_lost_mark_only_means_that_more_is_replayed(tmp_path: Path) -> None:
    """The file that says what is settled may be damaged."""
    first = journal(tmp_path)
    first.settle([first.append(FACTS, b"one")])
    first.append(FACTS, b"two")
    first.close()
    (tmp_path / "incoming" / "settled").write_bytes(b"\xff" * 100)
    assert replayed(tmp_path) == [b"one", b"two"]


def test_two_processes_cannot_use_one_journal(tmp_path: Path) -> None:
    """The second is told what to set."""
    first = journal(tmp_path)
    with pytest.raises(ConfigurationError, match=r"node\.host_id"):
        journal(tmp_path)
    first.close()


def test_what_a_sender_hides_in_its_pixels_is_no_record(tmp_path: Path) -> None:
    """A whole record inside a body, on a page of its own, is not taken for one of ours."""
    forged = layout.record_head(b"\0" * 16, 99, FACTS.encode(), 4, b"\0" * 32) + b"evil"
    first = journal(tmp_path)
    place = first.append(FACTS, bytes(layout.PAGE) + forged.ljust(layout.PAGE, b"\0") * 3)
    first.append(FACTS, b"good")
    first.close()
    path = next((tmp_path / "incoming").glob("*1.seg"), place.segment.path)
    content = bytearray(path.read_bytes())
    content[layout.PAGE : layout.PAGE + 8] = b"TORNTORN"  # so that the search goes page by page
    path.write_bytes(content)
    assert replayed(tmp_path) == [b"good"]


def test_a_full_disk_is_out_of_space_and_leaves_no_file(tmp_path: Path) -> None:
    """A segment that cannot be written is not left half-made."""
    first = journal(tmp_path)
    before = set((tmp_path / "incoming").glob("*.seg"))
    with files_of_at_most(SMALL // 2), pytest.raises((OutOfSpace, OSError)) as caught:
        first.append(FACTS, b"x")
    assert isinstance(caught.value, OutOfSpace) or caught.value.errno == errno.EFBIG
    assert set((tmp_path / "incoming").glob("*.seg")) == before
    first.append(FACTS, b"works again")
    first.close()
    assert replayed(tmp_path) == [b"works again"]


def test_a_segment_that_cannot_be_filled_gives_its_room_back(tmp_path: Path) -> None:
    """It has no name and is not open: an open file without a name still takes its blocks."""

    def is_open() -> bool:
        links = [Path(os.path.realpath(link)) for link in Path("/proc/self/fd").iterdir()]
        return any(tmp_path in link.parents for link in links)

    with files_of_at_most(SMALL // 2), pytest.raises(OSError, match="File too large"):
        Segment.create(tmp_path / "1.seg", SMALL)
    assert list(tmp_path.iterdir()) == []
    assert not is_open()
    Segment.create(tmp_path / "1.seg", SMALL).close()


@pytest.mark.parametrize("settled", [False, True])
def test_a_segment_that_cannot_be_begun_costs_nothing_that_is_acknowledged(
    tmp_path: Path, settled: bool
) -> None:
    """The old segment stays the active one and is not free for use: what follows is replayed."""
    first = journal(tmp_path)
    place = first.append(FACTS, bytes(SMALL // 2))
    first.tend()
    if settled:
        first.settle([place])
    with files_of_at_most(0), pytest.raises(OutOfSpace):
        first.append(FACTS, bytes(SMALL // 2))
    first.append(FACTS, b"kept")  # into the rest of the old segment
    first.append(FACTS, b"x" * (SMALL // 2))  # into another one
    first.append(FACTS, b"y" * (SMALL // 2))
    first.close()
    expected = [b"kept", b"x" * (SMALL // 2), b"y" * (SMALL // 2)]
    assert replayed(tmp_path) == ([] if settled else [bytes(SMALL // 2)]) + expected


def test_an_object_of_its_own_segment_that_cannot_be_begun_leaves_no_file(tmp_path: Path) -> None:
    """A large object is refused like any other, and the next one is welcome."""
    first = journal(tmp_path)
    before = set((tmp_path / "incoming").glob("*.seg"))
    with files_of_at_most(0), pytest.raises(OutOfSpace):
        first.append(FACTS, bytes(2 * SMALL))
    assert set((tmp_path / "incoming").glob("*.seg")) == before
    first.append(FACTS, bytes(2 * SMALL))
    first.close()
    assert replayed(tmp_path) == [bytes(2 * SMALL)]


def test_facts_survive_encoding() -> None:
    """AE titles of odd characters come back."""
    odd = Facts("1.2", "id", 'Q"\\é', "", "::1", datetime.now(UTC))
    assert Facts.decode(odd.encode()) == odd


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"a":1}', b"\xff", b"nonsense"])
def test_other_json_is_no_facts(text: bytes) -> None:
    """Garbage raises ValueError and nothing else."""
    with pytest.raises(ValueError, match="no facts"):
        Facts.decode(text)
