"""``python -m train data``: from folders of scans to a cache, and what can be asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from train.data.sources.known import SOURCES

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Collect labelled scans in a cache, look into it, take something out of it.",
    epilog="Example: python -m train data add simulated 0:300 --cache cache",
)

CacheOption = Annotated[Path, typer.Option("--cache", help="Folder of the cache.")]
WorkersOption = Annotated[int, typer.Option(help="Processes that read; 0 takes all cores.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="File with the key of the patients' pseudonyms, made where missing; keep it. "
        "By default patients.key beside the cache or the table.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="data")


@commands.command(
    epilog="Example: python -m train data add dicom-folder scans --labels labels.csv --cache cache"
)
def add(
    source: Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(SOURCES))}.")],
    path: Annotated[str, typer.Argument(help="Folder of the dataset, or seeds such as 0:300.")],
    cache: CacheOption,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV of labels, for a dicom-folder: one column of sop_uid, file, series_uid, "
            "study_uid, accession_number or patient_id, and any of the six labels as 1, 0 or blank."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="What to call this dicom-folder, where there are several.")
    ] = "",
    size: Annotated[int, typer.Option(help="Rows and columns of what is kept, in pixels.")] = 256,
    workers: WorkersOption = 0,
    key: KeyOption = None,
    bleed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Add so many versions of each negative series with simulated bleeds in it, in "
            "place of the series themselves.",
        ),
    ] = 0,
    retry: Annotated[bool, typer.Option("--retry", help="Try the quarantined once more.")] = False,
    device: Annotated[
        str, typer.Option(help="Where randomised heads are simulated: auto, cpu or cuda.")
    ] = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check labels and layout, and count.")
    ] = False,
) -> None:
    """Read a dataset into a cache; what is there already is not read again.

    An interrupted run goes on where it stopped. What cannot be used is quarantined with the reason.
    """
    import dataclasses

    from ichnode.nets.manifest import PreprocessSpec
    from train.data.cache import build_cache
    from train.data.sources.bled import Bled
    from train.data.sources.known import open_known
    from train.data.splits import open_key
    from train.errors import TrainingError

    pseudonyms = b"" if dry_run else open_key(key or cache.parent / "patients.key")
    opened = open_known(source, path, labels, pseudonyms)
    if name:
        if source != "dicom-folder":
            raise TrainingError("Only a dicom-folder can be given a --name.")
        opened = dataclasses.replace(opened, name=name)  # type: ignore[type-var]
    if device != "cpu":
        from train.learn.precision import choose_device

        if source == "randomised":
            on = choose_device(device).type
            opened = dataclasses.replace(opened, device=on)  # type: ignore[type-var]
        elif device != "auto":
            raise TrainingError("Only randomised heads can be simulated on another --device.")
    if bleed:
        opened = Bled(opened, bleed)
    terms = opened.licence
    print(f"{opened.name}: {len(opened.jobs())} series or studies; licence: {terms.name}.")
    if terms.non_commercial:
        print("These terms are non-commercial; what is trained on it is marked so.")
    for remark in getattr(opened, "remarks", ()):
        print(remark)
    if not dry_run:
        spec = PreprocessSpec(size_px=size, windows_hu=((0.0, 80.0),))
        _print_datasets(build_cache(cache, opened, spec, workers=workers, retry=retry))


@commands.command(epilog="Example: python -m train data gallery randomised 0:12 --out gallery.png")
def gallery(
    source: Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(SOURCES))}.")],
    path: Annotated[str, typer.Argument(help="Folder of the dataset, or seeds such as 0:12.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("gallery.png"),
    labels: Annotated[Path | None, typer.Option(help="CSV of labels, as for add.")] = None,
    series: Annotated[int, typer.Option(min=1, help="How many series to show.")] = 12,
    window: Annotated[str, typer.Option(help="Window by name: brain, subdural, ...")] = "brain",
    bleed: Annotated[int, typer.Option(min=0, help="As for add.")] = 0,
) -> None:
    """Draw a contact sheet of a dataset: some slices of each series, blood outlined.

    Look at simulated heads beside real ones before you train on them.
    """
    from train.data.sheet import draw_sheet
    from train.data.sources.bled import Bled
    from train.data.sources.known import open_known
    from train.data.window import WINDOWS
    from train.errors import TrainingError

    if window not in WINDOWS:
        raise TrainingError(f"A window is one of {', '.join(WINDOWS)}.")
    opened = open_known(source, path, labels, b"for one picture, which names no patient")
    if bleed:
        opened = Bled(opened, bleed)
    shown = draw_sheet(out, opened, series=series, window_hu=WINDOWS[window])
    print(f"{shown} series of {opened.name} are on {out}.")


@commands.command("list", epilog="Example: python -m train data list --cache cache")
def list_datasets(cache: CacheOption) -> None:
    """Show what is in a cache: by dataset, patients, series, slices and how many show a bleed."""
    from train.data.cache import open_cache

    _print_datasets(open_cache(cache))


@commands.command(epilog="Example: python -m train data table scans --out table.parquet")
def table(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files, nested in any way.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("table.parquet"),
    workers: WorkersOption = 0,
    key: KeyOption = None,
) -> None:
    """Read tags and pixel statistics of every slice into a table (the paper's metadata)."""
    from train.data.splits import open_key
    from train.data.table import metadata_table, save_table

    pseudonyms = open_key(key or out.parent / "patients.key")
    rows = metadata_table(folder, key=pseudonyms, workers=workers)
    save_table(rows, out)
    print(f"{len(rows)} slices, {(rows['problem'] != '').sum()} of no use, in {out}.")


@commands.command(epilog="Example: python -m train data clean --cache cache --list dropped.csv")
def clean(
    cache: CacheOption,
    preset: Annotated[
        str, typer.Option(help="The preset whose slices --list lists: paper or careful.")
    ] = "careful",
    listed: Annotated[
        Path | None, typer.Option("--list", help="CSV of the slices that would be dropped.")
    ] = None,
) -> None:
    """Say what the filters for slices without brain would drop; the cache stays as it is.

    A recipe names the preset that a training uses. The paper's drops bleeds near the vertex and the
    base of the skull.
    """
    from train.data.cache import open_cache
    from train.data.cleaning import as_preset, clean, dropped
    from train.data.views import all_slices

    chosen = as_preset(preset)
    slices = all_slices(open_cache(cache), 0)
    for each in ("careful", "paper"):
        print(clean(slices, as_preset(each))[1].sentence())
    if listed is not None:
        dropped(slices, chosen).to_csv(listed, index=False)
        print(f"The slices that {chosen} drops are listed in {listed}.")


@commands.command(epilog="Example: python -m train data jpeg --cache cache --out pictures")
def jpeg(
    cache: CacheOption,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and labels.csv.")],
    windows: Annotated[
        str, typer.Option(help="Three windows, parted by commas, for red, green and blue.")
    ] = "brain,subdural,soft tissue",
    preset: Annotated[
        str, typer.Option(help="Which slices to leave out: none, careful or paper.")
    ] = "none",
) -> None:
    """Write the slices as the paper's .jpg files, for other tools; training reads the cache."""
    from train.data.cache import open_cache
    from train.data.cleaning import as_preset, clean
    from train.data.jpeg import export_jpegs
    from train.data.views import all_slices

    slices = all_slices(open_cache(cache), 0)
    if as_preset(preset) != "none":
        slices, report = clean(slices, as_preset(preset))
        print(report.sentence())
    colours = [window.strip() for window in windows.split(",")]
    file = export_jpegs(slices, out, colours=colours)
    print(f"{len(slices)} pictures; their labels are in {file}.")


@commands.command(epilog="Example: python -m train data quarantine --cache cache")
def quarantine(
    cache: CacheOption,
    out: Annotated[Path | None, typer.Option(help="CSV to write all of it to.")] = None,
) -> None:
    """Show what was left out of a cache, and why."""
    from rich.console import Console
    from rich.table import Table

    from train.data.cache import open_quarantine

    left_out = open_quarantine(cache)
    left_out["what"] = ["slices" if name else "series" for name in left_out["slice"]]
    counts = left_out.groupby(["dataset", "what", "reason"]).size()
    shown = Table("dataset", "what", "reason", "how many", title="Left out")
    for (dataset, what, reason), count in counts.items():
        shown.add_row(dataset, what, reason, str(count))
    Console().print(shown if len(left_out) else "Nothing was left out.")
    if out is not None:
        left_out.drop(columns="what").to_csv(out, index=False)
        print(f"All of it is in {out}.")


@commands.command(epilog="Example: python -m train data overlap --cache cache --other test-cache")
def overlap(
    cache: CacheOption,
    other: Annotated[Path, typer.Option(help="Folder of the cache to compare with.")],
) -> None:
    """Look for scans that are in two caches, perhaps under other names; fails where there are any.

    What a model is measured on must not be among what it learnt from.
    """
    from train.data.cache import open_cache
    from train.data.overlap import overlaps
    from train.data.views import all_slices
    from train.errors import TrainingError

    found = overlaps(all_slices(open_cache(cache), 0), all_slices(open_cache(other), 0))
    for one in found:
        print(f"{one.dataset} {one.series} = {one.other_dataset} {one.other_series}")
    if found:
        raise TrainingError(f"{len(found)} pairs of series show the same scan; leave one out.")
    print("No scan is in both.")


def _print_datasets(cache: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"{cache.folder}, {cache.spec.size_px} px")
    for column in (
        "dataset",
        "licence",
        "patients",
        "series",
        "with bleed",
        "slices",
        "with bleed",
    ):
        shown.add_column(column)
    for name, rows in cache.slices.groupby("dataset"):
        series = rows.drop_duplicates("series_number")
        shown.add_row(
            name,
            cache.licences[name].name,
            str(rows["patient"].nunique()),
            str(len(series)),
            _share(series["series_any"]),
            str(len(rows)),
            _share(rows["any"]),
        )
    Console().print(shown)
    series = cache.slices.drop_duplicates("series_number")
    for column, what in (
        ("repaired", "wrapped Hounsfield units that were put right"),
        ("hu_suspect", "tags of wrapped Hounsfield units that the pixels do not prove"),
    ):
        if count := int(series[column].sum()):
            print(f"{count} series with {what}.")
    if len(cache.quarantine):
        print(f"{len(cache.quarantine)} left out; `python -m train data quarantine` says why.")


def _share(labels: Any) -> str:
    """Return how many show it, of how many of which it is known."""
    return f"{int((labels == 1).sum())} of {int(labels.notna().sum())}"
