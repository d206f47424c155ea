"""``ichnode retrain`` and ``ichnode validate``: learning from local studies, and measuring."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ichnode.cli.configuring import settings_of

if TYPE_CHECKING:
    from ichnode.service.retraining import Outcome, Plan, Retraining

EXIT_INTERRUPTED = 130
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
    typer.echo(TOLD[outcome.kind])
    for sentence in outcome.sentences:
        typer.echo(f"  {sentence}")
    if outcome.report is not None:
        typer.echo(f"Report: {outcome.report}")
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
