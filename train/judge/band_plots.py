"""Pictures of what the node would do: bands by truth, and subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from train.judge.drawing import BLUE, INK, LINE, ORANGE, RED, SKY, Picture, draw


def bands_picture(evaluation: dict[str, Any]) -> Picture:
    """Draw how many series of each truth come into which band."""
    bands = {k: v for k, v in evaluation["triage"]["bands"].items() if sum(v.values())}

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        shades = {"urgent": (RED, "white"), "review": (ORANGE, INK), "routine": (SKY, INK)}
        for row, (_, counts) in enumerate(bands.items()):
            left, whole = 0.0, sum(counts.values())
            for band, count in counts.items():
                share = count / whole
                colour, ink = shades[band]
                axes.barh(row, share, left=left, color=colour, edgecolor="white", height=0.62)
                if share > 0.04:
                    middle = left + share / 2
                    axes.text(middle, row, str(count), ha="center", va="center", color=ink)
                left += share
        axes.set_yticks(range(len(bands)), [f"{k} ({sum(v.values())})" for k, v in bands.items()])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(visible=False)
        handles = [
            mpl.patches.Patch(color=colour, label=band) for band, (colour, _) in shades.items()
        ]
        axes.legend(handles=handles, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))

    return Picture(
        "bands",
        "Bands by truth",
        "What the reading list would do with these series. A bleed in the routine band waits as "
        "long as everybody else.",
        draw((10.4, 0.9 + 0.6 * max(len(bands), 1)), paint),
    )


def subgroup_picture(evaluation: dict[str, Any]) -> Picture:
    """Draw AUROC, sensitivity and specificity of each subgroup with their intervals."""
    rows = evaluation["subgroups"]
    names = ("auroc", "sensitivity", "specificity")

    def paint(canvas: Canvas) -> None:
        panels = canvas.subplots(1, 3, sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            whole = _whole(evaluation, name)
            if whole is not None:
                axes.axvline(whole, color=LINE, lw=1.4, zorder=0)
            for place, row in enumerate(rows):
                _bar(axes, place, row[name])
            axes.set_xlim(_left(rows, name), 1.01)
            axes.set_title(name.upper() if name == "auroc" else name)
            axes.grid(axis="y", visible=False)
        told = [
            f"{row['by']}: {row['group']}  ({row['positives']}/{row['series']})" for row in rows
        ]
        panels[0].set_yticks(range(len(rows)), told)
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        for place in range(1, len(rows)):
            if rows[place]["by"] != rows[place - 1]["by"]:
                for axes in panels:
                    axes.axhline(place - 0.5, color=LINE, lw=0.8)

    return Picture(
        "subgroups",
        "Subgroups",
        "Any haemorrhage by series, 95 % intervals; in brackets positives of all. The grey line is "
        "the whole. Groups that are too small to judge are left empty.",
        draw((10.4, 1.0 + 0.32 * max(len(rows), 1)), paint),
    )


def _whole(evaluation: dict[str, Any], name: str) -> float | None:
    source = evaluation["triage"]["urgent"]
    if name == "auroc":
        source = evaluation["labels"]["any"]["series"]
    value: float | None = source[name]["value"]
    return value


def _left(rows: Sequence[dict[str, Any]], name: str) -> float:
    lows = [row[name]["low"] for row in rows if row[name].get("low") is not None]
    return float(max(min([0.8, *lows]) - 0.03, 0.0))


def _bar(axes: Any, place: int, one: dict[str, Any]) -> None:
    if one["value"] is None:
        return
    if one["low"] is not None:
        axes.plot([one["low"], one["high"]], [place, place], color=SKY, lw=2.6)
    axes.plot(one["value"], place, "o", color=BLUE, ms=5)
