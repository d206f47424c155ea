"""Take chosen elements out of Part 10 bytes without reading, decoding or believing the rest.

The door reads one header per image, so this is written for speed and for hostile bytes: nothing is
allocated by a length that the sender states, nesting is bounded, a deflated stream is inflated only
as far as it is needed, and no value is interpreted here (so none can end up in a warning, which is
what a full parse by pydicom does with odd character sets and values). What comes out is an ordinary
`pydicom.Dataset` of raw elements.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from pydicom import DataElement, Dataset, Sequence
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"

PIXEL_DATA = 0x7FE00010
UNDEFINED = 0xFFFFFFFF

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # PS3.5 7.1.2
)
_DEEPEST = 16  # sequences in sequences; an Enhanced CT needs four
_FIRST_INFLATED = 1 << 16


class NotPart10(ValueError):
    """The bytes are not a DICOM file."""


@dataclass(frozen=True, slots=True)
class _Coding:
    """How element headers are written: PS3.5 7.1 and 7.3."""

    implicit: bool
    little: bool
    short: Struct  # group, element, VR, 16-bit length
    long: Struct  # group, element, 32-bit length
    length: Struct


def _coding(implicit: bool, little: bool) -> _Coding:
    order = "<" if little else ">"
    return _Coding(
        implicit, little, Struct(order + "HH2sH"), Struct(order + "HHL"), Struct(order + "L")
    )


_IMPLICIT = _coding(implicit=True, little=True)
_EXPLICIT = _coding(implicit=False, little=True)
_BIG_ENDIAN = _coding(implicit=False, little=False)


@dataclass(frozen=True, slots=True)
class Part10:
    """What was taken out of a file."""

    transfer_syntax_uid: str
    dataset: Dataset  # the chosen elements, raw


@dataclass(frozen=True, slots=True)
class _Found:
    """Where one element lies in the bytes."""

    tag: int
    vr: bytes | None
    start: int
    stop: int
    after: int
    length: int
    whole: bool  # False where the bytes end before the value does


def read_part10(
    source: bytes,
    wanted: frozenset[int],
    *,
    last: int,
    items: int | None = None,
    inflate_limit: int = 1 << 24,
    most: int | None = None,
) -> Part10:
    """Take the `wanted` elements out of a Part 10 file, wherever they are nested.

    Parameters
    ----------
    source : bytes
        The complete file.
    wanted : frozenset of int
        Tags to keep, at the top level and inside kept sequences.
    last : int
        Reading stops at the first top-level tag above this one.
    items : int or None
        Keep at most so many items of each sequence; None keeps all.
    inflate_limit : int
        A deflated data set is inflated to at most so many bytes.
    most : int or None
        How many elements may stand at the top level; elements of eight bytes each could otherwise
        keep the reader busy for minutes. None allows any number.

    Raises
    ------
    NotPart10
        When there is no preamble and prefix (PS3.10 7.1), no transfer syntax, the deflated stream
        is damaged, sequences do not hold together, or there are too many elements.
    """
    if source[128:132] != b"DICM":
        raise NotPart10("the DICM prefix is missing")
    syntax, start = _read_meta(source)
    if syntax == DEFLATED_LE:
        body, reached_end = _inflate(source[start:], _FIRST_INFLATED)
        found, reached_last = _collect(body, 0, wanted, last, items, _EXPLICIT, most)
        if not (reached_last or reached_end):
            body, _ = _inflate(source[start:], inflate_limit)
            found, _ = _collect(body, 0, wanted, last, items, _EXPLICIT, most)
        return Part10(syntax, found)
    coding = _declared(syntax, source, start)
    found, _ = _collect(source, start, wanted, last, items, coding, most)
    return Part10(syntax, found)


def _read_meta(source: bytes) -> tuple[str, int]:
    """Return the transfer syntax and where the data set starts (PS3.10 7.1: always Explicit LE)."""
    position, syntax = 132, ""
    while (found := _next(source, position, len(source), _EXPLICIT, 0)) and found.tag >> 16 == 2:
        if found.tag == 0x00020010 and found.whole:
            syntax = source[found.start : found.stop].decode("ascii", "replace").rstrip("\0 ")
        position = found.after
    if not syntax:
        raise NotPart10("the transfer syntax is not stated")
    return syntax, position


def _declared(syntax: str, source: bytes, start: int) -> _Coding:
    """Return the coding of the transfer syntax, or the other one where the bytes show it."""
    if syntax == EXPLICIT_BE:
        return _BIG_ENDIAN
    explicit = source[start + 4 : start + 6] in (_SHORT_VRS | _LONG_VRS)
    return _EXPLICIT if explicit else _IMPLICIT


def _inflate(deflated: bytes, limit: int) -> tuple[bytes, bool]:
    """Inflate at most `limit` bytes; the second value says whether that was all."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = stream.decompress(deflated, limit)
    except zlib.error as error:
        raise NotPart10("the deflated data set is damaged") from error
    return body, len(body) < limit


def _collect(
    source: bytes,
    start: int,
    wanted: frozenset[int],
    last: int,
    items: int | None,
    coding: _Coding,
    most: int | None,
) -> tuple[Dataset, bool]:
    """Collect the wanted elements; the second value says whether `last` was passed."""
    kept: dict[BaseTag, RawDataElement | DataElement] = {}
    for count, found in enumerate(_elements(source, start, len(source), coding, 0), start=1):
        if found.tag > last:
            return Dataset(kept), True
        if most is not None and count > most:
            raise NotPart10(f"it has more than {most} elements")
        if found.tag in wanted and found.whole:
            kept[BaseTag(found.tag)] = _keep(source, found, wanted, items, coding, 0)
    return Dataset(kept), False


def _elements(
    source: bytes, start: int, stop: int, coding: _Coding, depth: int
) -> Iterator[_Found]:
    """Yield the elements between two offsets, up to an item delimiter."""
    while (found := _next(source, start, stop, coding, depth)) and found.tag != _ITEM_END:
        yield found
        start = found.after


def _next(source: bytes, at: int, stop: int, coding: _Coding, depth: int) -> _Found | None:
    """Find the element at an offset; None at the end of the bytes."""
    if stop - at < 8:
        return None
    vr: bytes | None = None
    if coding.implicit:
        group, element, length = coding.long.unpack_from(source, at)
    else:
        group, element, vr, length = coding.short.unpack_from(source, at)
        if vr in _LONG_VRS:
            if stop - at < 12:
                return None
            (length,) = coding.length.unpack_from(source, at + 8)
            at += 4
        elif vr not in _SHORT_VRS and not (vr.isalpha() and vr.isupper()):
            # item delimiters carry no VR, and some writers fall back to implicit VR midway
            group, element, length = coding.long.unpack_from(source, at)
            vr = None
    tag, start = group << 16 | element, at + 8
    if length != UNDEFINED:
        end = start + length
        return _Found(tag, vr, start, min(end, stop), min(end, stop), length, end <= stop)
    inside = _IMPLICIT if vr == b"UN" else coding  # PS3.5 6.2.2 note
    end, after, whole = _end_of_items(source, start, stop, inside, depth + 1)
    return _Found(tag, vr, start, end, after, length, whole)


def _end_of_items(
    source: bytes, at: int, stop: int, coding: _Coding, depth: int
) -> tuple[int, int, bool]:
    """Find where items of undefined total length end (PS3.5 7.5); False: nowhere."""
    for _, _, after, tag in _items(source, at, stop, coding, depth):
        if tag == _SEQUENCE_END:
            return after - 8, after, True
    return stop, stop, False


def _items(
    source: bytes, at: int, stop: int, coding: _Coding, depth: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, stop, after, tag) of each item, and of the delimiter where there is one."""
    if depth > _DEEPEST:
        raise NotPart10("sequences are nested too deeply")
    while stop - at >= 8:
        group, element, length = coding.long.unpack_from(source, at)
        tag, start = group << 16 | element, at + 8
        if tag == _SEQUENCE_END:
            yield start, start, start, tag
            return
        if tag != _ITEM:
            raise NotPart10("a sequence holds something that is no item")
        if length != UNDEFINED:
            end = after = min(start + length, stop)
        else:
            end = start
            for found in _elements(source, start, stop, coding, depth):
                end = found.after
            after = min(end + 8, stop)  # the item delimiter
        yield start, end, after, tag
        at = after


def _keep(
    source: bytes,
    found: _Found,
    wanted: frozenset[int],
    items: int | None,
    coding: _Coding,
    depth: int,
) -> RawDataElement | DataElement:
    """Return the element as pydicom keeps it: raw, or a sequence of data sets."""
    tag = BaseTag(found.tag)
    if found.tag not in SEQUENCES:
        vr = found.vr.decode("ascii") if found.vr is not None else None
        value = source[found.start : found.stop]
        return RawDataElement(
            tag, vr, found.length, value, found.start, coding.implicit, coding.little
        )
    return DataElement(tag, "SQ", Sequence(_datasets(source, found, wanted, items, coding, depth)))


def _datasets(
    source: bytes,
    found: _Found,
    wanted: frozenset[int],
    items: int | None,
    coding: _Coding,
    depth: int,
) -> list[Dataset]:
    """Return the items of a kept sequence; of a damaged one, those before the damage."""
    inside = _IMPLICIT if found.vr == b"UN" else coding
    datasets: list[Dataset] = []
    try:
        for start, stop, _, kind in _items(source, found.start, found.stop, inside, depth + 1):
            if kind == _SEQUENCE_END or (items is not None and len(datasets) >= items):
                break
            kept = {
                BaseTag(element.tag): _keep(source, element, wanted, items, inside, depth + 1)
                for element in _elements(source, start, stop, inside, depth + 1)
                if element.tag in wanted and element.whole
            }
            datasets.append(Dataset(kept))
    except NotPart10:
        return datasets
    return datasets


SHARED_GROUPS = 0x52009229
PER_FRAME_GROUPS = 0x52009230
SEQUENCES = frozenset(
    (
        SHARED_GROUPS,
        PER_FRAME_GROUPS,
        0x00209113,  # Plane Position
        0x00209116,  # Plane Orientation
        0x00289110,  # Pixel Measures
        0x00289145,  # Pixel Value Transformation
        0x00209111,  # Frame Content
        0x00189314,  # CT Reconstruction
        0x00189329,  # CT Image Frame Type
        0x00180012,  # Contrast/Bolus Agent
        0x00283000,  # Modality LUT
    )
)
"""Sequences that are opened; every other element is kept as bytes."""
