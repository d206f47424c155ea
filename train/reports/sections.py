"""A report in sections and sentences, each with its place in the text.

Reports come with headings in capitals, with "Findings:" in the middle of a line, without any; with
lines broken by a typist, by a fixed width, or lost on the way through a CSV.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, cast

Section: TypeAlias = Literal["ignored", "findings", "impression", "addendum"]

_NARROWEST = 60  # characters: no typewriter breaks lines before
_LONGEST = 1500  # characters: what goes on for longer is no sentence, and would take long to read
_ABBREVIATIONS = frozenset(
    ("dr", "mr", "mrs", "ms", "prof", "st", "approx", "vs", "e.g", "i.e", "cf")
)
_GOES_ON = frozenset(
    """
    a an the of no not and or nor with without in on at for to is are was were has have from by than
    acute chronic small large left right any this
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
_STARTS = (
    "(?:There|No|The|Small|Large|Tiny|Thin|Trace|Acute|Chronic|Subacute|Left|Right|Bilateral|Stable"
    "|Unchanged|Normal|Interval|Extensive|Moderate)\\b"
)
_BREAK = re.compile(
    r"[.!?](?=\s|$)|\n"
    rf"|(?<=[a-z)])[^\S\n](?={_STARTS}[^\S\n]+\w)"  # a line break that was lost on the way
    r"|\s(?=\d{1,2}[.)]\s+[A-Z])|\s(?=-\s[A-Z])"
)
_BEGINS = re.compile(_STARTS)
_BLANK_LINE = re.compile(r"\S[^\S\n]*\n[^\S\n]*\n")
_BULLET = re.compile(r"[ \t]*(?:[-*•>]|\(?\d{1,2}[.)])[ \t]")
_ANSWER = re.compile(
    r"\s*(?:no|none|nil|yes|absent|present|negative)\s*(?:[.,;]|$)", re.IGNORECASE | re.MULTILINE
)
_IN_CAPITALS = (
    "(?-i:(?<=FINDINGS)|(?<=IMPRESSION)|(?<=CONCLUSION)|(?<=OPINION)|(?<=INDICATION)"
    "|(?<=CLINICAL HISTORY)|(?<=DETAILS))(?=\\s+(?-i:[A-Z?][a-z ]))"
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and where it stands.

    Attributes
    ----------
    section : str
        What its section is: nothing in an ignored one is a finding, and of the others the later in
        the list of findings, impression and addendum decides.
    start, end : int
        Of the text of the report, in characters.
    """

    section: Section
    start: int
    end: int
    text: str


def sentences(report: str, headings: Mapping[str, str]) -> Iterator[Sentence]:
    """Yield the sentences of a report.

    Parameters
    ----------
    headings : mapping
        Kind of section to a pattern of its headings.
    """
    for section, start, end in _sections(report, headings):
        for low, high in _spans(report, start, end):
            yield Sentence(section, low, high, report[low:high])


def _sections(report: str, headings: Mapping[str, str]) -> Iterator[tuple[Section, int, int]]:
    """Yield what stands under each heading; what stands before the first is findings.

    Where no heading says where the findings begin, a blank line ends what is ignored.
    """
    found = list(_heading(tuple(headings.items())).finditer(report))
    starts_somewhere = any(_kind(match) == "findings" for match in found)
    yield "findings", 0, found[0].start() if found else len(report)
    for number, match in enumerate(found):
        kind, start = _kind(match), match.end()
        end = found[number + 1].start() if number + 1 < len(found) else len(report)
        paragraph = _BLANK_LINE.search(report, start, end)
        if kind == "ignored" and not starts_somewhere and paragraph:
            yield kind, start, paragraph.end()
            kind, start = "findings", paragraph.end()
        yield kind, start, end


@lru_cache(8)
def _heading(headings: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Return a pattern of headings: before a colon, alone on a line, in capitals before more."""
    kinds = "|".join(f"(?P<{name}>{text})" for name, text in headings)
    return re.compile(
        r"(?:(?P<line>^[^\S\n]*)|(?<=[.!?;:]\s)|(?<=\s)(?-i:(?=[A-Z])))"
        rf"(?:{kinds})(?:[^\S\n]*:|(?(line)[^\S\n]*(?:-(?=\s)|$)|(?!))|{_IN_CAPITALS})",
        re.IGNORECASE | re.MULTILINE,
    )


def _kind(match: re.Match[str]) -> Section:
    return cast(Section, match.lastgroup)


def _spans(report: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where sentences begin and end, without the white space around them."""
    width = max(_NARROWEST, *(len(line) for line in report.splitlines()), 0)
    low = start
    for high in [*_breaks(report, start, end, width), end]:
        while high - low > _LONGEST:
            cut = max(report.rfind(" ", low, low + _LONGEST), low + _LONGEST // 2)
            yield from _without_space(report, low, cut)
            low = cut
        yield from _without_space(report, low, high)
        low = high


def _without_space(report: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = report[start:end]
    if stripped := piece.strip():
        first = start + piece.index(stripped[0])
        yield first, first + len(stripped)


def _breaks(report: str, start: int, end: int, width: int) -> Iterator[int]:
    """Yield where sentences end."""
    for match in _BREAK.finditer(report, start, end):
        place = match.start()
        if match[0] == "\n":
            ends = _ends_line(report, place, end, width)
        elif match[0].isspace():
            ends = not _goes_on(report, place)
        else:
            ends = _ends_sentence(report, place)
        if ends:
            yield place + 1


def _goes_on(report: str, place: int) -> bool:
    """Tell whether the word before a place, or a comma, wants another."""
    last = report[max(0, place - 16) : place].split()[-1:]
    return bool(last) and (last[0].lower() in _GOES_ON or last[0].endswith(","))


def _ends_sentence(report: str, place: int) -> bool:
    word = report[max(0, place - 8) : place].split()[-1:]
    if report[place] == ".":
        return not word or word[0].lower() not in _ABBREVIATIONS
    asks = report[place] == "?"
    lone = place == 0 or report[place - 1].isspace()  # "? subdural" asks for what follows
    return not asks or not (lone or _ANSWER.match(report, place + 1))


def _ends_line(report: str, place: int, end: int, width: int) -> bool:
    """Tell whether a line was ended on purpose, not because it was full.

    It was where the next begins like something new and its first word would have had room.
    """
    following = report[place + 1 : end]
    line = following.split("\n", 1)[0]
    if not line.strip() or _BULLET.match(line):
        return True
    if _goes_on(report, place):
        return False
    if _BEGINS.match(line.lstrip()):
        return True
    begin, first = report.rfind("\n", 0, place) + 1, line.split()[0]
    has_room = place - begin + 1 + len(first) < width - 1
    return has_room and (first[0].isupper() or first[0].isdigit() or ":" in line)
