"""The key image as a picture: the slice in the brain window, what the model says beside it.

Grey values are those of a radiologist's own brain window, unmarked: nothing is drawn onto the
brain. All words stand outside of it, except the letters that tell left from right. Where the model
says where the blood is, the same slice stands beside it once more: with the heat map as a wash of
colour, its scale below, and with the outline, around the blood and not on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ichnode.domain.findings import Presence
from ichnode.imaging.masks import LEAST_CHANCE, Mask
from ichnode.report.wash import Floats, scale, washed

LEVEL_HU, WIDTH_HU = 40, 80  # the brain window
BANNER = "AI OUTPUT - NOT FOR DIAGNOSTIC USE"

_LEAST_SIDE = 512
_PANEL, _BANNER_HEIGHT, _LEGEND_HEIGHT, _MARGIN = 304, 40, 56, 16
_SCALE = (160, 10)  # pixels across and down
_BRAIN_GREY = 108  # about that of 34 HU
_BLACK, _PANEL_GREY, _RULE = (0, 0, 0), (22, 22, 22), (70, 70, 70)
_WHITE, _SOFT, _FAINT = (235, 235, 235), (170, 170, 170), (120, 120, 120)
YELLOW, _ORANGE, CYAN = (255, 221, 64), (255, 150, 50), (70, 225, 255)

_COLOURS = {Presence.PRESENT: _ORANGE, Presence.UNDETERMINED: YELLOW, Presence.ABSENT: _FAINT}


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


def upright(
    hu: npt.NDArray[np.int16],
    orientation: tuple[float, ...] | None,
    pixel_spacing_mm: tuple[float, float] | None,
) -> npt.NDArray[np.uint8]:
    """Return a slice as it is read: brain window, patient's right on the left, front at the top.

    Parameters
    ----------
    hu : numpy.ndarray
        Shape (y, x), int16, HU.
    orientation : tuple of float or None
        Image Orientation (Patient); None leaves the slice as it is.
    pixel_spacing_mm : tuple of float or None
        Between rows (y) and columns (x); pixels that are not square are made so.

    Returns
    -------
    numpy.ndarray
        Shape (y, x), uint8, grey: 0 for 0 HU and less, 255 for 80 HU and more.
    """
    low = LEVEL_HU - WIDTH_HU / 2
    grey = np.clip((hu.astype(np.float32) - low) * (255 / WIDTH_HU), 0, 255)
    grey = np.rint(grey).astype(np.uint8)
    if orientation is not None:
        grey = grey[:, ::-1] if orientation[0] < 0 else grey
        grey = grey[::-1, :] if orientation[4] < 0 else grey
    rows, columns = grey.shape
    y_mm, x_mm = pixel_spacing_mm or (1.0, 1.0)
    scale = max(1.0, _LEAST_SIDE / max(rows, columns))
    size = (round(columns * scale), round(rows * scale * min(max(y_mm / x_mm, 0.25), 4.0)))
    if size == (columns, rows):
        return np.ascontiguousarray(grey)
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))


def outline(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Return the pixels around a mask, one wide, on a picture of the same slice.

    Parameters
    ----------
    mask : numpy.ndarray
        Shape (y, x), bool, upright.
    shape : tuple of int
        Of the picture, (y, x).
    """
    size = (shape[1], shape[0])
    filled = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = filled.point(lambda value: 255 * (value > 127))
    around = np.asarray(inside.filter(ImageFilter.MaxFilter(3)))
    return np.asarray((around > 0) & (np.asarray(inside) == 0))


def draw(
    grey: npt.NDArray[np.uint8],
    caption: Caption,
    *,
    sides: tuple[str, str] | None,
    mask: Mask | None = None,
    heat: Floats | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw the whole picture.

    Parameters
    ----------
    grey : numpy.ndarray
        Shape (y, x), uint8, from `upright`.
    caption : Caption
        The words.
    sides : tuple of str or None
        The letters for the left and the right edge of the slice; None where it is not known.
    mask : numpy.ndarray, optional
        Shape (y, x), bool: blood as the model draws it, upright.
    heat : numpy.ndarray, optional
        Shape (y, x) of `grey`, float32: how much speaks for blood where, 0 to 1, upright. With
        it, or with a mask, the slice is shown twice, plain on the left and marked on the right.

    Returns
    -------
    numpy.ndarray
        Shape (y, x, 3), uint8, RGB.
    """
    slices = [np.repeat(grey[..., None], 3, axis=2)]
    if mask is not None or heat is not None:
        slices.append(_marked(grey, mask, heat))
    rows, columns = grey.shape
    foot = _BANNER_HEIGHT + max(rows, _LEAST_SIDE)
    width, height = columns * len(slices), foot + (0 if heat is None else _LEGEND_HEIGHT)
    canvas = Image.new("RGB", (width + _PANEL, height), _BLACK)
    pen = ImageDraw.Draw(canvas)
    for place, one in enumerate(slices):
        canvas.paste(Image.fromarray(one), (place * columns, _BANNER_HEIGHT))
        _letters(pen, place * columns, rows, columns, sides)
    if len(slices) > 1:
        pen.line((columns, _BANNER_HEIGHT, columns, height), fill=_RULE)
    if mask is not None:
        at = (width - 6, _BANNER_HEIGHT + rows - 6)
        pen.text(at, "AI outline", CYAN, _font(14), anchor="rs")
    if heat is not None:
        _legend(canvas, columns, width, foot)
    _centred(pen, BANNER, (0, 0, width + _PANEL, _BANNER_HEIGHT), 22, YELLOW)
    pen.rectangle((width, _BANNER_HEIGHT, width + _PANEL, height), fill=_PANEL_GREY)
    _panel(pen, caption, width + _MARGIN, _BANNER_HEIGHT + _MARGIN)
    return np.asarray(canvas)


def _marked(
    grey: npt.NDArray[np.uint8], mask: Mask | None, heat: Floats | None
) -> npt.NDArray[np.uint8]:
    """Return the slice with what the model says of its places: (y, x, 3)."""
    marked = np.repeat(grey[..., None], 3, axis=2) if heat is None else washed(grey, heat)
    if mask is not None:
        marked[outline(mask, grey.shape)] = CYAN
    return marked


def _legend(canvas: Image.Image, left: int, right: int, top: int) -> None:
    """Say below the marked slice what its colours are."""
    pen, (across, down) = ImageDraw.Draw(canvas), _SCALE
    pen.line((0, top, right, top), fill=_RULE)
    start, bar = right - 2 * _MARGIN - across, top + 12
    told = "where the model suspects blood; not anatomy"
    room = start - _MARGIN - round(_font(13).getlength(told))  # below a narrow slice, further left
    words = min(left + _MARGIN, room)
    pen.text((words, top + 8), "AI heat map", _WHITE, _font(16))
    pen.text((words, top + 32), told, _SOFT, _font(13))
    pen.text((_MARGIN, top + 8), "Unmarked slice", _SOFT, _font(16))
    canvas.paste(Image.fromarray(scale(across, down, _BRAIN_GREY)), (start, bar))
    for chance in (LEAST_CHANCE, 0.5, 1.0):
        x = start + round((across - 1) * (chance - LEAST_CHANCE) / (1 - LEAST_CHANCE))
        pen.line((x, bar + down, x, bar + down + 4), fill=_SOFT)
        pen.text((x, bar + down + 7), f"{chance:.0%}".replace("%", " %"), _SOFT, _font(13), "ma")


def _letters(
    pen: ImageDraw.ImageDraw, left: int, rows: int, columns: int, sides: tuple[str, str] | None
) -> None:
    """Write the sides of a slice and its window."""
    if sides is not None:
        middle = _BANNER_HEIGHT + rows // 2
        pen.text((left + 6, middle), sides[0], _SOFT, _font(20), anchor="lm")
        pen.text((left + columns - 6, middle), sides[1], _SOFT, _font(20), anchor="rm")
    window = f"W {WIDTH_HU} L {LEVEL_HU}"
    pen.text((left + 6, _BANNER_HEIGHT + rows - 6), window, _FAINT, _font(14), anchor="ls")


def _panel(pen: ImageDraw.ImageDraw, caption: Caption, left: int, top: int) -> None:
    """Write the words from the top down."""
    width = _PANEL - 2 * _MARGIN
    top = _paragraph(pen, caption.title, (left, top), width, 20, _WHITE) + 14
    for line in caption.lines:
        top = _label(pen, line, left, top, width)
    top += 4
    pen.line((left, top, left + width, top), fill=_RULE)
    top += 12
    for what, value in caption.facts:
        pen.text((left, top), what, _FAINT, _font(14))
        top = _paragraph(pen, value, (left + 74, top), width - 74, 14, _SOFT) + 4
    _paragraph(pen, caption.note, (left, top + 8), width, 13, _FAINT)


def _label(pen: ImageDraw.ImageDraw, line: Line, left: int, top: int, width: int) -> int:
    """Write one label with its certainty and a bar; return where the next one starts."""
    colour = _COLOURS[line.presence]
    mark = " ?" if line.presence is Presence.UNDETERMINED else ""
    pen.text((left, top), line.name + mark, colour, _font(16))
    pen.text((left + width, top), f"{line.per_cent:.0f} %", colour, _font(16), anchor="ra")
    bar = top + 23
    pen.rectangle((left, bar, left + width, bar + 4), fill=_RULE)
    filled = round(width * line.per_cent / 100)
    if filled > 0:
        pen.rectangle((left, bar, left + filled, bar + 4), fill=colour)
    return top + 37


def _paragraph(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: tuple[int, int],
    width: int,
    size: int,
    colour: tuple[int, int, int],
) -> int:
    """Write text that is broken to a width; return where the next line would start."""
    font, (left, top) = _font(size), at
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


def _centred(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    size: int,
    colour: tuple[int, int, int],
) -> None:
    middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
    pen.text(middle, text, colour, _font(size), anchor="mm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow: the same on every host."""
    return ImageFont.load_default(size)
