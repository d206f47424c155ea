"""What the report shows of two models, and what the ledger keeps of a look at the holdout."""

from __future__ import annotations

import hashlib

import numpy as np

from train.data.views import Slices
from train.judge.metrics import auroc
from train.predictions import Predictions
from train.retrain.judged import Judged


def digest_of(slices: Slices) -> str:
    """Return a digest of the patients and labels of the holdout."""
    table = slices.table.drop_duplicates("series_number").sort_values("series")
    lines = table[["patient", "series", "series_any"]].astype(str).agg(" ".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def any_auroc(predictions: Predictions) -> float:
    """Return the AUROC of any haemorrhage, of series."""
    return auroc(predictions.series_logits[:, 0], predictions.series_truth[:, 0])


def difference(a: Predictions, b: Predictions) -> float:
    """Return the greatest difference between the logits of the same series."""
    return float(np.abs(a.series_logits - b.series_logits).max())


def figures_of(champion: Judged, candidate: Judged) -> dict[str, list[str]]:
    """Return what the report shows of both, as text."""
    return {
        name: [f"{measure(champion):.3f}", f"{measure(candidate):.3f}"]
        for name, measure in (
            ("AUROC of any haemorrhage, series", lambda j: any_auroc(j.predictions)),
            ("Sensitivity, called urgent", _sensitivity),
            ("Specificity, not called urgent", _specificity),
            ("Called urgent, of all", lambda j: float(j.urgent.mean())),
        )
    }


def _sensitivity(one: Judged) -> float:
    return float(one.urgent[one.predictions.series_truth[:, 0] == 1].mean())


def _specificity(one: Judged) -> float:
    return float((~one.urgent[one.predictions.series_truth[:, 0] == 0]).mean())
