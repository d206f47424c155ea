"""Simulated waiting times as one picture (SVG) that loads nothing and says that it is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jinja2 import Environment, StrictUndefined

from ichnode.service.simulating import Minutes, Waits

PANEL_WIDTH, PANEL_HEIGHT = 390, 220
_POINTS = 200
_STEPS_MIN = (1, 2, 5, 10, 15, 20, 30, 60, 120, 240, 480, 720, 1440)
_MOST_TICKS = 7
_SHOWN = 0.98  # of the waits of the slower list: the axis ends there
PANELS = {"positive": "Positive studies", "negative": "Negative studies"}
COLOURS = {"arrival": "#8a5a00", "ichnode": "#0a5ca8"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One group of studies: the share that waited no longer than so many minutes, on each list."""

    title: str
    paths: dict[str, str]  # SVG path data by list, in the panel's pixels
    means: dict[str, tuple[float, str]]  # position and words
    ticks: tuple[tuple[float, str], ...]


def draw(waits: Waits) -> str:
    """Return the picture."""
    template = files("ichnode.service").joinpath("templates/waiting.svg.j2")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    end, step = _axis(waits)
    panels = [_panel(waits, group, end, step) for group in PANELS]
    picture = environment.from_string(template.read_text(encoding="utf-8"))
    return picture.render(
        panels=panels,
        colours=COLOURS,
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
        lines=assumed(waits),
    )


def assumed(waits: Waits) -> tuple[str, str, str]:
    """Return the assumptions in three lines."""
    one = waits.assumptions
    coming = f"{waits.cases} given studies" if waits.given else f"{one.per_day:.0f} studies a day"
    capped = one.waiting_cap_min < float("inf")
    list_ = [
        f"waiting cap {one.waiting_cap_min:g} min" if capped else "no waiting cap",
        f"verdict after {one.result_after_min:g} min",
        "urgent studies interrupt a reading" if one.preemptive else "no reading is interrupted",
    ]
    if one.stat:
        list_.append(f"{one.stat:g} ordered STAT")
    if one.interrupting:
        list_.append(f"{one.interrupting:g} read at once ({one.interrupting_min:g} min each)")
    return (
        f"{coming}, {one.readers} reading, {one.spread} times, mean {one.positive_min:g} min a "
        f"positive and {one.negative_min:g} min a negative;",
        f"prevalence {one.prevalence:g}, sensitivity {one.sensitivity:g}, specificity "
        f"{one.specificity:g}; {one.replications} replications;",
        f"{', '.join(list_)}.",
    )


def _axis(waits: Waits) -> tuple[float, float]:
    """Return where the axis of both panels ends, and the step of its ticks; in minutes."""
    shown = [waits.pooled[name][group] for name in COLOURS for group in PANELS]
    longest = max((float(np.quantile(one, _SHOWN)) for one in shown if one.size), default=1.0)
    step = next((s for s in _STEPS_MIN if longest / s <= _MOST_TICKS), _STEPS_MIN[-1])
    return float(max(step * np.ceil(longest / step), step)), float(step)


def _panel(waits: Waits, group: str, end: float, step: float) -> Panel:
    scale = PANEL_WIDTH / end
    means = {}
    for name in COLOURS:
        mean = waits.figures[name][group]["mean"].mean
        if np.isfinite(mean):
            means[name] = (round(min(mean, end) * scale, 1), f"{mean:.1f} min")
    return Panel(
        PANELS[group],
        {name: _path(waits.pooled[name][group], end) for name in COLOURS},
        means,
        tuple((tick * scale, f"{tick:g}") for tick in np.arange(0, end + step / 2, step)),
    )


def _path(sorted_waits: Minutes, end: float) -> str:
    """Return the distribution function as path data: the share of waits up to each minute."""
    if not sorted_waits.size:
        return ""
    minutes = np.linspace(0, end, _POINTS)
    shares = np.searchsorted(sorted_waits, minutes, side="right") / sorted_waits.size
    points: Sequence[str] = [
        f"{x * PANEL_WIDTH / end:.1f} {(1 - share) * PANEL_HEIGHT:.1f}"
        for x, share in zip(minutes, shares, strict=True)
    ]
    return "M" + "L".join(points)
