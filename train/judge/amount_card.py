"""What the model card says of amounts: found by volume and kind, and volumes with their error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.judge.page import number, percent, span_number, span_percent


def amounts(evaluation: Mapping[str, Any]) -> str:
    """Return the sections of the card on amounts; "" where none is known."""
    found, volume = evaluation["found_by_amount"], evaluation["volume"]
    return ("" if found is None else _found(found)) + ("" if volume is None else _volume(volume))


def _found(found: Mapping[str, Any]) -> str:
    lines = [
        "\n### By how much blood there is\n",
        "| by | blood | series | urgent | urgent or review |",
        "|---|---|---|---|---|",
    ]
    for by in ("volume", "kind"):
        lines += [
            f"| {by} | {row['group']} | {row['series']} | {_rate(row['urgent'])} | "
            f"{_rate(row['urgent_or_review'])} |"
            for row in found[f"by_{by}"]
        ]
    lines += [
        "\nTold from series without that label, by at least so much blood of it:\n",
        "| label | least | positives | series AUROC |",
        "|---|---|---|---|",
        *(
            f"| {row['label']} | {row['least_ml']:g} ml | {row['positives']} | "
            f"{_auroc(row['auroc'])} |"
            for row in found["told_apart"]
        ),
    ]
    return "\n".join(lines) + "\n"


def _auroc(one: Mapping[str, Any]) -> str:
    return one["why"] if one["value"] is None else f"{number(one['value'])} ({span_number(one)})"


def _volume(volume: Mapping[str, Any]) -> str:
    stated = ", ".join(volume["shown"]) or "nothing: it is not good enough, or was switched off"
    lines = [
        "\n### Volume\n",
        f"{volume['how']}\n",
        f"Stated in reports: {stated}. Estimates for triage, no measurement for treatment.\n",
        "| by | blood | series | mean absolute error | limits of agreement | median relative error "
        "above 1 ml |",
        "|---|---|---|---|---|---|",
        *(
            _volume_row(by, row)
            for by, rows in (
                ("all", [volume["overall"]]),
                ("volume", volume["by_volume"]),
                ("kind", volume["by_kind"]),
            )
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def _volume_row(by: str, row: Mapping[str, Any]) -> str:
    error, (low, high) = row["mean_absolute_error_ml"]["value"], row["limits_ml"]
    absolute = "unknown" if error is None else f"{error:.2f} ml"
    limits = "too few" if low is None else f"{low:.1f} to {high:.1f} ml"
    off = row["median_relative_error"]
    relative = "unknown" if off is None else f"{percent(off)}, of {row['relative_of']}"
    return f"| {by} | {row['group']} | {row['series']} | {absolute} | {limits} | {relative} |"


def _rate(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return str(one["why"])
    return f"{percent(one['value'])} ({span_percent(one)}, {one['hits']} of {one['of']})"
