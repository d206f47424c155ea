"""How good it is, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def auroc(scores: Floats, truth: Flags) -> float:
    """Return the area under the ROC curve (ties count half); NaN where one class is missing."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = rankdata(scores)[truth].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_interval(
    groups: Sequence[tuple[Floats, Flags]], draws: int = 500, seed: int = 1
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the AUROC, drawing whole heads.

    Parameters
    ----------
    groups : sequence of (scores, truth)
        One per head: its slices belong together and are no independent observations.
    """
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(draws):
        drawn = rng.integers(0, len(groups), len(groups))
        scores = np.concatenate([groups[one][0] for one in drawn])
        truth = np.concatenate([groups[one][1] for one in drawn])
        areas.append(auroc(scores, truth))
    seen = [area for area in areas if not math.isnan(area)]
    if not seen:
        return math.nan, math.nan
    low, high = np.percentile(seen, [2.5, 97.5])
    return float(low), float(high)


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a proportion; (0, 1) for no observations."""
    if count == 0:
        return 0.0, 1.0
    p = hits / count
    middle = p + z * z / (2 * count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (middle - half) / scale, (middle + half) / scale


def at_threshold(scores: Floats, truth: Flags, threshold: float) -> dict[str, object]:
    """Return sensitivity and specificity with their intervals and counts."""
    called = scores >= threshold
    result: dict[str, object] = {}
    for name, members, right in (
        ("sensitivity", truth, called),
        ("specificity", ~truth, ~called),
    ):
        hits, count = int((members & right).sum()), int(members.sum())
        low, high = wilson(hits, count)
        result[name] = round(hits / count, 4) if count else None
        result[f"{name}_interval"] = [round(low, 4), round(high, 4)]
        result[f"{name}_of"] = [hits, count]
    return result


def log_loss(probabilities: Floats, truth: Flags) -> float:
    """Return the mean negative log likelihood."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(truth, np.log(p), np.log1p(-p))))
