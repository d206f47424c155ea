"""``explore`` and ``baseline``: look at a dataset before anything is learnt from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: python -m train explore cache --out exploration")(explore)
    app.command(epilog="Example: python -m train baseline --cache cache")(baseline)


def explore(
    data: Annotated[Path, typer.Argument(help="Folder of a cache, or a table of `data table`.")],
    out: Annotated[Path, typer.Option(help="Folder for exploration.html and exploration.json.")],
    key: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that parts the patients, to tell copies on both sides. By "
            "default split.key beside the cache, where there is one."
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option(help="Show slices; without, the page holds no images of patients.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the slices that are drawn.")] = 7,
) -> None:
    """Write one page about a dataset: labels, scanners, slices in each window, leakage alarms."""
    from rich.console import Console

    from train.data.splits import open_key
    from train.errors import TrainingError
    from train.explore.explored import open_explored
    from train.explore.exploring import explore as look
    from train.explore.page import summary, write_page

    beside = data.parent / "split.key"
    place = key or (beside if beside.is_file() else None)
    if place and not place.is_file():
        raise TrainingError(
            f"There is no key {place}; leave --key out where nothing is parted yet."
        )
    with Console(stderr=True).status(f"Looking at {data}"):
        found = look(
            open_explored(data),
            key=open_key(place) if place else None,
            pictures=pictures,
            seed=seed,
        )
        page = write_page(out, found)
    print(summary(found))
    for alarm in found.alarms:
        if alarm.state in ("alarm", "look"):
            print(f"{alarm.state.upper()}: {alarm.name}. {alarm.found}")
    print(f"The page is {page}.")


def baseline(
    cache: Annotated[Path, typer.Option("--cache", help="Folder of the cache.")],
    label: Annotated[str, typer.Option(help="Which label to tell.")] = "any",
    level: Annotated[
        str, typer.Option(help="series, for the alarm, or slice, as in the paper; or both.")
    ] = "both",
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
    seed: Annotated[int, typer.Option(help="Of folds and trees.")] = 7,
) -> None:
    """Ask a random forest for the label by metadata alone: it should know nothing.

    Where it knows, a network may learn the scanner instead of the blood. The paper's reaches about
    50 % balanced accuracy, as a coin does.
    """
    import json

    from rich.console import Console

    from ichnode.domain.findings import LABELS
    from train.errors import TrainingError
    from train.explore.baseline import metadata_baseline, metadata_of
    from train.explore.explored import open_explored

    known = {"series": ("series",), "slice": ("slice",), "both": ("series", "slice")}
    if label not in LABELS:
        raise TrainingError(f"The label is one of {', '.join(LABELS)}.")
    if level not in known:
        raise TrainingError(f"The level is one of {', '.join(known)}.")
    explored = open_explored(cache)
    with Console(stderr=True).status("Asking the forest"):
        results = [
            metadata_baseline(metadata_of(explored, one, label), seed=seed)  # type: ignore[arg-type]
            for one in known[level]
        ]
    for result in results:
        print(result.sentence())
        for name, fall in result.importances[:5]:
            print(f"  {name.replace('_', ' '):22s} {fall:+.3f}")
        if result.level == "series" and result.state in ("alarm", "look"):
            print(f"{result.state.upper()}: the label can be told without the images.")
    if out is not None:
        figures = {result.level: result.as_json() for result in results}
        out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        print(f"The figures are in {out}.")
