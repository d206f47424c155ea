"""The words of a key image: what was found, by which model, where, and when.

Letters are the same on every host: the font is the one that comes with Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from ichnode.domain.findings import Presence

PANEL = 340  # pixels across, of words beside a slice
PANEL_GREY, RULE = (22, 22, 22), (70, 70, 70)
WHITE, SOFT, FAINT = (235, 235, 235), (190, 190, 190), (145, 145, 145)
YELLOW, ORANGE = (255, 221, 64), (255, 150, 50)
MARGIN = 16

_TALLEST = 2000  # before what is empty is cut off
_COLOURS = {Presence.PRESENT: ORANGE, Presence.UNDETERMINED: YELLOW, Presence.ABSENT: FAINT}


@dataclass(frozen=True, slots=True)
class _Type:
    """Sizes of letters, in pixels."""

    title: int
    label: int
    fact: int
    note: int


TYPE_BESIDE, TYPE_BELOW = _Type(20, 16, 15, 14), _Type(23, 20, 18, 17)  # one slice, two slices


@dataclass(frozen=True, slots=True)
class Line:
    """What the model says of one label."""

    name: str
    per_cent: float
    presence: Presence


@dataclass(frozen=True, slots=True)
class Caption:
    """The words beside the slice."""

    title: str
    lines: Sequence[Line]
    facts: Sequence[tuple[str, str]]  # (what, value)
    note: str


def words_beside(caption: Caption) -> Image.Image:
    """Return the words for the right of one slice, from the top down: `PANEL` pixels wide."""
    sheet = Image.new("RGB", (PANEL, _TALLEST), PANEL_GREY)
    pen, width = ImageDraw.Draw(sheet), PANEL - 2 * MARGIN
    top = _findings(pen, caption, (MARGIN, MARGIN), width, TYPE_BESIDE) + 4
    pen.line((MARGIN, top, MARGIN + width, top), fill=RULE)
    top = _facts(pen, caption, (MARGIN, top + 12), width, TYPE_BESIDE)
    return sheet.crop((0, 0, PANEL, top + MARGIN))


def words_below(caption: Caption, width: int) -> Image.Image:
    """Return the words for below two slices: the findings on the left, the facts on the right."""
    sheet = Image.new("RGB", (width, _TALLEST), PANEL_GREY)
    pen, half = ImageDraw.Draw(sheet), width // 2
    room = half - 2 * MARGIN
    left = _findings(pen, caption, (MARGIN, MARGIN), room, TYPE_BELOW)
    right = _facts(pen, caption, (half + MARGIN, MARGIN), room, TYPE_BELOW)
    return sheet.crop((0, 0, width, max(left, right) + MARGIN))


def _findings(
    pen: ImageDraw.ImageDraw, caption: Caption, at: tuple[int, int], width: int, size: _Type
) -> int:
    """Write title and labels; return where it ends."""
    left, top = at
    top = _paragraph(pen, caption.title, (left, top), width, size.title, WHITE) + 12
    for line in caption.lines:
        top = _label(pen, line, (left, top), width, size.label)
    return top


def _facts(
    pen: ImageDraw.ImageDraw, caption: Caption, at: tuple[int, int], width: int, size: _Type
) -> int:
    """Write what else is to be known; return where it ends."""
    left, top = at
    indent = round(5.2 * size.fact)
    for what, value in caption.facts:
        pen.text((left, top), what, FAINT, font_of(size.fact))
        place = (left + indent, top)
        top = _paragraph(pen, value, place, width - indent, size.fact, SOFT) + 4
    return _paragraph(pen, caption.note, (left, top + 8), width, size.note, FAINT)


def _label(pen: ImageDraw.ImageDraw, line: Line, at: tuple[int, int], width: int, size: int) -> int:
    """Write one label with its certainty and a bar; return where the next one starts."""
    (left, top), colour = at, _COLOURS[line.presence]
    mark = " ?" if line.presence is Presence.UNDETERMINED else ""
    pen.text((left, top), line.name + mark, colour, font_of(size))
    pen.text((left + width, top), f"{line.per_cent:.0f} %", colour, font_of(size), anchor="ra")
    bar = top + round(1.44 * size)
    pen.rectangle((left, bar, left + width, bar + 4), fill=RULE)
    filled = round(width * line.per_cent / 100)
    if filled > 0:
        pen.rectangle((left, bar, left + filled, bar + 4), fill=colour)
    return bar + 14


def _paragraph(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: tuple[int, int],
    width: int,
    size: int,
    colour: tuple[int, int, int],
) -> int:
    """Write text that is broken to a width; return where the next line would start."""
    font, (left, top) = font_of(size), at
    for line in _broken(text, font, width):
        pen.text((left, top), line, colour, font)
        top += round(size * 1.3)
    return top


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break text at spaces, and within words that are too long."""
    words = [piece for word in text.split() for piece in _pieces(word, font, width)]
    lines: list[str] = []
    for word in words:
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _pieces(word: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    cuts = [0]
    for end in range(1, len(word) + 1):
        if font.getlength(word[cuts[-1] : end]) > width and end - 1 > cuts[-1]:
            cuts.append(end - 1)
    return [word[start:end] for start, end in pairwise([*cuts, len(word)])]


def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow: the same on every host."""
    return ImageFont.load_default(size)
