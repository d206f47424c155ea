"""What a candidate must fulfil: written down before anything is measured, and kept with the result.

The figures follow what is usual for a change to a device in use: no worse within a stated margin,
sensitive enough with its uncertainty counted against it, no more alerts, and better in something
that was named beforehand (equal is no reason to change).
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a retraining.

    Changing one changes the digest of the snapshot, so that a run never mixes two sets of rules.
    """

    # Shares of the patients. The holdout is larger than for a fixed benchmark: it has to show a
    # sensitivity with its lower bound.
    train_share: float = 0.5
    selection_share: float = 0.1
    calibration_share: float = 0.15
    holdout_share: float = 0.25

    # Too few cases to begin with (Remedios 2020: below some 400 volumes nothing general is learnt).
    least_train_series: int = 400
    least_train_positives: int = 60
    least_calibration_positives: int = 40
    least_holdout_positives: int = 60
    least_holdout_negatives: int = 100
    least_subtype_positives: int = 30  # in the holdout; below, a subtype's gate is inconclusive

    # Trust in the labels.
    most_flipped_labels: float = 0.01  # since the last snapshot, without a signed correction
    least_unflagged_coverage: float = 0.8  # of analysed studies that the model did not flag
    most_coverage_gap: float = 0.1  # flagged may be labelled better than unflagged by so much

    # Gates on the locked holdout.
    least_auroc_change: float = -0.005  # lower bound, series level, any haemorrhage
    least_macro_auroc_change: float = -0.01
    least_subtype_auroc_change: float = -0.03
    target_sensitivity: float = 0.9
    sensitivity_slack: float = 0.02  # the lower bound may lie this much below the target
    most_alert_rate_ratio: float = 1.1
    most_review_rate_rise: float = 0.02
    most_ece: float = 0.03
    most_brier_rise: float = 0.002
    calibration_slope: tuple[float, float] = (0.8, 1.25)
    most_calibration_intercept: float = 0.25
    most_subgroup_sensitivity_drop: float = 0.05
    least_subgroup_positives: int = 30
    most_runtime_ratio: float = 1.1
    most_holdout_uses: int = 20  # then fresh patients are needed

    bootstrap_draws: int = 2000
    seed: int = 1

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Shares of train, selection, calibration and holdout."""
        return (
            self.train_share,
            self.selection_share,
            self.calibration_share,
            self.holdout_share,
        )


def read_policy(path: Path | None) -> Policy:
    """Return the default policy with what a JSON file changes in it.

    Raises
    ------
    TrainingError
        When the file cannot be read, names a rule that does not exist, or gives it no number.
    """
    if path is None:
        return Policy()
    try:
        changes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"The policy {path.name} cannot be read as JSON.") from error
    known = {field.name for field in dataclasses.fields(Policy)}
    if not isinstance(changes, dict) or (unknown := sorted(set(changes) - known)):
        named = unknown[0] if isinstance(changes, dict) else "no object"
        raise TrainingError(f"The policy {path.name} has {named!r}, which is no rule.")
    usual = Policy()
    kept = {name: _as_stated(path, name, value, usual) for name, value in changes.items()}
    policy = dataclasses.replace(usual, **kept)
    if abs(sum(policy.shares) - 1) > 1e-9 or min(policy.shares) <= 0:
        raise TrainingError("The shares of the policy must be positive and add up to 1.")
    return policy


def _as_stated(path: Path, name: str, value: Any, usual: Policy) -> Any:
    """Return a rule of a policy file as a value of its kind: a number, or two."""
    default = getattr(usual, name)
    parts = value if isinstance(default, tuple) and isinstance(value, list) else [value]
    kinds = (int,) if isinstance(default, int) else (int, float)
    sound = len(parts) == (len(default) if isinstance(default, tuple) else 1) and all(
        isinstance(part, kinds) and not isinstance(part, bool) and math.isfinite(part)
        for part in parts
    )
    if not sound:
        raise TrainingError(f"The policy {path.name} gives {name} a value unlike {default}.")
    return tuple(parts) if isinstance(default, tuple) else value
