"""Show on a terminal what the labeller makes of a report, with the sentences that decided."""

from __future__ import annotations

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ichnode.domain.findings import LABELS
from train.reports.labelling import Answer
from train.reports.tables import Labelled

_STYLES: dict[Answer, str] = {
    "present": "bold red",
    "uncertain": "bold yellow",
    "absent": "green",
    "not mentioned": "dim",
}
_VALUES = {True: "1", False: "0", None: "unknown"}


def show(console: Console, study: Labelled, number: int) -> None:
    """Print a report with its decisive sentences marked, and a table of its labels.

    It is the whole text, with whatever is in it of the patient: for the eyes of who asked for it.
    """
    text = Text(study.text.strip("\n"))
    shift = len(study.text) - len(study.text.lstrip("\n"))
    for label in reversed(LABELS):
        said = study.report[label]
        if said.evidence is not None:
            start, end = said.evidence.start - shift, said.evidence.end - shift
            text.stylize(_STYLES[said.answer], start, end)
    console.print(Panel(Group(text, Text(), _table(study)), title=f"report {number}"))


def _table(study: Labelled) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "report says", "age", "because", "label"):
        table.add_column(heading)
    for label in LABELS:
        said, value = study.report[label], study.labels[label].value
        if said.answer == "not mentioned" and value is None:
            continue
        cue = said.evidence.said.words if said.evidence else ""
        because = f"{said.rule} ({cue})" if cue and cue not in said.rule else said.rule
        age = said.acuity if said.answer == "present" else ""
        table.add_row(label, Text(said.answer, _STYLES[said.answer]), age, because, _VALUES[value])
        if said.overruled:
            table.add_row("", "", "", Text(f"overrules {said.overruled}", style="dim"), "")
    return table
