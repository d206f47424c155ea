"""A model at its own operating point on the holdout, and two of them drawn together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import Finding
from ichnode.nets.calibration import probability, state
from ichnode.nets.manifest import Calibration, Thresholds
from train.judge.bootstrap import auroc_draws, patient_weights
from train.judge.metrics import auroc
from train.predictions import Predictions
from train.retrain.policy import Policy

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """A model, and what it says of the holdout at its own operating point.

    Attributes
    ----------
    seconds : float
        The shortest time for a few series, both models timed in turns on the same machine.
    """

    model_uid: str
    predictions: Predictions = field(repr=False)
    calibration: Calibration = field(repr=False)
    thresholds: Thresholds = field(repr=False)
    seconds: float

    @property
    def probabilities(self) -> Floats:
        """Calibrated, (series, label)."""
        return probability(
            self.predictions.series_logits,
            np.asarray(self.calibration.series_temperature),
            np.asarray(self.calibration.series_bias),
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What each series is called."""
        return tuple(state(row, self.thresholds)[0] for row in self.probabilities)

    @property
    def urgent(self) -> Flags:
        """Which series are alerts, (series,)."""
        return np.asarray([finding is Finding.POSITIVE for finding in self.findings])


class Draws:
    """The paired bootstrap: whole patients are drawn, both models judged on the same draws."""

    def __init__(self, champion: Judged, candidate: Judged, policy: Policy) -> None:
        self.weights = patient_weights(
            champion.predictions.patients, policy.bootstrap_draws, policy.seed
        )
        self._truth = champion.predictions.series_truth
        self._scores = (champion.probabilities, candidate.probabilities)

    def truth(self, label: int) -> Floats:
        """Return what is known of a label, (series,)."""
        return np.asarray(self._truth[:, label])

    def change(self, label: int) -> tuple[float, Floats]:
        """Return the change of AUROC from champion to candidate, and its draws."""
        known = ~np.isnan(self.truth(label))
        truth = self.truth(label)[known] == 1
        before, after = (scores[known, label] for scores in self._scores)
        weights = self.weights[:, known]
        drawn = auroc_draws(after, truth, weights) - auroc_draws(before, truth, weights)
        return auroc(after, truth) - auroc(before, truth), drawn


def interval(drawn: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of draws; (-1, 1) where none came out."""
    seen = drawn[np.isfinite(drawn)]
    if not len(seen):
        return -1.0, 1.0
    low, high = np.percentile(seen, [2.5, 97.5])
    return float(low), float(high)
