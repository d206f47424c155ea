"""Read single values out of a data set, tolerantly: what cannot be understood is absent.

Raw elements are interpreted here instead of by pydicom, because its conversion raises or warns,
with the value in the message, on the odd values that real scanners send.
"""

from __future__ import annotations

import math
import re
from struct import Struct

from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement

from ichnode.imaging.elements import PER_FRAME_GROUPS, SHARED_GROUPS

_CHARACTER_SET = 0x00080005
_BINARY = {
    "US": "H",
    "SS": "h",
    "UL": "L",
    "SL": "l",
    "FL": "f",
    "FD": "d",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BY_ESCAPE = {
    b"(B": "latin-1",  # ISO 646
    b"(J": "shift_jis",
    b")I": "shift_jis",
    b"$B": "iso2022_jp",
    b"$(D": "iso2022_jp_2",
    b"$)C": "euc_kr",
    b"$)A": "gb2312",
    b"-A": "iso8859",
    b"-B": "iso8859_2",
    b"-C": "iso8859_3",
    b"-D": "iso8859_4",
    b"-L": "iso8859_5",
    b"-G": "iso8859_6",
    b"-F": "iso8859_7",
    b"-H": "iso8859_8",
    b"-M": "iso8859_9",
    b"-T": "iso8859_11",
}
"""Escape sequences of PS3.3 C.12.1.1.2 and the codec that reads what follows."""

_ESCAPED = re.compile(rb"\x1b(\$\([A-Z]|\$\)[A-Z]|\$[A-Z]|[()\-.][A-Z])")


def text(dataset: Dataset, tag: int) -> str:
    """Return the value as text with its backslashes, or "" where there is none."""
    element = dataset.get_item(tag)
    if element is None or element.value is None:
        return ""
    if isinstance(element, RawDataElement):
        numbers_held = _binary(element)
        if numbers_held is not None:
            return "\\".join(str(number) for number in numbers_held)
        decoded = _decode(bytes(element.value), _codecs(dataset))
    elif isinstance(element.value, str | int | float):
        decoded = str(element.value)
    else:
        decoded = _joined(element.value)
    return _CONTROL.sub("", decoded).strip()


def _joined(value: object) -> str:
    """Return the text of a pydicom value that may have several parts."""
    if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue":
        return "\\".join(str(part) for part in value)  # type: ignore[attr-defined]
    return str(value)


def first(dataset: Dataset, tag: int) -> str:
    """Return the first of the values as text, or ""."""
    return text(dataset, tag).split("\\")[0].strip()


def parts(dataset: Dataset, tag: int) -> tuple[str, ...]:
    """Return all values as text; empty where there is none."""
    whole = text(dataset, tag)
    return tuple(part.strip() for part in whole.split("\\")) if whole else ()


def numbers(dataset: Dataset, tag: int, count: int) -> tuple[float, ...] | None:
    """Return exactly `count` finite numbers, or None."""
    values = parts(dataset, tag)
    if len(values) != count:
        return None
    parsed = tuple(_number(value) for value in values)
    held = tuple(value for value in parsed if value is not None)
    return held if len(held) == count else None


def number(dataset: Dataset, tag: int) -> float | None:
    """Return the first value as a finite number, or None."""
    return _number(first(dataset, tag))


def integer(dataset: Dataset, tag: int) -> int | None:
    """Return the first value as a whole number that a 32-bit column can hold, or None."""
    value = number(dataset, tag)
    if value is None or not value.is_integer() or abs(value) >= 2**31:
        return None
    return int(value)


def _number(written: str) -> float | None:
    try:
        value = float(written)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in written else None


def _binary(element: RawDataElement) -> tuple[float, ...] | None:
    """Return the numbers of a binary VR; None for a text VR."""
    vr = element.VR
    if vr is None or vr == "UN":
        try:
            vr = dictionary_VR(element.tag)
        except KeyError:
            return None
    letter = _BINARY.get(vr[:2])  # "US or SS" is read as US; who needs the sign asks for it
    if letter is None:
        return None
    order = "<" if element.is_little_endian else ">"
    one = Struct(order + letter)
    whole = len(element.value) // one.size * one.size
    return tuple(value for (value,) in one.iter_unpack(element.value[:whole]))


def _codecs(dataset: Dataset) -> list[str]:
    """Return the codecs of Specific Character Set; unknown terms are left out."""
    element = dataset.get_item(_CHARACTER_SET)
    if element is None or not element.value:
        return ["latin-1"]
    if isinstance(element, RawDataElement):
        terms = bytes(element.value).decode("ascii", "replace").split("\\")
    else:
        terms = _joined(element.value).split("\\")
    known = [python_encoding.get(term.strip(" \0")) for term in terms]
    return [codec for codec in known if codec] or ["latin-1"]


def _decode(value: bytes, codecs: list[str]) -> str:
    """Decode text; bytes that its character set does not have become replacement characters."""
    if b"\x1b" not in value:
        return value.decode(codecs[0], "replace")
    pieces, at, codec, lead = [], 0, codecs[0], b""
    for match in _ESCAPED.finditer(value):
        pieces.append((lead + value[at : match.start()]).decode(codec, "replace"))
        codec = _BY_ESCAPE.get(match[1], codecs[0])
        lead = match[0] if codec.startswith("iso2022") else b""  # these codecs want the escape
        at = match.end()
    pieces.append((lead + value[at:]).decode(codec, "replace"))
    return "".join(pieces)


def functional_group(dataset: Dataset, tag: int, frame: int) -> Dataset | None:
    """Return the macro `tag` that applies to a frame (from 0): its own, else the shared one.

    References
    ----------
    DICOM PS3.3 C.7.6.16.
    """
    per_frame = dataset.get(PER_FRAME_GROUPS)
    shared = dataset.get(SHARED_GROUPS)
    groups = []
    if per_frame is not None and frame < len(per_frame.value):
        groups.append(per_frame.value[frame])
    if shared is not None and len(shared.value):
        groups.append(shared.value[0])
    for group in groups:
        macro = group.get(tag)
        if macro is not None and len(macro.value):
            return macro.value[0]
    return None
