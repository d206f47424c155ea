"""``ichnode status``, ``show`` and ``doctor``: what is going on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ichnode.cli.configuring import settings_of
from ichnode.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from ichnode.settings import Settings
    from ichnode.worklist.worklist import Worklist


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: ichnode status --json | jq .queues")(status)
    app.command(epilog="Example: ichnode show 1.2.840.113619.2.55.3")(show)
    app.command(epilog="Example: ichnode doctor || echo 'something is wrong'")(doctor)


def plain(value: Any) -> Any:
    """Turn what the views return into what JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(one) for key, one in asdict(value).items()}
    if isinstance(value, dict):
        return {str(plain(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, Enum):
        return getattr(value, "code", value.value)
    return value.isoformat() if isinstance(value, datetime) else value


def status(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many studies of the list.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the reading list, the queues, who is alive and what waits.

    The list shows accession numbers and no names; `ichnode show` and the page show more.
    """
    from ichnode.service.assembly import open_worklist

    settings = settings_of(context)
    worklist = open_worklist(settings)
    facts = _status(worklist, settings, limit)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("", "band", "accession", "study", "says", "arrived (UTC)", title="Reading list")
    for place, row in enumerate(facts["list"], start=1):
        keys = ("band", "accession_number", "study_uid", "sentence", "arrived_at")
        table.add_row(str(place), *(row[key] for key in keys))
    console.print(table)
    for name, states in facts["counts"].items():
        found = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        console.print(f"{name}: {found or 'none'}")
    for line in _process_lines(facts["processes"]):
        console.print(line)
    for line in facts["models"]:
        console.print(line)
    for line in _safety_lines(worklist, facts):
        console.print(line)
    waiting_s = facts["oldest_undelivered_positive_s"]
    if waiting_s is not None:
        console.print(f"[bold red]A positive has waited {waiting_s:.0f} s for delivery.[/bold red]")


def _process_lines(processes: list[dict[str, Any]]) -> Iterator[str]:
    """Say who is alive, and below each what a person should know of it."""
    from ichnode.web.health import RECORDED_S

    for beat in processes:
        detail = beat["detail"]
        yield f"{beat['role']}@{beat['host']}: last heard {beat['age_s']:.0f} s ago"
        if failing := detail.get("failing"):
            yield f"[bold red]  failing: {', '.join(failing)}[/bold red]"
        if backlog := detail.get("backlog"):
            age_s = detail.get("backlog_oldest_s", 0.0)
            style = "bold red" if age_s > RECORDED_S else "yellow"
            waits = f"not in the list yet: {backlog} images, the oldest for {age_s:.0f} s"
            yield f"[{style}]  {waits}[/{style}]"
        for warning in detail.get("warnings", ()):
            yield f"[yellow]  {warning}[/yellow]"


def _status(worklist: Worklist, settings: Settings, limit: int) -> dict[str, Any]:
    since = worklist.views.oldest_undelivered_positive()
    shown = ("study_uid", "band", "accession_number", "sentence", "arrived_at", "model")
    return {
        "list": [
            {key: plain(getattr(row, key)) for key in shown}
            for row in worklist.views.reading_list(limit)
        ],
        "counts": plain(worklist.views.counts()),
        "queues_s": plain(worklist.views.queue_age()),
        "processes": plain(worklist.views.heartbeats()),
        "models": _models(worklist, settings),
        **missing_facts(worklist),
        "commitments": [
            {"destination": name, "state": state, "documents": count}
            for (name, state), count in sorted(worklist.views.commitments().items())
        ],
        "stranded": plain(worklist.views.stranded()),
        "oldest_undelivered_positive_s": (
            (datetime.now(UTC) - since).total_seconds() if since else None
        ),
    }


def _safety_lines(worklist: Worklist, facts: dict[str, Any]) -> Iterator[str]:
    """Say what destinations answer for, what none of them takes, and what never came."""
    for one in facts["commitments"]:
        yield "commitment of {destination}: {documents} {state}".format(**one)
    for row in worklist.views.stranded():
        yield f"[bold red]{row.sentence}[/bold red]"
    for line in missing_lines(worklist):
        yield line if line.startswith("Last compared") else f"[bold red]{line}[/bold red]"


def missing_facts(worklist: Worklist) -> dict[str, Any]:
    """Return what is missing and how the comparisons went, for machines; without names."""
    found = worklist.views.not_received()
    shown = (
        *("study_uid", "peer", "accession_number", "study_date", "study_time"),
        *("nothing_came", "held", "here", "first_seen_at", "fetches", "error"),
    )
    return {
        "not_received": [{key: plain(getattr(row, key)) for key in shown} for row in found.rows],
        "comparisons": plain(found.comparisons),
    }


def missing_lines(worklist: Worklist) -> list[str]:
    """Say what is missing and how the comparisons went; without names."""
    found = worklist.views.not_received()
    lines = []
    for row in found.rows:
        word = "NOT RECEIVED" if row.nothing_came else "INCOMPLETE"
        held = "?" if row.held is None else row.held
        began = f"{row.study_date} {row.study_time}".strip()
        about = f"accession {row.accession_number or '-'}, {began}, {row.here} of {held} images"
        lines.append(f"{word}: {row.study_uid} ({about}, at {row.peer})")
    for one in found.comparisons:
        at = "never" if one.compared_at is None else f"{one.compared_at:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(
            f"Last compared to the end with {one.peer}: {at}, {one.studies} CT studies, "
            f"{one.heads} of them of the head."
        )
        if one.error:
            lines.append(f"The last comparison with {one.peer} FAILED: {one.error}")
    return lines


def _models(worklist: Worklist, settings: Settings) -> list[str]:
    """Say which model runs since when, and how far the shadow of a challenger is."""
    from ichnode.domain.errors import ModelUnusable
    from ichnode.nets.registry import Registry

    registry = Registry(settings.infer.models)
    try:
        champion, challenger = registry.find("champion"), registry.challenger()
    except ModelUnusable as error:
        return [str(error)]
    since = f" since {champion.since.at:%Y-%m-%d} by {champion.since.by}" if champion.since else ""
    manifest = champion.manifest
    lines = [f"champion: {manifest.name} {manifest.version} ({champion.model_uid}){since}"]
    if challenger is not None:
        shadow = worklist.shadow().figures(challenger.model_uid)
        lines.append(
            f"challenger: {challenger.model_uid}, {shadow.studies} of "
            f"{settings.retrain.shadow_studies} studies in the shadow, "
            f"{len(shadow.disagreements)} in another band, {shadow.failed} failures"
        )
    return lines


def show(
    context: typer.Context,
    uid: Annotated[str, typer.Argument(help="A Study or a Series Instance UID.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell the story of a study or a series: what came, what became of it, what went where."""
    from ichnode.service.assembly import open_worklist

    views = open_worklist(settings_of(context)).views
    story = views.study(uid) or views.series(uid)
    if story is None:
        raise ConfigurationError(f"No study and no series has the UID {uid[:64]!r}.")
    if as_json:
        typer.echo(json.dumps(plain(story), indent=2))
        return
    for line in _story(plain(story)):
        typer.echo(line)


def _story(story: dict[str, Any]) -> Iterator[str]:
    """Tell a story in lines."""
    row = story["row"]
    if "band" in row:
        yield f"Study {row['study_uid']}: {row['band'].upper()}. {row['sentence']}"
        yield f"  accession {row['accession_number']}, arrived {row['arrived_at']}"
    for series in story.get("series", [row]):
        yield f"Series {series['series_uid']} ({series['modality']}, {series['instances']} images)"
        yield f"  {series['analysis']}{', final' if series['final'] else ''} {series['detail']}"
        for finding in series["findings"]:
            percent = 100 * finding["probability"]
            yield f"    {finding['label']}: {finding['presence']}, {percent:.1f} %"
    for delivery in story.get("deliveries", []):
        yield (
            f"Delivery of {delivery['kind']} to {delivery['destination']}: {delivery['state']} "
            f"after {delivery['attempts']} attempts {delivery['error']}"
        )
    for event in story["events"]:
        about = " ".join(f"{key}={value}" for key, value in event["detail"].items())
        yield f"{event['at']}  {event['noun']} {event['verb']} {about}"


def doctor(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Examine database, disk, clock, model, GPU and destinations; exit code 1 if any is ill."""
    from ichnode.service.health import examine

    checks = list(examine(settings_of(context)))
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            typer.echo(f"{'ok ' if check.ok else 'BAD'}  {check.name}: {check.sentence}")
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)
