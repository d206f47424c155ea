"""The course of a run as a table and as pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ichnode.spool import write_durable
from train.learn.run_folder import METRICS

COLUMNS = (
    "step",
    "epoch",
    "size_px",
    "rate",
    "loss",
    "watch_loss",
    "watch_auroc",
    "watch_accuracy",
    "images_per_s",
    "seconds",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of metrics.csv; what was not looked at is NaN and left blank."""

    step: int
    epoch: int
    size_px: int
    rate: float
    loss: float
    images_per_s: float
    seconds: float
    watch_loss: float = math.nan
    watch_auroc: float = math.nan
    watch_accuracy: float = math.nan


def add_row(run: Path, row: Row) -> None:
    """Append a line to metrics.csv."""
    path = run / METRICS
    fresh = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerow([_shown(getattr(row, name)) for name in COLUMNS])


def cut_off(run: Path, step: int) -> None:
    """Drop the lines of steps after a checkpoint: they are made again."""
    path = run / METRICS
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [lines[0], *(line for line in lines[1:] if _step_of(line) <= step)]
    write_durable(path, ("\r\n".join(kept) + "\r\n").encode())


def rows(run: Path) -> list[dict[str, float]]:
    """Return the lines of metrics.csv; blanks are NaN."""
    with (run / METRICS).open(newline="", encoding="utf-8") as file:
        return [
            {name: float(value) if value else math.nan for name, value in line.items()}
            for line in csv.DictReader(file)
        ]


def lowest_watched_loss(run: Path) -> float:
    """Return the lowest loss that the watched slices had at a look; infinity before the first."""
    if not (run / METRICS).is_file():
        return math.inf
    return min((row["watch_loss"] for row in rows(run) if row["watch_loss"] >= 0), default=math.inf)


def draw_plots(run: Path) -> None:
    """Draw loss, AUROC and learning rate over the steps as PNG files."""
    lines = rows(run)
    folder = run / "plots"
    folder.mkdir(exist_ok=True)
    pictures: dict[str, tuple[Sequence[str], str, str]] = {
        "loss": (("loss", "watch_loss"), "cross-entropy", "linear"),
        "auroc": (("watch_auroc",), "AUROC of what is watched", "linear"),
        "rate": (("rate",), "learning rate of the head", "log"),
    }
    for name, (columns, title, scale) in pictures.items():
        _draw(folder / f"{name}.png", lines, columns, title, scale)


def _draw(
    path: Path, lines: list[dict[str, float]], columns: Sequence[str], title: str, scale: str
) -> None:
    from matplotlib.figure import Figure  # slow to import, and only the first process draws

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for column in columns:
        points = [(one["step"], one[column]) for one in lines if not math.isnan(one[column])]
        if points:
            marker = "o" if column.startswith("watch") else None
            axes.plot(*zip(*points, strict=True), label=column.replace("_", " "), marker=marker)
    axes.set(xlabel="step", ylabel=title, yscale=scale)
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend()
    figure.savefig(path, dpi=120)


def _shown(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def _step_of(line: str) -> int:
    return int(line.split(",", 1)[0])
