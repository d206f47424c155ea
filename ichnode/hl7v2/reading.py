"""Reading messages of others: bounded, and never a word of them in an error or a log.

The library `hl7` takes a message apart. Escapes are undone here: that library logs the values in
which it finds something strange.

References
----------
HL7 2.5.1 chapter 2: 2.5 (separators), 2.7 (escape sequences), 2.15.9.18 (MSH-18).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import hl7

MOST_PARTS = 20_000  # separators in a message: what a hostile one costs is bounded before it is cut
_UTF_8 = frozenset(("UNICODE UTF-8", "UNICODE", "UTF-8"))
_LATIN = re.compile(r"8859/(\d{1,2})")


class Unreadable(ValueError):
    """Bytes that are no message that we understand; the sentence quotes none of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One segment of a message. Holds PHI."""

    segment: hl7.Segment = field(repr=False)
    separators: str = field(repr=False)  # field, component, repetition, escape, subcomponent

    def repetitions(self, number: int) -> list[str]:
        """Return the repetitions of a field as they are written."""
        if number >= len(self.segment):
            return []
        return str(self.segment[number]).split(self.separators[2])

    def value(self, number: int, component: int = 1, part: int = 1, *, of: str = "") -> str:
        """Return a value of a field's first repetition, or of the one `of`; "" where there is none.

        ``""`` in the message, which is to delete, reads as "" too.
        """
        written = of or (self.repetitions(number) or [""])[0]
        one = _nth(written.split(self.separators[1]), component)
        return self._plain(one, part)

    def _plain(self, component: str, part: int = 1) -> str:
        found = unescape(_nth(component.split(self.separators[4]), part), self.separators)
        return "" if found == '""' else found.strip()

    def is_deleted(self, number: int) -> bool:
        """Say whether a field is to be deleted: ``""``."""
        return (self.repetitions(number) or [""])[0] == '""'

    def components(self, number: int, *, of: str = "") -> list[str]:
        """Return the components of a field's first repetition, or of the one `of`."""
        written = of or (self.repetitions(number) or [""])[0]
        return [self._plain(one) for one in written.split(self.separators[1])]

    def text(self, number: int) -> str:
        """Return a whole field as text, one repetition a line."""
        lines = (unescape(one, self.separators) for one in self.repetitions(number))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was understood as one. Holds PHI."""

    rows: tuple[Row, ...] = field(repr=False)

    @property
    def header(self) -> Row:
        """The MSH segment."""
        return self.rows[0]

    @property
    def kind(self) -> tuple[str, str]:
        """Message type and trigger event, such as ("ORU", "R01")."""
        return self.header.value(9, 1).upper(), self.header.value(9, 2).upper()

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.value(10)

    def named(self, name: str) -> list[Row]:
        """Return the segments of a name, in their order."""
        return [row for row in self.rows if name_of(row) == name]

    def first(self, name: str) -> Row | None:
        """Return the first segment of a name."""
        return next(iter(self.named(name)), None)

    def groups(self, opening: str, key: str) -> list[list[Row]]:
        """Return the segments in groups, such as orders.

        A group begins with a segment `opening`, or with a `key` where its group has one already.
        """
        found: list[list[Row]] = []
        for row in self.rows:
            name = name_of(row)
            if name == opening or (name == key and (not found or _has(found[-1], key))):
                found.append([])
            if found:
                found[-1].append(row)
        return found


def _has(rows: list[Row], name: str) -> bool:
    return any(name_of(row) == name for row in rows)


def name_of(row: Row) -> str:
    """Return the name of a segment."""
    return str(row.segment[0]).strip()


def read(data: bytes) -> Received:
    """Take a message apart.

    Raises
    ------
    Unreadable
        When it is none; the sentence says why, for its sender.
    """
    data = data.strip(b"\r\n \t")
    if data[:3] != b"MSH" or len(data) < 9:
        raise Unreadable("The message does not begin with MSH.")
    separators = _separators(data)
    parts = sum(data.count(one.encode("latin-1")) for one in (*separators, "\r", "\n"))
    if parts > MOST_PARTS:
        raise Unreadable(f"The message has more than {MOST_PARTS} fields and components.")
    text = _decoded(data, separators).replace("\r\n", "\r").replace("\n", "\r")
    try:
        parsed = hl7.parse(text)
    except Exception as error:  # whatever a strange message does to a library
        raise Unreadable("The message cannot be taken apart.") from error
    rows = tuple(Row(one, separators) for one in parsed if len(one) and str(one[0]).strip())
    return Received(rows)


def _separators(data: bytes) -> str:
    """Return field, component, repetition, escape and subcomponent separators."""
    head = data[3:9].decode("latin-1")
    end = head.find(head[0], 1)
    found = head[:end] if end >= 0 else head
    if len(found) < 5 or len(set(found)) != len(found):
        raise Unreadable("The separators of the message are not five different characters.")
    if any(one.isalnum() or not " " < one <= "~" for one in found):
        raise Unreadable("The separators of the message are not visible signs.")
    return found[:5]


def _decoded(data: bytes, separators: str) -> str:
    head = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("latin-1").split(separators[0])
    named = head[17].split(separators[2])[0].strip().upper() if len(head) > 17 else ""
    try:
        return data.decode(_codec(named))
    except UnicodeDecodeError:
        if named in ("", "ASCII"):  # and the sender does not keep to it
            return data.decode("iso8859-1")
        raise Unreadable("The text is not in the character set that MSH-18 names.") from None


def _codec(named: str) -> str:
    if named in ("", "ASCII") or named in _UTF_8:
        return "utf-8"
    if (latin := _LATIN.fullmatch(named)) and 1 <= int(latin[1]) <= 16 and latin[1] != "12":
        return f"iso8859-{int(latin[1])}"
    raise Unreadable("The character set that MSH-18 names is not supported.")


def unescape(text: str, separators: str) -> str:
    """Undo escapes; what cannot be undone (fonts, other character sets) is left out."""
    sign = separators[3]
    if sign not in text:
        return text
    mark = re.escape(sign)
    return re.sub(f"{mark}([^{mark}]*){mark}", _undone(separators), text)


def _undone(separators: str) -> Callable[[re.Match[str]], str]:
    known = dict(zip("FSRET", separators, strict=True)) | {".br": "\n", ".sp": "\n"}
    return partial(_undo, known)


def _undo(known: dict[str, str], match: re.Match[str]) -> str:
    inside = match[1]
    if inside in known:
        return known[inside]
    if inside[:1] == "X":
        try:
            return bytes.fromhex(inside[1:]).decode("utf-8", "replace")
        except ValueError:
            return ""
    return "\n" if inside[:3] in (".br", ".sp") else ""


def _nth(parts: list[str], number: int) -> str:
    return parts[number - 1] if number <= len(parts) else ""
