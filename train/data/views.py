"""Slices ready to be drawn from: a part of a cache, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ichnode.domain.findings import LABELS
from train.data.cache import Cache

SERIES_LABELS = tuple(f"series_{label}" for label in LABELS)
TRUE_ML = tuple(f"true_ml_{label}" for label in LABELS)


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Some slices of a cache.

    Attributes
    ----------
    rows : ndarray, int64, (n,)
        Which rows of the cache these are, ascending.
    around : ndarray, int64, (rows of the cache, 2 x context + 1)
        The rows that each slice's channels are made of.
    labels : ndarray, float32, (n, label)
        1, 0, or NaN where it is not known.
    series_labels : ndarray, float32, (n, label)
        What is known of the series that the slice belongs to.
    masked : ndarray, bool, (n,)
        Whether `kinds` states what each voxel is.
    series : ndarray, int64, (n,)
        The number of its series in the cache.
    table : DataFrame
        The rows of the cache's table.
    """

    cache: Cache = field(repr=False)
    rows: npt.NDArray[np.int64] = field(repr=False)
    around: npt.NDArray[np.int64] = field(repr=False)
    labels: npt.NDArray[np.float32] = field(repr=False)
    series_labels: npt.NDArray[np.float32] = field(repr=False)
    masked: npt.NDArray[np.bool_] = field(repr=False)
    series: npt.NDArray[np.int64] = field(repr=False)
    table: pd.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def stacks(self, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the chosen slices (indices of this view) with their neighbours.

        Returns
        -------
        Tensor, int16, (n, 2 x context + 1, y, x)
        """
        return torch.from_numpy(self.cache.planes(self.around[self.rows[chosen]]))

    def kinds(self, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return where there is blood of which kind: uint8, (n, y, x); 0 where not `masked`."""
        size = self.cache.spec.size_px
        if self.cache.kinds is None:
            return torch.zeros((len(chosen), size, size), dtype=torch.uint8)
        return torch.from_numpy(np.asarray(self.cache.kinds[self.rows[chosen]]))

    def where(self, kept: npt.NDArray[np.bool_]) -> Slices:
        """Return the slices of this view for which `kept` is true; neighbours stay reachable."""
        return Slices(
            cache=self.cache,
            rows=self.rows[kept],
            around=self.around,
            labels=self.labels[kept],
            series_labels=self.series_labels[kept],
            masked=self.masked[kept],
            series=self.series[kept],
            table=self.table[kept].reset_index(drop=True),
        )

    def of_patients(self, patients: set[str]) -> Slices:
        """Return the slices of some patients."""
        return self.where(self.table["patient"].isin(patients).to_numpy())


def all_slices(cache: Cache, context_slices: int) -> Slices:
    """Return every slice of a cache, with so many neighbours on either side."""
    table = cache.slices
    return Slices(
        cache=cache,
        rows=np.arange(len(table), dtype=np.int64),
        around=cache.neighbours(context_slices),
        labels=np.array(table[list(LABELS)], np.float32),
        series_labels=np.array(table[list(SERIES_LABELS)], np.float32),
        masked=np.array(table["masked"], bool),
        series=np.array(table["series_number"], np.int64),
        table=table,
    )
