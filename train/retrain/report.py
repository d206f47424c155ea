"""The report of a retraining: one page that a clinical engineer can read, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ichnode.spool import write_durable

PAGE, FIGURES = "retrain-report.html", "retrain-report.json"

WHAT_NEXT = {
    "challenger": (
        "The candidate is registered as challenger. It runs in the shadow of the champion on live "
        "studies and changes nothing; `ichnode models promote challenger` shows how it did there "
        "and lets a person decide."
    ),
    "refused": (
        "Nothing was changed: the champion goes on. That is a normal outcome. The sentences above "
        "say what would be needed."
    ),
}


def write_report(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write page and figures of a retraining and return the page.

    Parameters
    ----------
    content : mapping
        ``outcome`` ("challenger" or "refused"), ``refusal`` (gate and sentences, or None),
        ``snapshot``, ``counts``, ``coverage``, ``training``, ``figures``, ``gates``; what a run did
        not reach is missing.
    """
    whole = {"refusal": None, **content}
    whole["what_next"] = WHAT_NEXT[str(content["outcome"])]
    write_durable(folder / FIGURES, (json.dumps(whole, indent=1, sort_keys=True) + "\n").encode())
    template = files("train.retrain").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(template).render(report=whole)
    write_durable(folder / PAGE, page.encode())
    return folder / PAGE
