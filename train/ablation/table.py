"""The table of an ablation as Markdown, with all that one must know to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.judge.figures import Figure


def markdown(found: Mapping[str, Any]) -> str:
    """Return the table of what `train.ablation.comparing.compared` found, with its settings."""
    real = found["real"]
    lines = [
        "# Ablations",
        "",
        "**Every network learnt from simulated scans alone.** Not for clinical use.",
        "",
        "| arm | what is other | simulated holdout | difference | real slices | difference |",
        "|---|---|---:|---:|---:|---:|",
        *(_line(arm) for arm in found["arms"]),
        "",
        "AUROC of slices for any haemorrhage, with 95 % intervals; differences are to `full`, on "
        "the same draws.",
        "",
        f"- Simulated holdout: {_counted(found['simulated'])} of {found['settings']['holdout']} "
        "series that the whole simulator made, for all arms; intervals draw series. Slices whose "
        "blood hardly shows are left out.",
        "- Real slices: none yet." if real is None else _of_real(real),
        _of_training(found["settings"]),
        "- An interval holds the chance of which series or slices there are. It does not hold the "
        "chance of a training, of which there is one for each arm (`--seed` makes others), and no "
        "allowance is made for looking at several arms.",
    ]
    return "\n".join(lines) + "\n"


def _line(arm: Mapping[str, Any]) -> str:
    cells = [
        shown(arm[data][name])
        for data in ("simulated", "real")
        for shown, name in ((_area, "auroc"), (_difference, "difference"))
    ]
    return f"| {arm['name']} | {arm['what']} | {' | '.join(cells)} |"


def _area(one: Figure) -> str:
    return _told(one, "{:.3f}")


def _difference(one: Figure) -> str:
    return _told(one, "{:+.3f}")


def _told(one: Figure, form: str) -> str:
    if one["value"] is None:
        return "-"
    value = form.format(one["value"])
    if one["low"] is None:
        return value
    return f"{value} ({form.format(one['low'])} to {form.format(one['high'])})"


def _counted(one: Mapping[str, Any]) -> str:
    return f"{one['positives']} slices with haemorrhage and {one['negatives']} without"


def _of_real(real: Mapping[str, Any]) -> str:
    return (
        f"- Real slices: {real['name']}, {_counted(real)}, read as by `python -m train measure`; "
        "they count as independent. Each reading is in the ledger of its arm's bundle."
    )


def _of_training(settings: Mapping[str, Any]) -> str:
    return (
        f"- Each network: {settings['architecture']} at {settings['size_px']} px, "
        f"{settings['steps']} steps, on {settings['series']} series of the same seeds, simulated "
        f"at {settings['scan_px']} px. "
        "They are small and learnt for a short time: they say what helps, not how good a model is."
    )
