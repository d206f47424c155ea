"""``ichnode outputs``: where results go, what would go there, and what goes nowhere any more."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ichnode.cli.configuring import settings_of
from ichnode.domain.errors import ConfigurationError

outputs = typer.Typer(no_args_is_help=True, help="Where results go.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(outputs, name="outputs")


@outputs.command("list", epilog="Example: ichnode outputs list")
def list_outputs(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """List the configured destinations, and what each of them gets."""
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "way": one.way,
            "address": one.address,
            "takes": sorted(one.takes),
            "open": "always" if one.is_loopback else "once a model is commissioned",
        }
        for one in settings_of(context).outputs
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "way", "address", "takes", "open")
    for row in rows:
        takes = ", ".join(row["takes"])
        table.add_row(row["name"], row["way"], row["address"], takes, row["open"])
    Console().print(table)


@outputs.command(
    "redirect", epilog='Example: ichnode outputs redirect old_pacs --to pacs --by "A. Admin"'
)
def redirect(
    context: typer.Context,
    destination: Annotated[str, typer.Argument(help="A name that is in the settings no longer.")],
    by: Annotated[str, typer.Option(help="Who decides; recorded.")],
    to: Annotated[str | None, typer.Option(help="Who gets what waits for it.")] = None,
    give_up: Annotated[bool, typer.Option("--give-up", help="Instead: nobody does.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show.")] = False,
) -> None:
    """Decide about deliveries whose destination was renamed or removed: nobody takes them.

    What waits, is withheld or was given up goes to another destination as it is, or is suppressed;
    each with a line in the history of its study. Of a destination that is still there only what it
    takes no more. Exit code 1 when nothing was found.
    """
    from ichnode.service.assembly import open_worklist

    if (to is None) != give_up:
        raise ConfigurationError("Give --to NAME, or --give-up.")
    stranded = open_worklist(settings_of(context)).stranded
    decided = (
        stranded.give_up(destination, by, dry_run=dry_run)
        if to is None
        else stranded.redirect(destination, to, by, dry_run=dry_run)
    )
    if not decided.found:
        typer.echo(f"Nothing waits for {destination!r} that it does not take.", err=True)
        raise typer.Exit(1)
    said = "Given up" if to is None else f"For {to}"
    for count, line in (
        (decided.done, f"{said}: {decided.done} deliveries, {decided.positives} of positives."),
        (decided.there_already, f"{to} has already, given up: {decided.there_already}."),
        (decided.not_taken, f"Left, of kinds that {to} does not take: {decided.not_taken}."),
        (decided.held, f"Left, being sent by another host in this moment: {decided.held}."),
    ):
        if count:
            typer.echo(line)
    if dry_run:
        typer.echo("Nothing was changed.")


@outputs.command("test", epilog="Example: ichnode outputs test pacs --study 1.2.840.113619.2.55.3")
def show_what_goes(
    context: typer.Context,
    destination: Annotated[str, typer.Argument(help="The name of a destination.")],
    study: Annotated[str, typer.Option(help="The Study Instance UID of an analysed study.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show exactly what a destination would be sent about a study. Nothing is sent.

    What is shown names the patient, as what is sent does.
    """
    from ichnode.send.mechanisms import mechanisms_for
    from ichnode.service.assembly import open_worklist

    settings = settings_of(context)
    found = {one.name: one for one in settings.outputs}
    if destination not in found:
        known = ", ".join(found) or "none is configured"
        raise ConfigurationError(f"There is no destination {destination!r}: {known}.")
    mechanisms = mechanisms_for(found[destination], settings.node.spool, settings.receive.ae_title)
    items = open_worklist(settings).deliveries.rehearse(study, destination)
    shown = {item.kind: mechanisms[item.kind].preview(item) for item in items}
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    for kind, text in shown.items():
        typer.echo(f"--- {kind} to {destination} ({found[destination].address})\n{text}\n")
    missing = sorted(found[destination].takes - shown.keys())
    if missing:
        typer.echo(f"Nothing was written about this study yet for: {', '.join(missing)}.", err=True)
