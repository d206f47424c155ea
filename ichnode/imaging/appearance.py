"""What the pixels say of a series, whatever its tags say: the last gates before a network.

Hounsfield units that cannot be, no head or too little of it, the noise of a sharp kernel, contrast
medium. The limits are estimates, set so that they refuse the plainly unsuited: a wrong refusal is
shown to a person, a wrong acceptance may state a finding of the wrong thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.headtest import Heads, find_heads
from ichnode.imaging.kernels import Sharpness

LEAST_HEAD_SLICES = 6
LEAST_BRAIN_MM = 60.0

AIR_BELOW_HU = -500
LEAST_AIR = 0.01  # of all pixels
WRAPPED_AIR_HU = (2900, 3200)  # air at -1000 in 12 bits without a sign: 4096 - 1000
MOST_WRAPPED = 0.1
BRAIN_MEDIAN_HU = (10.0, 60.0)

SHARP_NOISE_HU = 15.0
NOISY_HU = 12.0
_NOISE_SLICES = 5
_NOISE_TISSUE_HU = (15, 55)
_NOISE_LEAST_PIXELS = 500

VESSEL_HU = (120, 2000)  # above the densest blood; beyond it is metal
SKULL_HU = 350
MOST_VESSEL = 0.003  # of the intracranial volume, about 4 ml
_MEANINGFUL_VOXELS = 4
_LOOK_EVERY_MM = 2.5

Hu = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Appearance:
    """What was measured on a series that passed."""

    brain_mm: float  # how much of the brain is covered, along the normal
    noise_hu: float  # NaN where too little brain was seen to tell
    vessel_fraction: float  # of the intracranial volume
    warnings: tuple[str, ...]


def judge_pixels(
    hu: Hu,
    positions_mm: npt.NDArray[np.float64],
    pixel_spacing_mm: tuple[float, float],
    kernel: Sharpness,
    *,
    may_change: bool,
) -> Appearance:
    """Measure a stack and refuse what is not a plain head CT in Hounsfield units.

    Parameters
    ----------
    hu : numpy.ndarray
        Shape (z, y, x), int16, HU, from the feet upwards.
    positions_mm : numpy.ndarray
        Shape (z,), positions along the normal.
    pixel_spacing_mm : tuple of float
        (y, x), in mm.
    kernel : str
        What the kernel's name says; of a soft one the noise is believed to be noise.
    may_change : bool
        Whether slices are still to come, so that every judgement is asked again.

    Raises
    ------
    NotAnalysable
        IMPLAUSIBLE_HOUNSFIELD, NOT_HEAD, PARTIAL_HEAD, SHARP_KERNEL or CONTRAST.
    """
    try:
        return _judged(hu, positions_mm, pixel_spacing_mm, kernel)
    except NotAnalysable as refusal:
        raise NotAnalysable(refusal.reason, refusal.detail, may_change=may_change) from refusal


def _judged(
    hu: Hu,
    positions_mm: npt.NDArray[np.float64],
    pixel_spacing_mm: tuple[float, float],
    kernel: Sharpness,
) -> Appearance:
    _check_air(hu)
    every = max(1, int(_LOOK_EVERY_MM / float(np.median(np.diff(positions_mm)))))
    looked, places = hu[::every], positions_mm[::every]
    heads = find_heads(looked, pixel_spacing_mm)
    if not heads.is_head.any():
        raise NotAnalysable(Reason.NOT_HEAD)
    brain_mm = heads.brain_mm(places)
    if heads.longest_run * every < LEAST_HEAD_SLICES or brain_mm < LEAST_BRAIN_MM:
        raise NotAnalysable(Reason.PARTIAL_HEAD, f"{brain_mm:.0f} mm of brain")
    _check_brain(looked, heads)
    noise = noise_hu(looked, heads)
    if noise >= SHARP_NOISE_HU and kernel != "soft":
        raise NotAnalysable(Reason.SHARP_KERNEL, f"noise of {noise:.0f} HU")
    vessels = vessel_fraction(looked, heads)
    if vessels > MOST_VESSEL:
        raise NotAnalysable(Reason.CONTRAST, f"{100 * vessels:.1f} % of the volume is enhanced")
    warnings = (f"noise of {noise:.0f} HU",) if noise >= NOISY_HU else ()
    return Appearance(brain_mm, noise, vessels, warnings)


def _check_air(hu: Hu) -> None:
    """Refuse where air is not where air has to be; it is never repaired on a live node."""
    sample = hu[:, ::4, ::4]
    wrapped = ((sample >= WRAPPED_AIR_HU[0]) & (sample <= WRAPPED_AIR_HU[1])).mean()
    if wrapped > MOST_WRAPPED:
        raise NotAnalysable(Reason.IMPLAUSIBLE_HOUNSFIELD, "air reads as metal: a sign was lost")
    if (sample < AIR_BELOW_HU).mean() < LEAST_AIR:
        raise NotAnalysable(Reason.IMPLAUSIBLE_HOUNSFIELD, "there is no air")


def _check_brain(hu: Hu, heads: Heads) -> None:
    """Refuse where brain does not read as brain: a wrong offset or scale."""
    coarse = hu[:, :: heads.stride, :: heads.stride]
    median = float(np.median(coarse[heads.inside]))
    if not BRAIN_MEDIAN_HU[0] <= median <= BRAIN_MEDIAN_HU[1]:
        raise NotAnalysable(Reason.IMPLAUSIBLE_HOUNSFIELD, f"brain reads {median:.0f} HU")


def noise_hu(hu: Hu, heads: Heads) -> float:
    """Return the noise within brain as a robust standard deviation, in HU.

    What remains after a median of 5 x 5 pixels, where that median is brain and its surroundings
    are; the values themselves are not selected, or the selection would cap the answer.
    """
    full = np.flatnonzero(heads.is_head & (heads.brain_area_mm2 >= heads.brain_area_mm2.max() / 2))
    chosen = full[np.linspace(0, len(full) - 1, min(_NOISE_SLICES, len(full))).astype(int)]
    residuals = [_residual(hu[z], heads.inside[z], heads.stride) for z in chosen]
    pooled = np.concatenate(residuals)
    if len(pooled) < _NOISE_LEAST_PIXELS:
        return float("nan")
    return float(1.4826 * np.median(np.abs(pooled - np.median(pooled))))


def _residual(image: Hu, inside: npt.NDArray[np.bool_], stride: int) -> npt.NDArray[np.float32]:
    """Return image minus its median, in a central patch of brain at full resolution."""
    rows, columns = np.nonzero(inside)
    middle = (int(rows.mean()) * stride, int(columns.mean()) * stride)
    half = 24 * stride
    y = slice(max(0, middle[0] - half), middle[0] + half)
    x = slice(max(0, middle[1] - half), middle[1] + half)
    patch = image[y, x].astype(np.float32)
    smooth = ndimage.median_filter(patch, size=5)
    tissue = (smooth > _NOISE_TISSUE_HU[0]) & (smooth < _NOISE_TISSUE_HU[1])
    return np.asarray((patch - smooth)[ndimage.binary_erosion(tissue, iterations=2)])


def vessel_fraction(hu: Hu, heads: Heads) -> float:
    """Return which part of the inside of the skull is as dense as vessels with contrast medium.

    Counted are connected voxels of 120 HU and more, after smoothing, that do not touch the skull
    and hold no metal. Calcified choroid, pineal gland and falx are a fraction of the limit; acute
    blood stays below 100 HU.
    """
    box = _box(heads.inside)
    inside = heads.inside[box]
    volume = int(inside.sum())
    coarse = hu[:, :: heads.stride, :: heads.stride][box]
    dense = ndimage.uniform_filter(coarse, size=(1, 3, 3)) >= VESSEL_HU[0]
    labels, count = ndimage.label(dense)
    if count == 0 or volume == 0:
        return 0.0
    counted = np.bincount(labels[dense & inside], minlength=count + 1) >= _MEANINGFUL_VOXELS
    counted[labels[dense & ~inside]] = False  # the skull, and what hangs on it
    counted[labels[dense & (coarse > VESSEL_HU[1])]] = False
    return float(counted[labels[dense]].sum() / volume)


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box around a mask, one pixel wider in y and x."""
    z = np.flatnonzero(mask.any(axis=(1, 2)))
    y = np.flatnonzero(mask.any(axis=(0, 2)))
    x = np.flatnonzero(mask.any(axis=(0, 1)))
    if not len(z):
        return slice(0, 1), slice(0, 1), slice(0, 1)
    return (
        slice(int(z[0]), int(z[-1]) + 1),
        slice(max(0, int(y[0]) - 1), int(y[-1]) + 2),
        slice(max(0, int(x[0]) - 1), int(x[-1]) + 2),
    )
