"""``ichnode outputs``: where results go, and what exactly would go there."""

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
