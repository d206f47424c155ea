"""Choose the thresholds of a bundle: what is urgent, what is to be reviewed, what is routine.

"any" is urgent from the operating point on (`sensitivity`); the bands of `conformal` say what that
means for predictive values, and draw the line between review and routine where there are series
enough. A subtype is present from a cut of its own, which must not raise alarms by itself.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import Calibration, Thresholds
from train.errors import TrainingError
from train.judge.aims import NOT_LOCAL, USUAL, Aims, as_probability, how_chosen
from train.judge.calibrating import series_log_odds
from train.judge.conformal import Band, routine_band, urgent_band
from train.judge.logistic import fit_level
from train.judge.prior import shift
from train.judge.sensitivity import (
    OperatingPoint,
    best_cut,
    find_operating_point,
    one_per_patient,
    positives_needed,
)
from train.predictions import Predictions

__all__ = [
    "NOT_LOCAL",
    "USUAL",
    "Aims",
    "Choice",
    "choose",
    "choose_thresholds",
    "positives_needed",
]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SITE = "site"
"""The dataset that a node exports: the scans of the place where the model will run."""
_UNSEEN_LOG_ODDS = 4.6  # 99 %, for a label with too few examples
_LEAST_EXAMPLES = 10
_LEAST_SUBTYPE_LOG_ODDS = 0.0  # a subtype alone makes a series urgent only when it is rather likely
_ALARMS_OF_SUBTYPE = 0.004  # of series without blood, that a subtype may call by itself
_REVIEWED_NEGATIVES = 0.1  # of them, that review may add to what is called
_STEP = 0.05  # review starts below urgent
_OTHER_PREVALENCE = 0.3  # in log odds: more is no longer the prevalence that was seen


@dataclass(frozen=True, slots=True)
class Choice:
    """The thresholds, and what speaks for them."""

    thresholds: Thresholds
    aims: Aims
    point: OperatingPoint
    urgent: Band
    routine: Band
    locally: bool  # both bands keep their goals at the site

    def report(self) -> dict[str, Any]:
        """Return it as JSON, probabilities instead of log odds."""
        point = asdict(self.point) | {
            "promised": self.point.promised,
            "sensitivity": self.point.sensitivity,
            "specificity": self.point.specificity,
            "at_prevalences": [asdict(one) for one in self.point.at_prevalences],
        }
        bands = {"urgent": asdict(self.urgent), "routine": asdict(self.routine)}
        whole = {"aims": asdict(self.aims), "operating_point": point, "bands": bands}
        return dict(_as_json(whole | {"locally_calibrated": self.locally}))


def choose_thresholds(
    predictions: Predictions,
    calibration: Calibration,
    *,
    aims: Aims = USUAL,
    local: bool | None = None,
    prevalence: float | None = None,
    seed: int = 1,
) -> Thresholds:
    """Choose thresholds on the calibration split; see `choose`."""
    return choose(
        predictions, calibration, aims=aims, local=local, prevalence=prevalence, seed=seed
    ).thresholds


def choose(
    predictions: Predictions,
    calibration: Calibration,
    *,
    aims: Aims = USUAL,
    local: bool | None = None,
    prevalence: float | None = None,
    seed: int = 1,
) -> Choice:
    """Choose thresholds on the calibration split, and say what they promise.

    Parameters
    ----------
    local : bool, optional
        Whether `predictions` are consecutive series of the place where the model will run; by
        default, whether all of them come from the dataset "site".
    prevalence : float, optional
        That the probabilities refer to. Where it is another than that of `predictions`, no band is
        made; left out, it is judged by how far the probabilities are off as a whole.

    Raises
    ------
    TrainingError
        When series with or without haemorrhage are missing.
    """
    scores = series_log_odds(predictions, calibration)
    truth = predictions.series_truth
    known = ~np.isnan(truth[:, 0])
    whole, positive = scores[known, 0], truth[known, 0] == 1
    if positive.all() or not positive.any():
        raise TrainingError(
            "Thresholds need series with and without haemorrhage; there are "
            f"{int(positive.sum())} with and {int((~positive).sum())} without."
        )
    patients = [p for p, there in zip(predictions.patients, known, strict=True) if there]
    point = find_operating_point(
        whole,
        positive,
        patients,
        target=aims.target_sensitivity,
        confidence=aims.confidence,
        least_specificity=aims.least_specificity,
        seed=seed,
    )
    single = one_per_patient(patients, np.ones(len(whole), np.bool_), seed)
    bands = _bands(whole[single], positive[single], aims, prevalence)
    urgent = _urgent(point, bands[0], aims)
    review = _review(whole, positive, min(urgent, point.log_odds), bands[1])
    cuts = [_subtype_cut(scores, truth, index, urgent) for index in range(1, len(LABELS))]
    if local is None:
        local = all(one.dataset == SITE for one in predictions.series)
    locally = local and not (bands[0].why_not or bands[1].why_not)
    choice = Thresholds(
        urgent=tuple(as_probability(cut) for cut in (urgent, *cuts)),
        review=as_probability(min(review, urgent)),
        how=how_chosen(predictions, aims, point, bands, urgent, local),
    )
    return Choice(choice, aims, point, *bands, locally)


def _bands(
    scores: Floats, positive: Flags, aims: Aims, prevalence: float | None
) -> tuple[Band, Band]:
    """Return both bands, or none where the probabilities refer to another prevalence."""
    if _moved(scores, positive, prevalence):
        why = "the probabilities refer to another prevalence than these series have"
        return (
            Band(aims.ppv_goal, None, None, len(scores), 0, why),
            Band(aims.npv_goal, None, None, len(scores), 0, why),
        )
    return (
        urgent_band(
            scores, positive, goal=aims.ppv_goal, delta=aims.delta, least=aims.least_urgent
        ),
        routine_band(
            scores, positive, goal=aims.npv_goal, delta=aims.delta, least=aims.least_routine
        ),
    )


def _moved(scores: Floats, positive: Flags, prevalence: float | None) -> bool:
    """Say whether the log odds are those of another prevalence than the series have."""
    seen = float(positive.mean())
    if prevalence is not None and 0 < seen < 1:
        return abs(shift(seen, prevalence)) > _OTHER_PREVALENCE
    level, variance = fit_level(scores, positive)
    return abs(level) > max(_OTHER_PREVALENCE, 1.96 * math.sqrt(variance))


def _urgent(point: OperatingPoint, band: Band, aims: Aims) -> float:
    if aims.urgent_by == "precision" and band.log_odds is not None:
        return max(point.log_odds, band.log_odds)
    return point.log_odds


def _review(scores: Floats, positive: Flags, called: float, band: Band) -> float:
    """Return where review starts.

    Without a band: below every positive that was seen and half way down to the highest negative,
    but adding no more than a tenth of the negatives to what is called. With one: no higher than
    where it ends, and no lower than where it was tried first.
    """
    found, others = scores[positive], scores[~positive]
    between = (float(others.max()) + called) / 2
    clear = max(float((others < called).mean()) - _REVIEWED_NEGATIVES, 0.0)
    lenient = max(min(float(found.min()) - 0.25, between), float(np.quantile(others, clear)))
    lenient = min(lenient, called - _STEP)
    if band.log_odds is None or band.safest is None:
        return lenient
    return min(max(min(lenient, band.log_odds), band.safest), called)


def _subtype_cut(scores: Floats, truth: Floats, index: int, urgent: float) -> float:
    """Return where a subtype is present; see the module."""
    known = ~np.isnan(truth[:, index])
    mine, there = scores[known, index], truth[known, index] == 1
    if there.sum() < _LEAST_EXAMPLES or there.all():
        return _UNSEEN_LOG_ODDS
    silent = (truth[:, 0] == 0) & (scores[:, 0] < urgent)
    quiet = -math.inf
    if silent.any():
        quiet = float(np.quantile(scores[silent, index], 1 - _ALARMS_OF_SUBTYPE)) + _STEP
    return float(max(best_cut(mine, there), _LEAST_SUBTYPE_LOG_ODDS, quiet))


def _as_json(value: Any) -> Any:
    """Return plain JSON: no NaN, thresholds as probabilities, figures rounded."""
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            odds = key in {"log_odds", "largest", "safest"}
            name = {"log_odds": "threshold"}.get(key, key)
            cut = odds and item is not None and math.isfinite(item)
            found[name] = as_probability(item) if cut else _as_json(item)
        return found
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
