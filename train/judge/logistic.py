"""Logistic regression on one variable: log odds against truth.

Estimates are drawn towards the line of a calibrated model by a normal prior with a standard
deviation of 2, which a few dozen cases outweigh. Where both classes are wholly apart, so that any
steep line fits, the prior leaves a finite estimate with a large variance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CLIP = 1e-6
"""Probabilities closer than this to 0 or 1 count as this far, as in RSNA 2019."""
PRIOR_SD = 2.0
_LEAST_WEIGHT = 1e-12
_STEPS = 50


def fit_line(z: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """Fit ``sigmoid(a + b z)``; return (a, b) and their covariance. Drawn towards (0, 1)."""
    design = np.stack([np.ones_like(z), z], axis=1)
    return _newton(design, np.zeros_like(z), positive, np.array([0.0, 1.0]))


def fit_level(z: Floats, positive: Flags) -> tuple[float, float]:
    """Fit ``sigmoid(a + z)``; return a and its variance. Drawn towards 0."""
    found, covariance = _newton(np.ones((len(z), 1)), z, positive, np.zeros(1))
    return float(found[0]), float(covariance[0, 0])


def _newton(
    design: Floats, offset: Floats, positive: Flags, prior: Floats
) -> tuple[Floats, Floats]:
    """Maximise a logistic likelihood with a normal prior; halve steps that make it worse."""
    strength = 1 / PRIOR_SD**2

    def cost(at: Floats) -> float:
        line = offset + design @ at
        likelihood = np.logaddexp(0.0, np.where(positive, -line, line)).sum()
        return float(likelihood + strength * ((at - prior) ** 2).sum() / 2)

    at, best = prior.copy(), cost(prior)
    for _ in range(_STEPS):
        p = probability_of(offset + design @ at)
        gradient = design.T @ (p - positive) + strength * (at - prior)
        weights = np.maximum(p * (1 - p), _LEAST_WEIGHT)
        hessian = (design * weights[:, None]).T @ design + strength * np.eye(len(at))
        step = np.linalg.solve(hessian, gradient)
        while (value := cost(at - step)) > best + 1e-12 and np.abs(step).max() > 1e-10:
            step = step / 2
        at, best = at - step, value
        if np.abs(step).max() < 1e-9:
            break
    return at, np.asarray(np.linalg.inv(hessian), np.float64)


def probability_of(log_odds_: Floats) -> Floats:
    """Return the logistic function, exact far out as well."""
    return np.asarray(expit(log_odds_))


def log_odds(probabilities: Floats) -> Floats:
    """Return the log odds of probabilities that are cut to stay finite."""
    p = np.clip(probabilities, CLIP, 1 - CLIP)
    return np.asarray(np.log(p) - np.log1p(-p))
