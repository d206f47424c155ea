"""Pictures of the labels of a dataset: bleed or not, kinds, kinds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from ichnode.domain.findings import LABELS
from train.explore.counting import Count
from train.judge.drawing import BLUE, COLOURS, INK, LINE, MINOR, RED, SKY, Picture, draw

Row = tuple[str, Count]

_UNKNOWN = "#e9edf1"
_WIDTH_IN = 10.4
_MOST_COMBINATIONS = 14


def bleeds_picture(rows: Sequence[Row]) -> Picture:
    """Draw how many slices and series show blood, as parts of a whole."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        _stacked(axes, rows)
        axes.set_xlabel("per cent")

    return Picture(
        "bleeds",
        "Bleed or not",
        "Of all, how many show blood, show none, and are not labelled. What is not labelled is "
        "never counted as without.",
        draw((_WIDTH_IN, 0.7 + 0.36 * len(rows)), paint),
    )


def subtypes_picture(slices: Mapping[str, Count], series: Mapping[str, Count]) -> Picture:
    """Draw how often each kind is there, in slices and in series."""

    def paint(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2, sharey=True)
        for axes, counts, what in ((left, slices, "slices"), (right, series, "series")):
            present = [counts[label].present for label in LABELS]
            axes.barh(range(len(LABELS)), present, color=[COLOURS[la] for la in LABELS], height=0.7)
            most = max(*present, 1)
            for y, label in enumerate(LABELS):
                axes.text(
                    present[y] + 0.015 * most, y, _told(counts[label]), va="center", color=MINOR
                )
            axes.set_xlim(0, 1.34 * most)
            axes.set_title(f"{what.capitalize()} that show it")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.grid(axis="y", visible=False)
            axes.set_axisbelow(True)
        left.set_yticks(range(len(LABELS)), LABELS, color=INK)
        left.invert_yaxis()

    return Picture(
        "subtypes",
        "Counts of the subtypes",
        "In brackets the share of those whose label is known.",
        draw((_WIDTH_IN, 3.5), paint),
    )


def combinations_picture(found: Sequence[tuple[tuple[str, ...], int]], what: str) -> Picture:
    """Draw which kinds occur together: a column for each combination, dots for its kinds."""
    shown = list(found[:_MOST_COMBINATIONS])
    rest = sum(many for _, many in found[_MOST_COMBINATIONS:])

    def paint(canvas: Canvas) -> None:
        above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        above.bar(range(len(shown)), [many for _, many in shown], color=BLUE, width=0.62)
        for x, (_, many) in enumerate(shown):
            above.text(x, many, f"{many:,}", ha="center", va="bottom", color=MINOR, fontsize=9.5)
        above.set_ylabel(what)
        above.margins(y=0.14)
        above.grid(axis="x", visible=False)
        above.set_axisbelow(True)
        above.tick_params(bottom=False)
        _dots(below, shown)

    caption = (
        f"Each column is one combination: the dots say of which kinds, the bar how many {what}."
    )
    if rest:
        caption += f" {rest:,} more {what} show rarer combinations."
    return Picture(
        "combinations", "Kinds that occur together", caption, draw((_WIDTH_IN, 4.6), paint)
    )


def _stacked(axes: Any, rows: Sequence[Row]) -> None:
    for y, (_, one) in enumerate(rows):
        whole = max(one.known + one.unknown, 1)
        left = 0.0
        for many, colour, ink, what in (
            (one.present, RED, "white", "with"),
            (one.absent, SKY, INK, "without"),
            (one.unknown, _UNKNOWN, MINOR, "not labelled"),
        ):
            part = 100 * many / whole
            axes.barh(y, part, left=left, color=colour, height=0.72, edgecolor="white")
            if part > 11:
                axes.text(
                    left + part / 2, y, f"{what} {many:,}", ha="center", va="center", color=ink,
                    fontsize=9.5,
                )  # fmt: skip
            left += part
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], color=INK)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False)


def _dots(axes: Any, shown: Sequence[tuple[tuple[str, ...], int]]) -> None:
    kinds = LABELS[1:]
    for y in range(len(kinds)):
        axes.axhline(y, color="#f1f4f6" if y % 2 else "white", lw=15, zorder=0)
    for x, (names, _) in enumerate(shown):
        at = [y for y, kind in enumerate(kinds) if kind in names]
        axes.scatter([x] * len(kinds), range(len(kinds)), s=34, color=LINE, zorder=2)
        axes.plot([x, x], [min(at), max(at)], color=INK, lw=1.6, zorder=3)
        axes.scatter([x] * len(at), at, s=52, color=INK, zorder=4)
    axes.set_yticks(range(len(kinds)), kinds, color=INK)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_xticks([])
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.grid(visible=False)


def _told(one: Count) -> str:
    if one.share is None:
        return "not labelled"
    return f"{one.present:,} ({100 * one.share:.1f} %)"
