"""Pictures of amounts: what is found by how much blood there is, and estimates against truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure as Canvas

from ichnode.nets.manifest import VolumeSpec
from train.judge.amounts import estimates_ml
from train.judge.drawing import BLUE, INK, LINE, MINOR, ORANGE, RED, Picture, draw
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]
_LEAST_ML = 0.05  # what is less is drawn here: the axes are logarithmic


def amount_pictures(
    evaluation: dict[str, Any], predictions: Predictions, volume: VolumeSpec | None
) -> list[Picture]:
    """Return the pictures of amounts that these figures have; none where none is known."""
    pictures = []
    if evaluation["found_by_amount"] is not None:
        pictures.append(_found(evaluation["found_by_amount"]))
    if evaluation["volume"] is not None and volume is not None:
        said, true = estimates_ml(predictions, volume)[:, 0], predictions.true_ml[:, 0]
        there = np.isfinite(said) & (true > 0)
        pictures.append(_estimates(said[there], true[there], evaluation["volume"]["overall"]))
    return pictures


def _found(found: dict[str, Any]) -> Picture:
    """Draw which share is called, by volume and by kind, with intervals."""
    parts = (("by volume of all blood", "by_volume"), ("by kind", "by_kind"))
    longest = max(len(found[key]) for _, key in parts)

    def paint(canvas: Canvas) -> None:
        panels = canvas.subplots(1, 2, squeeze=False)[0]
        for axes, (title, key) in zip(panels, parts, strict=True):
            rows = found[key]
            for place, row in enumerate(rows):
                _span(axes, place - 0.14, row["urgent"], RED, "o")
                _span(axes, place + 0.14, row["urgent_or_review"], ORANGE, "s")
            told = [f"{row['group']}  ({row['series']})" for row in rows]
            axes.set_yticks(range(len(rows)), told)
            axes.set_ylim(longest - 0.5, -0.5)
            axes.set_xlim(-0.02, 1.02)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            axes.set_title(title)
            axes.grid(axis="y", visible=False)
        handles = [
            panels[0].plot([], [], mark, color=colour, label=name)[0]
            for name, colour, mark in (("urgent", RED, "o"), ("urgent or review", ORANGE, "s"))
        ]
        panels[1].legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.08), ncols=2)

    return Picture(
        "found_by_amount",
        "What is found, by how much blood there is",
        "Share of the series with so much blood, or with blood of that kind, that is called, with "
        "95 % intervals; in brackets how many they are.",
        draw((10.4, 1.5 + 0.46 * longest), paint),
    )


def _span(axes: Any, place: float, one: dict[str, Any], colour: str, mark: str) -> None:
    if one["value"] is None:
        return
    if one["low"] is not None:
        axes.plot([one["low"], one["high"]], [place, place], color=colour, lw=1.8, alpha=0.45)
    axes.plot(one["value"], place, mark, color=colour, ms=5)


def _estimates(said: Floats, true: Floats, overall: dict[str, Any]) -> Picture:
    """Draw estimate against truth, and their difference against the truth."""

    def paint(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2, squeeze=False)[0]
        drawn = np.maximum(np.concatenate([said, true]), _LEAST_ML)
        ends = (float(drawn.min() / 1.3), float(drawn.max() * 1.3))
        left.plot(ends, ends, color=LINE, lw=1.2)
        left.plot(np.maximum(true, _LEAST_ML), np.maximum(said, _LEAST_ML), "o", ms=3.5, color=BLUE)
        for scale in (left.set_xscale, left.set_yscale):
            scale("log")
        left.set(xlim=ends, ylim=ends, xlabel="true volume (ml)", ylabel="estimate (ml)")
        left.set_title("Estimate against truth")
        right.axhline(0, color=LINE, lw=1.2)
        right.plot(np.maximum(true, _LEAST_ML), said - true, "o", ms=3.5, color=BLUE)
        _lines(right, overall)
        right.set_xscale("log")
        right.set(xlim=ends, xlabel="true volume (ml)", ylabel="estimate less truth (ml)")
        right.set_title("Difference")
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_formatter("{x:g}")

    return Picture(
        "volume",
        "Volume, estimated and true",
        "Each point is a series with blood, all kinds together. On the right the dashed line is "
        "the mean difference and the dotted ones are the 95 % limits of agreement (Bland and "
        "Altman), over the truth, which is known here.",
        draw((10.4, 4.9), paint),
    )


def _lines(axes: Any, overall: dict[str, Any]) -> None:
    if overall["bias_ml"]["value"] is not None:
        axes.axhline(overall["bias_ml"]["value"], color=INK, lw=1.1, ls="--")
    for edge in overall["limits_ml"]:
        if edge is not None:
            axes.axhline(edge, color=MINOR, lw=1.1, ls=":")
