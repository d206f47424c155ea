"""Slices to look at, each through every window, as a radiologist would."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from ichnode.domain.findings import LABELS
from train.data.cache import Cache
from train.data.window import WINDOWS

SHOWN_PX = 208
SEED = 7
_NOTHING = "none"


@dataclass(frozen=True, slots=True)
class Example:
    """One slice.

    Attributes
    ----------
    kind : str
        What it stands for: a label, or "none".
    told : str
        What else is known to be there.
    where : str
        "slice 17 of 31".
    views : mapping
        Window to PNG.
    """

    kind: str
    told: str
    where: str
    dataset: str
    series: str
    views: dict[str, bytes] = field(repr=False)


def draw_examples(cache: Cache, *, seed: int = SEED) -> list[Example]:
    """Return one slice without blood and one of each kind, drawn at random.

    Of a kind, slices that show nothing else are preferred, and in the series that is drawn the
    middle one of those that show it. Where only series are labelled, a middle slice stands for its
    series.
    """
    rng = np.random.default_rng(seed)
    found = []
    for kind in (_NOTHING, *LABELS[1:]):
        row = _drawn(cache.slices, kind, rng)
        if row is not None:
            found.append(_example(cache, kind, row))
    return found


def _drawn(slices: pd.DataFrame, kind: str, rng: np.random.Generator) -> int | None:
    """Return the row of a slice that shows a kind; None where there is none."""
    chosen = _showing(slices, kind, "")
    if not chosen.any():
        chosen = _showing(slices, kind, "series_")
    if not chosen.any():
        return None
    series = slices["series_number"].to_numpy()
    drawn = rng.choice(np.unique(series[chosen]))
    rows = np.flatnonzero(chosen & (series == drawn))
    return int(rows[len(rows) // 2])


def _showing(slices: pd.DataFrame, kind: str, level: str) -> npt.NDArray[np.bool_]:
    """Return the slices that show a kind, of a level, and if possible nothing else."""
    labels = slices[[level + label for label in LABELS]].to_numpy(np.float32)
    if kind == _NOTHING:
        clear: npt.NDArray[np.bool_] = labels[:, 0] == 0
        brainy = clear & (slices["brain_fraction"].to_numpy() >= 0.2)
        return brainy if brainy.any() else clear
    index = [str(label) for label in LABELS].index(kind)
    there = labels[:, index] == 1
    others = np.delete(labels[:, 1:], index - 1, axis=1)
    alone = there & ~(others == 1).any(axis=1)
    return np.asarray(alone if alone.any() else there)


def _example(cache: Cache, kind: str, row: int) -> Example:
    slices = cache.slices
    one = slices.iloc[row]
    inside = slices.index[slices["series_number"] == one["series_number"]]
    others = [la for la in LABELS[1:] if one[la] == 1 and la != kind]
    told = f"with {', '.join(others)}" if others else ""
    if np.isnan(one["any"]):
        told = "labelled as a series; this slice may not show it"
    hu = np.asarray(cache.hu[row])
    return Example(
        kind=kind,
        told=told,
        where=f"slice {row - int(inside[0]) + 1} of {len(inside)}",
        dataset=str(one["dataset"]),
        series=str(one["series"]),
        views={name: _png(hu, *limits) for name, limits in WINDOWS.items()},
    )


def _png(hu: npt.NDArray[np.int16], low_hu: float, high_hu: float) -> bytes:
    grey = np.clip((hu.astype(np.float64) - low_hu) / (high_hu - low_hu), 0, 1)
    image = Image.fromarray((255 * grey).round().astype(np.uint8))
    target = io.BytesIO()
    image.resize((SHOWN_PX, SHOWN_PX), Image.Resampling.BICUBIC).save(target, "PNG", optimize=True)
    return target.getvalue()
