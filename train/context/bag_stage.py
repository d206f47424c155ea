"""The steps of learning from labels of series."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ichnode.nets.architectures import SliceNetwork
from ichnode.spool import write_durable
from train.context.bag_reader import BagReader, bag_optimizer, set_learning
from train.context.bag_watching import watch_bags
from train.context.bags import (
    BagBatch,
    Bags,
    Member,
    bags_of,
    parts_of,
    read_bags,
    single_members,
    whole_members,
)
from train.context.course import Stage, Watched
from train.context.weak_recipe import WeakRecipe
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.ahead import ahead
from train.learn.averaging import average
from train.learn.batches import Plan
from train.learn.checkpoint import finite, load_checkpoint
from train.learn.drawing import generator, key
from train.learn.groups import keep_pace
from train.learn.journal import cut_off
from train.learn.losses import label_weights, masked_cross_entropy, mean
from train.learn.precision import arithmetic
from train.learn.predicting import images_of
from train.learn.recipe import Recipe, read_recipe
from train.learn.run_folder import CHECKPOINT
from train.learn.schedule import pace, size_px
from train.learn.sizes import has_statistics, reestimate

_DISTURB, _MEASURE, _DROPOUT, _APART = 2, 3, 4, 5  # what a seed is used for


class BagStage(Stage[BagBatch]):
    """Teaches a slice network through series.

    Attributes
    ----------
    best_epoch : int
        Which epoch did best on the watched series.
    """

    name = "Weak labels"
    of_slices = False  # they are not labelled; where they are, that is for the end

    def __init__(
        self,
        recipe: Recipe,
        weak: WeakRecipe,
        bags: Bags,
        plan: Plan,
        watch: Slices,
        run: Path,
        device: torch.device,
        start: SliceNetwork | None,
    ) -> None:
        self._recipe, self._weak, self._bags, self._plan = recipe, weak, bags, plan
        self.minutes = recipe.minutes
        self._watch, self.folder, self.device = bags_of(watch, recipe), run, device
        self.epochs, self.per_epoch = recipe.epochs + recipe.frozen_epochs, plan.per_epoch
        usual = float(np.mean([len(one) for one in bags.members]))
        self.slices, self.size_px = round(usual * plan.per_epoch * plan.batch), recipe.size_px
        self._reader = BagReader(recipe, weak, bags.truth, start).to(device)
        self._averaged = copy.deepcopy(self._reader) if recipe.averaging else self._reader
        self._best = copy.deepcopy(self._reader)
        self._best_loss, self.best_epoch = math.inf, 0
        self._optimizer = bag_optimizer(self._reader, recipe)
        self._arithmetic = arithmetic(recipe.precision, device)
        self._weights = label_weights(recipe.answers, recipe.any_weight).to(device)
        self._restore()

    @property
    def precision(self) -> str:
        """The arithmetic, for people."""
        return self._arithmetic.name

    def batches(self, first: int, last: int) -> Generator[BagBatch, None, None]:
        """Yield series, read ahead by threads; at first slices, each as a series of its own."""
        yield from ahead(lambda some: read_bags(self._bags, some), self._chosen(first, last))

    def _chosen(self, first: int, last: int) -> Iterator[Sequence[Member]]:
        size, steps = self._plan.batch, self.per_epoch
        for epoch in range(first // steps, -(-last // steps)):
            order = self._plan.epoch(epoch)[: steps * size]
            apart: list[list[Member]] = []
            if self.progress_at(epoch * steps) < self._weak.apart:
                rng = np.random.default_rng((self._recipe.seed, _APART, epoch))
                apart = single_members(self._bags, order, rng, steps)
            for step in range(max(first, epoch * steps), min(last, (epoch + 1) * steps)):
                place = step - epoch * steps
                if self.progress_at(step) < self._weak.apart:
                    yield apart[place]
                else:
                    yield whole_members(self._bags, order[place * size :][:size])

    def teach(self, batch: BagBatch, progress: float) -> Tensor:
        """Make one step through all slices of some series."""
        now = pace(self._recipe, progress)
        set_learning(self._reader, self._recipe, self._weak, frozen=now.frozen)
        # The pooling learns as fast as the head.
        keep_pace(self._optimizer, dataclasses.replace(now, rates=(*now.rates, now.rates[-1])))
        loss = self._loss(batch, size_px(self._recipe, progress))
        self._improve(loss)
        if self._recipe.averaging:
            average(self._averaged, self._reader, self._recipe.averaging, self.step)
        return loss.detach()

    def _loss(self, batch: BagBatch, size: int) -> Tensor:
        seed = self._recipe.seed
        chance = generator(self.device, seed, _DISTURB, self.step)
        parts, places = parts_of(batch, self._recipe, size, chance)
        torch.manual_seed(key(seed, _DROPOUT, self.step))
        with self._arithmetic.reduced():
            features = self._reader.embed(parts, places)
        found = self._reader.speak(features.float(), batch.lengths)
        truth = batch.truth.to(self.device, non_blocking=True)
        return mean(*masked_cross_entropy(found, truth, self._weights))

    def _improve(self, loss: Tensor) -> None:
        scaler = self._arithmetic.scaler
        self._optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._recipe.clip:
            scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._reader.parameters(), self._recipe.clip)
        scaler.step(self._optimizer)
        scaler.update()

    def rate(self, progress: float) -> float:
        """Return the learning rate of the head."""
        return pace(self._recipe, progress).rates[-1]

    def look(self) -> Watched:
        """Look at the watched series, and keep the weights where they are the best so far."""
        found = self._figures(self._averaged)
        if math.isnan(found.loss) or found.loss < self._best_loss:
            self._best.load_state_dict(self._averaged.state_dict())
            self._best_loss, self.best_epoch = found.loss, -(-self.step // self.per_epoch)
        return found

    def _figures(self, reader: BagReader) -> Watched:
        return watch_bags(reader, self._watch, self._recipe, self.device, self._arithmetic.dtype)

    def finished(self) -> tuple[SliceNetwork, Watched]:
        """Return the best network, its normalisation measured again, and how it does."""
        network = self._best.network.eval()
        if self._recipe.bn_stats and has_statistics(network):
            with self._arithmetic.reduced():
                reestimate(network, self._measured())
        return network, self._figures(self._best)

    def _measured(self) -> Iterator[Tensor]:
        """Yield undisturbed images of any training series."""
        members = np.concatenate(list(self._bags.members))
        order = np.random.default_rng((self._recipe.seed, _MEASURE)).permutation(members)
        size = min(self._recipe.batch, len(order))
        for first in range(0, len(order) - size + 1, size)[: self._recipe.reestimate_batches]:
            hu = self._bags.slices.stacks(order[first : first + size]).to(self.device)
            yield images_of(hu, self._recipe.preprocess())

    def save(self) -> bool:
        """Write a checkpoint."""
        if not finite(self._reader):
            return False
        content = {name: part.state_dict() for name, part in self._parts().items()}
        content["recipes"] = [self._recipe.to_json(), self._weak.to_json()]
        content["numbers"] = [self._best_loss, self.best_epoch, self.step, self.spent_s]
        written = io.BytesIO()
        torch.save(content, written)
        write_durable(self.folder / CHECKPOINT, written.getvalue())
        return True

    def _parts(self) -> dict[str, Any]:
        return {
            "reader": self._reader,
            "averaged": self._averaged,
            "best": self._best,
            "optimizer": self._optimizer,
            "scaler": self._arithmetic.scaler,
        }

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        content = load_checkpoint(path)
        recipe, weak = content["recipes"]
        if not self._recipe.same_run(read_recipe(recipe)) or weak != self._weak.to_json():
            raise TrainingError(f"{path} is of another recipe; give another folder.")
        for name, part in self._parts().items():
            part.load_state_dict(content[name])
        self._best_loss, self.best_epoch, self.step, self.spent_s = content["numbers"]
        cut_off(self.folder, self.step)
