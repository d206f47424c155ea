"""What each process of `test_train_learn_processes` runs: an epoch, by itself or with another.

``python -m tests.learning_together FOLDER`` writes its weights there, under its rank. Started by
torchrun it learns with the others.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from tests.learning_kit import TINY, square_slices
from train.learn.batches import Feeder, plan
from train.learn.checkpoint import new_learning
from train.learn.distributed import team
from train.learn.lesson import Teacher
from train.learn.schedule import pace
from train.learn.watching import look

RECIPE = dataclasses.replace(TINY, bn_stats=False, augment="none", batch=6)
"""Nothing that depends on who draws it: no disturbance, no statistics of a batch."""


def main(folder: Path) -> None:
    """Learn for an epoch and write the weights and what was watched."""
    torch.set_num_threads(1)
    slices = square_slices(range(8))
    labels = slices.labels.copy()
    labels[::5] = np.nan  # one process may know more of its part than the other
    labels[:, 0] = slices.labels[:, 0]
    slices = dataclasses.replace(slices, labels=labels)
    with team("cpu") as ours:
        learning = new_learning(RECIPE, ours, None)
        for module in learning.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        feeder = Feeder(slices, plan(slices, RECIPE), RECIPE, ours.device, ours.rank, ours.world)
        teacher, steps = Teacher(learning, RECIPE, ours), feeder.plan.per_epoch
        for step, batch in enumerate(feeder.batches(0, steps)):
            teacher.teach(batch, pace(RECIPE, step / steps))
        seen = look(learning.network, slices, RECIPE, ours)
        state = {name: t.contiguous() for name, t in learning.network.state_dict().items()}
        state["watched"] = torch.tensor(dataclasses.astuple(seen), dtype=torch.float64)
        save_file(state, folder / f"{ours.rank}-of-{ours.world}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
