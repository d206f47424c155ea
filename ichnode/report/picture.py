"""The key image as a picture: the slice in the brain window, what the model says beside it.

Grey values are those of a radiologist's own brain window, unmarked: nothing is drawn onto the
brain. All words stand outside of it, except the letters that tell the sides. Where the model says
where the blood is, the same slice stands beside it once more: with the heat map as a wash of
colour, its scale below, and with the outline, around the blood and not on it. The words then stand
below both: the picture is about square, and its letters can be read where it is shown small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ichnode.imaging.masks import LEAST_CHANCE, Mask
from ichnode.report.caption import (
    FAINT,
    MARGIN,
    PANEL,
    PANEL_GREY,
    RULE,
    SOFT,
    WHITE,
    YELLOW,
    Caption,
    font_of,
    words_below,
    words_beside,
)
from ichnode.report.wash import Floats, scale, washed

LEVEL_HU, WIDTH_HU = 40, 80  # the brain window
BANNER = "AI OUTPUT - NOT FOR DIAGNOSTIC USE"

_LEAST_SIDE = 512
_BANNER_HEIGHT, _LEGEND_HEIGHT = 40, 64
_SCALE = (150, 12)  # pixels across and down
_BRAIN_GREY = 108  # about that of 34 HU
CYAN = (70, 225, 255)


Sides = tuple[str, str, str, str]
"""Letters for the left, right, upper and lower edge of a slice."""
AS_READ: Sides = ("R", "L", "A", "P")


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
    sides: Sides | None,
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
    sides : Sides or None
        The letters for the edges of the slice; None where they are not known.
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
    width, foot = columns * len(slices), _BANNER_HEIGHT + max(rows, _LEAST_SIDE)
    canvas = _sheet(slices, caption, width, foot, has_legend=heat is not None)
    pen = ImageDraw.Draw(canvas)
    for place, one in enumerate(slices):
        canvas.paste(Image.fromarray(one), (place * columns, _BANNER_HEIGHT))
        _letters(pen, place * columns, rows, columns, sides)
    if len(slices) > 1:
        pen.line((columns, _BANNER_HEIGHT, columns, foot), fill=RULE)
    if mask is not None:
        at = (width - 6, _BANNER_HEIGHT + rows - 6)
        pen.text(at, "AI outline", CYAN, font_of(16), anchor="rs")
    if heat is not None:
        _legend(canvas, columns, width, foot)
    _centred(pen, BANNER, (0, 0, canvas.width, _BANNER_HEIGHT), 24, YELLOW)
    return np.asarray(canvas)


def _sheet(
    slices: Sequence[npt.NDArray[np.uint8]],
    caption: Caption,
    width: int,
    foot: int,
    *,
    has_legend: bool,
) -> Image.Image:
    """Return the picture with its words, without slices and legend."""
    if len(slices) == 1:
        words = words_beside(caption)
        canvas = Image.new("RGB", (width + PANEL, max(foot, _BANNER_HEIGHT + words.height)))
        canvas.paste(PANEL_GREY, (width, _BANNER_HEIGHT, *canvas.size))
        canvas.paste(words, (width, _BANNER_HEIGHT))
        return canvas
    foot += _LEGEND_HEIGHT if has_legend else 0
    words = words_below(caption, width)
    canvas = Image.new("RGB", (width, foot + words.height))
    canvas.paste(words, (0, foot))
    return canvas


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
    pen.line((0, top, right, top), fill=RULE)
    start, bar = right - 2 * MARGIN - across, top + 14
    told = "where blood is suspected, not anatomy"
    room = start - 2 * MARGIN - round(font_of(15).getlength(told))  # narrow slices: further left
    words = min(left + MARGIN, room)
    pen.text((words, top + 8), "AI heat map", WHITE, font_of(18))
    pen.text((words, top + 36), told, SOFT, font_of(15))
    pen.text((MARGIN, top + 8), "Unmarked slice", SOFT, font_of(18))
    canvas.paste(Image.fromarray(scale(across, down, _BRAIN_GREY)), (start, bar))
    for chance in (LEAST_CHANCE, 0.5, 1.0):
        x = start + round((across - 1) * (chance - LEAST_CHANCE) / (1 - LEAST_CHANCE))
        pen.line((x, bar + down, x, bar + down + 5), fill=SOFT)
        pen.text((x, bar + down + 9), f"{chance:.0%}".replace("%", " %"), SOFT, font_of(15), "ma")


def _letters(
    pen: ImageDraw.ImageDraw, left: int, rows: int, columns: int, sides: Sides | None
) -> None:
    """Write the sides of a slice and its window."""
    top, across, down = _BANNER_HEIGHT, left + columns // 2, _BANNER_HEIGHT + rows // 2
    places = (
        ((left + 6, down), "lm"),
        ((left + columns - 6, down), "rm"),
        ((across, top + 6), "ma"),
        ((across, top + rows - 6), "ms"),
    )
    for letter, (at, anchor) in zip(sides or (), places, strict=sides is not None):
        pen.text(at, letter, SOFT, font_of(20), anchor=anchor)
    window = f"W {WIDTH_HU} L {LEVEL_HU}"
    pen.text((left + 6, top + rows - 6), window, FAINT, font_of(16), anchor="ls")


def _centred(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    size: int,
    colour: tuple[int, int, int],
) -> None:
    middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
    pen.text(middle, text, colour, font_of(size), anchor="mm")
