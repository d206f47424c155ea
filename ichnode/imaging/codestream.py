"""What a JPEG, JPEG-LS or JPEG 2000 codestream says of itself, read before a decoder gets it.

A decoder allocates what the codestream states, not what the DICOM header states: a hundred bytes
can ask for gigabytes. And only the codestream knows its own precision and sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP"
_JP2_BOXES = 4096  # where the codestream of a (non-conformant) JP2 wrapper begins at the latest
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAME_HEADERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA


@dataclass(frozen=True, slots=True)
class Codestream:
    """The dimensions of a codestream."""

    rows: int
    columns: int
    components: int
    precision: int  # bits of a sample
    signed: bool


def codestream(frame: bytes) -> Codestream:
    """Return what the codestream of one frame says of itself.

    Raises
    ------
    ValueError
        When it is none that we know, or ends before it says so.

    References
    ----------
    ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000, also T.814).
    """
    if frame[:4] == _J2K_START:
        return _jpeg_2000(frame, 0)
    if frame[:6] == _JP2_SIGNATURE:
        return _jpeg_2000(frame, frame.index(_J2K_START, 0, _JP2_BOXES))
    if frame[:2] == b"\xff\xd8":
        return _jpeg(frame)
    raise ValueError("no codestream")


def _jpeg_2000(frame: bytes, start: int) -> Codestream:
    if len(frame) < start + 43:
        raise ValueError("the codestream ends in its header")
    right, bottom, left, top = unpack_from(">4L", frame, start + 8)
    components, depth = unpack_from(">HB", frame, start + 40)
    return Codestream(
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
    )


def _jpeg(frame: bytes) -> Codestream:
    """Walk the marker segments up to the frame header."""
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_HEADERS and at + 10 <= len(frame):
            precision, rows, columns, components = unpack_from(">BHHB", frame, at + 4)
            return Codestream(rows, columns, components, precision, signed=False)
        if marker == _SCAN:
            break
        at += 2 + int(unpack_from(">H", frame, at + 2)[0])
    raise ValueError("the codestream has no frame header")
