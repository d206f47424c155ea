"""Make of one labelled series what the cache keeps: slabs, their labels, one line of the index."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import Stack, cut, standardise
from ichnode.nets.volume import image_mm2, slab_extents_mm, slice_extents_mm
from train.data.records import Facts, SourceSeries, facts_as_row, series_truth
from train.data.window import brain_fraction


@dataclass(frozen=True, slots=True, eq=False)
class Standardised:
    """One series as it goes into the cache.

    Attributes
    ----------
    hu : ndarray, int16, (slab, y, x)
    kinds : ndarray, uint8, (slab, y, x), or None
    record : dict
        The line of the index: keys, facts, and per-slab lists.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    kinds: npt.NDArray[np.uint8] | None = field(repr=False)
    record: dict[str, Any] = field(repr=False)


def standardise_series(job: str, series: SourceSeries, spec: PreprocessSpec) -> Standardised:
    """Make a series uniform: slabs of the usual thickness, cut to the head, sized.

    The fraction of brain is measured on the image as it came, before the cut to the head: that is
    what the paper's ``img_pct_window`` is of, and what its limit of 20 % was chosen for.
    """
    hu = torch.from_numpy(np.ascontiguousarray(series.hu))
    stack = standardise(hu, series.spacing_mm, series.positions_mm.tolist(), spec)
    labels = np.stack([_slab_label(series.slice_labels[a:b]) for a, b in stack.slabs])
    inside = brain_fraction(series.hu)
    kinds = None
    if series.kinds is not None:
        kinds = _sized_kinds(series.kinds, stack, spec)
    usual_mm, places_mm = series.spacing_mm[0], series.positions_mm.tolist()
    extents_mm = slab_extents_mm(stack.slabs, places_mm, usual_mm, spec)
    record = {
        "job": job,
        "dataset": series.dataset,
        "patient": series.patient,
        "study": series.study,
        "series": series.series,
        "label_source": series.label_source,
        "masked": series.kinds is not None,
        "facts": _written(series.facts),
        "series_labels": _listed(series_truth(series)),
        "slabs": len(stack.slabs),
        "slice_keys": [series.slice_keys[(a + b - 1) // 2] for a, b in stack.slabs],
        "positions_mm": list(stack.positions_mm),
        "brain_fractions": [round(float(inside[a:b].mean()), 5) for a, b in stack.slabs],
        "labels": [_listed(row) for row in labels],
        "image_mm2": round(image_mm2(stack, series.spacing_mm), 3),
        "extents_mm": [round(float(mm), 4) for mm in extents_mm],
        "volumes_ml": _volumes_ml(series, spec),
        "left_out": [dataclasses.astuple(one) for one in series.left_out],
    }
    return Standardised(hu=stack.hu.numpy(), kinds=kinds, record=record)


def _slab_label(labels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 1 where any slice shows it, 0 where all are known not to, NaN otherwise."""
    shown = (labels == 1).any(axis=0)
    unknown = np.isnan(labels).any(axis=0)
    return np.where(shown, 1.0, np.where(unknown, np.nan, 0.0)).astype(np.float32)


def _volumes_ml(series: SourceSeries, spec: PreprocessSpec) -> list[float] | None:
    """Return the true volume of each label, from the voxels as they came; None without them."""
    if series.kinds is None:
        return None
    counts = np.stack([(series.kinds == k).sum(axis=(1, 2)) for k in range(1, len(LABELS))], axis=1)
    extents_mm = slice_extents_mm(series.positions_mm.tolist(), series.spacing_mm[0], spec)
    kinds_ml = extents_mm @ counts * series.spacing_mm[1] * series.spacing_mm[2] / 1000
    return [round(float(ml), 4) for ml in (kinds_ml.sum(), *kinds_ml)]


def _sized_kinds(
    kinds: npt.NDArray[np.uint8], stack: Stack, spec: PreprocessSpec
) -> npt.NDArray[np.uint8]:
    whole = cut(torch.from_numpy(np.ascontiguousarray(kinds)), stack.box, 0)
    planes = torch.stack([whole[a:b].amax(dim=0) for a, b in stack.slabs])
    sized = torch.nn.functional.interpolate(
        planes[:, None].float(), size=(spec.size_px, spec.size_px)
    )
    found: npt.NDArray[np.uint8] = sized[:, 0].to(torch.uint8).numpy()
    return found


def _listed(labels: npt.NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in labels]


def _written(facts: Facts) -> dict[str, Any]:
    """Return the facts for JSON, which knows no NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in facts_as_row(facts).items()
    }
