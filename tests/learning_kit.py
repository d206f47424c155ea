"""Small made-up slices to learn from, in memory: noise, and bright squares where there is blood."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from train.data.cache import Cache
from train.data.index import as_frame
from train.data.records import UNKNOWN, Licence, SourceSeries
from train.data.standardising import standardise_series
from train.data.views import Slices, all_slices
from train.learn.recipe import Recipe

SIDE = 32
SPEC = PreprocessSpec(
    size_px=SIDE, windows_hu=((0.0, 80.0),), context_slices=1, crop="middle", slab_below_mm=0.0
)
PIXEL_MM = 240 / SIDE  # the middle of the image that is taken is 240 mm wide

TINY = Recipe(
    size_px=SIDE,
    windows_hu=((0.0, 80.0), (-20.0, 180.0)),
    cleaning="none",
    sampling="balanced",
    epochs=2,
    batch=4,
    peak_rate=1e-3,
    averaging=0.9,
    reestimate_batches=2,
    precision="float32",
).like(SPEC)
"""A recipe for them: seconds a run."""

DRAWN_SQUARES = dataclasses.replace(
    TINY,
    architecture="compact_mask",
    windows_hu=((0.0, 80.0),),
    size_px=64,
    place_weight=1.0,
    batch=8,
    peak_rate=3e-3,
    averaging=0.0,
    augment="none",
)
"""Of a network that draws, on squares of 64 px."""


def write_split_key(folder: Path) -> Path:
    """Put down the key that parts the patients: chance would part them anew in every run."""
    key = folder / "split.key"
    key.write_text("07" * 32 + "\n")
    return key


def square_series(
    number: int, *, slices: int = 8, side: int = SIDE, square: int | None = None
) -> SourceSeries:
    """Every second series has a square of one subtype in three adjacent slices.

    It is a third of the image wide, or `square` pixels.
    """
    rng = np.random.default_rng(number)
    hu = rng.normal(30, 4, (slices, side, side))
    labels = np.zeros((slices, len(LABELS)), np.float32)
    kinds = np.zeros(hu.shape, np.uint8)
    if number % 2:
        kind = 1 + (number // 2) % (len(LABELS) - 1)
        wide = square or side // 3
        row, column = rng.integers(4, side - wide - 4, 2)
        place = (slice(3, 6), slice(row, row + wide), slice(column, column + wide))
        hu[place] += 35
        kinds[place] = kind
        labels[3:6, [0, kind]] = 1
    return SourceSeries(
        dataset="squares",
        patient=f"p{number}",
        study=f"study{number}",
        series=f"series{number}",
        hu=hu.astype(np.int16),
        spacing_mm=(5.0, 240 / side, 240 / side),
        positions_mm=5.0 * np.arange(slices, dtype=np.float64),
        slice_keys=tuple(f"{number}-{index}" for index in range(slices)),
        slice_labels=labels,
        series_labels=np.full(len(LABELS), UNKNOWN),
        kinds=kinds,
        label_source="the test",
    )


@dataclass(frozen=True)
class Squares:
    """The same as a source, for tests that need a cache on disk."""

    count: int
    side: int = SIDE
    name: str = "squares"

    @property
    def licence(self) -> Licence:
        """Free."""
        return Licence("CC0", non_commercial=False)

    def jobs(self) -> Sequence[str]:
        """The numbers."""
        return [str(number) for number in range(self.count)]

    def read(self, job: str) -> SourceSeries:
        """Make one."""
        return square_series(int(job), side=self.side)


def square_slices(numbers: Sequence[int], context_slices: int = 1, side: int = SIDE) -> Slices:
    """The slices of some series."""
    spec = SPEC if side == SIDE else PreprocessSpec(**(_fields(SPEC) | {"size_px": side}))
    return slices_of([square_series(n, side=side) for n in numbers], spec, context_slices)


def slices_of(
    series: Sequence[SourceSeries], spec: PreprocessSpec, context_slices: int = 1
) -> Slices:
    """The slices of some series in a cache in memory."""
    made = [standardise_series(one.series, one, spec) for one in series]
    cache = Cache(
        folder=Path("in memory"),
        spec=spec,
        hu=np.concatenate([one.hu for one in made]),
        kinds=np.concatenate([one.kinds for one in made if one.kinds is not None]),
        slices=as_frame([one.record for one in made]),
        licences={"squares": Licence("CC0", non_commercial=False)},
        quarantine=pd.DataFrame(),
    )
    return all_slices(cache, context_slices)


def _fields(spec: PreprocessSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in spec.__slots__}


def parts(count: int = 12) -> tuple[Slices, Slices]:
    """Slices to learn from and slices to watch, of different patients."""
    whole = square_slices(range(count + 4))
    watched = {f"p{number}" for number in range(count, count + 4)}
    return whole.of_patients({f"p{n}" for n in range(count)}), whole.of_patients(watched)
