"""Three bands with a promise: of those called urgent enough have it, of the routine hardly any.

Each threshold of a fixed grid is a hypothesis, "the band that starts here is wrong more often than
allowed"; it is rejected by an exact binomial test at level delta. The grid is tried from the safe
end, and the last threshold before the first that cannot be rejected is taken (learn then test,
fixed sequence). Then, with a chance of 1 - delta, the band keeps its goal on further series.

What that needs: the series to come are drawn like those of the calibration data (exchangeable:
the same site, scanners, mix of patients and prevalence), and those are independent, for which one
series a patient is taken. A change of scanner or of referrals ends it, and nothing warns.

References
----------
Angelopoulos AN et al., Learn then Test: calibrating predictive algorithms to achieve risk control,
2021. Angelopoulos AN et al., Conformal triage for medical imaging AI deployment, medRxiv 2024 (with
delta = 0.2; here it is 0.05).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

GRID = np.linspace(-40.0, 40.0, 16_001)
"""Of calibrated log odds, in steps of 0.005. Fixed before any data are seen."""


@dataclass(frozen=True, slots=True)
class Band:
    """One end of the scale.

    Attributes
    ----------
    goal : float
        Of those in the band, the fraction that must be right: the predictive value.
    log_odds : float or None
        The threshold of the largest band that keeps the goal; None where none is known to.
    safest : float or None
        The first threshold that was tried; every one between it and `log_odds` keeps the goal.
    count, wrong : int
        Series in that band, and those of them that belong on the other side; of the band that
        failed where none keeps the goal.
    why_not : str
        Why there is none; "" where there is.
    """

    goal: float
    log_odds: float | None
    safest: float | None
    count: int
    wrong: int
    why_not: str = ""


def urgent_band(
    scores: Floats, positive: Flags, *, goal: float = 0.8, delta: float = 0.05, least: int = 50
) -> Band:
    """Return the largest band at the top whose positive predictive value reaches the goal.

    Parameters
    ----------
    scores : ndarray, float64, (series,)
        Calibrated log odds of independent series, one a patient.
    positive : ndarray, bool, (series,)
        Whether it has haemorrhage.
    goal : float
        The positive predictive value.
    delta : float
        The chance that the promise is broken.
    least : int
        A band with fewer series is not tried.
    """
    grid = GRID[::-1]
    above = len(scores) - np.searchsorted(np.sort(scores), grid, side="left")
    wrong = np.sum(~positive) - np.searchsorted(np.sort(scores[~positive]), grid, side="left")
    return _longest(grid, above, wrong, goal, delta, least)


def routine_band(
    scores: Floats, positive: Flags, *, goal: float = 0.98, delta: float = 0.05, least: int = 500
) -> Band:
    """Return the largest band at the bottom whose negative predictive value reaches the goal.

    A series is in it when its score is below the threshold. See `urgent_band`.
    """
    below = np.searchsorted(np.sort(scores), GRID, side="left")
    wrong = np.searchsorted(np.sort(scores[positive]), GRID, side="left")
    return _longest(GRID, below, wrong, goal, delta, least)


def _longest(
    grid: Floats,
    sizes: npt.NDArray[np.int64],
    wrong: npt.NDArray[np.int64],
    goal: float,
    delta: float,
    least: int,
) -> Band:
    """Go along the grid until a threshold fails; bands grow along it."""
    tried = np.flatnonzero(sizes >= least)
    if not len(tried):
        most = int(sizes.max(initial=0))
        return Band(goal, None, None, most, 0, f"{least} series are needed and there are {most}")
    passed = binom.cdf(wrong[tried], sizes[tried], 1 - goal) <= delta
    ended = len(tried) if passed.all() else int(np.argmin(passed))
    last = tried[max(ended - 1, 0)]
    count, missed = int(sizes[last]), int(wrong[last])
    if ended == 0:
        why = f"of the {count} series at its end {missed} are wrong, too many for {goal:.0%}"
        return Band(goal, None, None, count, missed, why)
    return Band(goal, float(grid[last]), float(grid[tried[0]]), count, missed)
