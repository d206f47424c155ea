"""How much of a slice is brain: the ``img_pct_window`` of the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BRAIN_HU = (0, 80)
"""The brain window: level 40, width 80."""


def brain_fraction(hu: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return which part of all pixels of a slice lies within the brain window.

    Air counts among all pixels, so the same head in a wider field of view has a smaller fraction;
    both limits are excluded, as fastai has it.

    Parameters
    ----------
    hu : ndarray, (..., y, x)
        Hounsfield units.

    Returns
    -------
    ndarray, float64, (...)
    """
    inside: npt.NDArray[np.float64] = ((hu > BRAIN_HU[0]) & (hu < BRAIN_HU[1])).mean(axis=(-2, -1))
    return inside
