"""``ichnode labels``: what people say is true of the studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ichnode.cli.configuring import settings_of
from ichnode.domain.labels import LabelSource

if TYPE_CHECKING:
    from ichnode.service.label_files import LabelFile
    from ichnode.worklist.labels import Entered, LabelSummary

labels = typer.Typer(no_args_is_help=True, help="What people say is true of the studies.")
MOST_SHOWN = 50  # lines of one kind; --json has all


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(labels, name="labels")


@labels.command("import", epilog='Example: ichnode labels import cases.csv --by "Dr B" --dry-run')
def import_labels(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A CSV file; see below.")],
    source: Annotated[
        LabelSource,
        typer.Option(
            help="Where lines that do not say it themselves come from: a reader who looked at the "
            "images, the report of the study, several readers who agreed."
        ),
    ] = "reader",
    by: Annotated[str, typer.Option(help="Who says so; recorded.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Take in what people say is true of studies, from a CSV file.

    One line per study: accession_number or study_uid, if wanted series_uid, source and by, and a
    column for each label that is known: any, epidural, intraparenchymal, intraventricular,
    subarachnoid, subdural. 1, yes or present; 0, no or absent; blank where it is not known.

    Label consecutive studies, flagged by the model or not: labels of flagged studies alone hide
    what it missed. Never enter what the model said.

    The same file again changes nothing; another word about a study takes the place of the earlier
    one, which stays in the history. Exit code 1 when a line could not be understood; the others
    are taken in all the same.
    """
    from ichnode.service.assembly import open_worklist
    from ichnode.service.label_files import read_labels

    found = read_labels(file, source=source, by=by)
    entered = open_worklist(settings_of(context)).labels.enter(found.lines, dry_run=dry_run)
    facts = _facts(found, entered)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _tell(facts, dry_run=dry_run)
    raise typer.Exit(1 if facts["refused"] else 0)


def _facts(found: LabelFile, entered: Sequence[Entered]) -> dict[str, Any]:
    by_outcome: dict[str, list[Entered]] = {}
    for one in entered:
        by_outcome.setdefault(one.outcome.value, []).append(one)
    refused = [{"line": one.line, "reason": one.reason} for one in found.bad]
    refused += [{"line": e.line, "reason": e.sentence} for e in by_outcome.get("refused", ())]
    return {
        "recorded": len(by_outcome.get("recorded", ())),
        "unchanged": len(by_outcome.get("unchanged", ())),
        "superseded": [e.line for e in entered if e.superseded],
        "outranked": [e.line for e in entered if e.outranked],
        "images_gone": [e.line for e in entered if e.images_gone],
        "unknown": [e.line for e in by_outcome.get("unknown", ())],
        "refused": sorted(refused, key=lambda one: int(str(one["line"]))),
        "ignored_columns": list(found.ignored),
    }


def _tell(facts: dict[str, Any], *, dry_run: bool) -> None:
    would = "would be recorded" if dry_run else "recorded"
    typer.echo(f"{facts['recorded']} studies {would}, {facts['unchanged']} said the same already.")
    for key, what in (
        ("superseded", "took the place of what was said before"),
        ("outranked", "recorded, but a more trusted source says otherwise and stands"),
        ("images_gone", "of studies whose images were deleted: good for validation, not training"),
        ("unknown", "of studies that never arrived here"),
    ):
        if lines := facts[key]:
            typer.echo(f"{len(lines)} {what}: {_numbers(lines)}")
    if facts["ignored_columns"]:
        typer.echo(f"Columns without a meaning here: {', '.join(facts['ignored_columns'])}")
    for one in facts["refused"][:MOST_SHOWN]:
        typer.echo(f"line {one['line']} refused: {one['reason']}", err=True)
    if (more := len(facts["refused"]) - MOST_SHOWN) > 0:
        typer.echo(f"and {more} more; --json lists them.", err=True)


def _numbers(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:MOST_SHOWN]))
    return f"line {shown}{', ...' if len(lines) > MOST_SHOWN else ''}"


@labels.command("reports", epilog="Example: ichnode labels reports reports.csv")
def write_reports(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The CSV file to write; it must not exist.")],
) -> None:
    """Write the final reports that were heard of into a CSV file, to make labels from.

    Only where hl7_listen.keep_reports is on, and of studies that arrived here. The columns are
    accession_number and text, which `python -m train reports label` reads; what comes out of it
    goes back by `ichnode labels import --source report`. The file holds PHI, and only its owner may
    read it.
    """
    from ichnode.service.assembly import open_worklist
    from ichnode.service.report_files import write_texts

    written = write_texts(file, open_worklist(settings_of(context)).orders.report_texts())
    typer.echo(
        f"{written} reports written to {file}. It names patients: keep it where they may be."
    )


@labels.command("list", epilog="Example: ichnode labels list --json")
def list_labels(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how much is labelled: by label and source, by band, flagged by the model and not."""
    from ichnode.service.assembly import open_worklist

    summary = open_worklist(settings_of(context)).labels.summary()
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=2))
        return
    _show(summary)


def _show(summary: LabelSummary) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"{summary.studies} studies are labelled; the images of {summary.images_here} are here, "
        f"{summary.collected} are exported for training."
    )
    sources = list(next(iter(summary.labels.values())))
    table = Table("label", *(f"{source}: present / absent" for source in sources))
    for label, counts in summary.labels.items():
        table.add_row(label, *(f"{counts[s][0]} / {counts[s][1]}" for s in sources))
    console.print(table)
    for band, (labelled, total) in summary.bands.items():
        console.print(f"{band.replace('_', ' ')}: {labelled} of {total} labelled")
    for words, (labelled, total) in (
        ("flagged by the model", summary.flagged),
        ("analysed and not flagged", summary.unflagged),
    ):
        console.print(f"{words}: {labelled} of {total} labelled")
    if summary.flagged[0] and not summary.unflagged[0]:
        console.print("Only flagged studies are labelled: what the model missed is unknown.")
