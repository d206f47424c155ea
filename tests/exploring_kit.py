"""Made-up tables of metadata for the tests of exploration: no images, no persons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ichnode.domain.findings import LABELS
from train.data.index import as_frame
from train.data.records import Facts, facts_as_row
from train.explore.explored import Explored, series_table

Draw = Callable[[np.random.Generator, bool], Mapping[str, Any]]
MAKERS = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips", "")


def harmless(rng: np.random.Generator, positive: bool) -> Mapping[str, Any]:
    """Facts that have nothing to do with the label."""
    return {
        "manufacturer": str(rng.choice(MAKERS)),
        "bits_stored": float(rng.choice([12, 16])),
        "intercept_hu": float(rng.choice([0, -1024])),
        "thickness_mm": float(rng.choice([2.5, 5.0])),
    }


def leaking(rng: np.random.Generator, positive: bool) -> Mapping[str, Any]:
    """Facts of which the bits stored tell the label, four times out of five."""
    twelve = positive if rng.random() < 0.8 else not positive
    return {**harmless(rng, positive), "bits_stored": 12.0 if twelve else 16.0}


def record(
    number: int, positive: bool, facts: Mapping[str, Any], slices: int = 8, **more: Any
) -> dict[str, Any]:
    """One line of a cache's index: a series of which the middle slices show subdural blood."""
    shows = [positive and slices // 4 <= z < slices // 2 + 1 for z in range(slices)]
    row = {True: [1.0, 0.0, 0.0, 0.0, 0.0, 1.0], False: [0.0] * len(LABELS)}
    return {
        "job": str(number),
        "dataset": "made-up",
        "patient": f"p{number}",
        "study": f"study{number}",
        "series": f"series{number}",
        "label_source": "readers",
        "masked": False,
        "facts": facts_as_row(dataclasses.replace(Facts(), **facts)),
        "series_labels": row[positive],
        "slabs": slices,
        "slice_keys": [f"{number}-{z}" for z in range(slices)],
        "positions_mm": [5.0 * z for z in range(slices)],
        "brain_fractions": [0.3 * z / slices for z in range(slices)],
        "labels": [row[one] for one in shows],
    } | more


def made_up(count: int, draw: Draw, *, seed: int = 0, **more: Any) -> Explored:
    """An exploration of so many series, half of them with blood, whose facts are drawn so."""
    rng = np.random.default_rng(seed)
    records = [
        record(number, number % 2 == 0, draw(rng, number % 2 == 0), **more)
        for number in range(count)
    ]
    return explored(records)


def explored(records: Sequence[dict[str, Any]]) -> Explored:
    """An exploration of these lines of an index, without pixels."""
    slices = as_frame(list(records))
    return Explored(
        name="made-up",
        slices=slices,
        series=series_table(slices),
        cache=None,
        licences={},
        quarantine=pd.DataFrame(columns=["dataset", "job", "slice", "reason", "detail"]),
    )
