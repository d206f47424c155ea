"""``ichnode retrain`` and ``ichnode validate``: learning from local studies, and measuring."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ichnode.cli.configuring import settings_of

if TYPE_CHECKING:
    from ichnode.service.retraining import Outcome, Plan, Retraining
    from ichnode.settings import Settings
    from ichnode.worklist.worklist import Worklist

EXIT_INTERRUPTED = 130
MOST_SHOWN = 20  # studies to look at, of a kind
TOLD = {
    "challenger": "A challenger is registered. It reads in the shadow of the champion from now on; "
    "`ichnode models promote` shows how it does and lets you decide.",
    "refused": "Refused: nothing was changed. That is a normal outcome.",
    "failed": "The training failed; what it printed says why. The same command goes on where it "
    "was.",
    "interrupted": "Interrupted. The same command goes on where it was.",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: ichnode retrain --dry-run")(retrain)
    app.command(epilog="Example: ichnode validate --since 90 --out ./validation")(validate)


def retrain(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is there and what is missing.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Let the whole network learn, not its last layers alone.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where export and work go; retrain.folder when left out."),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(min=0.01, help="Studies of so many days; retrain.window_days when left out."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="JSON file of gates and counts that differ from the usual.")
    ] = None,
    corrections: Annotated[
        int, typer.Option(min=0, help="Labels that were corrected on purpose since the last time.")
    ] = 0,
    by: Annotated[str, typer.Option(help="Who signs for the corrections; recorded.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: as JSON.")] = False,
) -> None:
    """Make a candidate from this site's labelled studies; nothing that runs is touched.

    Collects the studies of the window without identities, then starts `python -m train retrain` as
    a process of its own. Ends with 0 where a candidate passed every gate and is challenger now,
    with 3 where the data or the candidate was refused (a normal outcome, with its reasons), with 1
    where it failed. After an interruption, kill -9 included, the same command goes on.
    """
    from ichnode.service.assembly import open_worklist
    from ichnode.service.retraining import Retraining, Wish

    settings = settings_of(context)
    wish = Wish(full, days, policy, corrections, by, out)
    retraining = Retraining(settings, open_worklist(settings), wish=wish)
    if dry_run:
        plan = retraining.plan()
        typer.echo(json.dumps(asdict(plan), indent=2) if as_json else _planned(plan))
        return
    outcome = _with_progress(retraining)
    typer.echo(TOLD[outcome.kind])  # the training itself has told the reasons and the report
    codes = {"challenger": 0, "refused": 3, "failed": 1, "interrupted": EXIT_INTERRUPTED}
    raise typer.Exit(codes[outcome.kind])


def _with_progress(retraining: Retraining) -> Outcome:
    """Run with a bar for the collecting; the training shows its own."""
    from rich.progress import Progress, TaskID, TimeRemainingColumn

    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn()) as bar:
        task: TaskID = bar.add_task("Collecting studies", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if done == total:
                bar.stop()

        return retraining.run(advance)


def _planned(plan: Plan) -> str:
    lines = [
        f"{plan.studies} studies in the window, {plan.analysed} analysed, {plan.labelled} "
        f"labelled, {plan.usable} of these with images that are here or exported.",
        f"Flagged by the model: {plan.flagged[0]} of {plan.flagged[1]} labelled. "
        f"Not flagged: {plan.unflagged[0]} of {plan.unflagged[1]} labelled.",
        *(
            f"  {label}: {there} present, {absent} absent"
            for label, (there, absent) in plan.labels.items()
        ),
    ]
    if plan.missing:
        lines += ["By the usual policy there are missing:", *(f"  {one}" for one in plan.missing)]
    else:
        lines.append("By the usual policy nothing is missing; the gates decide.")
    return "\n".join(lines)


def validate(
    context: typer.Context,
    since: Annotated[float, typer.Option(min=0.01, help="Studies of the last so many days.")] = 90,
    out: Annotated[
        Path | None,
        typer.Option(help="Where page and figures go; validation/ of retrain.folder if left out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure the model that runs on local studies that people labelled (`ichnode labels import`).

    Sensitivity and specificity with intervals, for any haemorrhage and by kind; why studies were
    not analysed; how soon the verdict and the report were there; by scanner. Written as one page
    and as JSON, without patient data; `ichnode commission --validation` refers to it. Where the
    studies that the model did not flag are not labelled, sensitivity is unknown, and the page says
    so. The studies to look at are printed here, and only here.
    """
    from ichnode.service.assembly import open_worklist
    from ichnode.service.validation_page import summary, write_validation

    settings = settings_of(context)
    worklist = open_worklist(settings)
    result, to_look_at = _measured(settings, worklist, since)
    page = write_validation(out or settings.retrain.folder / "validation", result)
    worklist.history.note(
        "model",
        "validated",
        model_uid=result["model"]["model_uid"],
        labelled=result["labelled"],
        sensitivity_known=result["sensitivity_known"],
    )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    typer.echo(summary(result))
    for caution in result["cautions"]:
        typer.echo(f"Caution: {caution}")
    for words, uids in (("Missed", "missed"), ("False alarm", "false_alarms")):
        for uid in to_look_at[uids][:MOST_SHOWN]:
            typer.echo(f"{words}: ichnode show {uid}")
        if (more := len(to_look_at[uids]) - MOST_SHOWN) > 0:
            typer.echo(f"{words}: {more} more")
    typer.echo(f"Page: {page}")
    typer.echo(f"Figures: {page.with_suffix('.json')}")


def _measured(
    settings: Settings, worklist: Worklist, days: float
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    from datetime import timedelta

    from ichnode.nets.registry import Registry
    from ichnode.service.validating import Window, measure

    champion = Registry(settings.infer.models).find("champion")
    now = worklist.cases.now()
    first = now - timedelta(days=days)
    if champion.since is not None:  # what came before it ran says nothing of it
        first = min(max(first, champion.since.at), now)
    window = Window(first, now)
    cases = worklist.cases.between(first, now + timedelta(seconds=1))
    return measure(cases, champion.summary(), window, now)
