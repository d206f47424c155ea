"""Whether bytes are a data set at all, to the last of them.

pydicom reads what it can of a damaged one, and a query that has lost its keys asks for everything.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

MOST_ELEMENTS = 2000
DEEPEST = 8  # sequences within sequences; the deepest real task has five
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


class Broken(Exception):
    """The bytes are no data set, or one that nobody needs."""


@dataclass(slots=True)
class Structure:
    """Walks over an encoded data set (PS3.5 7.1, 7.5).

    Parameters
    ----------
    content : bytes
        The data set.
    is_implicit, is_little : bool
        Its transfer syntax.
    """

    content: bytes
    is_implicit: bool
    is_little: bool
    elements: int = 0

    def check(self) -> None:
        """Pass when the bytes are a data set.

        Raises
        ------
        Broken
            When they are none, with more elements or deeper than anybody needs included.
        """
        self._walk(0, len(self.content), 1)
        if not self.elements:
            raise Broken("it is empty")

    def _walk(self, at: int, end: int, depth: int, *, is_open: bool = False) -> int:
        """Walk over elements until `end`, or the end of an item of undefined length."""
        if depth > DEEPEST:
            raise Broken("it is too deep")
        last = -1
        while at < end:
            tag, length, is_sequence, start = self._head(at, end)
            if is_open and tag == _ITEM_END:
                return start
            if tag <= last or tag >> 16 == 0xFFFE:
                raise Broken("its elements are in disorder")
            last = tag
            self.elements += 1
            if self.elements > MOST_ELEMENTS:
                raise Broken("it has too many elements")
            if is_sequence or length == _UNDEFINED:
                at = self._items(start, end, length, depth)
            else:
                at = start + length
            if at > end:
                raise Broken("it is cut off")
        if is_open:
            raise Broken("it is cut off")
        return at

    def _items(self, at: int, end: int, length: int, depth: int) -> int:
        stop = end if length == _UNDEFINED else at + length
        if stop > end:
            raise Broken("it is cut off")
        while at < stop:
            tag, size = self._tag_and_long(at, stop)
            at += 8
            if length == _UNDEFINED and tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise Broken("a sequence has something else than items")
            if size == _UNDEFINED:
                at = self._walk(at, stop, depth + 1, is_open=True)
            elif at + size > stop:
                raise Broken("it is cut off")
            else:
                at = self._walk(at, at + size, depth + 1)
        if length == _UNDEFINED:
            raise Broken("it is cut off")
        return at

    def _head(self, at: int, end: int) -> tuple[int, int, bool, int]:
        """Return tag, length, whether it is a sequence, and where its value begins."""
        tag, length = self._tag_and_long(at, end)
        if self.is_implicit or tag >> 16 == 0xFFFE:
            return tag, length, _is_sequence(tag), at + 8
        vr = self.content[at + 4 : at + 6]
        if not vr.isalpha() or not vr.isupper():
            raise Broken("it is of another transfer syntax")
        if vr not in _LONG:
            return tag, self._number("H", at + 6), False, at + 8
        if at + 12 > end:
            raise Broken("it is cut off")
        return tag, self._number("I", at + 8), vr == b"SQ", at + 12

    def _tag_and_long(self, at: int, end: int) -> tuple[int, int]:
        if at + 8 > end:
            raise Broken("it is cut off")
        tag = self._number("H", at) << 16 | self._number("H", at + 2)
        return tag, self._number("I", at + 4)

    def _number(self, kind: str, at: int) -> int:
        return int(
            struct.unpack_from(f"{'<' if self.is_little else '>'}{kind}", self.content, at)[0]
        )


def _is_sequence(tag: int) -> bool:
    try:
        return bool(dictionary_VR(tag) == "SQ")
    except KeyError:
        return False
