"""What a model said of a series, put beside what the cache knows of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pandas as pd

from ichnode.nets.volume import raw_volumes_ml
from train.data.records import Facts
from train.data.views import TRUE_ML, Slices
from train.predictions import Predictions, SeriesPrediction, unknown_volumes

Indices = npt.NDArray[np.int64]


def whole_series(slices: Slices) -> list[Indices]:
    """Return the slices of each series, as indices of the view, in anatomical order.

    Raises
    ------
    ValueError
        When a series is not whole: what is said of a part is not what is said of the series.
    """
    groups = np.split(np.arange(len(slices)), np.flatnonzero(np.diff(slices.series)) + 1)
    groups = [group for group in groups if len(group)]
    sizes = np.bincount(slices.cache.slices["series_number"].to_numpy())
    if any(len(group) != sizes[slices.series[group[0]]] for group in groups):
        raise ValueError("a model is measured on whole series, not on some slices of them")
    return groups


def beside_truth(
    slices: Slices,
    chosen: Indices,
    slice_logits: npt.NDArray[np.float64],
    series_logits: npt.NDArray[np.float64],
    areas: npt.NDArray[np.float64] | None = None,
) -> SeriesPrediction:
    """Return what was said of one series beside what is true of it.

    Parameters
    ----------
    chosen : ndarray, int64, (slice,)
        The slices of the series, as indices of the view.
    slice_logits : ndarray, float64, (slice, label)
    series_logits : ndarray, float64, (label,)
    areas : ndarray, float64, (slice, label), optional
        Fraction of each image that is blood, of a network that draws masks.
    """
    rows = slices.table.iloc[chosen]
    first = rows.iloc[0]
    return SeriesPrediction(
        dataset=str(first["dataset"]),
        patient=str(first["patient"]),
        study=str(first["study"]),
        series=str(first["series"]),
        slice_keys=tuple(map(str, rows["slice_key"])),
        slice_logits=slice_logits,
        series_logits=series_logits,
        slice_truth=slices.labels[chosen].astype(np.float64),
        series_truth=slices.series_labels[chosen[0]].astype(np.float64),
        facts={name: _plain(first[name]) for name in Facts.__slots__},
        raw_ml=unknown_volumes() if areas is None else _raw_ml(rows, areas),
        true_ml=first[list(TRUE_ML)].to_numpy(np.float64),
    )


def with_areas(
    predictions: Predictions, slices: Slices, areas: npt.NDArray[np.float64]
) -> Predictions:
    """Return the same predictions with the volumes that areas (slice, label) add up to."""
    raw_ml = [_raw_ml(slices.table.iloc[rows], areas[rows]) for rows in whole_series(slices)]
    pairs = zip(predictions.series, raw_ml, strict=True)
    return Predictions(tuple(dataclasses.replace(one, raw_ml=ml) for one, ml in pairs))


def _raw_ml(rows: pd.DataFrame, areas: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    extents_mm = rows["extent_mm"].to_numpy(np.float64)
    return raw_volumes_ml(areas, float(rows["image_mm2"].iloc[0]), extents_mm)


def _plain(value: str | np.generic) -> str | float | bool:
    """Return a cell of a table as a value of Python."""
    plain: str | float | bool = value.item() if isinstance(value, np.generic) else value
    return plain
