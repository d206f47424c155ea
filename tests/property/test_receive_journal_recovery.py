"""Power cuts, torn writes and garbage: what was acknowledged is replayed, and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ichnode.receive import layout
from ichnode.receive.journal import Journal
from ichnode.receive.layout import Facts

SEGMENT_BYTES = 48 << 10
FACTS = Facts("1.2", "a", "CT", "ICH", "10.0.0.1", datetime(2026, 1, 1, tzinfo=UTC))
SIZES = st.lists(st.integers(0, 20_000), min_size=1, max_size=12)
quick = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def body_of(number: int, size: int) -> bytes:
    return number.to_bytes(4, "big") * (size // 4 + 1)


def fill(folder: Path, sizes: list[int], settled: int = 0) -> list[bytes]:
    """Append bodies, settle the first few, and close as a crash would leave it."""
    journal = Journal(folder, segment_bytes=SEGMENT_BYTES, spares=0)
    bodies = [body_of(number, size) for number, size in enumerate(sizes)]
    places = [journal.append(FACTS, body) for body in bodies]
    journal.settle(places[:settled])
    journal.close()
    return bodies


def replay(folder: Path) -> list[bytes]:
    journal = Journal(folder, segment_bytes=SEGMENT_BYTES, spares=0)
    try:
        return [place.read() for place, _ in journal.replay()]
    finally:
        journal.close()


@given(sizes=SIZES, data=st.data())
@quick
def test_everything_unsettled_is_replayed(sizes: list[int], data: st.DataObject) -> None:
    """Whatever the sizes and however much was settled, exactly the rest comes back, in order."""
    settled = data.draw(st.integers(0, len(sizes)))
    with tempfile.TemporaryDirectory() as name:
        bodies = fill(Path(name), sizes, settled)
        assert replay(Path(name)) == bodies[settled:]


@given(sizes=SIZES, data=st.data())
@quick
def test_a_cut_tears_only_what_it_hits(sizes: list[int], data: st.DataObject) -> None:
    """Pages of later, unacknowledged writes may be lost in any pattern; earlier records stand."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = fill(folder, sizes)
        durable = data.draw(st.integers(0, len(bodies)))
        _lose_pages(folder, durable, data)
        found = replay(folder)
        assert found[:durable] == bodies[:durable]
        assert all(body in bodies[durable:] for body in found[durable:])
        assert found == [body for body in bodies if body in found]  # order, and none twice


def _lose_pages(folder: Path, durable: int, data: st.DataObject) -> None:
    """Blank random pages of the records that no barrier covered."""
    journal = Journal(folder, segment_bytes=SEGMENT_BYTES, spares=0)
    journal.close()
    for path in sorted(folder.glob("*.seg")):
        content = bytearray(path.read_bytes())
        identity = layout.identity_of(bytes(content[: layout.PAGE]))
        if identity is None:
            continue
        records = list(layout.find_records(memoryview(bytes(content)), identity))
        for record in records:
            if record.sequence <= durable:
                continue
            end = layout.pages(record.body_offset + record.body_bytes)
            for page in range(record.offset, end, layout.PAGE):
                if data.draw(st.booleans()):
                    content[page : page + layout.PAGE] = bytes(layout.PAGE)
        path.write_bytes(content)


@given(sizes=SIZES, cut=st.integers(0, SEGMENT_BYTES * 3), data=st.data())
@quick
def test_a_shortened_file_loses_only_its_end(
    sizes: list[int], cut: int, data: st.DataObject
) -> None:
    """A segment file that was cut off is read as far as it goes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = fill(folder, sizes)
        paths = sorted(folder.glob("*.seg"))
        path = data.draw(st.sampled_from(paths))
        with path.open("r+b") as file:
            file.truncate(min(cut, path.stat().st_size))
        found = replay(folder)
        assert found == [body for body in bodies if body in found]


@given(sizes=SIZES, noise=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1))))
@quick
def test_garbage_never_becomes_a_record(sizes: list[int], noise: list[tuple[int, bytes]]) -> None:
    """Bytes that are overwritten anywhere lose records, but never change or invent one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = fill(folder, sizes)
        paths = sorted(folder.glob("*.seg"))
        for number, (offset, garbage) in enumerate(noise):
            path = paths[number % len(paths)]
            content = bytearray(path.read_bytes())
            at = offset % len(content)
            content[at : at + len(garbage)] = garbage
            path.write_bytes(content)
        found = replay(folder)
        assert all(body in bodies for body in found)


@given(garbage=st.binary(max_size=4 * layout.PAGE))
@quick
def test_a_folder_of_garbage_starts_empty(garbage: bytes) -> None:
    """Foreign bytes under our names are no reason not to start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "00000001.seg").write_bytes(garbage)
        (folder / "nonsense.seg").write_bytes(garbage)
        (folder / "settled").write_bytes(garbage)
        assert replay(folder) == []
        assert fill(folder, [5]) == replay(folder)


@given(sizes=SIZES)
@quick
def test_a_copied_segment_is_not_replayed_twice(sizes: list[int]) -> None:
    """A backup restored beside the original does no harm: records count by sequence number."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = fill(folder, sizes)
        first = min(folder.glob("*.seg"))
        shutil.copy(first, folder / "99999999.seg")
        assert replay(folder) == bodies
