r"""The durable heart of the receiver: an append-only journal with one barrier per acknowledgement.

A C-STORE association is synchronous, so its rate is one over the barrier. Measured on 2 cores with
tests/benchmarks/bench_durability.py, median per 512x512 CT: a file with its folder and a database
row 1.1 to 2.5 ms, a file with its folder 0.8 to 0.9 ms, one fdatasync into a preallocated journal
0.33 ms (3 to 6 times the rate), and four writers that share their barriers 3,400 images/s in all;
so images go to the journal first, and files and rows follow in batches.

Promise 1 of the design rests on this: `append` returns only when the record is on stable storage,
and `replay` finds every such record that is not `settle`\ d, whatever else the disk holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import structlog

from ichnode.domain.errors import ConfigurationError, OutOfSpace
from ichnode.receive import layout
from ichnode.receive.layout import Facts
from ichnode.receive.segment import Place, Segment
from ichnode.spool import make_folder, sync_folder

log = structlog.get_logger(__name__)

SEGMENT_BYTES: Final = 64 << 20
SPARES: Final = 4
_FREE_AT_MOST: Final = 8


class Journal:
    """The journal of one receiving process; it alone uses the folder.

    Parameters
    ----------
    folder : Path
        ``incoming/<host-id>`` of the spool.
    segment_bytes : int
        The size of a segment; a larger object gets a segment of its own.
    spares : int
        Empty segments that `tend` keeps ready.
    room : callable, optional
        Returns the bytes by which the journal may grow now.

    Raises
    ------
    ConfigurationError
        When another process uses the folder.
    OutOfSpace
        When there is no room for the first segments.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        spares: int = SPARES,
        room: Callable[[], int] | None = None,
    ) -> None:
        self._folder = folder
        self._segment_bytes = layout.pages(segment_bytes)
        self._spares, self._room = spares, room
        self._changed = threading.Condition()
        self._syncing = False
        self._open: dict[int, Segment] = {}  # sequence numbers that are not settled, in order
        self._free: list[Segment] = []
        self._active: Segment | None = None
        self._waiting: list[_Ticket] = []
        make_folder(folder)
        self._lock_file = _take_alone(folder / "lock")
        self._mark = os.open(folder / "settled", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._settled = self._read_mark()
        self._marks_written = 0
        self._names = 0
        self._sequence = self._settled
        self._old = self._open_old()

    # ------------------------------------------------------------------ start

    def _read_mark(self) -> int:
        both = os.pread(self._mark, 2 * layout.PAGE, 0)
        return max(layout.mark_of(both[: layout.PAGE]), layout.mark_of(both[layout.PAGE :]))

    def _open_old(self) -> list[Segment]:
        segments = []
        self._names = max(map(_number, self._folder.iterdir()), default=0)
        for path in sorted(self._folder.glob("*.seg")):
            size = path.stat().st_size
            segments.append(Segment(path, size, single=size != self._segment_bytes))
        return segments

    def replay(self) -> Iterator[tuple[Place, Facts]]:
        """Yield what an earlier process made durable and did not settle, oldest first.

        Call it once, before the first `append`, and settle each place like a fresh one.
        """
        by_sequence = {  # a copy of a segment, from a backup say, holds the same numbers
            record.sequence: (record, segment)
            for segment in self._old
            for record in segment.records(after=self._settled)
        }
        for segment in self._old:
            if segment.unreadable:
                log.error("journal.unreadable", file=segment.path.name, pages=segment.unreadable)
        found = [by_sequence[sequence] for sequence in sorted(by_sequence)]
        with self._changed:
            for record, segment in found:
                segment.live += 1
                self._open[record.sequence] = segment
                self._sequence = max(self._sequence, record.sequence)
            for segment in self._old:
                if not segment.live:
                    self._retire(segment)
            self._old = []
        for record, segment in found:
            yield _place(record, segment), record.facts

    # ------------------------------------------------------------------ append

    def append(self, facts: Facts, body: bytes) -> Place:
        """Make an instance durable.

        Several threads may append at once and share their barriers.

        Parameters
        ----------
        facts : Facts
            What is known beside the bytes.
        body : bytes
            A whole Part 10 file.

        Returns
        -------
        Place
            Where it is, to be handed to `settle` once it is recorded and filed.

        Raises
        ------
        OutOfSpace
            When there is no room, or the disk failed to make it durable; the sender may try again.
        """
        about = facts.encode()
        if len(about) > layout.FACTS_MAX:
            raise ValueError("the facts beside an instance are too long")
        digest = hashlib.sha256(body).digest()
        size = layout.record_bytes(len(about), len(body))
        with self._changed:
            segment = self._with_room(size)
            sequence = self._sequence = self._sequence + 1
            offset = segment.reserve(size)
            self._open[sequence] = segment
        try:
            start, length = segment.write(offset, sequence, about, body, digest)
            self._make_durable(segment)
        except OSError as error:
            self._give_up(sequence, segment)
            raise OutOfSpace("The journal could not be written.") from error
        except BaseException:
            self._give_up(sequence, segment)
            raise
        return Place(sequence, digest.hex(), length, segment, start)

    def _with_room(self, size: int) -> Segment:
        if self._active is not None and self._active.has_room(size):
            return self._active
        if size + layout.PAGE > self._segment_bytes:
            single = self._begin(self._create(size + layout.PAGE, single=True))
            single.sealed = True
            return single
        fresh = self._begin(self._free.pop() if self._free else self._create(self._segment_bytes))
        # Only now: were the old one free already when the new one fails, it would be free and
        # active at once, and be begun anew over what is acknowledged in it.
        if self._active is not None:
            self._active.sealed = True
            if not self._active.live:
                self._retire(self._active)
        self._active = fresh
        return fresh

    def _begin(self, segment: Segment) -> Segment:
        try:
            segment.begin(self._sequence + 1)
        except OSError as error:
            segment.remove()
            raise OutOfSpace("The journal could not be written.") from error
        return segment

    def _create(self, size: int, *, single: bool = False) -> Segment:
        if self._room is not None and self._room() < size:
            raise OutOfSpace("The disk has no room for more of the journal.")
        self._names += 1
        return Segment.create(self._folder / f"{self._names:08d}.seg", size, single=single)

    def _make_durable(self, segment: Segment) -> None:
        """Wait for a barrier that began after our record was written.

        The first that needs one becomes the leader and issues it for everybody whose record was
        written by then; the others wait, and the first of those leads the next.
        """
        ticket = _Ticket(segment)
        with self._changed:
            self._waiting.append(ticket)
            while self._syncing and not ticket.done:
                self._changed.wait()
            if not ticket.done:
                self._lead()
        if ticket.error is not None:
            raise ticket.error

    def _lead(self) -> None:
        batch, self._waiting, self._syncing = self._waiting, [], True
        error: BaseException | None = None
        self._changed.release()
        try:
            for segment in {ticket.segment for ticket in batch}:
                segment.sync()
        except BaseException as failure:  # noqa: BLE001 - nobody may take it for a barrier
            error = failure  # raised by everybody who waited for it
        finally:
            self._changed.acquire()
            for ticket in batch:
                ticket.done, ticket.error = True, error
            self._syncing = False
            if error is not None:
                self._abandon(batch)
            self._changed.notify_all()

    def _abandon(self, batch: list[_Ticket]) -> None:
        # The file cannot be trusted again, see Segment.sync: no more records, and then remove it.
        log.error("journal.sync_failed", segments=len({ticket.segment for ticket in batch}))
        if self._active in {ticket.segment for ticket in batch}:
            self._active.sealed = True
            self._active.single = True
            self._active = None

    def _give_up(self, sequence: int, segment: Segment) -> None:
        with self._changed:
            self._forget(sequence, segment)

    # ------------------------------------------------------------------ settle

    def settle(self, places: Iterable[Place]) -> None:
        """Note that instances are recorded and their files durable; their room is used again.

        A crash in here, or none of it reaching the disk, only means that some are replayed.
        """
        with self._changed:
            for place in places:
                self._forget(place.sequence, place.segment)
            settled = next(iter(self._open), self._sequence + 1) - 1
        if settled > self._settled:
            self._marks_written += 1
            slot = self._marks_written % 2 * layout.PAGE
            os.pwrite(self._mark, layout.mark_page(settled), slot)
            os.fdatasync(self._mark)
            self._settled = settled

    def _forget(self, sequence: int, segment: Segment) -> None:
        if self._open.pop(sequence, None) is None:
            return
        segment.live -= 1
        if segment.sealed and not segment.live:
            self._retire(segment)

    def _retire(self, segment: Segment) -> None:
        if segment.unreadable:
            segment.set_aside()
        elif segment.single or len(self._free) >= _FREE_AT_MOST:
            segment.remove()
        else:
            self._free.append(segment)

    def tend(self, spares: int | None = None) -> None:
        """Make spare segments, so that no sender has to wait for one to be written.

        Parameters
        ----------
        spares : int, optional
            How many there must be; by default as many as the journal was made with. Under load
            fewer will do, since writing zeros takes the disk from the senders.

        Raises
        ------
        OutOfSpace
            When there is no room for them.
        """
        wanted = self._spares if spares is None else min(spares, self._spares)
        while True:
            with self._changed:
                if len(self._free) >= wanted:
                    return
                if self._room is not None and self._room() < self._segment_bytes:
                    return
                self._names += 1
                path = self._folder / f"{self._names:08d}.seg"
            fresh = Segment.create(path, self._segment_bytes)
            with self._changed:
                self._free.append(fresh)

    def shed(self) -> None:
        """Give the room of spare segments back: what is acknowledged already needs it more."""
        with self._changed:
            while self._free:
                self._free.pop().remove()

    def close(self) -> None:
        """Let go of the files; what is not settled will be replayed."""
        with self._changed:
            segments = {*self._free, *self._open.values(), *self._old}
            if self._active is not None:
                segments.add(self._active)
            for segment in segments:
                segment.close()
            for descriptor in (self._mark, self._lock_file):
                os.close(descriptor)


class _Ticket:
    """One thread's wish for a barrier."""

    __slots__ = ("done", "error", "segment")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.done = False
        self.error: BaseException | None = None


def _place(record: layout.Found, segment: Segment) -> Place:
    return Place(record.sequence, record.sha256, record.body_bytes, segment, record.body_offset)


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0


def _take_alone(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigurationError(
            f"Another receiver uses the journal {path.parent.name}: give each host of the node its "
            "own node.host_id, and stop the other receiver of this one."
        ) from None
    sync_folder(path.parent)
    return descriptor
