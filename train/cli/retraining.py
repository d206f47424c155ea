"""``python -m train retrain``: what `ichnode retrain` starts, a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXIT_REFUSED = 3
"""A refusal is a normal outcome: nothing was changed, and the report says why."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: python -m train retrain --export export --registry models --work retrain"
    )(retrain)


def retrain(
    export: Annotated[Path, typer.Option(help="The export that `ichnode retrain` wrote.")],
    registry: Annotated[
        Path, typer.Option(help="Folder of bundles; key of the splits and ledger lie there too.")
    ],
    work: Annotated[Path, typer.Option(help="Where the work of all retrainings is kept.")],
    policy: Annotated[
        Path | None, typer.Option(help="JSON file of rules that differ from the usual ones.")
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Let the whole network learn, not its last layers alone."),
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Times over the studies.")] = 6,
    corrections: Annotated[
        int, typer.Option(min=0, help="Labels that were corrected on purpose since the last time.")
    ] = 0,
    by: Annotated[str, typer.Option(help="Who signs for the corrections; recorded.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes all cores.")] = 0,
) -> None:
    """Make a candidate from local studies, and a challenger of it if it passes every gate.

    Ends with 0 where a challenger was registered, with 3 where the data or the candidate was
    refused. The model that runs is never touched. The same command goes on after an interruption.
    Not for clinical use without local validation.
    """
    from train.retrain.learning import Learning
    from train.retrain.pipeline import Asked
    from train.retrain.pipeline import retrain as go
    from train.retrain.policy import read_policy

    outcome = go(
        Asked(
            export=export,
            registry=registry,
            work=work,
            policy=read_policy(policy),
            learning=Learning(full=full, epochs=epochs),
            corrections=corrections,
            signed_by=by,
            device=device,
            workers=workers,
        )
    )
    if outcome.refusal is not None:
        typer.echo(f"Refused by {outcome.refusal.gate}; the champion goes on unchanged.")
        for sentence in outcome.refusal.sentences:
            typer.echo(f"  {sentence}")
        typer.echo(f"Report: {outcome.report}")
        raise typer.Exit(EXIT_REFUSED)
    typer.echo(f"Registered as challenger: {outcome.challenger}")
    typer.echo(f"Report: {outcome.report}")
