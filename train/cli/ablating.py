"""``python -m train ablate``: what of the simulator carries over to real scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from train.cli.carryover import HuRangeOption, PixelOption, RotateOption, SliceFolder

_EPILOG = (
    "Example: python -m train ablate --template template --slices png-slices --out ablation "
    "--series 250 --size-px 96 --minutes 3"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=_EPILOG)(ablate)


def ablate(
    template: Annotated[
        Path,
        typer.Option(help="Folder of the average head, as for `data add randomised TEMPLATE:0:9`."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for everything; an unfinished one goes on.")],
    slices: Annotated[Path | None, SliceFolder] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ARM", help="Only this arm; may be repeated.")
    ] = None,
    series: Annotated[int, typer.Option(help="Simulated series that each arm learns from.")] = 250,
    holdout: Annotated[int, typer.Option(help="Simulated series that all are measured on.")] = 100,
    size_px: Annotated[int, typer.Option(help="Rows and columns that networks see.")] = 96,
    simulated_px: Annotated[
        int, typer.Option(help="Of the simulated scans; by default 13/12 of --size-px.")
    ] = 0,
    minutes: Annotated[
        float,
        typer.Option(
            help="Of each training: timed once for 20 seconds, all arms then make as many steps."
        ),
    ] = 3.0,
    steps: Annotated[
        int, typer.Option(help="Of each training, in place of --minutes: the same everywhere.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the trainings.")] = 7,
    hu_range: HuRangeOption = (0.0, 80.0),
    rotate: RotateOption = 0,
    pixel_mm: PixelOption = None,
    workers: Annotated[int, typer.Option(help="Processes that simulate; 0 takes all cores.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train the same small network without one part of the simulator after the other, and compare.

    Arms: full, template-only, procedural-only, white-noise, no-distractors, no-pictures,
    brain-window, all-blood. Prints a table of slice AUROC on simulated series of the whole
    simulator and on real slices, and the difference to full, with intervals; keeps it in --out. An
    arm that is done is not done again. Real slices are read last, once for each arm, and each use
    is in the ledger of the arm's bundle: measure when everything else is decided, for what was
    measured on is not for choosing. Not for clinical use.
    """
    from train.ablation.arms import chosen_arms
    from train.ablation.bench import RealSlices
    from train.ablation.running import run_ablation
    from train.ablation.settings import Settings
    from train.carryover.folders import find_slices
    from train.carryover.pictures import Picturing

    arms = chosen_arms(only or ())
    settings = Settings(
        template=template,
        series=series,
        holdout=holdout,
        size_px=size_px,
        simulated_px=simulated_px,
        steps=steps,
        minutes=minutes,
        seed=seed,
        device=device,
        workers=workers,
    )
    real = None
    if slices is not None:
        real = RealSlices(find_slices(slices), Picturing(hu_range, rotate, pixel_mm))
    print(run_ablation(settings, out, arms, real), end="")
