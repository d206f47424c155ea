"""The ten worst items as one picture: the lowest bleeds, and the highest of the others."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.carryover.measured import Item
from train.carryover.reading import Hu
from train.data.unclipping import clip_to_grey

WORST = 10
_MOST_PX = 320
_NAME = 34  # letters of a name that fit above a picture

Grey = npt.NDArray[np.uint8]


@dataclass(order=True)
class _Shown:
    badness: float
    number: int
    item: Item = field(compare=False)
    picture: Grey = field(compare=False, repr=False)


class Worst:
    """Keeps the pictures of the worst items while they go by: lowest bleeds, highest others."""

    def __init__(self) -> None:
        self._bleeds: list[_Shown] = []
        self._others: list[_Shown] = []
        self._unknown: list[_Shown] = []
        self._seen = 0

    def offer(self, item: Item, hu: Hu) -> None:
        """Keep an item and its slice (y, x) as long as it is among the worst."""
        self._seen += 1
        bleed = item.sample.truth is True
        known = self._bleeds if bleed else self._others
        kept = self._unknown if item.sample.truth is None else known
        badness = -item.score if bleed else item.score
        if len(kept) == WORST and badness <= kept[0].badness:
            return
        every = -(-max(hu.shape) // _MOST_PX)
        shown = _Shown(badness, -self._seen, item, clip_to_grey(hu[::every, ::every]))
        (heapq.heappushpop if len(kept) == WORST else heapq.heappush)(kept, shown)

    def rows(self) -> list[tuple[str, list[tuple[Item, Grey]]]]:
        """Return title and pictures of each row, the worst first; ten at most in all."""
        half = WORST // 2
        bleeds = sorted(self._bleeds, reverse=True)
        others = sorted(self._others or self._unknown, reverse=True)
        bleeds = bleeds[: max(half, WORST - len(others))]
        others = others[: WORST - len(bleeds)]
        rest = "highest without haemorrhage" if self._others else "highest, truth not known"
        titled = (("lowest with haemorrhage", bleeds), (rest, others))
        return [
            (title, [(one.item, one.picture) for one in kept]) for title, kept in titled if kept
        ]


def draw_worst(path: Path, worst: Worst, title: str) -> None:
    """Draw the worst items in the window 0 to 80 HU as a PNG file; the folder is there."""
    from matplotlib.figure import Figure  # slow to import

    rows = worst.rows()
    columns = max(len(kept) for _, kept in rows)
    size = (2.1 * max(columns, 3), 2.5 * len(rows) + 0.5)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for (heading, kept), line in zip(rows, grid, strict=True):
        for number, ((item, picture), axes) in enumerate(zip(kept, line, strict=False)):
            _show(axes, item, picture, heading if number == 0 else "")
    figure.suptitle(f"{title}\nnot for diagnostic use", fontsize=8, parse_math=False)
    figure.savefig(path, dpi=120)


def _show(axes: Any, item: Item, picture: Grey, heading: str) -> None:
    name = item.name if len(item.name) <= _NAME else f"...{item.name[-_NAME:]}"
    told = f"{name}\n{item.score:.3f} {item.said.finding}"
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axes.set_title(f"{heading}\n{told}" if heading else told, fontsize=6.5, parse_math=False)
