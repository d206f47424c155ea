"""Fit the sequence stage on the features of a finished encoder: minutes, and resumable."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ichnode.domain.findings import LABELS
from ichnode.nets.context import ContextNet
from ichnode.spool import write_durable
from train.context.course import Stage, Watched, go
from train.context.features import Features
from train.context.losses import context_loss
from train.context.recipe import ContextRecipe, check, read_context_recipe
from train.context.sequences import Batch, SeriesRows, as_batch, disturb
from train.context.watching import watch_series
from train.errors import TrainingError
from train.learn.averaging import average
from train.learn.checkpoint import finite, load_checkpoint
from train.learn.drawing import generator, key
from train.learn.groups import by_decay
from train.learn.journal import cut_off
from train.learn.run_folder import CHECKPOINT
from train.learn.schedule import one_cycle

_ORDER, _DISTURB, _DROPOUT = 1, 2, 3  # what a seed is used for


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of it.

    Attributes
    ----------
    network : ContextNet
        The weights of the epoch that did best on the watched series, in evaluation mode, on the
        CPU.
    watched : Watched
        How they did.
    epoch : int
        Which epoch that was.
    """

    network: ContextNet = field(repr=False)
    watched: Watched
    epoch: int
    seconds: float


def fit_context(
    recipe: ContextRecipe,
    features: Features,
    train: Sequence[SeriesRows],
    watch: Sequence[SeriesRows],
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Fitted:
    """Fit the network over series, or go on where an earlier run in the folder stopped.

    The weights of the epoch with the lowest loss on the watched series are kept; where nothing is
    known of those, the last ones.

    Parameters
    ----------
    features : Features
        Of all slices of both.
    train, watch : sequence of SeriesRows
        To learn from, and to choose the epoch by; no patient in both.
    folder : Path
        Where checkpoint, ``metrics.csv`` and plots are.

    Raises
    ------
    TrainingError
        When there is nothing to learn from, or the loss is no number any more.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once a checkpoint is written.
    """
    check(recipe)
    _check_series(train)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        stage = _Sequences(recipe, features, train, watch, folder, torch.device(device))
        go(stage, quiet=quiet)
    best = stage.best
    return Fitted(best.network.cpu().eval(), best.watched, best.epoch, stage.spent_s)


def _check_series(train: Sequence[SeriesRows]) -> None:
    """Refuse series from which nothing can be learnt."""
    if not train:
        raise TrainingError("There are no training series; add data or give other shares.")
    blood = np.array([one.series_truth[0] for one in train])
    for value, name in ((1, "with"), (0, "without")):
        if not (blood == value).any():
            raise TrainingError(f"There are no training series {name} blood; add some.")


@dataclass(slots=True, eq=False)
class _Best:
    network: ContextNet
    watched: Watched = Watched(math.inf, math.nan, math.nan)  # noqa: RUF009 - frozen
    epoch: int = 0


class _Sequences(Stage[Batch]):
    """The sequence stage."""

    name = "Sequence stage"

    def __init__(
        self,
        recipe: ContextRecipe,
        features: Features,
        train: Sequence[SeriesRows],
        watch: Sequence[SeriesRows],
        folder: Path,
        device: torch.device,
    ) -> None:
        self._recipe, self._features, self._device = recipe, features, device
        self._train, self._watch, self.folder = train, watch, folder
        self.epochs, self.per_epoch = recipe.epochs, -(-len(train) // recipe.batch)
        self.slices, self.size_px = sum(len(one.rows) for one in train), 0
        self._network = _new_network(recipe, features.features.shape[1]).to(device)
        self._averaged = copy.deepcopy(self._network) if recipe.averaging else self._network
        self._optimizer = _new_optimizer(self._network, recipe)
        self.best = _Best(copy.deepcopy(self._network))
        self._restore()

    def batches(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield series in an order that the seed and the epoch decide."""
        for step in range(first, last):
            epoch, place = divmod(step, self.per_epoch)
            rng = np.random.default_rng((self._recipe.seed, _ORDER, epoch))
            chosen = rng.permutation(len(self._train))[place * self._recipe.batch :]
            some = [self._train[int(index)] for index in chosen[: self._recipe.batch]]
            yield as_batch(some, self._features).to(self._device)

    def teach(self, batch: Batch, progress: float) -> Tensor:
        """Make one step on disturbed features."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(progress)
        seed = self._recipe.seed
        shown = disturb(batch, self._recipe, generator(self._device, seed, _DISTURB, self.step))
        torch.manual_seed(key(seed, _DROPOUT, self.step))
        self._network.train()
        found = self._network(shown.features, shown.places, shown.present)
        loss = context_loss(found, shown, self._recipe)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), self._recipe.clip)
        self._optimizer.step()
        if self._recipe.averaging:
            average(self._averaged, self._network, self._recipe.averaging, self.step)
        return loss.detach()

    def rate(self, progress: float) -> float:
        """Return the learning rate."""
        return self._recipe.peak_rate * one_cycle(progress, self._recipe.warm_share)

    def look(self) -> Watched:
        """Look at the watched series, and keep the weights where they are the best so far."""
        found = watch_series(
            self._averaged, self._features, self._watch, self._recipe, self._device
        )
        if math.isnan(found.loss) or found.loss < self.best.watched.loss:
            self.best.network.load_state_dict(self._averaged.state_dict())
            self.best.watched, self.best.epoch = found, self.step // self.per_epoch
        return found

    def save(self) -> bool:
        """Write a checkpoint."""
        if not finite(self._network):
            return False
        content = {
            "recipe": self._recipe.to_json(),
            "network": self._network.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self.best.network.state_dict(),
            "best_epoch": self.best.epoch,
            "watched": [getattr(self.best.watched, name) for name in Watched.__slots__],
            "step": self.step,
            "spent_s": self.spent_s,
        }
        written = io.BytesIO()
        torch.save(content, written)
        write_durable(self.folder / CHECKPOINT, written.getvalue())
        return True

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        content = load_checkpoint(path)
        if read_context_recipe(content["recipe"]) != self._recipe:
            raise TrainingError(f"{path} is of another recipe; give another folder.")
        self._network.load_state_dict(content["network"])
        self._averaged.load_state_dict(content["averaged"])
        self._optimizer.load_state_dict(content["optimizer"])
        self.best.network.load_state_dict(content["best"])
        self.best.epoch, self.best.watched = content["best_epoch"], Watched(*content["watched"])
        self.step, self.spent_s = content["step"], content["spent_s"]
        cut_off(self.folder, self.step)


def _new_network(recipe: ContextRecipe, width: int) -> ContextNet:
    torch.manual_seed(recipe.seed)
    return ContextNet(width, len(LABELS), recipe.hidden, recipe.layers, recipe.dropout)


def _new_optimizer(network: ContextNet, recipe: ContextRecipe) -> torch.optim.AdamW:
    decayed, free = by_decay((network,))
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate)
