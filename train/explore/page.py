"""The page of an exploration: one file, nothing to load, nothing to install."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ichnode import __version__
from ichnode.domain.findings import LABELS
from ichnode.spool import write_durable
from train.data.window import WINDOWS
from train.explore.baseline import ALARM_ABOVE
from train.explore.counting import Count
from train.explore.exploring import Exploration
from train.explore.label_plots import bleeds_picture, combinations_picture, subtypes_picture
from train.explore.series_plots import (
    brain_picture,
    groups_picture,
    importance_picture,
    lengths_picture,
)
from train.judge.drawing import Picture

PAGE, FIGURES = "exploration.html", "exploration.json"
_STATES = {"alarm": "alarm", "look": "look at it", "unknown": "not known", "clear": "clear"}


def write_page(folder: Path, found: Exploration) -> Path:
    """Write ``exploration.html`` and ``exploration.json``; return the page.

    Parameters
    ----------
    folder : Path
        Created where missing.
    found : Exploration
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n"
    write_durable(folder / FIGURES, text.encode())
    page = folder / PAGE
    write_durable(page, render(found).encode())
    return page


def render(found: Exploration) -> str:
    """Return the page as text."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(_FILTERS)
    source = resources.files("train.explore").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        found=found,
        explored=found.explored,
        badges=badges(found),
        summary=summary(found),
        tiles=tiles(found),
        pictures=draw_all(found),
        labels=LABELS,
        windows=WINDOWS,
        states=_STATES,
        alarm_above=ALARM_ABOVE,
        code_version=__version__,
    )


def draw_all(found: Exploration) -> dict[str, Picture]:
    """Return the pictures that there is something to draw in, by name."""
    explored, groups = found.explored, found.groups
    rows = [("series", found.series["any"]), ("slices", found.slices["any"])]
    if len(found.sources) > 1:
        for source in found.sources:
            rows += [(f"{source.group.name}: series", source.group.with_blood)]
            rows += [(f"{source.group.name}: slices", source.group.slices_with_blood)]
    truth = explored.series["any"].to_numpy(np.float64)
    pictures = [
        bleeds_picture(rows),
        groups_picture(
            "storage",
            "How pixels are stored",
            "Left: how many series. Right: how many of those that are labelled show blood, with "
            "the 95 % interval. Where the points differ, a network may learn the scanner.",
            [("Bits stored", groups["bits"]), ("Bits, sign, intercept", groups["storage"])],
        ),
        groups_picture(
            "scanners",
            "Scanners and how they were used",
            "Left: how many series. Right: how many of those that are labelled show blood, with "
            "the 95 % interval.",
            [
                ("Manufacturer", groups["maker"]),
                ("Kernel", groups["kernel"]),
                ("Thickness, as stated", groups["thickness"]),
            ],
        ),
        lengths_picture(
            explored.series["slices"].to_numpy(np.float64),
            explored.series["step_mm"].to_numpy(np.float64),
            explored.series["thickness_mm"].to_numpy(np.float64),
            truth,
        ),
        brain_picture(
            explored.slices["brain_fraction"].to_numpy(np.float64),
            explored.slice_labels[:, 0].astype(np.float64),
            found.filters,
        ),
    ]
    if found.together:
        pictures.append(subtypes_picture(found.slices, found.series))
        pictures.append(combinations_picture(found.together, found.together_of))
    if tried := [one for one in found.baselines if not one.why_not]:
        pictures.append(importance_picture(tried))
    return {picture.name: picture for picture in pictures}


def badges(found: Exploration) -> list[dict[str, str]]:
    """Return what nobody may overlook."""
    shown = []
    if found.explored.simulated:
        shown.append({"tone": "bad", "text": "Simulated data"})
    alarms = sum(alarm.state == "alarm" for alarm in found.alarms)
    looks = sum(alarm.state == "look" for alarm in found.alarms)
    if alarms:
        shown.append({"tone": "bad", "text": _plural(alarms, "alarm")})
    if looks:
        shown.append({"tone": "warn", "text": f"{_plural(looks, 'thing')} to look at"})
    if not alarms and not looks:
        shown.append({"tone": "good", "text": "No alarms"})
    if any(source.non_commercial for source in found.sources):
        shown.append({"tone": "warn", "text": "Non-commercial"})
    if found.examples and not found.explored.simulated:
        shown.append({"tone": "warn", "text": "Images of patients: keep it where such may be kept"})
    return shown


def summary(found: Exploration) -> str:
    """Say in two sentences what there is."""
    series, slices = found.series["any"], found.slices["any"]
    patients = found.explored.series["patient"].nunique()
    what = (
        f"{len(found.explored.slices):,} slices in {_plural(len(found.explored.series), 'series')} "
        f"of {_plural(patients, 'patient')}"
    )
    if not series.known and not slices.known:
        return f"{what}; none of them labelled."
    parts = [
        f"{one.present:,} of {one.known:,} labelled {name} ({percent(one.share)})"
        for name, one in (("series", series), ("slices", slices))
        if one.known
    ]
    return f"{what}. Blood is in {' and in '.join(parts)}."


def tiles(found: Exploration) -> list[dict[str, str]]:
    """Return the figures that are read first."""
    series, slices = found.series["any"], found.slices["any"]
    rarest = min(
        ((label, found.series[label]) for label in LABELS[1:] if found.series[label].known),
        key=lambda pair: pair[1].present,
        default=None,
    )
    baseline = found.baselines[0]
    lost = sum(many for *_, many in found.left_out)
    return [
        _share_tile("Series with blood", series),
        _share_tile("Slices with blood", slices),
        {
            "what": "Rarest kind",
            "value": "–" if rarest is None else f"{rarest[1].present:,}",
            "of": "no kind is labelled" if rarest is None else f"series with {rarest[0]} blood",
        },
        {
            "what": "AUROC of metadata",
            "value": "–" if baseline.why_not else f"{baseline.area.value:.2f}",
            "of": "too few labelled patients"
            if baseline.why_not
            else f"95 % interval {baseline.area.low:.2f} to {baseline.area.high:.2f}; 0.50 is none",
        },
        {
            "what": "Left out",
            "value": f"{lost:,}",
            "of": "nothing" if not lost else "series or slices, see below",
        },
    ]


def percent(share: float | None) -> str:
    """Return a share as per cent with one decimal."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _share_tile(what: str, one: Count) -> dict[str, str]:
    if one.share is None:
        return {"what": what, "value": "–", "of": "none is labelled"}
    of = f"{one.present:,} of {one.known:,}"
    if one.unknown:
        of += f", {one.unknown:,} not labelled"
    return {"what": what, "value": percent(one.share), "of": of}


def _plural(many: int, what: str) -> str:
    ending = "" if many == 1 or what == "series" else "s"
    return f"{many:,} {what}{ending}"


def _interval(one: Count) -> str:
    low, high = one.interval
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


_FILTERS: dict[str, Any] = {
    "pct": percent,
    "interval": _interval,
    "base64": _base64,
    "thousands": lambda number: f"{number:,}",
}
