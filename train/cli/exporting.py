"""``python -m train export``: a bundle that the node runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: python -m train export --run run --cache cache --out bundle --version 1"
    )(export)


def export(
    run: Annotated[Path, typer.Option(help="Folder of a calibrated run.")],
    cache: Annotated[Path, typer.Option(help="Folder of the cache that it learnt from.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    subtypes: Annotated[
        Path | None, typer.Option(help="Run of the second network, for the paper's pair.")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the model.")] = "ichnode-trained",
    version: Annotated[str, typer.Option(help="Its version.")] = "0",
    key: Annotated[
        Path | None,
        typer.Option(help="File with the key that parts the patients, where it was moved."),
    ] = None,
) -> None:
    """Write the bundle of a run: weights, preprocessing, calibration, thresholds, terms.

    Where a source is non-commercial, the bundle says so. Measure it with `evaluate`, which also
    writes its card. Not for clinical use without local validation.
    """
    from train.data.cache import open_cache
    from train.errors import TrainingError
    from train.exporting import export_run
    from train.learn.run_folder import open_run
    from train.measuring import part_of

    first = open_run(run)
    if first.split is None:
        raise TrainingError(f"{run} does not say how patients were parted.")
    learnt_from = part_of(
        open_cache(cache),
        first.spec.context_slices,
        "train",
        first.split.key(key),
        first.split.shares,
    )
    manifest = export_run(
        first,
        learnt_from,
        out,
        subtypes=None if subtypes is None else open_run(subtypes),
        name=name,
        version=version,
    )
    print(f"Licence: {manifest.provenance.licence}")
    if manifest.provenance.restrictions:
        print(f"This model is {manifest.provenance.restrictions}.")
    print(f"Written: {out}, model {manifest.model_uid}")
