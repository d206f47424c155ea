"""The loop that sequence stage and weak labels share: steps, figures, checkpoints, a bar.

A stage knows what a step is; this knows when to look, when to keep, and when to stop. On one
process: features of series are learnt from in minutes, and series of images by one GPU.
"""

from __future__ import annotations

import math
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from train.errors import TrainingError
from train.learn.interrupting import stop_request
from train.learn.journal import Row, add_row, draw_plots

log = structlog.get_logger(__name__)
_BatchT = TypeVar("_BatchT")


@dataclass(frozen=True, slots=True)
class Watched:
    """Figures of the watched series; NaN where they cannot be given.

    Attributes
    ----------
    loss : float
        What training minimises.
    slice_auroc, series_auroc : float
        Of "any".
    """

    loss: float
    slice_auroc: float
    series_auroc: float


class Stage(ABC, Generic[_BatchT]):
    """What is taught, and how.

    Attributes
    ----------
    name : str
        For people.
    folder : Path
        Where checkpoint, ``metrics.csv`` and plots are.
    epochs, per_epoch : int
        Epochs, and steps of each.
    slices : int
        That an epoch looks at, about.
    size_px : int
        Of the images.
    minutes : float
        End by the clock, the schedule included; 0 for no limit.
    of_slices : bool
        Whether it is the AUROC of slices that is written down, where it can be given.
    step : int
        Steps made; all that is drawn follows from it and the seed.
    spent_s : float
        Seconds, those of earlier starts included.
    """

    name: str
    folder: Path
    epochs: int
    per_epoch: int
    slices: int
    size_px: int
    minutes: float = 0.0
    of_slices: bool = True
    step: int = 0
    spent_s: float = 0.0

    @property
    def total(self) -> int:
        """Steps of the whole run, where the clock does not end it before."""
        return self.epochs * self.per_epoch

    @property
    def progress(self) -> float:
        """How far it is: 0 at the first step, 1 at the end."""
        return self.progress_at(self.step)

    def progress_at(self, step: int) -> float:
        """Return how far it is at a step that is about to be made."""
        by_steps = step / self.total
        return max(by_steps, self.spent_s / (60 * self.minutes)) if self.minutes else by_steps

    @abstractmethod
    def batches(self, first: int, last: int) -> Generator[_BatchT, None, None]:
        """Yield what the steps `first` to `last` learn from."""

    @abstractmethod
    def teach(self, batch: _BatchT, progress: float) -> Tensor:
        """Make one step and return its loss; `progress` is 0 at the first step, 1 at the end."""

    @abstractmethod
    def rate(self, progress: float) -> float:
        """Return the learning rate of the head."""

    @abstractmethod
    def look(self) -> Watched:
        """Return how it is going, at the end of an epoch, and keep the weights that did best."""

    @abstractmethod
    def save(self) -> bool:
        """Write a checkpoint and say so; weights that are no numbers any more are not kept."""


def go(stage: Stage[_BatchT], *, save_every_s: float = 120.0, quiet: bool = False) -> None:
    """Make the steps of a stage that are left.

    Raises
    ------
    TrainingError
        When the loss is no number any more, with the checkpoint before it kept, or when several
        processes were started.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once a checkpoint is written.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("This runs on one process; start it without torchrun.")
    with stop_request() as asked:
        _Course(stage, quiet=quiet).go(asked, save_every_s)
    draw_plots(stage.folder)


class _Course(Generic[_BatchT]):
    def __init__(self, stage: Stage[_BatchT], *, quiet: bool) -> None:
        self._stage = stage
        self._losses: list[Tensor] = []
        self._before_s, self._began = stage.spent_s, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, disable=quiet)

    def go(self, asked: threading.Event, save_every_s: float) -> None:
        stage, saved = self._stage, time.monotonic()
        batches = stage.batches(stage.step, stage.total)
        with self._bar, closing(batches):
            shown = self._bar.add_task(stage.name, total=1.0)
            for batch in batches:
                self._losses.append(stage.teach(batch, stage.progress))
                stage.step += 1
                stage.spent_s = self._before_s + time.monotonic() - self._began
                over = stage.progress >= 1
                if over or stage.step % stage.per_epoch == 0:
                    self._bar.update(shown, description=self._end_epoch())
                elif asked.is_set() or time.monotonic() - saved > save_every_s:
                    self._save()
                    saved = time.monotonic()
                self._bar.update(shown, completed=stage.progress)
                if over:
                    break
                if asked.is_set():
                    raise KeyboardInterrupt

    def _end_epoch(self) -> str:
        """Look at how it is going, write it down, keep a checkpoint; return a line for people."""
        stage = self._stage
        loss = float(sum(float(one) for one in self._losses)) / len(self._losses)
        self._losses.clear()
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is no number any more at step {stage.step}; the checkpoint before it "
                "is kept. Give a lower --peak-rate and another folder."
            )
        found = stage.look()
        add_row(stage.folder, self._row(loss, found))
        self._save()
        said = f"{stage.name}: loss {loss:.3f}, watched {found.loss:.3f}"
        log.info("epoch.trained", count=stage.step, detail=said)
        return said

    def _row(self, loss: float, found: Watched) -> Row:
        stage, epoch = self._stage, -(-self._stage.step // self._stage.per_epoch)
        by_slice = stage.of_slices and not math.isnan(found.slice_auroc)
        return Row(
            step=stage.step,
            epoch=epoch,
            size_px=stage.size_px,
            rate=stage.rate(stage.progress),
            loss=loss,
            images_per_s=stage.step / stage.per_epoch * stage.slices / max(stage.spent_s, 1e-9),
            seconds=stage.spent_s,
            watch_loss=found.loss,
            watch_auroc=found.slice_auroc if by_slice else found.series_auroc,
        )

    def _save(self) -> None:
        if not self._stage.save():
            raise TrainingError(
                f"The weights are no numbers any more at step {self._stage.step}; the checkpoint "
                "before it is kept. Give a lower --peak-rate and another folder."
            )
