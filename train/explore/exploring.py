"""Everything about a dataset on one page, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ichnode.domain.findings import LABELS
from train.explore.alarms import Alarm, look_for_alarms
from train.explore.baseline import Baseline, metadata_baseline, metadata_of
from train.explore.counting import (
    Count,
    Filtered,
    Group,
    bits,
    combinations,
    count_labels,
    filtered,
    groups_by,
    left_out,
    storage,
)
from train.explore.examples import SEED, Example, draw_examples
from train.explore.explored import Explored
from train.judge.subgroups import NOT_STATED


@dataclass(frozen=True, slots=True)
class Source:
    """One dataset of those explored."""

    group: Group
    licence: str
    non_commercial: bool
    labelled: str  # what is labelled: "slices", "series", with "voxels" where some are
    labels: Mapping[str, Count] = field(repr=False)  # of series


@dataclass(frozen=True, slots=True, eq=False)
class Exploration:
    """What was found.

    Attributes
    ----------
    slices, series : mapping
        Label to how many.
    together : sequence
        Kinds that occur together in a slice (or in a series, where slices are not labelled), and
        how often.
    groups : mapping
        "bits", "storage", "maker", "kernel", "thickness": the series in groups.
    baselines : sequence of Baseline
        Of series and of slices.
    """

    explored: Explored = field(repr=False)
    slices: Mapping[str, Count]
    series: Mapping[str, Count]
    together: Sequence[tuple[tuple[str, ...], int]]
    together_of: str
    groups: Mapping[str, Sequence[Group]]
    filters: Sequence[Filtered]
    sources: Sequence[Source]
    left_out: Sequence[tuple[str, str, str, int]]
    baselines: Sequence[Baseline]
    alarms: Sequence[Alarm]
    examples: Sequence[Example] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        explored = self.explored
        return {
            "name": explored.name,
            "simulated": explored.simulated,
            "patients": int(explored.series["patient"].nunique()),
            "series": len(explored.series),
            "slices": len(explored.slices),
            "labels": {
                "slices": {label: one.as_json() for label, one in self.slices.items()},
                "series": {label: one.as_json() for label, one in self.series.items()},
            },
            "combinations": {
                "of": self.together_of,
                "counts": {" + ".join(kinds): many for kinds, many in self.together},
            },
            "groups": {
                name: [group.as_json() for group in groups] for name, groups in self.groups.items()
            },
            "slices_per_series": _spread(explored.series["slices"]),
            "step_mm": _spread(explored.series["step_mm"]),
            "thickness_mm": _spread(explored.series["thickness_mm"]),
            "filters": {one.preset: one.as_json() for one in self.filters},
            "sources": [
                one.group.as_json() | {"licence": one.licence, "labelled": one.labelled}
                for one in self.sources
            ],
            "left_out": [
                {"dataset": d, "what": w, "reason": r, "count": n} for d, w, r, n in self.left_out
            ],
            "metadata_baseline": {one.level: one.as_json() for one in self.baselines},
            "alarms": [alarm.as_json() for alarm in self.alarms],
        }


def explore(
    explored: Explored, *, key: bytes | None = None, pictures: bool = True, seed: int = SEED
) -> Exploration:
    """Look at a dataset from every side.

    Parameters
    ----------
    key : bytes, optional
        Of the split by patients that is trained with.
    pictures : bool
        Whether to draw slices of it.
    seed : int
        Of the slices that are drawn, and of the baseline.
    """
    baselines = [
        metadata_baseline(metadata_of(explored, level), seed=seed) for level in ("series", "slice")
    ]
    by_slices = combinations(explored.slice_labels)
    has_pixels = pictures and explored.cache is not None
    return Exploration(
        explored=explored,
        slices=count_labels(explored.slice_labels),
        series=count_labels(explored.series_labels),
        together=by_slices or combinations(explored.series_labels),
        together_of="slices" if by_slices else "series",
        groups={
            "bits": groups_by(explored, bits(explored)),
            "storage": groups_by(explored, storage(explored)),
            "maker": groups_by(explored, explored.series["maker"].tolist()),
            "kernel": groups_by(explored, explored.series["kernel_kind"].tolist()),
            "thickness": groups_by(explored, explored.series["thickness_kind"].tolist()),
        },
        filters=filtered(explored),
        sources=[_source(explored, group) for group in _datasets(explored)],
        left_out=left_out(explored),
        baselines=baselines,
        alarms=look_for_alarms(explored, baselines[0], key=key),
        examples=draw_examples(explored.cache, seed=seed)
        if has_pixels and explored.cache is not None
        else (),
    )


def _datasets(explored: Explored) -> list[Group]:
    return groups_by(explored, explored.series["dataset"].tolist())


def _source(explored: Explored, group: Group) -> Source:
    own = (explored.series["dataset"] == group.name).to_numpy()
    licence = explored.licences.get(group.name)
    return Source(
        group=group,
        licence=licence.name if licence else NOT_STATED,
        non_commercial=bool(licence and licence.non_commercial),
        labelled=_what_is_labelled(explored, group.name, own),
        labels=count_labels(explored.series_labels[own]),
    )


def _what_is_labelled(explored: Explored, dataset: str, own: np.ndarray[Any, Any]) -> str:
    inside = (explored.slices["dataset"] == dataset).to_numpy()
    if not np.isnan(explored.slice_labels[inside]).all():
        labelled = "slices"
    elif not np.isnan(explored.series_labels[own]).all():
        labelled = "series"
    else:
        return "nothing"
    unknown = [
        label
        for index, label in enumerate(LABELS)
        if np.isnan(explored.series_labels[own, index]).all()
    ]
    if unknown == list(LABELS[1:]):
        labelled += ", any alone"
    masked = int(explored.series["masked"].to_numpy(bool)[own].sum())
    return labelled + (f"; voxels of {masked} series" if masked else "")


def _spread(values: pd.Series) -> dict[str, float | int | None]:
    known = values.dropna().to_numpy(np.float64)
    if not len(known):
        return {"known": 0, "least": None, "median": None, "most": None}
    return {
        "known": len(known),
        "least": round(float(known.min()), 3),
        "median": round(float(np.median(known)), 3),
        "most": round(float(known.max()), 3),
    }
