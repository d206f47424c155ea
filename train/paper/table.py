"""The paper's table with ours beside it, and beside what one gets that has learnt nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line; fractions, NaN where there is none.

    Attributes
    ----------
    what : str
        As the paper calls it.
    paper : float
        What the paper states.
    step : str
        Where ours is from.
    """

    what: str
    paper: float
    step: str


ROWS = (
    Row("Random forest on metadata, blood or not", 0.50, "metadata"),
    Row("ResNet-18, blood or not, from ImageNet", 0.889, "resnet18-pretrained"),
    Row("ResNet-18, blood or not, from random weights", 0.89, "resnet18"),
    Row("  without weight decay", math.nan, "no-decay"),
    Row("  with progressive resizing", math.nan, "resizing"),
    Row("ResNet-50, subtypes", 0.913, "subtypes-resnet50"),
    Row("ResNet-101, subtypes", 0.917, "subtypes-resnet101"),
    Row("DenseNet-121, subtypes", 0.918, "subtypes-densenet121"),
    Row("AlexNet, subtypes", 0.89, "subtypes-alexnet"),
)


def markdown(results: Results, *, quick: bool) -> str:
    """Return the table as Markdown, with all that one must know to read it."""
    lines = [
        "# The paper, and ours",
        "",
        *_warnings(results, quick=quick),
        "",
        "| what | the paper | ours | nothing learnt | AUROC | slices, patients |",
        "|---|---:|---:|---:|---:|---:|",
        *(_line(row, results.get(row.step)) for row in ROWS),
        "",
        *_notes(results),
    ]
    return "\n".join(lines) + "\n"


def _warnings(results: Results, *, quick: bool) -> list[str]:
    found = []
    if results["data"]["simulated"]:
        found.append("**All scans are simulated**: ours says nothing of real ones.")
    if quick:
        found.append("**Quick**: tiny images and few steps, to show that it works, no more.")
    return [*found, "Not for clinical use without local validation."]


def _line(row: Row, ours: Mapping[str, Any] | None) -> str:
    stated = "-" if math.isnan(row.paper) else _percent(row.paper)
    if row.step == "metadata":
        return f"| {row.what} | {stated} | {_of_metadata(ours)} |"
    if ours is None:
        return f"| {row.what} | {stated} | weights not to be had | - | - | - |"
    return (
        f"| {row.what} | {stated} | {_with_interval(ours['accuracy'], _percent)} "
        f"| {_percent(ours['nothing'])} | {_with_interval(ours['area'], _three)} "
        f"| {ours['slices']}, {ours['patients']} |"
    )


def _of_metadata(ours: Mapping[str, Any] | None) -> str:
    if ours is None or "why_not" in ours:
        return "not to be tried | 50.0 % | - | -"
    counts = f"{ours['rows']}, {ours['patients']}"
    area = _with_interval(ours["auroc"], _three)
    return f"{_percent(ours['balanced_accuracy'])} | 50.0 % | {area} | {counts}"


def _notes(results: Results) -> list[str]:
    data, finder, times = results["data"], results["finder"], results["precision"]
    parts = ", ".join(
        f"{name.replace('_', ' ')} {one['patients']}" for name, one in data["parts"].items()
    )
    rates = times["images_per_s"]
    subtypes = results["subtypes-resnet50"]
    found = [
        f"Datasets: {', '.join(data['datasets'])}. Patients: {parts}; none is in two parts. The "
        "paper draws its 20 % by slices, so that slices of one bleed lie on both sides.",
        *data["cleaning"],
        "Accuracy is at a threshold of 0.5: blood or not on all slices with blood and half as many "
        "without; subtypes on slices with blood over all five answers (fastai's accuracy_multi; "
        f"calling none at all scores {_percent(subtypes['nothing'])} here and 72.5 % on RSNA's). "
        "Of metadata it is balanced accuracy. In brackets 95 % intervals over patients.",
        f"Learning rate: {finder['taken']:.2g}, from the finder (plots/finder.png).",
        f"Mixed precision ({times['mixed']} on {times['device']}"
        + ("" if times["hardware"] else ", which has no hardware for it")
        + f"): {rates[times['mixed']]:g} images/s beside {rates['float32']:g} in float32, "
        f"{100 * times['saved']:.0f} % of the time saved (the paper: not much).",
        results["metadata"]["sentence"],
        _of_pair(results["pair"]),
    ]
    return [f"- {line}" for line in found]


def _of_pair(pair: Mapping[str, Any]) -> str:
    if "skipped" in pair:
        return str(pair["skipped"])
    area = pair["series_auroc"]
    shown = "not known" if area is None else f"{area:.3f}"
    return (
        f"The pair ({pair['hemorrhage']} and {pair['subtypes']}) is in bundle/, model "
        f"{pair['model_uid']}; AUROC of whole series {shown}, more in {pair['page']}."
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _with_interval(one: Mapping[str, Any], shown: Any) -> str:
    if one["value"] is None:
        return "-"
    if one["low"] is None or one["high"] is None:
        return str(shown(one["value"]))
    span = f"[{shown(one['low'])}, {shown(one['high'])}]".replace(" %,", ",")
    return f"{shown(one['value'])} {span}"


def draw_table(path: Path, results: Results) -> None:
    """Draw the paper's figures, ours and those of nothing learnt as a PNG file."""
    from matplotlib.figure import Figure  # slow to import

    shown = [row for row in reversed(ROWS) if "accuracy" in results.get(row.step, {})]
    figure = Figure(figsize=(8, 0.45 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(shown):
        ours = results[row.step]
        _bar(axes, place, ours)
        axes.plot(row.paper, place, "D", color="tab:orange", label=None if place else "the paper")
        axes.plot(ours["nothing"], place, "|", color="black", markersize=12,
                  label=None if place else "nothing learnt")  # fmt: skip
    axes.set_yticks(range(len(shown)), [row.what.strip() for row in shown])
    simulated = " (simulated scans)" if results["data"]["simulated"] else ""
    axes.set(xlabel=f"accuracy at 0.5{simulated}", xlim=(0.0, 1.0))
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _bar(axes: Any, place: int, ours: Mapping[str, Any]) -> None:
    one = ours["accuracy"]
    label = None if place else "ours, 95 % interval"
    axes.plot(one["value"], place, "o", color="tab:blue", label=label)
    if one["low"] is not None and one["high"] is not None:
        axes.plot([one["low"], one["high"]], [place, place], color="tab:blue")
