"""What is drawn on one slice as short text, for a result that is kept and a picture drawn later."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import BloodMask, HeatMap

Mask = npt.NDArray[np.bool_]

LEAST_CHANCE = 0.1
"""Of a place of a heat map: below it nothing speaks for blood, and nothing is shown."""
PLACES = 64
"""On either side of a heat map, at most."""
_FARTHEST_PX = 1 << 16


@dataclass(frozen=True, slots=True)
class Heat:
    """How much speaks for blood at each place of a square that was cut out of a slice.

    Attributes
    ----------
    chances : ndarray, uint8, (y, x)
        As many places down as across, at most `PLACES`; 255 is certainty.
    box : tuple of int
        Top, left, height and width of the square in pixels of the slice; the places part it
        evenly. It may reach beyond the slice.
    """

    chances: npt.NDArray[np.uint8] = field(repr=False)
    box: tuple[int, int, int, int]


def pack(slice_uid: str, mask: Mask) -> BloodMask:
    """Pack a mask, bool (y, x): a bleed on 512 x 512 pixels takes some hundred letters."""
    rows, columns = mask.shape
    return BloodMask(slice_uid, rows, columns, _letters(np.packbits(mask).tobytes()))


def unpack(held: BloodMask) -> Mask:
    """Return what was packed: bool, (y, x).

    Raises
    ------
    ValueError
        When it is damaged.
    """
    pixels = held.rows * held.columns
    raw = _bytes(held.packed, -(-pixels // 8))
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=pixels)
    return bits.astype(np.bool_).reshape(held.rows, held.columns)


def pack_heat(slice_uid: str, shape: tuple[int, int], heat: Heat) -> HeatMap:
    """Pack a heat map of a slice with so many rows and columns: at most some thousand letters."""
    packed = _letters(heat.chances.tobytes())
    return HeatMap(slice_uid, *shape, *heat.box, len(heat.chances), packed)


def unpack_heat(held: HeatMap) -> Heat:
    """Return what was packed.

    Raises
    ------
    ValueError
        When it is damaged.
    """
    box = (held.top, held.left, held.height, held.width)
    if not all(isinstance(number, int) for number in (held.places, *box)):
        raise ValueError("the heat map is not of whole numbers")
    if not 0 < held.places <= PLACES or min(held.height, held.width) <= 0:
        raise ValueError("the heat map has no size")
    if max(map(abs, box)) > _FARTHEST_PX:
        raise ValueError("the heat map is of no slice")
    raw = _bytes(held.packed, held.places**2)
    return Heat(
        chances=np.frombuffer(raw, np.uint8).reshape(held.places, held.places),
        box=box,
    )


def _letters(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def _bytes(packed: str, size: int) -> bytes:
    """Return the bytes that became letters; for more than are expected no room is made."""
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(packed), size + 1)
    except (zlib.error, TypeError) as error:
        raise ValueError("what was drawn is damaged") from error
    if len(raw) != size:
        raise ValueError("what was drawn is not of its size")
    return raw
