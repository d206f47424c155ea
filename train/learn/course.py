"""One start of a training run, from its first or its next step to its end."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from contextlib import closing
from pathlib import Path

import structlog
import torch
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from ichnode.nets.architectures import SliceNetwork
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.batches import Feeder
from train.learn.checkpoint import Learning, plain_copy, restore, save
from train.learn.distributed import Team
from train.learn.journal import Row, add_row, cut_off, draw_plots, lowest_watched_loss
from train.learn.lesson import Teacher
from train.learn.recipe import Recipe
from train.learn.run_folder import finish, keep_best, kept_best
from train.learn.schedule import pace, size_px
from train.learn.sizes import has_statistics, reestimate
from train.learn.watching import Watched, look

log = structlog.get_logger(__name__)
_ROWS = 20  # lines of metrics.csv an epoch
_DRAW_EVERY_S = 30.0
_LOOK_EVERY = 10  # steps between looks at the loss on a GPU, each of which waits for it


class Course:
    """One start of a run, on one process."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        learning: Learning,
        feeder: Feeder,
        ours: Team,
        watch: Slices,
    ) -> None:
        self._recipe, self._run, self._learning = recipe, run, learning
        self._feeder, self._team, self._watch = feeder, ours, watch
        self._per_epoch = feeder.plan.per_epoch
        self._total = recipe.steps or (recipe.frozen_epochs + recipe.epochs) * self._per_epoch
        self._losses: list[Tensor] = []  # of steps that nobody looked at yet
        self._since: list[float] = []  # losses since the last line of metrics.csv
        if restore(run, recipe, learning):
            log.info("run.resumed", count=learning.step)
            if ours.leads:
                cut_off(run, learning.step)
            ours.wait()
        self._clock = _Clock(learning.spent_s)
        self._drawn_s = self._looked_s = learning.spent_s
        self._best_loss = lowest_watched_loss(run)
        self._look_every_s = 0.0

    def go(
        self, asked: threading.Event, *, save_every_s: float, look_every_s: float, quiet: bool
    ) -> None:
        """Make the steps that are left.

        Raises
        ------
        KeyboardInterrupt
            After a stop was asked for and the checkpoint is written.
        TrainingError
            When the loss is no number any more.
        """
        teacher = Teacher(self._learning, self._recipe, self._team)
        saved, stop = time.monotonic(), 0.0
        self._look_every_s = look_every_s
        batches = self._feeder.batches(self._learning.step, self._total, self._size_px)
        with _bar(quiet=quiet or not self._team.leads) as bar, closing(batches):
            shown = bar.add_task("Training", total=1.0)
            for batch in batches:
                late = float(time.monotonic() - saved > save_every_s)
                progress, stop, save = self._team.greatest(
                    self._progress(), float(asked.is_set()), late
                )
                if progress >= 1 or stop:
                    break
                self._losses.append(teacher.teach(batch, pace(self._recipe, progress)))
                self._after_step(bar, shown, progress)
                if save:
                    self._save()
                    saved = time.monotonic()
        if stop:
            self._save()
            raise KeyboardInterrupt

    def _after_step(self, bar: Progress, shown: TaskID, progress: float) -> None:
        step = self._learning.step
        ends = step % self._per_epoch == 0
        if self._team.device.type == "cpu" or step % _LOOK_EVERY == 0 or ends:
            self._settle()
        if ends and self._look_is_due():
            speed = self._speed()
            watched = self._look(self._learning.averaged)
            self._keep_best(watched)
            self._write(progress, speed, watched)
            self._save()
            self._clock.lap_s()  # neither looking nor saving is learning
            self._looked_s = self._clock.spent_s()
            said = f"loss {watched.loss:.3f} AUROC {watched.auroc:.3f}"
            bar.update(shown, description=said)
            log.info("epoch.trained", count=step, detail=said)
        elif step % max(self._per_epoch // _ROWS, 1) == 0:
            self._settle()
            self._write(progress, self._speed())
        bar.update(shown, completed=self._progress())

    def finish(self) -> None:
        """Choose and keep the weights, normalisation measured again.

        Those of the learner or the averaged ones; or those that looked best on the way, where
        later steps have only learnt the training slices by heart.
        """
        found = {"learner": self._ready(self._learning.network)}
        if self._averages:
            found["averaged"] = self._ready(self._learning.averaged)
        if self._best_loss < min(_comparable(watched.loss) for _, watched in found.values()):
            self._team.wait()
            if (kept := kept_best(self._run, self._recipe)) is not None:
                found["best"] = self._ready(kept)
        best = min(found, key=lambda name: _comparable(found[name][1].loss))
        if self._team.leads:
            draw_plots(self._run)
            finish(
                self._run,
                found[best][0].cpu(),
                {
                    "weights": best,
                    "watched": {name: _plain(figures) for name, (_, figures) in found.items()},
                    "steps": self._learning.step,
                    "seconds": round(self._clock.spent_s(), 1),
                    "precision": self._learning.arithmetic.name,
                    "processes": self._team.world,
                    "device": self._team.device.type,
                },
            )

    def _ready(self, network: SliceNetwork) -> tuple[SliceNetwork, Watched]:
        """Return a copy for inference, normalisation measured again, and how it does."""
        self._team.same_statistics(network)
        plain = plain_copy(self._recipe, network, self._team.device)
        if self._recipe.bn_stats and has_statistics(plain):
            with self._learning.arithmetic.reduced():
                reestimate(plain, self._feeder.measured())
        return plain, self._look(plain)

    def _keep_best(self, watched: Watched) -> None:
        if _comparable(watched.loss) < self._best_loss:
            self._best_loss = watched.loss
            if self._team.leads:
                keep_best(self._run, self._learning.averaged)

    def _look_is_due(self) -> bool:
        """Say the same in all processes: their clocks differ, and they look together."""
        since_s = self._clock.spent_s() - self._looked_s
        (due,) = self._team.greatest(float(since_s >= self._look_every_s))
        return bool(due)

    @property
    def _averages(self) -> bool:
        return self._recipe.averaging > 0

    def _progress(self) -> float:
        by_steps = self._learning.step / self._total
        limit_s = 60 * self._recipe.minutes
        return max(by_steps, self._clock.spent_s() / limit_s) if limit_s else by_steps

    def _size_px(self) -> int:
        return size_px(self._recipe, self._progress())

    def _settle(self) -> None:
        """Look at the losses of the last steps.

        Raises
        ------
        TrainingError
            When one of them is no number; the last good checkpoint stays.
        """
        if not self._losses:
            return
        whole = self._team.sum(torch.stack(self._losses).double()) / self._team.world
        values = whole.tolist()
        self._losses.clear()
        self._since += values
        if not all(map(math.isfinite, values)):
            raise TrainingError(
                f"The loss is no number any more at step {self._learning.step}; the checkpoint "
                "before it is kept. Give a lower --peak-rate and another folder."
            )

    def _look(self, network: SliceNetwork) -> Watched:
        return look(
            network,
            self._watch,
            self._recipe,
            self._team,
            dtype=self._learning.arithmetic.dtype,
            negatives_kept=self._feeder.plan.negatives_kept,
        )

    def _speed(self) -> float:
        """Return images a second since the last line, all processes together."""
        return len(self._since) * self._recipe.batch / self._clock.lap_s()

    def _write(self, progress: float, speed: float, watched: Watched | None = None) -> None:
        losses, self._since = self._since, []
        if not self._team.leads:
            return
        step = self._learning.step
        row = Row(
            step=step,
            epoch=-(-step // self._per_epoch),
            size_px=size_px(self._recipe, progress),
            rate=pace(self._recipe, progress).rates[-1],
            loss=sum(losses) / max(len(losses), 1),
            images_per_s=speed,
            seconds=self._clock.spent_s(),
        )
        if watched is not None:
            row = dataclasses.replace(
                row,
                watch_loss=watched.loss,
                watch_auroc=watched.auroc,
                watch_accuracy=watched.accuracy,
            )
        add_row(self._run, row)
        if watched is not None:
            self._draw()

    def _draw(self) -> None:
        """Draw the plots now and then; it takes a second."""
        if self._clock.spent_s() - self._drawn_s > _DRAW_EVERY_S:
            draw_plots(self._run)
            self._drawn_s = self._clock.spent_s()

    def _save(self) -> None:
        self._settle()
        self._learning.spent_s = self._clock.spent_s()
        if self._team.leads and not save(self._run, self._recipe, self._learning):
            raise TrainingError(
                f"The weights are no numbers any more at step {self._learning.step}; the "
                "checkpoint before it is kept. Give a lower --peak-rate and another folder."
            )


class _Clock:
    """Seconds of a run, those of earlier starts included."""

    def __init__(self, before_s: float) -> None:
        self._before_s, self._began = before_s, time.monotonic()
        self._lap = self._began

    def spent_s(self) -> float:
        """Return all seconds."""
        return self._before_s + time.monotonic() - self._began

    def lap_s(self) -> float:
        """Return the seconds since this was last asked."""
        now = time.monotonic()
        lap, self._lap = now - self._lap, now
        return max(lap, 1e-9)


def _comparable(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss


def _plain(figures: Watched) -> dict[str, float | None]:
    values = dataclasses.asdict(figures)
    return {name: None if math.isnan(v) else round(v, 6) for name, v in values.items()}


def _bar(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=quiet)
