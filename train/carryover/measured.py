"""What was measured, as one JSON object: figures with intervals, and every item by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS, Finding
from ichnode.domain.intervals import wilson
from ichnode.nets.manifest import Manifest, Thresholds
from train.carryover.folders import Held, LeftOut, Sample, printable
from train.carryover.reading import Said
from train.judge.bootstrap import DRAWS, draw_counts
from train.judge.figures import auroc_figure, rounded

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_SEED = 1


@dataclass(frozen=True, slots=True)
class Item:
    """One slice or one series, and what was said of it.

    Attributes
    ----------
    slices : int
        How many it consists of.
    brain_slices : int
        How many of them hold brain.
    """

    name: str
    sample: Sample
    said: Said
    slices: int
    brain_slices: int

    @property
    def score(self) -> float:
        """The calibrated probability of any haemorrhage."""
        return float(self.said.series[0])

    @property
    def positive(self) -> bool:
        """Whether it is called positive at the operating point."""
        return self.said.finding == Finding.POSITIVE.value

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, every number in full."""
        truth = self.sample.truth
        return {
            "name": self.name,
            "label": self.sample.label or None,
            "truth": None if truth is None else int(truth),
            "score": self.score,
            "positive": self.positive,
            "finding": self.said.finding,
            "scores": {label: float(p) for label, p in zip(LABELS, self.said.series, strict=True)},
            "slices": self.slices,
            "brain_slices": self.brain_slices,
            "brain_bearing": self.brain_slices > 0,
        }


def figures_of(items: Sequence[Item]) -> dict[str, Any]:
    """Return AUROC, sensitivity and specificity of some items; None where there is none.

    The AUROC's interval comes from drawing items again, those of the rates are Wilson's. Items
    whose truth is not known count in `n` alone.
    """
    known = [item for item in items if item.sample.truth is not None]
    truth = np.array([bool(item.sample.truth) for item in known], np.bool_)
    called = np.array([item.positive for item in known], np.bool_)
    scores = np.array([item.score for item in known], np.float64)
    area = _auroc(scores, truth)
    interval = [area.get("low"), area.get("high")]
    return {
        "n": len(items),
        "positives": int(truth.sum()),
        "negatives": int((~truth).sum()),
        "auroc": area["value"],
        "auroc_interval_95": None if None in interval else interval,
        "auroc_why": area.get("why"),
        **_rate("sensitivity", called[truth]),
        **_rate("specificity", ~called[~truth]),
    }


def _auroc(scores: Floats, truth: Flags) -> dict[str, Any]:
    if not len(scores):
        return {"value": None, "why": "no item whose truth is known"}
    counts = draw_counts(len(scores), DRAWS, _SEED)
    owner = np.arange(len(scores), dtype=np.int64)
    return auroc_figure(counts, owner, scores, truth.astype(np.float64))


def _rate(name: str, right: Flags) -> dict[str, Any]:
    hits, of = int(right.sum()), len(right)
    low, high = wilson(hits, of)
    return {
        name: rounded(hits / of) if of else None,
        f"{name}_interval_95": [rounded(low), rounded(high)] if of else None,
        f"{name}_counts": {"hits": hits, "of": of},
    }


def by_label(items: Sequence[Item]) -> dict[str, Any]:
    """Return how many items of each label were called positive, and the median of their scores."""
    found: dict[str, Any] = {}
    for label in sorted({item.sample.label for item in items} - {""}):
        part = [item for item in items if item.sample.label == label]
        found[label] = {
            "n": len(part),
            "called_positive": sum(item.positive for item in part),
            "median_score": float(np.median([item.score for item in part])),
        }
    return found


def operating_point(thresholds: Thresholds, what: str) -> dict[str, Any]:
    """Return at which probabilities an item is positive."""
    return {
        "threshold": thresholds.urgent[0],
        "thresholds": dict(zip(LABELS, thresholds.urgent, strict=True)),
        "review": thresholds.review,
        "what": what,
        "how_chosen": thresholds.how,
    }


def measured(
    kind: str,
    held: Held,
    manifest: Manifest,
    items: Sequence[Item],
    left_out: Sequence[LeftOut],
    how: dict[str, Any],
) -> dict[str, Any]:
    """Return all that was measured, ready for JSON.

    Parameters
    ----------
    kind : {"slices", "series"}
    how : dict
        "operating_point": what positive means; all else is what was assumed.
    """
    brain = [item for item in items if item.brain_slices]
    what = how.pop("operating_point")
    return {
        "kind": kind,
        "data": {
            "name": printable(held.folder.resolve().name),
            "digest": held.digest(),
            "other_files": held.other_files,
        },
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "uid": manifest.model_uid,
            "trained_on": manifest.provenance.data,
        },
        **figures_of(items),
        "operating_point": operating_point(manifest.thresholds, what),
        "brain_bearing": figures_of(brain),
        "by_label": by_label(items),
        "how": how,
        "items": [item.as_json() for item in items],
        "left_out": [{"name": one.name, "reason": one.reason} for one in left_out],
    }
