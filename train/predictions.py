"""What a model said of some series, beside what is true of them: all that evaluation reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS
from ichnode.spool import write_durable

Floats = npt.NDArray[np.float64]


def unknown_volumes() -> Floats:
    """Return volumes (label,) of which nothing is known."""
    return np.full(len(LABELS), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class SeriesPrediction:
    """One series.

    Attributes
    ----------
    slice_logits : ndarray, float64, (slice, label)
        Uncalibrated, in anatomical order, in the order of `ichnode.domain.findings.LABELS`.
    series_logits : ndarray, float64, (label,)
        Uncalibrated, of the series as a whole.
    slice_truth : ndarray, float64, (slice, label)
        1, 0, or NaN where it is not known.
    series_truth : ndarray, float64, (label,)
        Likewise.
    facts : mapping
        Columns of `train.data.records.Facts` by name, for subgroups.
    raw_ml, true_ml : ndarray, float64, (label,)
        Volume of blood as the masks add up, not yet scaled, and what it is in truth; NaN where no
        mask was drawn, or none is known.
    """

    dataset: str
    patient: str
    study: str
    series: str
    slice_keys: tuple[str, ...] = field(repr=False)
    slice_logits: Floats = field(repr=False)
    series_logits: Floats = field(repr=False)
    slice_truth: Floats = field(repr=False)
    series_truth: Floats = field(repr=False)
    facts: Mapping[str, str | float | bool] = field(default_factory=dict, repr=False)
    raw_ml: Floats = field(default_factory=unknown_volumes, repr=False)
    true_ml: Floats = field(default_factory=unknown_volumes, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Many series, as said by one model."""

    series: tuple[SeriesPrediction, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.series)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of each series; what the bootstrap draws."""
        return tuple(one.patient for one in self.series)

    @property
    def series_logits(self) -> Floats:
        """(series, label)."""
        return np.stack([one.series_logits for one in self.series])

    @property
    def series_truth(self) -> Floats:
        """(series, label)."""
        return np.stack([one.series_truth for one in self.series])

    @property
    def slice_logits(self) -> Floats:
        """(slice, label), series after series."""
        return np.concatenate([one.slice_logits for one in self.series])

    @property
    def slice_truth(self) -> Floats:
        """(slice, label), series after series."""
        return np.concatenate([one.slice_truth for one in self.series])

    @property
    def raw_ml(self) -> Floats:
        """(series, label)."""
        return np.stack([one.raw_ml for one in self.series])

    @property
    def true_ml(self) -> Floats:
        """(series, label)."""
        return np.stack([one.true_ml for one in self.series])

    def part(self, chosen: Sequence[int] | npt.NDArray[np.int64]) -> Predictions:
        """Return some of the series."""
        return Predictions(tuple(self.series[int(i)] for i in chosen))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Keep predictions, so that a later step need not run the model again."""
    lines = [json.dumps(_as_json(one)) for one in predictions.series]
    write_durable(path, ("\n".join(lines) + "\n").encode())


def read_predictions(path: Path) -> Predictions:
    """Return what `write_predictions` kept, to the last bit."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return Predictions(tuple(_from_json(json.loads(line)) for line in lines))


_ARRAYS = ("slice_logits", "series_logits", "slice_truth", "series_truth", "raw_ml", "true_ml")


def _as_json(one: SeriesPrediction) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in SeriesPrediction.__slots__}
    fields |= {name: fields[name].tolist() for name in _ARRAYS}
    return fields | {"facts": dict(one.facts)}


def _from_json(fields: dict[str, Any]) -> SeriesPrediction:
    arrays = {n: np.asarray(fields[n], np.float64) for n in _ARRAYS if n in fields}
    keys = tuple(fields["slice_keys"])
    return SeriesPrediction(**(fields | arrays | {"slice_keys": keys}))
