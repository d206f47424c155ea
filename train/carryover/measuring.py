"""From a folder of real scans and a bundle to what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ichnode.nets.registry import MEASUREMENTS
from ichnode.spool import write_durable
from train.carryover import ledger
from train.carryover.folders import Held, LeftOut, Sample, printable
from train.carryover.measured import Item, measured
from train.carryover.pictures import AxialImage, Picturing, is_png, read_images
from train.carryover.reading import LEAST_HEAD_MM, Reader, holds_brain, read_stack
from train.carryover.sheet import Worst, draw_worst
from train.errors import TrainingError, Unusable

PICTURE, FIGURES = "worst.png", "measured.json"
_SLICE_POINT = (
    "The shipped thresholds are for series. A slice is read as a series that consists of it alone, "
    "by the calibration of series, and is positive where serving would call that series positive: "
    "any label reaches its urgent threshold."
)
_SERIES_POINT = "Positive as in serving: any label reaches its urgent threshold."


@dataclass(slots=True)
class Going:
    """What there is while a folder is measured."""

    items: list[Item] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    worst: Worst = field(default_factory=Worst)


def measure(
    kind: str, held: Held, reader: Reader, assumed: Picturing
) -> tuple[dict[str, Any], Worst]:
    """Read everything that a folder holds; the bar goes to standard error.

    Parameters
    ----------
    kind : {"slices", "series"}
    held : Held
        From `find_slices` or `find_series`.

    Returns
    -------
    dict
        As `measured` makes it.
    Worst
        The pictures of the worst.

    Raises
    ------
    TrainingError
        When nothing in it can be measured.
    """
    going = Going(left_out=list(held.left_out))
    take = _take_slice if kind == "slices" else _take_series
    for sample in _shown(held.samples, f"Reading {kind}"):
        try:
            take(sample, reader, assumed, going)
        except Unusable as reason:
            going.left_out.append(LeftOut(sample.name, str(reason)))
    if not going.items:
        first = going.left_out[0]
        raise TrainingError(
            f"Nothing in {held.folder} can be measured; {first.name}: {first.reason}"
        )
    how = assumptions(kind, held, assumed)
    return measured(kind, held, reader.manifest, going.items, going.left_out, how), going.worst


def _take_slice(sample: Sample, reader: Reader, assumed: Picturing, going: Going) -> None:
    for image in read_images(sample.files[0], assumed):
        if isinstance(image, AxialImage):
            said = reader.read_slice(image.hu, image.pixel_mm)
            brain = int(holds_brain(image.hu[None], image.pixel_mm).sum())
            item = Item(sample.name + image.name, sample, said, 1, brain)
            going.items.append(item)
            going.worst.offer(item, image.hu)
        else:
            going.left_out.append(LeftOut(sample.name, str(image)))


def _take_series(sample: Sample, reader: Reader, assumed: Picturing, going: Going) -> None:
    stack = read_stack(sample.files, assumed)
    said = reader.read(stack)
    brain = int(holds_brain(stack.hu, stack.spacing_mm[1:]).sum())
    item = Item(sample.name, sample, said, len(stack.hu), brain)
    going.items.append(item)
    going.left_out += [LeftOut(f"{sample.name}/{one.name}", one.reason) for one in stack.left_out]
    going.worst.offer(item, stack.hu[said.shown])


def _shown(samples: tuple[Sample, ...], title: str) -> Iterator[Sample]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(samples, description=title)


def assumptions(kind: str, held: Held, assumed: Picturing) -> dict[str, Any]:
    """Return what positive means, and what was assumed and undone, for people."""
    pictures = any(is_png(file) for sample in held.samples for file in sample.files)
    how: dict[str, Any] = {
        "operating_point": _SLICE_POINT if kind == "slices" else _SERIES_POINT,
        "intervals": "95 %: AUROC by drawing items again, the others after Wilson",
        "brain_bearing": "at least 30 cm² of brain within a skull are seen"
        + ("" if kind == "slices" else ", in one slice or more"),
    }
    if kind == "slices":
        how["neighbours"] = "each slice stands in for its own, as at the ends of a series"
        how["crop"] = f"around the head of the slice, not smaller than one of {LEAST_HEAD_MM:g} mm"
        how["independence"] = (
            "slices count as independent; where some share a patient the intervals are too narrow"
        )
    if pictures:
        how["png"] = _of_pictures(kind, assumed)
    return how


def _of_pictures(kind: str, assumed: Picturing) -> dict[str, Any]:
    low, high = assumed.hu_range
    told: dict[str, Any] = {
        "hu_range": [low, high],
        "rotate_degrees": assumed.rotate_degrees,
        "pixel_mm": assumed.pixel_mm or "a field of view of 250 mm",
        "undone": (
            f"the clip at {low:g} and {high:g} HU as far as it goes: air around the head, bone of "
            f"the skull; within the head {low:g} stays {low:g}, and within the skull {high:g} "
            f"stays {high:g}"
        ),
    }
    if kind == "series":
        told["step_mm"] = assumed.step_mm
        told["order"] = "file names in natural order, taken to run from the feet to the head"
    return told


def check_places(source: Path, bundle: Path, out: Path | None) -> None:
    """Refuse to write into the folder that is read, or pictures beside a bundle.

    Raises
    ------
    TrainingError
        When `out` or the bundle lies in `source`, or `out` in the bundle.
    """
    source, bundle = source.resolve(), bundle.resolve()
    if bundle.is_relative_to(source):
        raise TrainingError(
            "The bundle lies in the folder that is read, where nothing is written; its ledger "
            "would be there. Give a narrower folder, or a copy of the bundle."
        )
    if out is None:
        return
    check_out(source, out)
    if out.resolve().is_relative_to(bundle):
        raise TrainingError("--out lies in the bundle; pictures of patients do not belong there.")


def check_out(source: Path, out: Path) -> None:
    """Refuse to write into the folder that is read.

    Raises
    ------
    TrainingError
        When `out` lies in `source`.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise TrainingError("--out lies in the folder that is read, where nothing is written.")


def new_folder(source: Path, bundle: Path) -> Path | None:
    """Return a folder that is not there yet, in the current one; None in `source` or `bundle`."""
    here, name = Path.cwd(), f"measured-{printable(source.resolve().name)}"
    if any(here.resolve().is_relative_to(one.resolve()) for one in (source, bundle)):
        return None
    number = 1
    while (folder := here / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def keep(folder: Path, found: dict[str, Any], worst: Worst | None) -> None:
    """Write figures and picture into a folder; created where it is missing.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_durable(folder / FIGURES, as_text(found).encode())
    if worst is not None:
        title = f"{found['data']['name']}, {found['model']['name']} {found['model']['version']}"
        draw_worst(folder / PICTURE, worst, title)


def as_text(found: dict[str, Any]) -> str:
    """Return what was measured as JSON."""
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def log_use(bundle: Path, found: dict[str, Any]) -> str:
    """Write a use into the bundle's ledger and return what there is to say about it."""
    try:
        before = ledger.write_down(bundle, found)
    except OSError as error:
        found["ledger"] = None
        return f"The ledger of the bundle cannot be written ({type(error).__name__}): keep a note."
    found["ledger"] = {"file": MEASUREMENTS, "same_data_before": before}
    return f"Written into the bundle's ledger; these data were measured {before} times before."
