"""``ichnode reconcile``: what the PACS has and what never came here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ichnode.cli.configuring import settings_of
from ichnode.cli.looking import missing_facts, missing_lines
from ichnode.domain.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: ichnode reconcile   and then   ichnode reconcile --fetch")(
        reconcile
    )


def reconcile(
    context: typer.Context,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Have the PACS send what is missing (C-MOVE).")
    ] = False,
    hours: Annotated[
        float | None, typer.Option(min=0.1, max=744, help="How far back; as configured otherwise.")
    ] = None,
    dismiss: Annotated[
        str | None,
        typer.Option(metavar="UID", help="Show this study no more: a person knows of it."),
    ] = None,
    by: Annotated[str, typer.Option(help="Who dismisses it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask the PACS which head CTs it has, and show what did not arrive. Fetches nothing by itself.

    Exit code 0 when nothing is missing, 1 when something is, 69 when the PACS could not be asked to
    the end: then it is not known.
    """
    from ichnode.logs import configure_logging
    from ichnode.service.assembly import open_worklist
    from ichnode.service.reconciling import Reconciliation, Unreconciled

    settings = settings_of(context)
    # An archive's garbage must not be quoted on the terminal by the library that cannot read it.
    configure_logging(level=settings.logs.level, style=settings.logs.style)
    worklist = open_worklist(settings)
    if dismiss is not None:
        if not by.strip():
            raise ConfigurationError("Say who dismisses it: --by NAME.")
        worklist.reconciling.dismiss(dismiss, by=by.strip())
        return
    asking = Reconciliation(settings, worklist)
    problem = asking.compare(hours)
    fetched = asking.fetch() if fetch else []
    if as_json:
        facts = missing_facts(worklist)
        typer.echo(json.dumps(facts | {"fetched": [list(one) for one in fetched]}, indent=2))
    else:
        for line in missing_lines(worklist):
            typer.echo(line)
        for uid, why in fetched:
            typer.echo(f"{uid}: {why or 'the PACS has sent it.'}")
        if not fetch and worklist.views.not_received().rows:
            typer.echo("Nothing was fetched; --fetch has the PACS send what is missing.")
    if problem:
        raise Unreconciled(f"{asking.name} was not compared to the end: {problem}")
    raise typer.Exit(1 if worklist.views.not_received().rows else 0)
