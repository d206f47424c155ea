"""Small made-up caches and features for the tests of the sequence stage and of weak labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import SliceNetwork, build
from ichnode.nets.manifest import PreprocessSpec
from train.context.features import Features
from train.context.sequences import SeriesRows
from train.data.cache import Cache, build_cache
from train.data.records import Licence, SourceSeries, unknown_labels
from train.data.views import Slices, all_slices

SIDE = 32
SPEC = PreprocessSpec(
    size_px=SIDE, windows_hu=((0.0, 80.0),), context_slices=0, crop="middle", slab_below_mm=0.0
)


@dataclass(frozen=True)
class Squares:
    """Series of noise; every second one shows a bright square in two adjacent slices.

    Only series are labelled where `weak`; then nothing is known of a slice.
    """

    count: int
    slices: int = 6
    weak: bool = False
    first: int = 0

    @property
    def name(self) -> str:
        return "simulated"

    @property
    def licence(self) -> Licence:
        return Licence("Apache-2.0", non_commercial=False)

    def jobs(self) -> Sequence[str]:
        return [str(self.first + index) for index in range(self.count)]

    def read(self, job: str) -> SourceSeries:
        number = int(job)
        rng = np.random.default_rng(number)
        hu = rng.normal(30, 5, (self.slices, SIDE, SIDE)).astype(np.int16)
        labels = np.zeros((self.slices, len(LABELS)), np.float32)
        if number % 2:
            shown, row, column = rng.integers(0, (self.slices - 1, SIDE - 12, SIDE - 12))
            hu[shown : shown + 2, row : row + 10, column : column + 10] += 35
            labels[shown : shown + 2, [0, 2]] = 1
        return SourceSeries(
            dataset=self.name,
            patient=f"p{number}",
            study=f"p{number}",
            series=f"p{number}",
            hu=hu,
            spacing_mm=(5.0, 7.5, 7.5),
            positions_mm=5.0 * np.arange(self.slices),
            slice_keys=tuple(f"{number}-{index}" for index in range(self.slices)),
            slice_labels=unknown_labels(self.slices) if self.weak else labels,
            series_labels=labels.max(axis=0),
            label_source="simulation",
        )


def squares(folder: Path, count: int, *, slices: int = 6, weak: bool = False) -> Cache:
    """A cache of `Squares`."""
    return build_cache(folder, Squares(count, slices, weak), SPEC, workers=1)


def as_slices(cache: Cache) -> Slices:
    """All slices of a cache, each alone."""
    return all_slices(cache, SPEC.context_slices)


def untrained(seed: int = 5, architecture: str = "resnet18") -> SliceNetwork:
    """A network with chance weights, in training mode, as the one that forgets to switch it off."""
    torch.manual_seed(seed)
    return build(architecture, SPEC.channels, len(LABELS)).train()


def made_up_features(
    folder: Path, features: np.ndarray, truth: np.ndarray
) -> tuple[Features, list[SeriesRows]]:
    """Features (series, slice, width) and truth (series, slice, label) of series of one length."""
    count, length, width = features.shape
    rows = np.arange(count * length).reshape(count, length)
    kept = Features(
        folder=folder,
        features=features.reshape(-1, width).astype(np.float16),
        logits=np.zeros((count * length, len(LABELS)), np.float32),
        known=np.ones(count * length, bool),
    )
    positions_mm = 5.0 * np.arange(length, dtype=np.float64)
    series = [
        SeriesRows(rows[i], positions_mm, truth[i].astype(np.float32), truth[i].max(axis=0))
        for i in range(count)
    ]
    return kept, series
