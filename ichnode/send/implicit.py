"""Our own documents in Implicit VR Little Endian, for peers that take nothing else.

Only the heads of elements change; every value stays the bytes that it was. A library would decode
and encode the patient's name again, and lose one whose character set is declared wrongly.

References
----------
DICOM PS3.5 7.1.3 (implicit VR), 7.5 (sequences), PS3.10 7.1 (file meta information).
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ichnode.send.association import IMPLICIT_LE

_LONG = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_ITEM = (0xFFFE, 0xE000)
_META_AT = 132  # after preamble and prefix


@contextmanager
def as_implicit(path: Path) -> Iterator[Path]:
    """Hold a temporary file with the same document in Implicit VR while the block runs.

    Raises
    ------
    ValueError
        When the file is not one of ours: Explicit VR Little Endian with all lengths stated.
    """
    content = path.read_bytes()
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(_converted(content))
        file.flush()
        yield Path(file.name)


def _converted(content: bytes) -> bytes:
    try:
        (length,) = struct.unpack_from("<L", content, _META_AT + 8)
        start = _META_AT + 12
        meta = b"".join(_syntax_changed(content[start : start + length]))
        head = content[: _META_AT + 8] + struct.pack("<L", len(meta))
        return head + meta + _implicit(content[start + length :])
    except struct.error as error:
        raise ValueError("the document is damaged") from error


def _syntax_changed(meta: bytes) -> Iterator[bytes]:
    """Yield the file meta information, which stays explicit, with the other transfer syntax."""
    for tag, vr, value in _elements(meta):
        if tag == (0x0002, 0x0010):
            value = IMPLICIT_LE.encode("ascii") + b"\0" * (len(IMPLICIT_LE) % 2)
        head = struct.pack("<HH2s", *tag, vr)
        long = vr in _LONG
        yield head + struct.pack("<HL" if long else "<H", *((0,) if long else ()), len(value))
        yield value


def _implicit(data_set: bytes) -> bytes:
    parts = []
    for tag, vr, value in _elements(data_set):
        held = b"".join(_items(value)) if vr == b"SQ" else value
        parts += [struct.pack("<HHL", *tag, len(held)), held]
    return b"".join(parts)


def _items(sequence: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(sequence):
        group, element, length = struct.unpack_from("<HHL", sequence, at)
        stop = at + 8 + length
        if (group, element) != _ITEM or stop > len(sequence):
            raise ValueError("a sequence of the document does not state its lengths")
        held = _implicit(sequence[at + 8 : stop])
        yield struct.pack("<HHL", *_ITEM, len(held)) + held
        at = stop


def _elements(explicit: bytes) -> Iterator[tuple[tuple[int, int], bytes, bytes]]:
    """Yield tag, VR and value of elements in Explicit VR Little Endian."""
    at = 0
    while at < len(explicit):
        group, element, vr, length = struct.unpack_from("<HH2sH", explicit, at)
        at += 8
        if vr in _LONG:
            (length,) = struct.unpack_from("<L", explicit, at)
            at += 4
        if at + length > len(explicit):
            raise ValueError("an element of the document does not state its length")
        yield (group, element), vr, explicit[at : at + length]
        at += length
