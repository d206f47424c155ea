"""What each process of `test_train_learn_processes` runs: an epoch, by itself or with another.

``python -m tests.learning_together FOLDER RECIPE`` writes its weights there, under its rank.
Started by torchrun it learns with the others. With the recipe ``late`` it makes a whole run, and
all but the first process begin it some seconds later than that.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from tests.learning_kit import TINY, parts, square_slices
from train.data.views import Slices
from train.learn.batches import Feeder, plan
from train.learn.checkpoint import new_learning
from train.learn.distributed import team
from train.learn.lesson import Teacher
from train.learn.loop import Conditions, fit
from train.learn.recipe import Recipe
from train.learn.schedule import pace
from train.learn.watching import look

PLAIN = dataclasses.replace(TINY, bn_stats=False, augment="none", batch=6)
RECIPES = {
    "plain": PLAIN,
    "masks": dataclasses.replace(PLAIN, architecture="compact_mask", place_weight=1.0),
}
"""Nothing that depends on who draws it: no disturbance, no statistics of a batch."""


def main(folder: Path, recipe: Recipe) -> None:
    """Learn for an epoch and write the weights and what was watched."""
    torch.set_num_threads(1)
    slices = square_slices(range(8))
    labels = slices.labels.copy()
    labels[::5] = np.nan  # one process may know more of its part than the other
    labels[:, 0] = slices.labels[:, 0]
    masked = np.arange(len(slices)) % 4 != 0  # and where the blood is
    slices = dataclasses.replace(slices, labels=labels, masked=masked)
    with team("cpu") as ours:
        learning = new_learning(recipe, ours, None)
        for module in learning.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(module, nn.BatchNorm2d):  # also where it is no part of the body
                module.eval().train = lambda _mode=True, still=module: still
        feeder = Feeder(slices, plan(slices, recipe), recipe, ours.device, ours.rank, ours.world)
        teacher, steps = Teacher(learning, recipe, ours), feeder.plan.per_epoch
        for step, batch in enumerate(feeder.batches(0, steps)):
            teacher.teach(batch, pace(recipe, step / steps))
        seen = look(learning.network, slices, recipe, ours)
        state = {name: t.contiguous() for name, t in learning.network.state_dict().items()}
        state["watched"] = torch.tensor(dataclasses.astuple(seen), dtype=torch.float64)
        save_file(state, folder / f"{ours.rank}-of-{ours.world}.safetensors")


class Late(Slices):
    """Slices that take their time, in all processes but the first."""

    __slots__ = ()

    def where(self, kept: npt.NDArray[np.bool_]) -> Slices:
        """Come late."""
        if os.environ["RANK"] != "0":
            threading.Event().wait(4.0)
        return super().where(kept)


def whole_run(folder: Path) -> None:
    """Make a run of short epochs in which it is looked every three seconds."""
    torch.set_num_threads(1)
    train, watch = parts()
    late = Late(**{name: getattr(watch, name) for name in Slices.__slots__})
    recipe = dataclasses.replace(TINY, epochs=12)
    conditions = Conditions("cpu", look_every_s=3.0, save_every_s=3.0, quiet=True)
    fit(recipe, train, late, folder / "run", conditions=conditions)


if __name__ == "__main__":
    if sys.argv[2] == "late":
        whole_run(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]), RECIPES[sys.argv[2]])
