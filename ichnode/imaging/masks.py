"""Masks of one slice as short text, for a result that is kept and a picture that is drawn later."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import BloodMask

Mask = npt.NDArray[np.bool_]


def pack(slice_uid: str, mask: Mask) -> BloodMask:
    """Pack a mask, bool (y, x): a bleed on 512 x 512 pixels takes some hundred letters."""
    rows, columns = mask.shape
    packed = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode("ascii")
    return BloodMask(slice_uid, rows, columns, packed)


def unpack(held: BloodMask) -> Mask:
    """Return what was packed: bool, (y, x).

    Raises
    ------
    ValueError
        When it is damaged.
    """
    pixels = held.rows * held.columns
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.b64decode(held.packed), pixels // 8 + 2)
    except zlib.error as error:
        raise ValueError("the mask is damaged") from error
    if len(raw) != -(-pixels // 8):
        raise ValueError("the mask is not of its size")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=pixels)
    return bits.astype(np.bool_).reshape(held.rows, held.columns)
