"""How pictures are drawn: one style, colour-blind safe, as SVG; the same data give the same bytes.

Colours are those of Okabe and Ito; nothing is told by colour alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure as Canvas

from ichnode.domain.findings import LABELS

Floats = npt.NDArray[np.float64]

INK, MINOR, LINE = "#1b1f24", "#5a6672", "#d0d7de"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
)  # fmt: skip
COLOURS: Mapping[str, str] = dict(zip(LABELS, (INK, ORANGE, BLUE, GREEN, RED, PURPLE), strict=True))
DASHES: Mapping[str, Any] = dict(
    zip(LABELS, ("-", "--", "-", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (6, 2))), strict=True)
)
_MOST_POINTS = 400
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.edgecolor": MINOR,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#eaeef2",
    "grid.linewidth": 0.8,
    "xtick.color": MINOR,
    "ytick.color": MINOR,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "svg.hashsalt": "ichnode",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the page."""

    name: str  # of its file, without ending
    title: str
    caption: str  # how to read it
    svg: bytes


def draw(size_in: tuple[float, float], paint: Callable[[Canvas], None]) -> bytes:
    """Return a picture as SVG bytes."""
    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=size_in)
        paint(canvas)
        target = io.BytesIO()
        canvas.savefig(target, format="svg", metadata={"Date": None, "Creator": "ichnode"})
    return target.getvalue()


def thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Keep some hundred points of a curve, evenly along it, both ends included."""
    if len(x) <= _MOST_POINTS:
        return x, y
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _MOST_POINTS)))
    kept = np.unique(np.concatenate([[0], np.minimum(kept, len(x) - 1), [len(x) - 1]]))
    return x[kept], y[kept]


def shown(one: Mapping[str, Any]) -> str:
    """Return a figure with its interval, for a picture."""
    if one["value"] is None:
        return "not known"
    return f"{one['value']:.3f} [{number(one['low'])}, {number(one['high'])}]"


def number(value: float | None) -> str:
    """Return a number with three decimals."""
    return "-" if value is None else f"{value:.3f}"
