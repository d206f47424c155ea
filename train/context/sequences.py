"""Series as the sequence stage reads them: features in order, padded to one length, disturbed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from ichnode.nets.context import places_of, spread_out
from train.context.features import Features
from train.context.recipe import ContextRecipe
from train.data.views import Slices
from train.truth import whole_series


@dataclass(frozen=True, slots=True, eq=False)
class SeriesRows:
    """One series, whose features lie in the features of its cache.

    Attributes
    ----------
    rows : ndarray, int64, (slice,)
        Of the cache, in anatomical order.
    positions_mm : ndarray, float64, (slice,)
    slice_truth : ndarray, float32, (slice, label)
        1, 0, or NaN where it is not known.
    series_truth : ndarray, float32, (label,)
        Likewise.
    """

    rows: npt.NDArray[np.int64] = field(repr=False)
    positions_mm: npt.NDArray[np.float64] = field(repr=False)
    slice_truth: npt.NDArray[np.float32] = field(repr=False)
    series_truth: npt.NDArray[np.float32] = field(repr=False)

    def shortened(self) -> SeriesRows:
        """Return at most so many slices as the network reads of a series; see `spread_out`."""
        kept = spread_out(len(self.rows)).numpy()
        return SeriesRows(
            self.rows[kept], self.positions_mm[kept], self.slice_truth[kept], self.series_truth
        )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some series, padded to the longest of them.

    Attributes
    ----------
    features : Tensor, float32, (b, L, width)
    places : Tensor, float32, (b, L, 2)
    present : Tensor, bool, (b, L)
    slice_truth : Tensor, float32, (b, L, label)
        NaN where it is not known, in the padding too.
    series_truth : Tensor, float32, (b, label)
    """

    features: Tensor = field(repr=False)
    places: Tensor = field(repr=False)
    present: Tensor = field(repr=False)
    slice_truth: Tensor = field(repr=False)
    series_truth: Tensor = field(repr=False)

    def to(self, device: torch.device) -> Batch:
        """Return this batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in Batch.__slots__))


def series_of(slices: Slices) -> list[SeriesRows]:
    """Return the series of some slices, which must be whole."""
    positions_mm = slices.table["position_mm"].to_numpy(np.float64)
    return [
        SeriesRows(
            rows=slices.rows[chosen],
            positions_mm=positions_mm[chosen],
            slice_truth=slices.labels[chosen],
            series_truth=slices.series_labels[chosen[0]],
        )
        for chosen in whole_series(slices)
    ]


def as_batch(series: Sequence[SeriesRows], features: Features) -> Batch:
    """Put series of any length together, each as the network will be shown it."""
    read = [one.shortened() for one in series]
    longest = max(len(one.rows) for one in read)
    width, labels = features.features.shape[1], read[0].slice_truth.shape[1]
    batch = Batch(
        features=torch.zeros(len(read), longest, width),
        places=torch.zeros(len(read), longest, 2),
        present=torch.zeros(len(read), longest, dtype=torch.bool),
        slice_truth=torch.full((len(read), longest, labels), math.nan),
        series_truth=torch.from_numpy(np.stack([one.series_truth for one in read])),
    )
    for index, one in enumerate(read):
        count = len(one.rows)
        seen = np.asarray(features.features[one.rows], np.float32)
        batch.features[index, :count] = torch.from_numpy(seen)
        batch.places[index, :count] = places_of(one.positions_mm.tolist())
        batch.present[index, :count] = True
        batch.slice_truth[index, :count] = torch.from_numpy(one.slice_truth)
    return batch


def disturb(batch: Batch, recipe: ContextRecipe, chance: Generator) -> Batch:
    """Return a copy whose features are noisy and have gaps; places and truth stay.

    No series is turned upside down: the network knows feet from head, as it is always shown.
    """
    shape = batch.features.shape
    drawn = torch.randn(shape, generator=chance, device=chance.device)
    features = batch.features + recipe.noise * drawn
    kept = torch.rand(shape, generator=chance, device=chance.device) >= recipe.element_dropout
    whole = torch.rand(shape[:2], generator=chance, device=chance.device) >= recipe.slice_dropout
    return replace(batch, features=features * kept * whole[..., None])
