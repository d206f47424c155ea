"""What the journal looks like on disk: segment headers, records, and how a damaged one is found.

A segment is a file of whole pages. Page 0 names the segment with 16 random bytes, its identity,
drawn anew each time the segment is used again; every record repeats it, so that what an earlier use
left behind is never taken for a record, nor anything that a sender put into its pixels. Records
begin on a page and end on a page: two of them never share one, so that writing a record cannot
damage its acknowledged neighbour, and no page has to be read before it is written.

::

    magic 8 | identity 16 | sequence u64 | facts length u32 | body length u64 | sha256 of body 32
    | crc32 of all that and of the facts u32 | facts (JSON) | body (a Part 10 file) | zeros

The digest of the body is both the check against torn writes and the instance's identity in the
spool and the worklist, so that each image is digested once.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

PAGE = 4096
IDENTITY_BYTES = 16

_SEGMENT = struct.Struct("<8s16sQI")
_SEGMENT_MAGIC = b"ICHNSEG1"
_RECORD = struct.Struct("<8s16sQIQ32s")
_RECORD_MAGIC = b"ICHNREC1"
_CRC = struct.Struct("<I")
_HEAD = _RECORD.size + _CRC.size
_MARK = struct.Struct("<8sQI")
_MARK_MAGIC = b"ICHNMRK1"
FACTS_MAX = 2048


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an instance beside its bytes; stored with them in the journal."""

    transfer_syntax_uid: str
    association_id: str
    calling_ae: str
    called_ae: str
    peer_address: str
    received_at: datetime

    def encode(self) -> bytes:
        """Return the facts as JSON."""
        values = asdict(self) | {"received_at": self.received_at.isoformat()}
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, text: bytes) -> Facts:
        """Read what `encode` wrote.

        Raises
        ------
        ValueError
            When it is something else.
        """
        try:
            values = json.loads(text)
            return cls(**values | {"received_at": datetime.fromisoformat(values["received_at"])})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError("these are no facts of an instance") from error


@dataclass(frozen=True, slots=True)
class Found:
    """A whole record in a segment."""

    sequence: int
    offset: int  # of the record in its segment
    body_offset: int
    body_bytes: int
    sha256: str
    facts: Facts


def pages(size_bytes: int) -> int:
    """Return the size rounded up to whole pages."""
    return -(-size_bytes // PAGE) * PAGE


def record_bytes(facts_bytes: int, body_bytes: int) -> int:
    """Return the room that a record takes."""
    return pages(_HEAD + facts_bytes + body_bytes)


def segment_page(identity: bytes, first_sequence: int) -> bytes:
    """Return page 0 of a segment."""
    fields = _SEGMENT_MAGIC, identity, first_sequence
    crc = zlib.crc32(_SEGMENT.pack(*fields, 0))
    return _SEGMENT.pack(*fields, crc).ljust(PAGE, b"\0")


def identity_of(page: bytes) -> bytes | None:
    """Return the identity that page 0 names, or None where it is blank or damaged."""
    if len(page) < _SEGMENT.size:
        return None
    magic, identity, first_sequence, crc = _SEGMENT.unpack_from(page)
    if magic != _SEGMENT_MAGIC:
        return None
    expected = zlib.crc32(_SEGMENT.pack(magic, identity, first_sequence, 0))
    return bytes(identity) if crc == expected else None


def record_head(
    identity: bytes, sequence: int, facts: bytes, body_bytes: int, digest: bytes
) -> bytes:
    """Return what stands before the body of a record."""
    head = _RECORD.pack(_RECORD_MAGIC, identity, sequence, len(facts), body_bytes, digest)
    return head + _CRC.pack(zlib.crc32(facts, zlib.crc32(head))) + facts


def find_records(content: memoryview, identity: bytes, after: int = 0) -> Iterator[Found]:
    """Yield every whole record of a segment, in order, stepping over damaged ones.

    A barrier makes the records before it durable, but of those that were on their way when the
    power went any may be torn, in any order. So a damaged record does not end the search: it goes
    on page by page, and only what carries this identity, a valid checksum and a higher sequence
    number is taken. A whole record that was never acknowledged is a gain.

    Parameters
    ----------
    content : memoryview
        The whole segment, page 0 included.
    identity : bytes
        The identity that page 0 names.
    after : int
        Only records with a higher sequence number are wanted.
    """
    offset, newest = PAGE, after
    while offset + _HEAD <= len(content):
        found = _record_at(content, offset, identity)
        if found is None or found.sequence <= newest:
            offset += PAGE
            continue
        newest = found.sequence
        yield found
        offset += record_bytes(found.body_offset - offset - _HEAD, found.body_bytes)


def _record_at(content: memoryview, offset: int, identity: bytes) -> Found | None:
    magic, name, sequence, facts_bytes, body_bytes, digest = _RECORD.unpack_from(content, offset)
    if magic != _RECORD_MAGIC or name != identity or facts_bytes > FACTS_MAX:
        return None
    body_offset = offset + _HEAD + facts_bytes
    if body_offset + body_bytes > len(content):
        return None
    (crc,) = _CRC.unpack_from(content, offset + _RECORD.size)
    facts = bytes(content[offset + _HEAD : body_offset])
    if crc != zlib.crc32(facts, zlib.crc32(content[offset : offset + _RECORD.size])):
        return None
    body = content[body_offset : body_offset + body_bytes]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        known = Facts.decode(facts)
    except ValueError:
        return None
    return Found(sequence, offset, body_offset, body_bytes, digest.hex(), known)


def mark_page(sequence: int) -> bytes:
    """Return the page that says: everything up to this sequence number is recorded and filed."""
    head = _MARK.pack(_MARK_MAGIC, sequence, 0)
    return _MARK.pack(_MARK_MAGIC, sequence, zlib.crc32(head)).ljust(PAGE, b"\0")


def mark_of(page: bytes) -> int:
    """Return the sequence number that such a page names; 0 where it is blank or damaged."""
    if len(page) < _MARK.size:
        return 0
    magic, sequence, crc = _MARK.unpack_from(page)
    intact = magic == _MARK_MAGIC and crc == zlib.crc32(_MARK.pack(magic, sequence, 0))
    return int(sequence) if intact else 0
