"""The windows that head CT is looked at through, and how much of a slice lies in that of the brain.

The latter is the ``img_pct_window`` of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

WINDOWS: Mapping[str, tuple[float, float]] = {
    "brain": (0.0, 80.0),
    "subdural": (-27.0, 227.0),
    "stroke": (28.0, 36.0),
    "brain and bone": (-800.0, 2000.0),
    "soft tissue": (-147.5, 227.5),
}
"""Lower and upper limit in HU; those of fastai, which the paper uses."""

BRAIN_HU = WINDOWS["brain"]


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
