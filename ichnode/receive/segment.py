"""One file of the journal: written with zeros once, then overwritten again and again.

Overwriting blocks that are already there needs no metadata, so that one fdatasync makes a record
durable; growing a file, or writing into blocks that were only reserved, would cost a second one.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ichnode.domain.errors import OutOfSpace
from ichnode.receive import layout
from ichnode.spool import is_full, sync_folder

_ZEROS = bytes(1 << 20)
_COPY_BYTES = 8 << 20
_CANNOT_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


class Segment:
    """A segment file.

    Attributes
    ----------
    live : int
        Records in it that are not yet recorded and filed.
    sealed : bool
        Nothing more will be written into it before it is used again.
    unreadable : int
        Pages that the disk did not give back: not to be used again.
    """

    def __init__(self, path: Path, size_bytes: int, *, single: bool = False) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.single = single
        self.live = 0
        self.sealed = True
        self.unreadable = 0
        self._next = layout.PAGE
        self._identity = b""
        self._broken = False
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    @classmethod
    def create(cls, path: Path, size_bytes: int, *, single: bool = False) -> Segment:
        """Make a new segment of zeros that are on the disk.

        Parameters
        ----------
        single : bool
            For one object that no ordinary segment could hold; removed afterwards, and not written
            twice: its blocks come with its only record.

        Raises
        ------
        OutOfSpace
            When the disk is full; nothing is left behind.
        """
        segment: Segment | None = None
        try:
            segment = cls(path, size_bytes, single=single)
            if not single:
                segment._fill()
            sync_folder(path.parent)
        except OSError as error:
            if segment is not None:
                segment.close()  # or its blocks stay taken, though it has no name
            path.unlink(missing_ok=True)
            if is_full(error):
                raise OutOfSpace("The disk of the spool is full.") from error
            raise
        return segment

    def _fill(self) -> None:
        for offset in range(0, self.size_bytes, len(_ZEROS)):
            rest = min(len(_ZEROS), self.size_bytes - offset)
            _write_all(self._descriptor, [memoryview(_ZEROS)[:rest]], offset)
        os.fsync(self._descriptor)

    def begin(self, first_sequence: int) -> None:
        """Take the segment into use under a new identity; the first barrier makes that durable."""
        self._identity = secrets.token_bytes(layout.IDENTITY_BYTES)
        page = layout.segment_page(self._identity, first_sequence)
        _write_all(self._descriptor, [memoryview(page)], 0)
        self._next, self.live, self.sealed = layout.PAGE, 0, False

    def has_room(self, size_bytes: int) -> bool:
        """Say whether a record of so many bytes (whole pages) fits."""
        return self._next + size_bytes <= self.size_bytes

    def reserve(self, size_bytes: int) -> int:
        """Take the next pages; return their offset."""
        offset, self._next = self._next, self._next + size_bytes
        self.live += 1
        return offset

    def write(
        self, offset: int, sequence: int, facts: bytes, body: bytes, digest: bytes
    ) -> tuple[int, int]:
        """Write a record; return where its body begins and its length."""
        head = layout.record_head(self._identity, sequence, facts, len(body), digest)
        end = len(head) + len(body)
        pieces = [memoryview(head), memoryview(body), memoryview(_ZEROS)[: layout.pages(end) - end]]
        _write_all(self._descriptor, pieces, offset)
        return offset + len(head), len(body)

    def sync(self) -> None:
        """Wait until everything that was written is on stable storage.

        Raises
        ------
        OSError
            When it failed, and from then on always: the kernel may call the lost pages clean, and
            a second fdatasync would succeed without them.
        """
        if self._broken:
            raise OSError(errno.EIO, "an earlier barrier of this segment failed")
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            self._broken = True
            raise

    def records(self, after: int = 0) -> Iterator[layout.Found]:
        """Yield every whole record with a higher sequence number; see `layout.find_records`."""
        content = self._content()
        identity = layout.identity_of(bytes(content[: layout.PAGE]))
        if identity is not None:
            yield from layout.find_records(content, identity, after)

    def _content(self) -> memoryview:
        """Return all of it, with zeros for pages that cannot be read; those damage their record.

        Read and not mapped: a bad sector below a mapped page is SIGBUS, which ends the process, at
        this start and at each one after it.
        """
        content = memoryview(bytearray(os.fstat(self._descriptor).st_size))
        offset, step = 0, _COPY_BYTES
        while offset < len(content):
            try:
                count = os.preadv(self._descriptor, [content[offset : offset + step]], offset)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                if step > layout.PAGE:  # somewhere in here: page by page from now on
                    step = layout.PAGE
                    continue
                self.unreadable += 1
                count = layout.PAGE - offset % layout.PAGE
            if not count:
                break
            offset += count
        return content.toreadonly()

    def read(self, offset: int, length: int) -> bytes:
        """Return a part of the segment."""
        return os.pread(self._descriptor, length, offset)

    def copy(self, offset: int, length: int, target: int) -> None:
        """Copy a part of the segment to the end of an open file, inside the kernel if it can."""
        end = offset + length
        while offset < end:
            try:
                count = os.copy_file_range(self._descriptor, target, end - offset, offset)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                count = os.write(target, self.read(offset, min(_COPY_BYTES, end - offset)))
            if count == 0:
                raise OSError(errno.EIO, "a journal segment is shorter than its records")
            offset += count

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def set_aside(self) -> None:
        """Close the file and take it out of use; what is in it may still be saved by a person."""
        self.close()
        self.path.rename(self.path.with_suffix(".bad"))

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a durable instance is in the journal."""

    sequence: int
    sha256: str
    body_bytes: int
    _segment: Segment = field(repr=False)
    _offset: int

    @property
    def segment(self) -> Segment:
        """The segment that holds it."""
        return self._segment

    def read(self) -> bytes:
        """Return the Part 10 bytes."""
        return self._segment.read(self._offset, self.body_bytes)

    def copy_to(self, target: int) -> None:
        """Write the Part 10 bytes to an open file."""
        self._segment.copy(self._offset, self.body_bytes, target)


def _write_all(descriptor: int, pieces: list[memoryview], offset: int) -> None:
    pieces = [piece for piece in pieces if len(piece)]
    while pieces:
        written = os.pwritev(descriptor, pieces, offset)
        offset += written
        while pieces and written >= len(pieces[0]):
            written -= len(pieces.pop(0))
        if pieces and written:
            pieces[0] = pieces[0][written:]
