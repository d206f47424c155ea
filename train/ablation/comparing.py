"""What the arms say, side by side: area under the curve, and by how much it differs from the whole.

Differences are drawn on the same patients, or the same slices, for both arms.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.ablation.arms import ARMS, FULL, Arm
from train.carryover.measuring import FIGURES
from train.errors import TrainingError
from train.judge.bootstrap import (
    DRAWS,
    Draws,
    Owners,
    Weights,
    draw_counts,
    paired_auroc_difference,
)
from train.judge.figures import Figure, auroc_figure, figure, no_figure, without_both
from train.measuring import PREDICTIONS
from train.predictions import read_predictions

FORMAT = 1
_SEED = 1
_NOT_YET = "not measured yet"


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What one network says of some slices.

    Attributes
    ----------
    names : tuple of str
        Of the slices.
    scores, truth : ndarray, float64, (slice,)
        Of any haemorrhage; truth is 1, 0, or NaN where it is not known.
    counts : ndarray, float32, (draw, patient)
    owner : ndarray, int64, (slice,)
        The patient of each slice; a real slice is its own.
    of : dict
        Name and digest of real data.
    """

    names: tuple[str, ...] = field(repr=False)
    scores: npt.NDArray[np.float64] = field(repr=False)
    truth: npt.NDArray[np.float64] = field(repr=False)
    counts: Weights = field(repr=False)
    owner: Owners = field(repr=False)
    of: dict[str, str] = field(default_factory=dict)

    def counted(self) -> dict[str, Any]:
        """Return how many slices are with and without, and of what."""
        return self.of | {
            "positives": int((self.truth == 1).sum()),
            "negatives": int((self.truth == 0).sum()),
        }


def compared(arms_in: Path) -> dict[str, Any]:
    """Return the figures of every arm that is done, ready for JSON.

    Raises
    ------
    TrainingError
        When arms were measured on different slices.
    """
    simulated = {arm: _simulated(arms_in / arm.name / PREDICTIONS) for arm in ARMS}
    real = {arm: _real(arms_in / arm.name / FIGURES) for arm in ARMS}
    return {
        "format": FORMAT,
        "draws": DRAWS,
        "simulated": _counted(simulated),
        "real": _counted(real),
        "arms": [
            {
                "name": arm.name,
                "what": arm.what,
                "simulated": _beside(arm, simulated),
                "real": _beside(arm, real),
            }
            for arm in ARMS
            if simulated[arm] is not None
        ],
    }


def _counted(said: dict[Arm, Said | None]) -> dict[str, Any] | None:
    """Return what the arms were measured on, None where none was; it is the same for all."""
    found = [(arm, one) for arm, one in said.items() if one is not None]
    for arm, one in found:
        if (one.of, one.names) != (found[0][1].of, found[0][1].names):
            raise TrainingError(
                f"{arm.name} and {found[0][0].name} were measured on different slices; remove the "
                "folder of one of them."
            )
    return found[0][1].counted() if found else None


def _beside(arm: Arm, said: dict[Arm, Said | None]) -> dict[str, Figure]:
    """Return the figure of an arm, and its difference to the whole simulator."""
    own, whole = said[arm], said[FULL]
    if own is None:
        return {"auroc": no_figure(_NOT_YET), "difference": no_figure(_NOT_YET)}
    area = auroc_figure(own.counts, own.owner, own.scores, own.truth)
    if arm == FULL or whole is None:
        why = "it is the whole" if arm == FULL else f"{FULL.name} is {_NOT_YET}"
        return {"auroc": area, "difference": no_figure(why)}
    why = without_both(own.truth)
    weights = own.counts[:, own.owner]
    found = paired_auroc_difference(whole.scores, own.scores, own.truth, weights)
    return {"auroc": area, "difference": figure(found, why)}


def _simulated(path: Path) -> Said | None:
    if not path.is_file():
        return None
    found = read_predictions(path)
    sample = Draws.of(found, DRAWS, _SEED)
    return Said(
        names=tuple(key for one in found.series for key in one.slice_keys),
        scores=found.slice_logits[:, 0],
        truth=found.slice_truth[:, 0],
        counts=sample.counts,
        owner=sample.slice_owner,
    )


def _real(path: Path) -> Said | None:
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    items = found["items"]
    truth = [np.nan if one["truth"] is None else one["truth"] for one in items]
    return Said(
        names=tuple(one["name"] for one in items),
        scores=np.array([one["score"] for one in items], np.float64),
        truth=np.array(truth, np.float64),
        counts=draw_counts(len(items), DRAWS, _SEED),
        owner=np.arange(len(items), dtype=np.int64),
        of={name: found["data"][name] for name in ("name", "digest")},
    )
