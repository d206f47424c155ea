"""One step: from a batch to better weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ichnode.nets.architectures import LocalResNet, MaskNetwork, SliceNetwork
from ichnode.nets.local import strongest
from train.errors import TrainingError
from train.learn.averaging import average
from train.learn.batches import Batch
from train.learn.checkpoint import Learning
from train.learn.distributed import Team
from train.learn.drawing import key
from train.learn.groups import freeze, keep_pace, set_modes
from train.learn.losses import (
    dice_loss,
    label_weights,
    mask_loss,
    masked_cross_entropy,
    mean,
    place_loss,
    shares_of,
    whereabouts,
)
from train.learn.recipe import Recipe
from train.learn.schedule import Pace

_DROPOUT = 4  # what the seed is used for, beside those of `batches`
_Sums = tuple[Tensor, Tensor]
_TRIES = 40  # halvings of float16's scale before it is hopeless


class Lesson(nn.Module):
    """A network and what it is taught by; returns sums and counts, see `losses`."""

    weights: Tensor

    def __init__(self, network: SliceNetwork, recipe: Recipe) -> None:
        super().__init__()
        self.network, self._recipe = network, recipe
        self.register_buffer(
            "weights", label_weights(recipe.answers, recipe.any_weight), persistent=False
        )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return totals and counts (part,): of the labels, the places, the masks and their Dice.

        The last three only where the recipe asks for them and the network has them.
        """
        parts: list[_Sums] = []
        if not self._recipe.asks_where:
            logits = self.network(batch.images).float()
        elif isinstance(self.network, MaskNetwork):
            logits, parts = self._drawn(self.network, batch)
        elif isinstance(self.network, LocalResNet):
            places = self.network.evidence(batch.images).float()
            logits, parts = strongest(places), [self._placed(places, batch)]
        else:
            raise TypeError("a network that sees no places was asked where the blood is")
        sums = (masked_cross_entropy(logits, batch.truth, self.weights), *parts)
        totals, counts = zip(*sums, strict=True)
        return torch.stack(totals), torch.stack(counts)

    def _placed(self, places: Tensor, batch: Batch) -> _Sums:
        there = whereabouts(batch.kinds, self._recipe.answers)
        return place_loss(places, there, _located(batch))

    def _drawn(self, network: MaskNetwork, batch: Batch) -> tuple[Tensor, list[_Sums]]:
        seen = network.drawn(batch.images)
        places, masks = seen.evidence.float(), seen.masks.float()
        there = whereabouts(batch.kinds, self._recipe.answers)
        covered = shares_of(there, (masks.shape[-2], masks.shape[-1]))
        located = _located(batch)
        return strongest(places), [
            place_loss(places, there, located),
            mask_loss(masks, covered, located),
            dice_loss(masks, covered, located),
        ]


def _located(batch: Batch) -> Tensor:
    """Return of which answers it is known where they are true: bool, (n, answer).

    A slice whose label is unknown, because its blood hardly shows, has voxels and teaches nothing.
    """
    return batch.masked[:, None] & ~torch.isnan(batch.truth)


class Teacher:
    """Teaches a network step by step, on one process or on one of several.

    Whatever is random within a step (dropout) follows from the seed, the step and the process.
    """

    def __init__(self, learning: Learning, recipe: Recipe, team: Team) -> None:
        self._learning, self._recipe, self._team = learning, recipe, team
        self._lesson: nn.Module | None = None
        self._frozen: bool | None = None

    def teach(self, batch: Batch, now: Pace) -> Tensor:
        """Make one step and return its loss, without waiting for it.

        A step whose float16 gradients overflow is tried again at half the scale, so that every
        batch counts and the schedule is where it says.

        Raises
        ------
        TrainingError
            When no scale helps.
        """
        learning = self._learning
        lesson = self._ready(now)
        keep_pace(learning.optimizer, now)
        for _ in range(_TRIES):
            torch.manual_seed(key(self._recipe.seed, _DROPOUT, learning.step, self._team.rank))
            loss = self._try(lesson, batch)
            if loss is not None:
                if self._recipe.averaging:
                    decay = self._recipe.averaging
                    average(learning.averaged, learning.network, decay, learning.step)
                learning.step += 1
                return loss
        raise TrainingError(
            "The gradients overflow float16 at every scale; use --precision bfloat16 or float32."
        )

    def _ready(self, now: Pace) -> nn.Module:
        """Freeze or thaw where the schedule says so; processes agree on what learns."""
        if self._lesson is None or self._frozen is not now.frozen:
            network = self._learning.network
            freeze(network, self._recipe, frozen=now.frozen)
            set_modes(network, self._recipe, frozen=now.frozen)
            lesson = Lesson(network, self._recipe).to(self._team.device)
            self._lesson, self._frozen = self._team.wrap(lesson), now.frozen
        return self._lesson

    def _try(self, lesson: nn.Module, batch: Batch) -> Tensor | None:
        """Return the loss, or None when the gradients overflowed and nothing was changed."""
        optimizer, scaler = self._learning.optimizer, self._learning.arithmetic.scaler
        optimizer.zero_grad(set_to_none=True)
        with self._learning.arithmetic.reduced():
            totals, counts = lesson(batch)
        loss = self._whole(totals, counts)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._recipe.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._learning.network.parameters(), self._recipe.clip)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        return None if scaler.get_scale() < before else loss.detach()

    def _whole(self, totals: Tensor, counts: Tensor) -> Tensor:
        """Return the loss over the batches of all processes, as far as it is this one's part.

        Gradients are averaged over the processes, so each part is as many times larger.
        """
        recipe = self._recipe
        weights = (1.0, recipe.place_weight, recipe.mask_weight, recipe.dice_weight)
        means = mean(totals, self._team.sum(counts)) * self._team.world
        return (means * means.new_tensor(weights[: len(means)])).sum()
