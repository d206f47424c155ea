"""Put right what a lost sign did to Hounsfield units, where the pixels prove it.

Some scans of public datasets were written as 12 bits without a sign and a rescale intercept of
about 0: what lay below zero came out modulo 4096, so that air reads like metal. The closed form
``HU = (raw + 1000) mod 4096 - 1000`` undoes that. It is applied to what is shown to need it and to
nothing else; a node never repairs live images (`ichnode.imaging.appearance` refuses them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichnode.imaging.headtest import find_heads
from ichnode.imaging.hounsfield import AIR_HU

MODULUS = 4096
SHIFT_HU = 1000
INTERCEPT_ABOVE_HU = -100.0  # an intercept further down leaves room for air without wrapping
AIR_PEAK = (3040, 3150)  # where -1056 ... -946 HU lie modulo 4096
LEAST_AIR = 0.15  # of the pixels
AIR_HU_RANGE = (-1050.0, -950.0)
BRAIN_HU_RANGE = (15.0, 50.0)  # the median of what the skull encloses

_LOWEST_WRAPPED_AIR = MODULUS - SHIFT_HU  # 3096: below it the closed form reads metal
_LEAST_COMPANY = 0.25  # of a patch, that is air beyond doubt, for the rest of it to be air as well
_TISSUE_HU = -900  # a plateau outside the circle that reads more than this is no air
_LEAST_PLATEAU = 0.5  # of what lies outside the circle

Image = npt.NDArray[Any]


class RepairPolicy(Enum):
    """Whether wrapped Hounsfield units are put right."""

    NEVER = "never"
    BY_EVIDENCE = "by evidence"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the pixels say of images whose tags are those of a wrapped encoding."""

    air_share: float  # of all pixels, in the peak where wrapped air lies
    air_hu: float  # the median of those, after the repair; NaN where there are none
    brain_hu: float  # the median inside the skull, after the repair; NaN where no head is seen

    @property
    def wrapped(self) -> bool:
        """Whether all of it says that the values are wrapped."""
        return (
            self.air_share > LEAST_AIR
            and AIR_HU_RANGE[0] <= self.air_hu <= AIR_HU_RANGE[1]
            and BRAIN_HU_RANGE[0] <= self.brain_hu <= BRAIN_HU_RANGE[1]
        )


def tags_match(bits_stored: float, pixel_representation: float, intercept_hu: float) -> bool:
    """Say whether the tags are those of a wrapped encoding; that alone proves nothing."""
    unsigned_12_bits = bits_stored == 12 and pixel_representation == 0
    return unsigned_12_bits and intercept_hu > INTERCEPT_ABOVE_HU


def evidence(raws: Sequence[Image], spacings_mm: Sequence[tuple[float, float] | None]) -> Evidence:
    """Weigh the images of one series together: the top of a head alone shows no brain.

    Parameters
    ----------
    raws : sequence of ndarray, (y, x)
        Stored values, 0 to 4095.
    spacings_mm : sequence of (float, float)
        Between rows and between columns; an image without one is not searched for a head.
    """
    inside: list[Image] = []
    air: list[Image] = []
    pixels = 0
    for raw, spacing_mm in zip(raws, spacings_mm, strict=True):
        hu = unwrapped(raw)
        pixels += raw.size
        air.append(hu[_in_air_peak(raw)])
        if spacing_mm is not None:
            heads = find_heads(hu[None], spacing_mm)
            inside.append(hu[:: heads.stride, :: heads.stride][heads.inside[0]])
    return Evidence(
        air_share=sum(map(len, air)) / max(pixels, 1),
        air_hu=_median(air),
        brain_hu=_median(inside),
    )


def unwrapped(raw: Image) -> npt.NDArray[np.int16]:
    """Return the Hounsfield units of one wrapped image.

    Beside the closed form: noise that took air below -1000 HU, which the closed form would read as
    metal, stays air where it lies in air; and a padding value that wrapped to a bright plateau
    outside the reconstruction circle becomes -1024.

    Parameters
    ----------
    raw : ndarray, (y, x)
        Stored values, 0 to 4095.

    Returns
    -------
    ndarray, int16, (y, x)
    """
    values = raw.astype(np.int32)
    hu = (values + SHIFT_HU) % MODULUS - SHIFT_HU
    below = _air_below(values)
    hu[below] = values[below] - MODULUS
    hu[_bright_plateau(hu)] = AIR_HU
    return np.clip(hu, AIR_HU, None).astype(np.int16)


def _in_air_peak(raw: Image) -> npt.NDArray[np.bool_]:
    return np.asarray((raw >= AIR_PEAK[0]) & (raw <= AIR_PEAK[1]))


def _air_below(raw: Image) -> npt.NDArray[np.bool_]:
    """Return which pixels are air a little below -1000 HU, and not metal."""
    peak = _in_air_peak(raw)
    unsure = peak & (raw < _LOWEST_WRAPPED_AIR)
    if not unsure.any():
        return unsure
    patches, count = ndimage.label(peak, np.ones((3, 3), bool))
    size = np.bincount(patches.ravel(), minlength=count + 1)
    sure = np.bincount(patches[peak & ~unsure], minlength=count + 1)
    is_air = sure >= _LEAST_COMPANY * size
    is_air[0] = False
    return np.asarray(unsure & is_air[patches])


def _bright_plateau(hu: Image) -> npt.NDArray[np.bool_]:
    """Return the pixels of one value that fill what lies outside the reconstruction circle."""
    rows, columns = hu.shape
    y = np.arange(rows)[:, None] - (rows - 1) / 2
    x = np.arange(columns)[None, :] - (columns - 1) / 2
    outside = (y / (rows / 2)) ** 2 + (x / (columns / 2)) ** 2 > 1
    values, counts = np.unique(hu[outside], return_counts=True)
    nothing = np.zeros(hu.shape, bool)
    if not len(values) or counts.max() < _LEAST_PLATEAU * counts.sum():
        return nothing
    value = values[counts.argmax()]
    if value <= _TISSUE_HU:
        return nothing
    patches, _ = ndimage.label(hu == value)
    touching = np.unique(patches[outside & (hu == value)])
    return np.asarray(np.isin(patches, touching[touching > 0]))


def _median(parts: Sequence[Image]) -> float:
    values = np.concatenate(parts) if parts else np.empty(0)
    return float(np.median(values)) if len(values) else float("nan")
