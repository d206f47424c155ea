"""What is found by how much blood there is, and how far off a model's volumes are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import VolumeSpec
from ichnode.nets.volume import scaled_volumes_ml
from train.judge.bootstrap import Draws, mean_interval
from train.judge.figures import Figure, auroc_figure, figure, rate_figure, rounded
from train.judge.volumes import CLASSES_ML, errors, volume_class
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_NONE = "no cases"
_LEAST_ML = (1.0, 5.0)


def found_by_amount(
    predictions: Predictions, p: Floats, bands: npt.NDArray[np.str_], sample: Draws
) -> dict[str, Any] | None:
    """Return how many series are called, by the volume of all their blood and by its kind.

    Parameters
    ----------
    p : ndarray, float64, (series, label)
        Calibrated probabilities.
    bands : ndarray, str, (series,)
        What each series is called.

    Returns
    -------
    dict or None
        ``by_volume`` and ``by_kind``, rows of ``group, series, urgent, urgent_or_review``, and
        ``told_apart``, rows of ``label, least_ml, positives, auroc``; None where no blood of known
        volume is.
    """
    true = predictions.true_ml
    if not (true > 0).any():
        return None
    urgent = np.asarray(bands == "urgent", np.bool_)
    either = urgent | np.asarray(bands == "review", np.bool_)

    def row(name: str, members: Flags) -> dict[str, Any]:
        told = {"group": name, "series": int(members.sum())}
        return told | {
            key: rate_figure(sample.counts, sample.owner, called, members)
            for key, called in (("urgent", urgent), ("urgent_or_review", either))
        }

    return {
        "by_volume": _by_class(true[:, 0], row),
        "by_kind": _by_kind(true, row),
        "told_apart": _told_apart(predictions, p, sample),
    }


def _told_apart(predictions: Predictions, p: Floats, sample: Draws) -> list[dict[str, Any]]:
    """Return how well each label with so much blood of its kind is told from series without it.

    A head that bleeds in several places counts for each kind, however little of it there is; what
    is seen in no more than some voxels beside a large bleed says little about a network.
    """
    rows = []
    for k, label in enumerate(LABELS):
        for least_ml in _LEAST_ML:
            truth = predictions.series_truth[:, k].copy()
            truth[(truth == 1) & ~(predictions.true_ml[:, k] >= least_ml)] = np.nan
            auroc = auroc_figure(sample.counts, sample.owner, p[:, k], truth)
            positives = int((truth == 1).sum())
            rows.append(
                {"label": label, "least_ml": least_ml, "positives": positives, "auroc": auroc}
            )
    return rows


def volume_figures(
    predictions: Predictions, volume: VolumeSpec, sample: Draws
) -> dict[str, Any] | None:
    """Return how far off the volumes of a model are; None where no blood of known volume is.

    Parameters
    ----------
    volume : VolumeSpec
        Of the model, chosen on other series.

    Returns
    -------
    dict
        ``how, shown, overall``, and rows ``by_volume`` and ``by_kind``; a kind's row compares what
        was said of that kind. Figures are of series with blood.
    """
    true, said = predictions.true_ml, estimates_ml(predictions, volume)
    if not ((true[:, 0] > 0) & np.isfinite(said[:, 0])).any():
        return None

    def row(name: str, members: Flags, label: int = 0) -> dict[str, Any]:
        chosen = sample.of_series(members)
        return {"group": name} | _off(said[members, label], true[members, label], chosen)

    kinds = [row(name, true[:, k] > 0, k) for k, name in enumerate(LABELS) if k]
    return {
        "how": volume.how,
        "shown": list(volume.shown),
        "overall": row("any", true[:, 0] > 0),
        "by_volume": _by_class(true[:, 0], row),
        "by_kind": [one for one in kinds if one["series"]],
    }


def estimates_ml(predictions: Predictions, volume: VolumeSpec) -> Floats:
    """Return what a model says of the volume of each label: (series, label), in ml."""
    return scaled_volumes_ml(predictions.raw_ml, volume.scale)


def _by_class(true: Floats, row: Any) -> list[dict[str, Any]]:
    of = np.array([volume_class(float(ml)) for ml in true])
    return [row(name, of == name) for _, _, name in CLASSES_ML if (of == name).any()]


def _by_kind(true: Floats, row: Any) -> list[dict[str, Any]]:
    there = true > 0
    return [row(name, there[:, k]) for k, name in enumerate(LABELS) if k and there[:, k].any()]


def _off(said: Floats, true: Floats, sample: Draws) -> dict[str, Any]:
    found = errors(said, true)
    there = np.where(true > 0, said - true, np.nan)
    means: dict[str, Figure] = {
        name: figure(mean_interval(sample.counts, sample.owner, values), _NONE)
        for name, values in (("mean_absolute_error_ml", np.abs(there)), ("bias_ml", there))
    }
    return {
        "series": found.series,
        **means,
        "limits_ml": [rounded(edge) for edge in found.limits_ml],
        "median_relative_error": rounded(found.median_relative_error),
        "relative_of": found.relative_of,
    }
