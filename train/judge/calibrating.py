"""Make probabilities mean what they say: temperature and bias, on the calibration split alone.

"any" has a temperature of its own, the five subtypes share one, because epidural bleeds are too
rare for theirs; every label has a bias. Slices and series are fitted apart. What the fit does is
cross-checked by patient, and where that does not help the logits stay as they are.

References
----------
Guo C et al., On calibration of modern neural networks, ICML 2017.
Platt J, Probabilistic outputs for support vector machines, 1999.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ichnode.nets.calibration import NOT_ASKED, probability, series_logits
from ichnode.nets.manifest import Calibration
from train.errors import TrainingError
from train.judge.prior import before_sampling, estimate_prevalence, for_prevalence, seen_in
from train.judge.temperature import Checked, fit_labels
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]
Owners = npt.NDArray[np.int64]
Rule = Literal["adjacent_mean", "max", "log_sum_exp"]


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What is known of the prevalence where the model will run; at most one of the three.

    Attributes
    ----------
    prevalence : float, optional
        The site's fraction of series with any haemorrhage.
    kept_negatives : float, optional
        Where the calibration data hold only this fraction of the series without haemorrhage.
    unlabelled : Predictions, optional
        Series of the site, from which its prevalence is estimated; their truth is not looked at.
    """

    prevalence: float | None = None
    kept_negatives: float | None = None
    unlabelled: Predictions | None = None

    def __post_init__(self) -> None:
        given = (self.prevalence, self.kept_negatives, self.unlabelled)
        if sum(one is not None for one in given) > 1:
            raise TrainingError(
                "State the prevalence, or the fraction of negatives kept, or give unlabelled "
                "series: only one of them."
            )


UNCHANGED = Site()


@dataclasses.dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration and what speaks for it."""

    calibration: Calibration
    checks: tuple[Checked, ...]
    prevalence: float  # of "any" in series, that the probabilities refer to


def under_rule(predictions: Predictions, rule: Rule) -> Predictions:
    """Return the same slices with series that follow from them by another rule."""
    return Predictions(
        tuple(
            dataclasses.replace(one, series_logits=series_logits(one.slice_logits, rule))
            for one in predictions.series
        )
    )


def calibrate(
    predictions: Predictions,
    rule: Rule = "adjacent_mean",
    *,
    site: Site = UNCHANGED,
    seed: int = 1,
) -> Calibration:
    """Fit temperature and bias of slices and of series; see `calibrate_and_check`."""
    return calibrate_and_check(predictions, rule, site=site, seed=seed).calibration


def calibrate_and_check(
    predictions: Predictions,
    rule: Rule = "adjacent_mean",
    *,
    site: Site = UNCHANGED,
    seed: int = 1,
) -> Calibrated:
    """Fit temperature and bias, say whether that helps, and move them to a site's prevalence.

    Parameters
    ----------
    predictions : Predictions
        Of the calibration split, which nothing else was chosen on.
    rule : str
        How `predictions` made series out of slices; it is only recorded.
    site : Site
        By default probabilities refer to the prevalence of `predictions`.

    Raises
    ------
    TrainingError
        When series with or without haemorrhage are missing.
    """
    truth = predictions.series_truth[:, 0]
    if not (truth == 1).any() or not (truth == 0).any():
        raise TrainingError(
            "Calibration needs series with and without haemorrhage; there are "
            f"{int((truth == 1).sum())} with and {int((truth == 0).sum())} without."
        )
    fitted, checks = _fitted(predictions, rule, seed)
    moved, prevalence, told = _to_site(fitted, predictions, site)
    how = " ".join((_how_fitted(predictions), *(check.sentence for check in checks), told))
    return Calibrated(dataclasses.replace(moved, how=how), checks, prevalence)


def _fitted(
    predictions: Predictions, rule: Rule, seed: int
) -> tuple[Calibration, tuple[Checked, ...]]:
    _patients, owner = np.unique(np.asarray(predictions.patients), return_inverse=True)
    lengths = [len(one.slice_logits) for one in predictions.series]
    of_series, series_checks = fit_labels(
        "series", predictions.series_logits, _asked(predictions), owner, seed
    )
    truth = np.where(predictions.slice_logits > NOT_ASKED, predictions.slice_truth, np.nan)
    of_slices, slice_checks = fit_labels(
        "slice", predictions.slice_logits, truth, np.repeat(owner, lengths), seed
    )
    calibration = Calibration(
        slice_temperature=tuple(f.temperature for f in of_slices for _ in f.bias),
        slice_bias=tuple(b for f in of_slices for b in f.bias),
        series_temperature=tuple(f.temperature for f in of_series for _ in f.bias),
        series_bias=tuple(b for f in of_series for b in f.bias),
        series_rule=rule,
        how="",
    )
    return calibration, (*series_checks, *slice_checks)


def _asked(predictions: Predictions) -> Floats:
    """Return the truth of series, unknown where the second network of a pair was never asked."""
    asked = np.stack([(one.slice_logits > NOT_ASKED).any(axis=0) for one in predictions.series])
    return np.where(asked, predictions.series_truth, np.nan)


def _to_site(
    fitted: Calibration, predictions: Predictions, site: Site
) -> tuple[Calibration, float, str]:
    """Return the calibration for the site, the prevalence that it refers to, and the sentence."""
    seen = seen_in(predictions)
    before = float(seen.series[0])
    if site == UNCHANGED:
        return fitted, before, f"Probabilities refer to the prevalence seen there, {before:.1%}."
    after, source = _prevalence(fitted, before, site)
    told = (
        f"Probabilities refer to a prevalence of {after:.1%}, which {source}; seen were "
        f"{before:.1%}. Subtypes and slices keep their share of it."
    )
    return for_prevalence(fitted, seen, after), after, told


def _prevalence(fitted: Calibration, before: float, site: Site) -> tuple[float, str]:
    if site.prevalence is not None:
        return site.prevalence, "was stated"
    if site.kept_negatives is not None:
        after = before_sampling(before, site.kept_negatives)
        return after, f"follows from {site.kept_negatives:.3g} of the negatives having been kept"
    if site.unlabelled is None:
        raise TrainingError("Nothing is stated of the site's prevalence.")
    stated = series_probabilities(site.unlabelled, fitted)[:, 0]
    after = estimate_prevalence(stated, before)
    return after, f"was estimated from {len(site.unlabelled)} series without labels (Saerens)"


def series_probabilities(predictions: Predictions, calibration: Calibration) -> Floats:
    """Return the calibrated probabilities of series, (series, label)."""
    return probability(
        predictions.series_logits,
        np.asarray(calibration.series_temperature),
        np.asarray(calibration.series_bias),
    )


def series_log_odds(predictions: Predictions, calibration: Calibration) -> Floats:
    """Return the calibrated log odds of series, (series, label): they never saturate."""
    temperature = np.asarray(calibration.series_temperature)
    return np.asarray(predictions.series_logits / temperature + calibration.series_bias)


def slice_probabilities(predictions: Predictions, calibration: Calibration) -> Floats:
    """Return the calibrated probabilities of slices, (slice, label), series after series."""
    return probability(
        predictions.slice_logits,
        np.asarray(calibration.slice_temperature),
        np.asarray(calibration.slice_bias),
    )


def _how_fitted(predictions: Predictions) -> str:
    truth = predictions.series_truth[:, 0]
    sources = _listed(sorted({one.dataset for one in predictions.series}))
    return (
        "Temperature (one for any, one for the subtypes) and a bias per label by maximum "
        f"likelihood on {len(predictions)} series of {len(set(predictions.patients))} patients "
        f"({sources}), {int((truth == 1).sum())} of them with haemorrhage."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no source"
