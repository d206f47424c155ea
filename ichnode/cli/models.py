"""``ichnode models``: what is in the registry, and who decides what runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ichnode.cli.configuring import settings_of

if TYPE_CHECKING:
    from ichnode.nets.registry import Entry
    from ichnode.service.promoting import Case
    from ichnode.worklist.worklist import Worklist

models = typer.Typer(no_args_is_help=True, help="The registry of model bundles.")
MOST_SHOWN = 20  # disagreeing studies; --json has all

By = Annotated[str, typer.Option(help="Who decides; recorded.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(models, name="models")


@models.command("list", epilog="Example: ichnode models list")
def list_models(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """List the bundles of the registry; the champion is the one that runs.

    A model that learnt from a source with non-commercial terms says so.
    """
    from ichnode.nets.registry import Registry

    rows = [entry.summary() for entry in Registry(settings_of(context).infer.models).entries()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("alias", "name", "version", "model UID", "trained on", "terms")
    for row in rows:
        keys = ("alias", "name", "version", "model_uid", "data", "terms")
        table.add_row(*(str(row[key]) for key in keys))
    Console().print(table)


@models.command("show", epilog="Example: ichnode models show champion")
def show_model(
    context: typer.Context,
    which: Annotated[str, typer.Argument(help="An alias or a model UID.")] = "champion",
) -> None:
    """Show a bundle's card: what it is, what was measured, what it must not be used for."""
    from ichnode.nets.registry import Registry

    typer.echo(Registry(settings_of(context).infer.models).find(which).card())


@models.command("install", epilog="Example: ichnode models install ./bundle")
def install(
    context: typer.Context, folder: Annotated[Path, typer.Argument(help="The bundle.")]
) -> None:
    """Copy a bundle into the registry. It does not run by that."""
    from ichnode.nets.registry import Registry

    uid = Registry(settings_of(context).infer.models).install(folder)
    typer.echo(f"Installed: {uid}")
    typer.echo(f"To let it read in the shadow: ichnode models challenge {uid}")


@models.command("challenge", epilog="Example: ichnode models challenge 2.25.123 --by Physics")
def challenge(
    context: typer.Context,
    model_uid: Annotated[str, typer.Argument(help="The UID of an installed model.")],
    by: By = "",
) -> None:
    """Let a model read live studies in the shadow of the champion; nothing that it says is shown.

    `ichnode retrain` does so by itself for a candidate that passed its gates.
    """
    from ichnode.nets.registry import Registry
    from ichnode.service.assembly import open_worklist

    settings = settings_of(context)
    registry = Registry(settings.infer.models)
    registry.challenge(model_uid, by=by)
    entry = registry.find("challenger")
    worklist = open_worklist(settings)
    if entry.since is not None:
        worklist.history.note_once("challenged", entry.model_uid, entry.since.at, by=by)
    typer.echo(f"Challenger: {entry.model_uid}. It reads when no live work is due.")


@models.command("promote", epilog='Example: ichnode models promote challenger --by "A. Physicist"')
def promote(
    context: typer.Context,
    by: By,
    which: Annotated[str, typer.Argument(help="An alias or a model UID.")] = "challenger",
    despite: Annotated[
        str, typer.Option(help="Why, where something speaks against it; recorded.")
    ] = "",
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Only show, as one JSON object.")] = False,
) -> None:
    """Make a challenger the champion: it runs from the next study on, without a restart.

    Shows what it is, what its gates said and how it did in the shadow, with every study that it
    would have put in another band. Refuses, with exit code 1, when a gate did not pass, the shadow
    was too short, disagreed too often or failed; --despite REASON promotes all the same. The node
    observes again until somebody commissions the new model. Not for clinical use without local
    validation.
    """
    from ichnode.nets.registry import Registry
    from ichnode.service import promoting
    from ichnode.service.assembly import open_worklist

    settings = settings_of(context)
    registry, worklist = Registry(settings.infer.models), open_worklist(settings)
    case = promoting.consider(which, registry, worklist, settings.retrain)
    if as_json:
        typer.echo(json.dumps(_facts(case), indent=2))
        return
    for line in _told(case):
        typer.echo(line)
    for objection in case.objections:
        typer.echo(f"AGAINST IT: {objection}", err=True)
    if case.objections and not despite.strip():
        typer.echo("Not promoted. Give --despite REASON to promote it all the same.", err=True)
        raise typer.Exit(1)
    if dry_run:
        return
    if not yes and not typer.confirm("Promote it?"):
        raise typer.Exit(1)
    promoting.promote(case, registry, worklist, by=by, despite=despite)
    typer.echo(f"Promoted: {case.entry.model_uid}. The one before is `previous`.")
    typer.echo(_outputs(worklist, case.entry.model_uid))


@models.command("rollback", epilog='Example: ichnode models rollback --by "Dr B" --reason "alarms"')
def rollback(
    context: typer.Context,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; recorded. No patient data.")],
    yes: Yes = False,
) -> None:
    """Go back to the previous model, at once and in one step; its commission still stands."""
    from ichnode.nets.registry import Registry
    from ichnode.service import promoting
    from ichnode.service.assembly import open_worklist

    settings = settings_of(context)
    registry, worklist = Registry(settings.infer.models), open_worklist(settings)
    typer.echo(f"From: {_name(registry.find('champion'))}")
    typer.echo(f"To:   {_name(registry.find('previous'))}")
    if not yes and not typer.confirm("Go back?"):
        raise typer.Exit(1)
    entry = promoting.roll_back(registry, worklist, by=by, reason=reason)
    typer.echo(f"Champion again: {entry.model_uid}.")
    typer.echo(_outputs(worklist, entry.model_uid))


def _name(entry: Entry) -> str:
    return f"{entry.manifest.name} {entry.manifest.version} ({entry.model_uid})"


def _outputs(worklist: Worklist, model_uid: str) -> str:
    if any(one.model_uid == model_uid for one in worklist.commissions()):
        return "Its commission stands: the outputs are open for it."
    return "The node observes: `ichnode commission` opens the outputs for it."


def _told(case: Case) -> Iterator[str]:
    """Tell the case of a model in lines."""
    manifest = case.entry.manifest
    yield f"Candidate: {_name(case.entry)}, made {manifest.provenance.created}"
    yield f"  learnt from: {manifest.provenance.data}"
    yield f"  licence: {manifest.provenance.licence}"
    if case.entry.non_commercial:
        yield "  NON-COMMERCIAL: the terms of what it learnt from rule out commercial use."
    yield f"  its card: ichnode models show {case.entry.model_uid}"
    yield f"In place of: {_name(case.champion)}"
    yield "Not for clinical use without local validation."
    for gate in case.gates:
        word = "passed" if gate.get("passed") else "REFUSED"
        word = "too few cases" if gate.get("inconclusive") else word
        yield f"  gate {gate.get('id')} {gate.get('name')}: {word}. {gate.get('sentence')}"
    shadow = case.shadow
    yield (
        f"In the shadow for {case.days:.1f} days: {shadow.studies} studies, {shadow.failed} "
        f"failures, {len(shadow.disagreements)} in another band ({shadow.share:.1%})."
    )
    for one in shadow.disagreements[:MOST_SHOWN]:
        yield f"  {one.study_uid}: {one.champion.value}, it says {one.challenger.value}"
    if (more := len(shadow.disagreements) - MOST_SHOWN) > 0:
        yield f"  and {more} more; --json lists them."


def _facts(case: Case) -> dict[str, object]:
    return {
        "candidate": case.entry.summary(),
        "champion": case.champion.summary(),
        "gates": list(case.gates),
        "shadow": {
            "days": round(case.days, 2),
            "studies": case.shadow.studies,
            "failed": case.shadow.failed,
            "seconds": case.shadow.seconds,
            "disagreements": [
                {
                    "study_uid": one.study_uid,
                    "champion": one.champion.value,
                    "challenger": one.challenger.value,
                }
                for one in case.shadow.disagreements
            ],
        },
        "objections": list(case.objections),
    }
