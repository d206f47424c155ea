"""Data elements as Explicit VR Little Endian bytes, and a whole file of them.

A library's writer decodes and re-encodes text, which loses names whose character set is declared
wrongly, and pads with the present time. What is taken over from the images is therefore spliced in
as bytes, and the same elements always make the same file.

References
----------
DICOM PS3.5 7.1.2 (explicit VR), 7.5 (sequences); PS3.10 7.1 (file meta information).
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Iterable, Mapping

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.sr.coding import Code

from ichnode import __version__
from ichnode.domain.ids import IMPLEMENTATION_CLASS_UID

EXPLICIT_LE = "1.2.840.10008.1.2.1"
LONGEST_VALUE = 0xFFFE  # what a 16-bit length can say, even

_LONG = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_ITEM = struct.Struct("<HHL")

Elements = Mapping[int, bytes]
"""Encoded data elements by tag."""


def element(tag: int, vr: str, value: bytes | str | int) -> bytes:
    """Encode one element; text must be ASCII, a number is a US."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    if vr in _LONG:
        return head + struct.pack("<HL", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def item(elements: Elements) -> bytes:
    """Encode one item of a sequence."""
    body = b"".join(elements[tag] for tag in sorted(elements))
    return _ITEM.pack(0xFFFE, 0xE000, len(body)) + body


def sequence(tag: int, items: Iterable[Elements]) -> bytes:
    """Encode a sequence, all lengths stated."""
    return element(tag, "SQ", b"".join(item(one) for one in items))


def code_item(code: Code) -> Elements:
    """Return the elements of a coded concept (PS3.3 8.8)."""
    return {
        0x00080100: element(0x00080100, "SH", code.value),
        0x00080102: element(0x00080102, "SH", code.scheme_designator),
        0x00080104: element(0x00080104, "LO", code.meaning),
    }


def reference_item(sop_class_uid: str, sop_uid: str, frame: int | None = None) -> Elements:
    """Return the elements of a reference to an instance (PS3.3 10.8), or to one of its frames."""
    elements = {
        0x00081150: element(0x00081150, "UI", sop_class_uid),
        0x00081155: element(0x00081155, "UI", sop_uid),
    }
    if frame is not None:
        elements[0x00081160] = element(0x00081160, "IS", str(frame))
    return elements


def dataset_elements(dataset: Dataset) -> dict[int, bytes]:
    """Encode the elements of a data set that holds ASCII only."""
    encoded = {}
    for one in dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, one, ["ascii"])
        encoded[int(one.tag)] = buffer.getvalue()
    return encoded


def file_bytes(sop_class_uid: str, sop_uid: str, elements: Elements) -> bytes:
    """Return a complete Part 10 file in Explicit VR Little Endian."""
    meta = b"".join(
        (
            element(0x00020001, "OB", b"\0\1"),
            element(0x00020002, "UI", sop_class_uid),
            element(0x00020003, "UI", sop_uid),
            element(0x00020010, "UI", EXPLICIT_LE),
            element(0x00020012, "UI", IMPLEMENTATION_CLASS_UID),
            element(0x00020013, "SH", f"ICHNODE_{__version__}"[:16]),
        )
    )
    length = element(0x00020000, "UL", struct.pack("<L", len(meta)))
    body = b"".join(elements[tag] for tag in sorted(elements))
    return bytes(128) + b"DICM" + length + meta + body


def ascii_text(text: str, longest: int = 64) -> str:
    """Return text that reads the same in every character set that an image may declare.

    Accents are dropped, backslashes and control characters become spaces, and what is left over
    question marks.
    """
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    kept = (c if c.isprintable() and c != "\\" else " " for c in plain)
    return "".join(kept).encode("ascii", "replace").decode("ascii").strip()[:longest].strip()
