"""``ichnode db``, ``config``, ``commission``, ``requeue``, ``lower`` and ``seen``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ichnode.cli.configuring import chosen
from ichnode.cli.configuring import settings_of as _settings
from ichnode.domain.errors import ConfigurationError
from ichnode.domain.telling import Seen

if TYPE_CHECKING:
    from ichnode.settings import Destination, Settings
    from ichnode.worklist.worklist import Worklist

database = typer.Typer(no_args_is_help=True, help="The database's schema.")
configuration = typer.Typer(no_args_is_help=True, help="The configuration.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(database, name="db")
    app.add_typer(configuration, name="config")
    app.command(epilog='Example: ichnode commission --by "A. Physicist" --scanner CT1')(commission)
    app.command(epilog="Example: ichnode requeue 1.2.840.113619.2.55.3")(requeue)
    app.command(epilog='Example: ichnode lower 1.2.840.1 --by "Dr B" --reason "artefact"')(lower)
    app.command(epilog='Example: ichnode seen 1.2.840.1 --how reported --by "Dr B"')(seen)


@database.command("upgrade", epilog="Example: ichnode db upgrade")
def upgrade(context: typer.Context) -> None:
    """Create the schema, or bring it to this version; safe to repeat."""
    from ichnode.worklist import schema
    from ichnode.worklist.engine import connect

    engine = connect(_settings(context).node.database.get_secret_value())
    before = schema.current(engine)
    schema.upgrade(engine)
    after = schema.current(engine)
    typer.echo("The schema is up to date." if before == after else f"Upgraded to {after}.")


@database.command("check", epilog="Example: ichnode db check")
def check_schema(context: typer.Context) -> None:
    """Say whether the schema is this version's; exit code 78 when it is not."""
    from ichnode.worklist import schema
    from ichnode.worklist.engine import connect

    schema.check(connect(_settings(context).node.database.get_secret_value()))
    typer.echo("The schema is up to date.")


@configuration.command("check", epilog="Example: ichnode --config ./ichnode.toml config check")
def check_configuration(context: typer.Context) -> None:
    """Say whether the configuration is right; exit code 78 with a sentence when it is not."""
    _settings(context)
    typer.echo("The configuration is right.")


@configuration.command("show", epilog="Example: ichnode config show --json")
def show_configuration(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Show every value and where it came from."""
    found = chosen(context).origins()
    rows = []
    for section, values in _settings(context).model_dump(mode="json").items():
        pairs = values.items() if isinstance(values, dict) else [("", values)]
        for key, value in pairs:
            name = f"{section}.{key}" if key else section
            rows.append({"name": name, "value": value, "from": found.get(name, "default")})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "value", "from")
    for row in rows:
        table.add_row(row["name"], str(row["value"]), row["from"])
    Console().print(table)


def commission(
    context: typer.Context,
    by: Annotated[str, typer.Option(help="Who accepts the model; recorded.")],
    scanner: Annotated[
        list[str] | None, typer.Option(help="AE title that it is accepted for; all if left out.")
    ] = None,
    note: Annotated[str, typer.Option(help="On which grounds; recorded.")] = "",
    validation: Annotated[
        Path | None,
        typer.Option(help="The validation.json of `ichnode validate`; its digest is recorded."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take it back: observe again.")] = False,
) -> None:
    """Open the outputs for the model that runs now; until then only loopback gets anything.

    Shows what it is about to open and to release, asks, and records who accepted which model for
    which scanners. A new model goes back to observe mode by itself.
    """
    from ichnode.nets.registry import Registry
    from ichnode.service.assembly import open_worklist

    settings = _settings(context)
    champion = Registry(settings.infer.models).find("champion")
    scanners = tuple(scanner or ("*",))
    grounds = _grounds(validation, champion.model_uid)
    worklist = open_worklist(settings)
    for line in _what_opens(settings, champion.summary(), scanners, revoke=revoke):
        typer.echo(line)
    if not revoke:
        typer.echo(grounds or "NO VALIDATION ON LOCAL CASES WAS GIVEN (--validation).")
        typer.echo(_what_waits(worklist))
    if dry_run:
        return
    if not yes and not typer.confirm("Go on?"):
        raise typer.Exit(1)
    if revoke:
        worklist.revoke(champion.model_uid, by)
        typer.echo("Revoked: the node observes again.")
        return
    kept = " ".join(part for part in (note, grounds) if part)
    released = worklist.commission(champion.model_uid, by, scanners, kept)
    typer.echo(f"Recorded: {by} accepted {champion.model_uid}.")
    typer.echo(f"Released: {released} deliveries.")


def _grounds(validation: Path | None, model_uid: str) -> str:
    """Return what the commission keeps of a validation, or "" where none was given."""
    from ichnode.service.validation_page import refer_to

    return refer_to(validation, model_uid).sentence if validation is not None else ""


def _what_opens(
    settings: Settings, model: dict[str, Any], scanners: tuple[str, ...], *, revoke: bool
) -> list[str]:
    opened = [d for d in settings.outputs if not d.is_loopback]
    lines = [
        f"Model: {model['name']} {model['version']} ({model['model_uid']})",
        f"Trained on: {model['data']}",
        f"Scanners: {', '.join(scanners)}",
        "Not for clinical use without local validation.",
    ]
    verb = "closed" if revoke else "opened"
    if not opened:
        return [*lines, f"No destination outside this machine is configured: none is {verb}."]
    for d in opened:
        kinds = ", ".join(sorted(d.takes)) or _else(d)
        lines.append(f"{verb}: {d.name} ({d.way}, {d.address}) for {kinds}")
    if settings.query.enabled:
        who = ", ".join(settings.query.calling_ae_titles)
        where = ", ".join(settings.query.networks)
        lines.append(f"{verb}: the reading list by UPS and C-FIND, to {who} in {where}")
    return lines


def _else(destination: Destination) -> str:
    from ichnode.settings import SubscriberSettings

    return "what it subscribes to" if isinstance(destination, SubscriberSettings) else "nothing"


def _what_waits(worklist: Worklist) -> str:
    """Say how much was withheld lately; the worklist decides at the release, model by model."""
    from ichnode.domain.lifecycle import Delivery
    from ichnode.worklist.people import RELEASE_WITHIN

    count = worklist.views.counts()["deliveries"][Delivery.WITHHELD.value]
    rows = worklist.views.deliveries(states=[Delivery.WITHHELD], limit=max(count, 1))
    since = datetime.now(UTC) - RELEASE_WITHIN
    recent = sum(row.created_at >= since for row in rows)
    return (
        f"Withheld in the last {RELEASE_WITHIN.total_seconds() / 3600:.0f} h: {recent} deliveries; "
        "of these, those of this model and these scanners are released at once. "
        f"{count - recent} older ones stay withheld."
    )


def requeue(
    context: typer.Context,
    uid: Annotated[str | None, typer.Argument(help="A Series Instance UID.")] = None,
    destination: Annotated[
        str | None, typer.Option(help="Instead: every failed delivery to this destination.")
    ] = None,
) -> None:
    """Try again: the analysis of a series, or the failed deliveries to a destination."""
    from ichnode.service.assembly import open_worklist

    if (uid is None) == (destination is None):
        raise ConfigurationError("Give a Series Instance UID, or --destination NAME.")
    worklist = open_worklist(_settings(context))
    count = worklist.requeue(uid) if uid else worklist.requeue_deliveries(str(destination))
    if not count:
        typer.echo("Nothing to try again was found.", err=True)
        for row in worklist.views.stranded():
            if row.destination == destination:
                typer.echo(row.sentence, err=True)
        raise typer.Exit(1)
    typer.echo(f"{count} queued again.")


def lower(
    context: typer.Context,
    study_uid: Annotated[str, typer.Argument(help="A Study Instance UID.")],
    by: Annotated[str, typer.Option(help="Who decides; recorded.")],
    reason: Annotated[str, typer.Option(help="Why; recorded. No patient data.")],
) -> None:
    """Take a study off the front of the list. Only a person may; the node never does.

    Who was told of it is told that it was a mistake, where the way there can say so.
    """
    from ichnode.service.assembly import open_worklist

    if not open_worklist(_settings(context)).lower(study_uid, by, reason):
        typer.echo("That study is not at the front of the list.", err=True)
        raise typer.Exit(1)
    typer.echo("Lowered.")


def seen(
    context: typer.Context,
    how: Annotated[
        Seen, typer.Option(help="What the person did: opened the study, or reported it.")
    ],
    by: Annotated[str, typer.Option(help="Who; recorded.")],
    study_uid: Annotated[str, typer.Argument(help="A Study Instance UID.")] = "",
    accession: Annotated[str, typer.Option(help="Instead: an accession number.")] = "",
) -> None:
    """Say that a person has seen a study, so that nobody is alerted to it any more.

    Alerts that are not delivered yet are suppressed. "opened" is about what is known of the study
    now, and a new finding is told all the same; "reported" is about every image that is there.
    """
    from ichnode.service.assembly import open_worklist

    if bool(study_uid) == bool(accession):
        raise ConfigurationError("Give a Study Instance UID, or --accession NUMBER.")
    count = open_worklist(_settings(context)).seen(
        study_uid, accession_number=accession, how=how, by=by
    )
    if not count:
        typer.echo("No such study, or it is not clear whose it is.", err=True)
        raise typer.Exit(1)
    typer.echo(f"Noted of {count} {'study' if count == 1 else 'studies'}.")
