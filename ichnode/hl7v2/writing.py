"""Writing messages: values are escaped here and nowhere else.

References
----------
HL7 2.5.1 chapter 2: 2.7 (escape sequences), 2.15.9.18 (MSH-18).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal

Charset = Literal["ASCII", "8859/1", "UNICODE UTF-8"]
CODECS: Mapping[Charset, str] = {
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "UNICODE UTF-8": "utf-8",
}
"""What MSH-18 calls a character set (table 0211), and Python does."""

Component = str | tuple[str, ...]
Field = str | tuple[Component, ...] | list[tuple[Component, ...]]
"""A value; its components, those in parts where they have some; or repetitions of that."""

_ESCAPES = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"}
    | {chr(code): f"\\X{code:02X}\\" for code in (*range(0x20), 0x7F)}
)


def escape(text: str) -> str:
    """Return a value so that no character of it is taken for a separator, a segment or a frame."""
    return text.translate(_ESCAPES)


def fitted(text: str, charset: Charset) -> str:
    """Return a value of which the character set holds every character.

    What it does not hold loses its accents, and becomes ``?`` where that does not help.
    """
    codec = CODECS[charset]
    if codec != "utf-8":
        text = unicodedata.normalize("NFC", text)
    return "".join(_fit(character, codec) for character in text)


def _fit(character: str, codec: str) -> str:
    for candidate in (character, _bare(character)):
        try:
            candidate.encode(codec)
        except UnicodeEncodeError:
            continue
        return candidate
    return "?"


def _bare(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if not unicodedata.combining(part))


def segment(name: str, fields: Mapping[int, Field], charset: Charset) -> str:
    """Return a segment, without its end.

    Parameters
    ----------
    fields : mapping of int to Field
        By their numbers in the standard; MSH-1 and MSH-2 are written unasked.
    """
    first = 3 if name == "MSH" else 1
    last = max((number for number, field in fields.items() if field), default=first)
    written = [_field(fields.get(number, ""), charset) for number in range(first, last + 1)]
    start = r"MSH|^~\&" if name == "MSH" else name
    return "|".join([start, *written])


def message(segments: Iterable[str]) -> str:
    """Return a message of segments."""
    return "".join(f"{one}\r" for one in segments)


def _field(field: Field, charset: Charset) -> str:
    if isinstance(field, list):
        return "~".join(_components(one, charset) for one in field)
    return _components((field,) if isinstance(field, str) else field, charset)


def _components(components: tuple[Component, ...], charset: Charset) -> str:
    written = (
        "&".join(_value(part, charset) for part in one)
        if isinstance(one, tuple)
        else _value(one, charset)
        for one in components
    )
    return "^".join(written).rstrip("^")


def _value(text: str, charset: Charset) -> str:
    return escape(fitted(text, charset))
