"""Words and lines over a slice that is stored elsewhere: layers, text objects and polylines.

References
----------
DICOM PS3.3 C.10.5 (graphic annotation), C.10.7 (graphic layers, whose colours are CIELab).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ichnode.imaging.contours import Line
from ichnode.report.encoding import Elements, ascii_text, element, sequence

MOST_LINES = 100
"""Of a mask: the longest; a bleed has a few, speckles a thousand."""
MOST_POINTS = 8000
"""Of one line, whose coordinates must fit a length of 16 bits; a longer one is parted."""
LONGEST_TEXT = 1024

_WORDS, _OUTLINE = "AI_TEXT", "AI_OUTLINE"
_LAYERS = (
    (_WORDS, (58071, 31953, 52456), "What the AI model says"),  # yellow
    (_OUTLINE, (54467, 25079, 26169), "Where the AI model draws blood"),  # cyan
)
_WHITE = 0xFFFF  # on a grey display
_LEFT, _TOP, _RIGHT, _LINE_HEIGHT = 0.02, 0.03, 0.75, 0.035  # of the displayed area


@dataclass(frozen=True, slots=True)
class Annotated:
    """What is written over one slice.

    Attributes
    ----------
    reference : Elements
        The reference to the image, or to its frame.
    words : sequence of str
        Lines of text.
    lines : sequence of numpy.ndarray
        Closed lines, (points, 2): column and row as in PIXEL units, of the image as it is stored.
    """

    reference: Elements
    words: Sequence[str]
    lines: Sequence[Line]


def annotation_modules(slices: Sequence[Annotated]) -> dict[int, bytes]:
    """Return the Graphic Annotation and Graphic Layer modules."""
    used = {name for one in slices for name, _ in _parts(one)}
    layers = [layer for layer in _LAYERS if layer[0] in used]
    return {
        0x00700001: sequence(0x00700001, [part for one in slices for _, part in _parts(one)]),
        0x00700060: sequence(
            0x00700060, [_layer(number, *one) for number, one in enumerate(layers, start=1)]
        ),
    }


def _parts(one: Annotated) -> Iterator[tuple[str, Elements]]:
    """Yield the items of one slice with their layers."""
    words = {0x00700008: sequence(0x00700008, [_text(one.words)])}
    yield _WORDS, _of_slice(one, _WORDS) | words
    if one.lines:
        drawn = [_polyline(part) for line in one.lines[:MOST_LINES] for part in _parted(line)]
        yield _OUTLINE, _of_slice(one, _OUTLINE) | {0x00700009: sequence(0x00700009, drawn)}


def _of_slice(one: Annotated, layer: str) -> dict[int, bytes]:
    return {
        0x00081140: sequence(0x00081140, [one.reference]),
        0x00700002: element(0x00700002, "CS", layer),
    }


def _text(words: Sequence[str]) -> Elements:
    """Return a text in the corner of the display: it stays there however the slice is turned."""
    plain = "\r\n".join(ascii_text(line) for line in words)
    return {
        0x00700003: element(0x00700003, "CS", "DISPLAY"),
        0x00700006: element(0x00700006, "ST", plain[:LONGEST_TEXT]),
        0x00700010: _floats(0x00700010, (_LEFT, _TOP)),
        0x00700011: _floats(0x00700011, (_RIGHT, min(1.0, _TOP + _LINE_HEIGHT * len(words)))),
        0x00700012: element(0x00700012, "CS", "LEFT"),
    }


def _polyline(line: Line) -> Elements:
    elements = {
        0x00700005: element(0x00700005, "CS", "PIXEL"),
        0x00700020: element(0x00700020, "US", 2),
        0x00700021: element(0x00700021, "US", len(line)),
        0x00700022: _floats(0x00700022, line.ravel().tolist()),
        0x00700023: element(0x00700023, "CS", "POLYLINE"),
    }
    if np.array_equal(line[0], line[-1]):
        elements[0x00700024] = element(0x00700024, "CS", "N")  # stated of what is closed
    return elements


def _parted(line: Line) -> Iterator[Line]:
    for start in range(0, len(line) - 1, MOST_POINTS - 1):
        yield line[start : start + MOST_POINTS]


def _layer(number: int, name: str, colour: tuple[int, int, int], told: str) -> Elements:
    return {
        0x00700002: element(0x00700002, "CS", name),
        0x00700062: element(0x00700062, "IS", str(number)),
        0x00700066: element(0x00700066, "US", _WHITE),
        0x00700068: element(0x00700068, "LO", told),
        0x00700401: element(0x00700401, "US", struct.pack("<3H", *colour)),
    }


def _floats(tag: int, values: Iterable[float]) -> bytes:
    given = tuple(values)
    return element(tag, "FL", struct.pack(f"<{len(given)}f", *given))
