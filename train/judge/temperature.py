"""Temperature and bias of some logits, and whether they help patients left out.

References
----------
Guo C et al., On calibration of modern neural networks, ICML 2017.
Platt J, Probabilistic outputs for support vector machines, 1999.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from ichnode.domain.findings import LABELS
from ichnode.nets.calibration import probability
from train.judge.logistic import probability_of
from train.judge.metrics import brier, ece, log_loss

Floats = npt.NDArray[np.float64]
Owners = npt.NDArray[np.int64]

FOLDS = 5
LEAST_PATIENTS = 10  # fewer are not split to check a fit
_GROUPS = (slice(0, 1), slice(1, len(LABELS)))  # columns that share a temperature
_NAMES = ("any", "subtypes")
_BOUNDS = (math.log(0.2), math.log(20.0))
_TEMPERATURE_SD, _BIAS_SD = 1.0, 3.0  # of the prior, in log units and log odds


@dataclasses.dataclass(frozen=True, slots=True)
class Fit:
    """``sigmoid(logit / temperature + bias)`` of the columns of one group."""

    temperature: float
    bias: tuple[float, ...]

    def of(self, logits: Floats) -> Floats:
        """Return probabilities (n, column)."""
        return probability(logits, np.full(len(self.bias), self.temperature), np.array(self.bias))


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What a fit does to patients that it has not seen; before is ``sigmoid(logit)``.

    Attributes
    ----------
    level : str
        "series" or "slice".
    labels : str
        "any" or "subtypes".
    log_loss, brier, ece : tuple of float
        Before and after.
    helps : bool
        Whether the log loss falls: only then is the fit kept.
    """

    level: str
    labels: str
    log_loss: tuple[float, float]
    brier: tuple[float, float]
    ece: tuple[float, float]

    @property
    def helps(self) -> bool:
        """Say whether the fit is worth keeping."""
        return self.log_loss[1] < self.log_loss[0]

    @property
    def sentence(self) -> str:
        """Say what the fit does."""
        verdict = "kept" if self.helps else "not kept, because it does not help"
        return (
            f"{self.level.capitalize()}, {self.labels}: on patients left out, log loss "
            f"{self.log_loss[0]:.4f} to {self.log_loss[1]:.4f}, Brier {self.brier[0]:.4f} to "
            f"{self.brier[1]:.4f}, ECE {self.ece[0]:.4f} to {self.ece[1]:.4f}: {verdict}."
        )


def fit_labels(
    level: str, logits: Floats, truth: Floats, owner: Owners, seed: int
) -> tuple[list[Fit], list[Checked]]:
    """Fit "any" and the subtypes of one level, and keep what helps patients left out.

    Parameters
    ----------
    level : str
        "series" or "slice".
    logits, truth : ndarray, float64, (n, label)
    owner : ndarray, int64, (n,)
        The patient of each row.
    """
    fits, checks = [], []
    for columns, name in zip(_GROUPS, _NAMES, strict=True):
        part, known = logits[:, columns], truth[:, columns]
        as_it_is = Fit(1.0, (0.0,) * part.shape[1])
        if np.isnan(known).all():
            fits.append(as_it_is)
            continue
        fit = fit_temperature(part, known, owner)
        if len(np.unique(owner)) >= LEAST_PATIENTS:
            checks.append(_check(level, name, part, known, owner, seed))
            fit = fit if checks[-1].helps else as_it_is
        fits.append(fit)
    return fits, checks


def fit_temperature(logits: Floats, truth: Floats, owner: Owners) -> Fit:
    """Fit one temperature and a bias per column by penalised maximum likelihood.

    The entries of a patient are no independent observations, so the likelihood counts as one
    observation a patient against the prior, which draws the temperature to 1 and the biases to 0.

    Parameters
    ----------
    logits, truth : ndarray, float64, (n, column)
        Truth may be NaN.
    owner : ndarray, int64, (n,)
        The patient of each row.
    """
    known = ~np.isnan(truth)
    count, stated = max(int(known.sum()), 1), np.nan_to_num(truth)
    weight = 1 / max(len(np.unique(owner[known.any(axis=1)])), 1)

    def cost(at: Floats) -> tuple[float, Floats]:
        scaled, bias = logits * np.exp(-at[0]), at[1:]
        line = scaled + bias
        off = np.where(known, probability_of(line) - stated, 0.0) / count
        loss = float(np.where(known, np.logaddexp(0, line) - stated * line, 0.0).sum()) / count
        prior = (at[0] / _TEMPERATURE_SD) ** 2 + float(((bias / _BIAS_SD) ** 2).sum())
        slope = np.concatenate([[-(off * scaled).sum()], off.sum(axis=0)])
        pull = np.concatenate([[at[0] / _TEMPERATURE_SD**2], bias / _BIAS_SD**2])
        return loss + weight * prior / 2, slope + weight * pull

    columns = logits.shape[1]
    found = minimize(
        cost,
        np.zeros(1 + columns),
        jac=True,
        method="L-BFGS-B",
        bounds=[_BOUNDS, *([(-12.0, 12.0)] * columns)],
    ).x
    return Fit(round(math.exp(found[0]), 5), tuple(round(float(b), 5) for b in found[1:]))


def _check(
    level: str, name: str, logits: Floats, truth: Floats, owner: Owners, seed: int
) -> Checked:
    """Fit without a fifth of the patients at a time, and look at those."""
    fold = fold_by_patient(owner, seed)
    before, after = probability_of(logits), np.empty_like(logits)
    for index in range(FOLDS):
        out = fold == index
        after[out] = fit_temperature(logits[~out], truth[~out], owner[~out]).of(logits[out])
    flat = truth.ravel()
    return Checked(
        level=level,
        labels=name,
        log_loss=(log_loss(before.ravel(), flat), log_loss(after.ravel(), flat)),
        brier=(brier(before.ravel(), flat), brier(after.ravel(), flat)),
        ece=(ece(before.ravel(), flat), ece(after.ravel(), flat)),
    )


def fold_by_patient(owner: Owners, seed: int) -> Owners:
    """Return to which of `FOLDS` folds each observation belongs; a patient is in one alone."""
    patients = np.unique(owner)
    fold_of = np.random.default_rng(seed).permutation(len(patients)) % FOLDS
    folds: Owners = fold_of[np.searchsorted(patients, owner)]
    return folds
