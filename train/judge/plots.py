"""Pictures of how well scores and truth go together: curves, calibration, heaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from ichnode.domain.findings import LABELS
from ichnode.domain.intervals import wilson
from ichnode.nets.manifest import Thresholds
from train.judge.drawing import (
    BLUE,
    COLOURS,
    DASHES,
    INK,
    LINE,
    MINOR,
    RED,
    SKY,
    Picture,
    draw,
    number,
    shown,
    thin,
)
from train.judge.logistic import log_odds
from train.judge.metrics import precision_recall, reliability, roc

Floats = npt.NDArray[np.float64]

_MARKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
_END = 7.0  # log odds at the edge of the picture of calibration: 0.001 and 0.999


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is drawn: calibrated probabilities beside truth, (n, label), of one level."""

    level: str  # "series" or "slice"
    p: Floats
    truth: Floats


def roc_picture(levels: Sequence[Seen], evaluation: dict[str, Any]) -> Picture:
    """Draw the ROC of each label, with the operating point of "any"."""

    def paint(canvas: Canvas) -> None:
        for axes, seen in zip(_panels(canvas, len(levels)), levels, strict=True):
            axes.plot([0, 1], [0, 1], color=LINE, lw=1)
            for index, label in enumerate(LABELS):
                if (curve := roc(seen.p[:, index], seen.truth[:, index])) is not None:
                    area = evaluation["labels"][label][seen.level]["auroc"]["value"]
                    _curve(axes, label, *thin(*curve), f"{label} {area:.3f}")
            _mark(axes, evaluation["labels"]["any"][seen.level])
            axes.set_xlabel("1 - specificity")
            axes.set_ylabel("sensitivity")
            axes.set_title(f"ROC, {seen.level}")
            _legend(axes, "lower right")

    return Picture(
        "roc",
        "ROC curves",
        "Each point is one threshold; the higher to the left, the better. Numbers are AUROC; the "
        "ring is the operating point of any haemorrhage.",
        draw((10.4, 4.9), paint),
    )


def precision_picture(levels: Sequence[Seen], evaluation: dict[str, Any]) -> Picture:
    """Draw precision against recall of each label."""

    def paint(canvas: Canvas) -> None:
        for axes, seen in zip(_panels(canvas, len(levels)), levels, strict=True):
            for index, label in enumerate(LABELS):
                curve = precision_recall(seen.p[:, index], seen.truth[:, index])
                if curve is not None:
                    mean = evaluation["labels"][label][seen.level]["average_precision"]
                    recall, precision = thin(curve[1], curve[0])
                    _curve(axes, label, recall, precision, f"{label} {mean:.3f}")
            axes.set_xlabel("recall (sensitivity)")
            axes.set_ylabel("precision (PPV in these data)")
            axes.set_title(f"Precision and recall, {seen.level}")
            _legend(axes, "lower left")

    return Picture(
        "precision_recall",
        "Precision and recall",
        "What it costs to find more. Precision depends on how common haemorrhage is in these data; "
        "at another prevalence it is another. Numbers are average precision.",
        draw((10.4, 4.9), paint),
    )


def reliability_picture(levels: Sequence[Seen], evaluation: dict[str, Any]) -> Picture:
    """Draw stated against seen frequency of "any", with Wilson intervals."""

    def paint(canvas: Canvas) -> None:
        panels = canvas.subplots(1, len(levels), squeeze=False)[0]
        for axes, seen in zip(panels, levels, strict=True):
            bins = reliability(seen.p[:, 0], seen.truth[:, 0])
            spans = [wilson(one.positives, one.count) for one in bins]
            x, y, low, high = (
                _odds(values)
                for values in (
                    [one.stated for one in bins],
                    [one.seen for one in bins],
                    [a for a, _ in spans],
                    [b for _, b in spans],
                )
            )
            axes.plot([-_END, _END], [-_END, _END], color=LINE, lw=1.2)
            axes.vlines(x, low, high, color=SKY, lw=2)
            axes.plot(x, y, "o", ms=5, color=BLUE)
            for place in ("x", "y"):
                _as_probabilities(axes, -_END, _END, place)
            axes.set_xlim(-_END - 0.2, _END + 0.2)
            axes.set_ylim(-_END - 0.2, _END + 0.2)
            axes.set_aspect("equal")
            row = evaluation["labels"]["any"][seen.level]
            told = [f"ECE {shown(row['ece'])} (by chance {number(row['ece_by_chance'])})"]
            told.append(f"slope {shown(row['calibration_slope'])}")
            axes.text(0.03, 0.97, "\n".join(told), transform=axes.transAxes, va="top", color=INK)
            axes.set_xlabel("stated probability (log odds scale)")
            axes.set_ylabel("seen frequency")
            axes.set_title(f"Reliability of any haemorrhage, {seen.level}")

    return Picture(
        "reliability",
        "Does a probability mean what it says?",
        "Fifteen bins of equal size; on the line, 20 % means that 20 of 100 have haemorrhage. Bars "
        "are 95 % Wilson intervals of independent cases; none and all are drawn at the edge.",
        draw((10.4, 4.9), paint),
    )


def score_picture(series: Seen, thresholds: Thresholds) -> Picture:
    """Draw the scores of "any" by truth, with the thresholds."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        odds, truth = log_odds(series.p[:, 0]), series.truth[:, 0]
        edges = np.linspace(odds.min() - 1e-6, odds.max() + 1e-6, 41)
        kinds = (("without", truth == 0, SKY), ("with haemorrhage", truth == 1, RED))
        for name, members, colour in kinds:
            told = f"{name} ({int(members.sum())})"
            axes.hist(odds[members], edges.tolist(), color=colour, alpha=0.65, label=told)
        cuts = (("review", thresholds.review, "--"), ("urgent", thresholds.urgent[0], "-"))
        for name, cut, dash in cuts:
            at = float(log_odds(np.array([cut]))[0])
            axes.axvline(at, color=INK, ls=dash, lw=1.4, label=f"{name} from {cut:.3f}")
        _as_probabilities(axes, float(edges[0]), float(edges[-1]))
        axes.set_xlabel("calibrated probability of any haemorrhage (log odds scale)")
        axes.set_ylabel("series")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)

    return Picture(
        "scores",
        "Scores by truth",
        "Where the two heaps overlap, bleeds are missed or alarms are false. Left of the dashed "
        "line is routine, right of the solid line urgent.",
        draw((10.4, 3.6), paint),
    )


def _panels(canvas: Canvas, count: int) -> Any:
    panels = canvas.subplots(1, count, squeeze=False)[0]
    for axes in panels:
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.02)
        axes.set_aspect("equal")
    return panels


def _curve(axes: Any, label: str, x: Floats, y: Floats, told: str) -> None:
    wide = 2.6 if label == "any" else 1.5
    axes.plot(x, y, color=COLOURS[label], ls=DASHES[label], lw=wide, label=told)


def _mark(axes: Any, row: dict[str, Any]) -> None:
    found, clear = row["sensitivity"]["value"], row["specificity"]["value"]
    if found is not None and clear is not None:
        axes.plot(1 - clear, found, "o", ms=10, mfc="none", mec=INK, mew=1.8)


def _legend(axes: Any, place: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=place)
    else:
        axes.text(0.5, 0.5, "unknown: no labels", ha="center", color=MINOR)


def _odds(probabilities: Sequence[float]) -> Floats:
    """Return log odds that stay on the picture."""
    return np.clip(log_odds(np.asarray(probabilities, np.float64)), -_END, _END)


def _as_probabilities(axes: Any, low: float, high: float, place: str = "x") -> None:
    """Label an axis of log odds with probabilities."""
    odds = [math.log(p / (1 - p)) for p in _MARKS]
    inside = [(o, p) for o, p in zip(odds, _MARKS, strict=True) if low <= o <= high]
    ticks = axes.set_xticks if place == "x" else axes.set_yticks
    ticks([o for o, _ in inside], [f"{p:g}" for _, p in inside])
