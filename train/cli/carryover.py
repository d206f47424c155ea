"""``python -m train measure``: how far a bundle carries over to real scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from train.carryover.sheet import Worst

SliceFolder = typer.Option(
    help="Folder with one subfolder of PNG or DICOM slices per label; normal is the negative one."
)
HuRangeOption = Annotated[
    tuple[float, float],
    typer.Option(metavar="LOW HIGH", help="PNG: what the ends of the greys stand for."),
]
RotateOption = Annotated[
    int, typer.Option(help="PNG: degrees counter-clockwise, 0, 90, 180 or 270.")
]
PixelOption = Annotated[
    float | None,
    typer.Option(help="PNG: size of a pixel; by default a field of view of 250 mm."),
]
_FEW = 12
_EPILOG = (
    "Examples: python -m train measure --slices png-slices --hu-range 0 80 --json > found.json; "
    "python -m train measure --series dicom-series --truth labels.csv --out measured"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=_EPILOG)(measure)


def measure(
    slices: Annotated[Path | None, SliceFolder] = None,
    series: Annotated[
        Path | None,
        typer.Option(
            help="Folder with one subfolder of PNG or DICOM slices per series, or one subfolder of "
            "such folders per label."
        ),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; by default the shipped one.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="With --series: CSV with the columns series and label, or series, any."),
    ] = None,
    hu_range: HuRangeOption = (0.0, 80.0),
    rotate: RotateOption = 0,
    pixel_mm: PixelOption = None,
    spacing_mm: Annotated[
        float, typer.Option(help="PNG series: from slice to slice, which are in file-name order.")
    ] = 5.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for worst.png and measured.json; by default a new one here."),
    ] = None,
    picture: Annotated[
        bool, typer.Option(help="Whether the ten worst are drawn: pixels of patients.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; the table goes to stderr.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure a finished bundle on real scans that training never saw.

    Prints AUROC, sensitivity and specificity with intervals, and keeps a picture of the ten worst.
    The folder that is read is never written to. Every use is logged in the bundle's ledger
    (measurements.jsonl): data that were measured on are not for training, tuning or choosing. Not
    for clinical use without local validation.
    """
    from train.carryover import measuring
    from train.carryover.folders import find_series, find_slices
    from train.carryover.pictures import Picturing
    from train.carryover.reading import Reader
    from train.errors import TrainingError
    from train.learn.precision import choose_device
    from train.measuring import load_bundle

    source = slices or series
    if source is None or (slices and series):
        raise TrainingError("Give --slices or --series.")
    if truth is not None and series is None:
        raise TrainingError("--truth goes with --series; of slices the folders are the labels.")
    assumed = Picturing(hu_range, rotate, pixel_mm, spacing_mm)
    on, folder = choose_device(device), bundle or _shipped()
    measuring.check_places(source, folder, out)
    held = find_slices(source) if slices else find_series(source, truth)
    reader = Reader(load_bundle(folder), on)
    found, worst = measuring.measure("slices" if slices else "series", held, reader, assumed)
    said = [measuring.log_use(folder, found)]
    place = out or measuring.new_folder(source, folder)
    said.append(_keep(place, found, worst if picture else None))
    if as_json:
        print(measuring.as_text(found), end="")
    _print(found, said, to_stderr=as_json)


def _shipped() -> Path:
    from ichnode.domain.errors import ModelUnusable
    from ichnode.nets.registry import shipped_bundle
    from train.errors import TrainingError

    try:
        return shipped_bundle()
    except ModelUnusable as error:
        raise TrainingError(str(error)) from error


def _keep(folder: Path | None, found: dict[str, Any], worst: Worst | None) -> str:
    """Write what is kept; without a place for it, say so: the figures are printed all the same."""
    from train.carryover.folders import printable
    from train.carryover.measuring import keep

    if folder is None:
        return "Nothing was drawn: the current folder is read, or is the bundle; give --out."
    shown = printable(str(folder))
    try:
        keep(folder, found, worst)
    except OSError as error:
        return f"Nothing was drawn: {shown} cannot be written ({type(error).__name__})."
    return f"Written: {shown}"


def _print(found: dict[str, Any], said: list[str], *, to_stderr: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=to_stderr)
    console.print(_figures(found))
    if found["by_label"]:
        console.print(_labels(found))
    if found["kind"] == "series":
        console.print(_series(found))
    if found["left_out"]:
        console.print(_left_out(found))
    if (others := found["data"]["other_files"]) > 0:
        console.print(f"{others} other files in the folder are no images.")
    if found["positives"] + found["negatives"] == 0:
        console.print("The truth is not known: give --truth, or put the series below labels.")
    console.print(escape(found["operating_point"]["what"]))
    if "png" in found["how"]:
        console.print(f"Undone: {escape(found['how']['png']['undone'])}.")
    for line in said:
        console.print(escape(line))


def _figures(found: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    model = found["model"]
    title = f"{found['data']['name']}: {model['name']} {model['version']}"
    whole = found["kind"]
    table = Table("", f"all {whole}", f"{whole} that hold brain", title=escape(title))
    both = (found, found["brain_bearing"])
    table.add_row("n", *(str(one["n"]) for one in both))
    table.add_row("haemorrhage", *map(_counted, both))
    for name in ("auroc", "sensitivity", "specificity"):
        shown = "AUROC" if name == "auroc" else name
        table.add_row(shown, *(_told(one, name) for one in both))
    return table


def _counted(one: dict[str, Any]) -> str:
    unknown = one["n"] - one["positives"] - one["negatives"]
    told = f"{one['positives']} with, {one['negatives']} without"
    return f"{told}, {unknown} not known" if unknown else told


def _told(one: dict[str, Any], name: str) -> str:
    if one[name] is None:
        return str(one.get(f"{name}_why") or "not known")
    span = one[f"{name}_interval_95"]
    told = f"{one[name]:.3f}" if span is None else f"{one[name]:.3f} ({span[0]:.3f}-{span[1]:.3f})"
    counts = one.get(f"{name}_counts")
    return told if counts is None else f"{told}, {counts['hits']} of {counts['of']}"


def _labels(found: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("label", "n", "called positive", "median score")
    for label, row in found["by_label"].items():
        figures = (str(row["n"]), str(row["called_positive"]), f"{row['median_score']:.4f}")
        table.add_row(escape(label), *figures)
    return table


def _series(found: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("series", "label", "slices", "score", "finding")
    for one in found["items"]:
        told = (str(one["slices"]), f"{one['score']:.4f}", one["finding"])
        table.add_row(escape(one["name"]), escape(one["label"] or "-"), *told)
    return table


def _left_out(found: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    left_out = found["left_out"]
    table = Table("left out", "why", title=f"{len(left_out)} left out")
    for one in left_out[:_FEW]:
        table.add_row(escape(one["name"]), escape(one["reason"]))
    if len(left_out) > _FEW:
        table.add_row("...", f"and {len(left_out) - _FEW} more, see measured.json")
    return table
