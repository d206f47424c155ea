"""What is explored: the slices and series of a cache, or of a table of metadata, as two frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ichnode.domain.findings import LABELS
from train.data.cache import Cache, open_cache
from train.data.records import Facts, Licence
from train.data.views import SERIES_LABELS
from train.errors import TrainingError
from train.judge.subgroups import group_of

_FACTS = tuple(Facts.__slots__)
_OF_A_TABLE = {
    "series_uid": "series",
    "study_uid": "study",
    "img_pct_window": "brain_fraction",
    "position_mm_2": "position_mm",
    "sop_uid": "slice_key",
}
"""The columns of `train.data.table` that have other names in a cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Explored:
    """Slices and series, wherever they come from.

    Attributes
    ----------
    name : str
        Of the folder or file.
    slices : DataFrame
        One row a slice, with the columns of `train.data.cache.Cache.slices`; labels are NaN where
        they are not known. The slices of a series are neighbours, from the feet to the head.
    series : DataFrame
        One row a series: the columns of its slices that are those of the whole, ``slices``,
        ``step_mm``, the labels of the series under the plain names, and its groups ``maker``,
        ``kernel_kind`` and ``thickness_kind``.
    cache : Cache or None
        Where the pixels are; None where a table is all there is.
    licences : mapping
        By dataset.
    quarantine : DataFrame
        As of a cache.
    """

    name: str
    slices: pd.DataFrame = field(repr=False)
    series: pd.DataFrame = field(repr=False)
    cache: Cache | None = field(repr=False)
    licences: Mapping[str, Licence]
    quarantine: pd.DataFrame = field(repr=False)

    @property
    def slice_labels(self) -> npt.NDArray[np.float32]:
        """(slice, label), 1, 0 or NaN."""
        return _labels(self.slices)

    @property
    def series_labels(self) -> npt.NDArray[np.float32]:
        """(series, label), 1, 0 or NaN."""
        return _labels(self.series)

    @property
    def simulated(self) -> bool:
        """Whether every label is that of a simulation."""
        return bool((self.slices["label_source"] == "simulation").all())


def open_explored(path: Path) -> Explored:
    """Open the folder of a cache, or a Parquet file of ``data table``.

    Raises
    ------
    TrainingError
        When it is neither.
    """
    if path.is_dir():
        return of_cache(open_cache(path))
    if not path.is_file():
        raise TrainingError(f"There is no {path}; give the folder of a cache or a Parquet table.")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError):
        raise TrainingError(f"{path} is no Parquet table; make one with `data table`.") from None
    if not {"img_pct_window", "problem", "series_uid"} <= set(table.columns):
        raise TrainingError(f"{path} is no table of `python -m train data table`.")
    return of_table(path.stem, table)


def of_cache(cache: Cache) -> Explored:
    """Return what a cache holds."""
    return Explored(
        name=cache.folder.resolve().name,
        slices=cache.slices,
        series=series_table(cache.slices),
        cache=cache,
        licences=cache.licences,
        quarantine=cache.quarantine,
    )


def of_table(name: str, table: pd.DataFrame) -> Explored:
    """Return what a table of metadata holds; nothing in it is labelled."""
    broken = table[table["problem"] != ""]
    slices = table[table["problem"] == ""].rename(columns=_OF_A_TABLE)
    if slices.empty:
        raise TrainingError(f"No image of {name} can be used; its column problem says why.")
    slices = slices.sort_values(["series", "position_mm"], kind="stable").reset_index(drop=True)
    slices["series_number"] = slices.groupby("series", sort=True).ngroup()
    slices["slab"] = slices.groupby("series_number").cumcount()
    unlabelled = dict.fromkeys((*LABELS, *SERIES_LABELS), np.float32("nan"))
    slices = slices.assign(dataset=name, label_source="", masked=False, **unlabelled)
    return Explored(
        name=name,
        slices=slices,
        series=series_table(slices),
        cache=None,
        licences={},
        quarantine=pd.DataFrame(
            {
                "dataset": name,
                "job": "",
                "slice": broken["file"],
                "reason": [problem.split(" (")[0] for problem in broken["problem"]],
                "detail": broken["problem"],
            }
        ),
    )


def _labels(table: pd.DataFrame) -> npt.NDArray[np.float32]:
    labels: npt.NDArray[np.float32] = table[list(LABELS)].to_numpy(np.float32)
    return labels


def series_table(slices: pd.DataFrame) -> pd.DataFrame:
    """Return one row a series."""
    grouped = slices.groupby("series_number", sort=True)
    whole = ["dataset", "patient", "study", "series", "masked", "label_source", *_FACTS]
    series = grouped[[*whole, *SERIES_LABELS]].first()
    series = series.rename(columns=dict(zip(SERIES_LABELS, LABELS, strict=True)))
    series["slices"] = grouped.size()
    apart = slices["position_mm"].diff().where(slices["series_number"].diff() == 0)
    series["step_mm"] = apart.groupby(slices["series_number"]).median()
    groups = [
        group_of({name: row[name] for name in _FACTS}, row["dataset"])
        for row in series[["dataset", *_FACTS]].to_dict("records")
    ]
    series["maker"] = [one["manufacturer"] for one in groups]
    series["kernel_kind"] = [one["kernel"] for one in groups]
    series["thickness_kind"] = [one["thickness"] for one in groups]
    return series.reset_index()
