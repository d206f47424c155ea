"""Pictures of where a dataset comes from: scanners, lengths, brain, and what metadata tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from train.explore.baseline import Baseline, plural
from train.explore.counting import Filtered, Group
from train.judge.drawing import BLUE, INK, MINOR, RED, SKY, Picture, draw

Floats = npt.NDArray[np.float64]

_WIDTH_IN = 10.4
_BIN = 0.01  # both filters cut where a bar ends
_IN_WORDS = {
    "intercept_hu": "intercept",
    "pixel_representation": "signed or not",
    "thickness_mm": "thickness",
    "step_mm": "distance of slices",
    "slices": "slices per series",
    "place": "place in the series",
    "position_mm": "position",
    "hu_suspect": "HU in doubt",
    "model_name": "scanner model",
}


def groups_picture(
    name: str, title: str, caption: str, panels: Sequence[tuple[str, Sequence[Group]]]
) -> Picture:
    """Draw how many series each group has, and beside it how many of them show blood."""
    lines = sum(len(groups) for _, groups in panels)

    def paint(canvas: Canvas) -> None:
        grid = canvas.subplots(
            len(panels), 2, squeeze=False, height_ratios=[len(groups) + 0.9 for _, groups in panels]
        )
        for (left, right), (what, groups) in zip(grid, panels, strict=True):
            _sizes(left, what, groups)
            _shares(right, groups)
        grid[-1][0].set_xlabel("series")
        grid[-1][1].set_xlabel("per cent of the labelled series that show blood")

    size = (_WIDTH_IN, 0.9 + 0.36 * lines + 0.55 * len(panels))
    return Picture(name, title, caption, draw(size, paint))


def lengths_picture(
    lengths: Floats, steps_mm: Floats, thickness_mm: Floats, truth: Floats
) -> Picture:
    """Draw slices per series, their distance and their thickness, with blood and without."""
    panels = (
        ("Slices per series", "slices", lengths),
        ("Distance of slices, measured", "mm", steps_mm),
        ("Thickness, as stated", "mm", thickness_mm),
    )

    def paint(canvas: Canvas) -> None:
        for axes, (title, unit, values) in zip(canvas.subplots(1, 3), panels, strict=True):
            _both(axes, values, truth)
            axes.set_title(title)
            axes.set_xlabel(unit)
        canvas.axes[0].set_ylabel("per cent of the series")

    return Picture(
        "lengths",
        "Series: length, distance, thickness",
        "Series with blood (red) beside series without (blue), each as per cent of their own. "
        "They should look alike. Thin slices are averaged to slabs in a cache, and so counted.",
        draw((_WIDTH_IN, 3.2), paint),
    )


def brain_picture(fraction: Floats, truth: Floats, filters: Sequence[Filtered]) -> Picture:
    """Draw how much of each slice is brain, with the limits of both filters."""

    def paint(canvas: Canvas) -> None:
        edges = np.arange(0, max(float(fraction.max()), 0.3) + _BIN, _BIN)
        upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        upper.hist(fraction, edges, color=SKY, edgecolor="white", linewidth=0.4)
        upper.set_ylabel("all slices")
        lower.hist(fraction[truth == 1], edges, color=RED, edgecolor="white", linewidth=0.4)
        lower.set_ylabel("with blood")
        lower.set_xlabel("fraction of the image that is brain (0 to 80 HU)")
        for axes in (upper, lower):
            axes.set_axisbelow(True)
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            for one in filters:
                axes.axvline(one.least_brain, color=INK, lw=1.1, ls="--")
        for one in filters:
            _flag(upper, one)

    return Picture(
        "brain",
        "How much of a slice is brain",
        "Left of a line a filter drops the slice. What it drops below, in red, are bleeds near the "
        "vertex and the base of the skull.",
        draw((_WIDTH_IN, 4.4), paint),
    )


def importance_picture(baselines: Sequence[Baseline]) -> Picture:
    """Draw what the forest on metadata goes by."""

    def paint(canvas: Canvas) -> None:
        for axes, one in zip(
            np.atleast_1d(canvas.subplots(1, len(baselines))), baselines, strict=True
        ):
            shown = one.importances[:8]
            axes.barh(range(len(shown)), [fall for _, fall in shown], color=BLUE, height=0.65)
            axes.axvline(0, color=MINOR, lw=0.8)
            names = [_IN_WORDS.get(name, name.replace("_", " ")) for name, _ in shown]
            axes.set_yticks(range(len(shown)), names, color=INK)
            axes.invert_yaxis()
            axes.set_xlim(min(0, *(f for _, f in shown)) - 0.005, max(0.05, *(f for _, f in shown)))
            axes.set_title(f"{plural(one.level).capitalize()}: AUROC {one.area.value:.3f}")
            axes.set_xlabel("fall of the AUROC when shuffled")
            axes.grid(axis="y", visible=False)
            axes.set_axisbelow(True)

    return Picture(
        "importance",
        "What metadata go by",
        "The longer the bar, the more the label can be told from it. Without a leak all are short.",
        draw((_WIDTH_IN, 3.6), paint),
    )


def _sizes(axes: Any, what: str, groups: Sequence[Group]) -> None:
    axes.barh(range(len(groups)), [one.series for one in groups], color=SKY, height=0.66)
    most = max(one.series for one in groups)
    for y, one in enumerate(groups):
        axes.text(one.series + 0.015 * most, y, f"{one.series:,}", va="center", color=MINOR)
    axes.set_yticks(range(len(groups)), [one.name for one in groups], color=INK)
    axes.set_xlim(0, 1.17 * most)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_title(what)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y", visible=False)
    axes.set_axisbelow(True)


def _shares(axes: Any, groups: Sequence[Group]) -> None:
    for y, one in enumerate(groups):
        share = one.with_blood.share
        if share is None:
            axes.text(2, y, "not labelled", va="center", color=MINOR, style="italic")
            continue
        low, high = one.with_blood.interval
        axes.plot([100 * low, 100 * high], [y, y], color=RED, lw=2.2, solid_capstyle="butt")
        axes.plot(100 * share, y, "o", color=RED, ms=6.5)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_yticks(range(len(groups)), [])


def _both(axes: Any, values: Floats, truth: Floats) -> None:
    """Draw two outlines over each other, each of them per cent of its own."""
    known = np.isfinite(values)
    if not known.any():
        axes.text(0.5, 0.5, "not stated", ha="center", transform=axes.transAxes, color=MINOR)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    low, high = float(values[known].min()), float(values[known].max())
    edges = np.linspace(low - 0.5, high + 0.5, min(31, int(high - low) + 2))
    parts = [(0, BLUE, "without"), (1, RED, "with blood")]
    if np.isnan(truth).all():
        parts = [(2, MINOR, "all")]
        truth = np.full(len(truth), 2.0)
    for side, colour, name in parts:
        chosen = values[known & (truth == side)]
        if len(chosen):
            weights = np.full(len(chosen), 100 / len(chosen))
            axes.hist(chosen, edges, weights=weights, color=colour, alpha=0.16)
            axes.hist(
                chosen, edges, weights=weights, color=colour, histtype="step", lw=1.8, label=name
            )
    axes.set_axisbelow(True)
    axes.legend(loc="best", handlelength=1.2)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _flag(axes: Any, one: Filtered) -> None:
    lost, of = one.positives_dropped["any"], one.positives["any"]
    axes.annotate(
        f"{one.preset}: below {100 * one.least_brain:g} %\n{one.dropped:,} slices, "
        f"{lost:,} of {of:,} with blood",
        (one.least_brain, 0.97), xycoords=("data", "axes fraction"), xytext=(5, 0),
        textcoords="offset points", va="top", fontsize=9, color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )  # fmt: skip
