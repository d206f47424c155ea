"""Whether a data set is what a query asks for, and what of it the query gets.

References
----------
DICOM PS3.4 C.2.2.2: single value, universal, list of UID, wild card, range and sequence matching
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from pydicom import Dataset
from pydicom.tag import BaseTag

from ichnode.query.identifiers import values_of
from ichnode.query.statuses import CANNOT_UNDERSTAND, DOES_NOT_MATCH_CLASS, Refused

_WILD = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_NOT_KEYS = frozenset((0x00080005, 0x00080052, 0x00080053, 0x00080201))
"""Character set, level, model, time zone: they say how to read a query."""
_DT = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?"
)
_RANGE_OF_DT = re.compile(r"(?P<first>[\d.]*(?:[+-]\d{4})?)-(?P<last>[\d.]*(?:[+-]\d{4})?)")


def keys_of(query: Dataset) -> Iterator[Any]:
    """Yield the elements of a query that are keys; private ones and group lengths are none."""
    for element in query:
        if element.tag not in _NOT_KEYS and element.tag.element != 0 and not element.tag.is_private:
            yield element


def is_universal(key: Any) -> bool:
    """Say whether a key matches everything."""
    if key.VR == "SQ":
        return all(is_universal(inner) for inner in keys_of(_item(key)))
    values = values_of(key)
    return not values or (key.VR in _WILD and set("".join(values)) <= {"*"})


def matches(query: Dataset, found: Dataset) -> bool:
    """Say whether a data set is what a query asks for; keys that it has not do not count.

    Raises
    ------
    Refused
        0xA900 for a sequence with more than one item, 0xC000 for a range that is none.
    """
    for key in keys_of(query):
        if is_universal(key) or key.tag not in found:
            continue
        if not _element_matches(key, found[key.tag]):
            return False
    return True


def _element_matches(key: Any, found: Any) -> bool:
    if key.VR == "SQ":
        asked = _item(key)
        return any(_item_matches(asked, item) for item in found.value)
    asked, there = values_of(key), values_of(found)
    match found.VR:
        case "UI":
            return bool(set(asked) & set(there))
        case "DA" | "TM":
            return any(_in_range(_only(asked), one, found.VR) for one in there)
        case "DT":
            return any(_in_moments(_only(asked), one) for one in there)
        case "PN":
            return any(is_like(_name(a), _name(b)) for a in asked for b in there)
        case "IS" | "DS" | "US" | "UL" | "SS" | "SL":
            return bool({_number(one) for one in asked} & {_number(one) for one in there})
        case _:
            return any(is_like(a, b) for a in asked for b in there)


def _item_matches(asked: Dataset, found: Dataset) -> bool:
    """Say whether an item of a sequence is meant: what it lacks, it does not match by."""
    narrowing = [key for key in keys_of(asked) if not is_universal(key)]
    return all(key.tag in found and _element_matches(key, found[key.tag]) for key in narrowing)


def _item(key: Any) -> Dataset:
    if len(key.value) > 1:
        sentence = "A sequence of the query has more than one item."
        raise Refused(DOES_NOT_MATCH_CLASS, sentence)
    return key.value[0] if key.value else Dataset()


def _only(asked: list[str]) -> str:
    return asked[0] if len(asked) == 1 else "\\".join(asked)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _name(text: str) -> str:
    """Return a name as it is compared: case and empty components do not count (PS3.4 C.2.2.2.1)."""
    return "=".join(group.rstrip("^ ") for group in text.casefold().split("=")).rstrip("=")


def is_like(pattern: str, text: str) -> bool:
    """Say whether a text is of a pattern with ``*`` and ``?``, in time that no pattern can blow up.

    Greedy, and back to the last ``*`` alone where it does not go on.
    """
    at = back = text_at = 0
    star = -1
    while text_at < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, back, at = at, text_at, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[text_at]):
            at, text_at = at + 1, text_at + 1
        elif star >= 0:
            back += 1
            at, text_at = star + 1, back
        else:
            return False
    return set(pattern[at:]) <= {"*"}


# ------------------------------------------------------------------ ranges


def date_range(asked: str) -> tuple[str, str]:
    """Return from and to of a DA or TM key, empty where it is open.

    Raises
    ------
    Refused
        0xC000 where it is neither a value nor a range.
    """
    first, dash, last = asked.partition("-")
    first, last = first.strip(), last.strip()
    if not dash:
        last = first
    for one in (first, last):
        if not re.fullmatch(r"[\d.:]*", one) or (dash and not first + last):
            raise Refused(CANNOT_UNDERSTAND, "A date or time of the query cannot be understood.")
    return first, last


def _in_range(asked: str, there: str, vr: str) -> bool:
    first, last = (_digits(one) for one in date_range(asked))
    value = _digits(there)
    if vr == "TM":  # 10 means from 10:00 until 10:59:59 (PS3.4 C.2.2.2.5.2)
        last = last.ljust(12, "9") if last else ""
        value = value.ljust(12, "0")
    return (not first or value >= first) and (not last or value <= last)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def moments(asked: str) -> tuple[datetime | None, datetime | None]:
    """Return from and to of a DT key; a value without its smaller parts means all of that time.

    Raises
    ------
    Refused
        0xC000 where it is neither a value nor a range.
    """
    asked = asked.strip()
    if _is_one_moment(asked):
        return _moment(asked)
    if found := _RANGE_OF_DT.fullmatch(asked):
        first, last = found["first"], found["last"]
        if first or last:
            return (
                _moment(first)[0] if first else None,
                _moment(last)[1] if last else None,
            )
    return _moment(asked)


def _is_one_moment(asked: str) -> bool:
    """Say whether a hyphen in it begins an offset: from -1200 on, else a year (PS3.5 6.2, DT)."""
    found = _DT.fullmatch(asked)
    return found is not None and (found[8] is None or found[8][0] == "+" or found[8] <= "-1200")


def _in_moments(asked: str, there: str) -> bool:
    first, last = moments(asked)
    try:
        value = _moment(there)[0]
    except Refused:
        return False  # it is the other side that is odd
    return (first is None or value >= first) and (last is None or value <= last)


def _moment(text: str) -> tuple[datetime, datetime]:
    """Return the beginning and the end of what a DT value means; without a zone it is ours."""
    found = _DT.fullmatch(text)
    sentence = "A date or time of the query cannot be understood."
    if not found:
        raise Refused(CANNOT_UNDERSTAND, sentence)
    *parts, fraction, offset = found.groups()
    given = [int(part) for part in parts if part is not None]
    try:
        year, month, day, hour, minute, second = (given + [1, 1, 1, 0, 0, 0][len(given) :])[:6]
        micros = int((fraction or "0").ljust(6, "0"))
        # Of the clock on the wall; its zone follows.
        wall = datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC)
        return _zoned(wall, offset), _zoned(_end(wall, len(given), fraction), offset)
    except (ValueError, OverflowError):
        raise Refused(CANNOT_UNDERSTAND, sentence) from None


def _zoned(wall: datetime, offset: str | None) -> datetime:
    if offset is None:
        return wall.replace(tzinfo=None).astimezone().astimezone(UTC)
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    away = timedelta(minutes=-minutes if offset[0] == "-" else minutes)
    return wall.replace(tzinfo=timezone(away)).astimezone(UTC)


def _end(begun: datetime, parts: int, fraction: str | None) -> datetime:
    """Return the last moment of a year, month, ... or second."""
    if fraction is not None:
        return begun
    if parts == 1:
        after = begun.replace(year=begun.year + 1)
    elif parts == 2:
        after = (begun + timedelta(days=32)).replace(day=1)
    else:
        units = ("days", "hours", "minutes", "seconds")
        after = begun + timedelta(**{units[parts - 3]: 1})
    return after - timedelta(microseconds=1)


# ------------------------------------------------------------------ answers


def answer_to(query: Dataset, found: Dataset) -> Dataset:
    """Return what of a data set a query asks for, sequences included."""
    answer = Dataset()
    for key in keys_of(query):
        if key.tag not in found:
            continue
        there = found[key.tag]
        inner = _item(key) if key.VR == "SQ" else Dataset()
        if there.VR == "SQ" and len(inner):
            answer.add_new(key.tag, "SQ", [_narrowed(inner, item) for item in there.value])
        else:
            answer[key.tag] = there  # shared: nobody changes what was found
    return answer


def _narrowed(query: Dataset, item: Dataset) -> Dataset:
    return answer_to(query, item)


def knows_all(query: Dataset, known: frozenset[BaseTag]) -> bool:
    """Say whether every key of a query is one that can be answered (status 0xFF00, else 0xFF01)."""
    return all(key.tag in known for key in keys_of(query))
