"""A whole training run: check, plan, teach, keep."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.pretrained import InitialWeights
from train.data.cleaning import clean
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.batches import Feeder, plan
from train.learn.checkpoint import new_learning
from train.learn.course import Course
from train.learn.distributed import team
from train.learn.held import hold
from train.learn.interrupting import stop_request
from train.learn.recipe import Recipe, check
from train.learn.run_folder import SplitKey, begin, describe, kept_result, open_run
from train.learn.watching import watched_part


@dataclasses.dataclass(frozen=True, slots=True)
class Conditions:
    """Where a run is made; none of it decides a step.

    How often it is looked decides which weights of the way can be kept in the end.

    Attributes
    ----------
    device : str
        "auto", "cpu" or "cuda".
    threads : int
        That read the cache ahead.
    save_every_s : float
        Between checkpoints within an epoch; there is one at each look.
    look_every_s : float
        Between looks at the watched slices, at ends of epochs; 0 for one at each of them. Where
        epochs are short, as on a large GPU, looking would take longer than learning.
    hold : bool
        Whether a GPU with room for the cache holds it.
    quiet : bool
        Whether there is no progress bar.
    """

    device: str = "auto"
    threads: int = 2
    save_every_s: float = 120.0
    look_every_s: float = 0.0
    hold: bool = True
    quiet: bool = False


def fit(
    recipe: Recipe,
    train: Slices,
    watch: Slices,
    run: Path,
    *,
    start: SliceNetwork | None = None,
    conditions: Conditions = Conditions(),
    split: SplitKey | None = None,
    origin: InitialWeights | None = None,
) -> SliceNetwork:
    """Train, or go on where an earlier run in that folder stopped, and return the network.

    Of the learner's weights, the averaged ones, and those that looked best on the way, the ones
    with the lowest loss on the watched slices are returned and kept. Ctrl-C and SIGTERM stop after
    the step with a checkpoint; the next command goes on from it, and after a power cut from the
    last one.

    Parameters
    ----------
    train, watch : Slices
        What to learn from, and what to watch the progress on; no patient is in both.
    run : Path
        The run folder, see `run_folder`.
    start : SliceNetwork, optional
        Weights to start from; by default random ones.
    split : SplitKey, optional
        How patients were parted, kept for later steps.
    origin : InitialWeights, optional
        Whose weights `start` has, kept for the bundle.

    Raises
    ------
    TrainingError
        When recipe or data make no sense, the folder holds another run, or the loss is no number.
    KeyboardInterrupt
        After a stop was asked for and the checkpoint is written.
    """
    check(recipe)
    check_parts(recipe, train, watch)
    train, _ = clean(train, recipe.cleaning)
    made = plan(train, recipe)
    with reproducible(recipe), team(conditions.device) as ours, stop_request() as asked:
        if ours.leads:
            data = describe(train, watch, made.negatives_kept)
            begin(run, recipe, data, split=split, start=origin)
        ours.wait()
        if kept_result(run) is None:
            learning = new_learning(recipe, ours, start)
            feeder = Feeder(
                train, made, recipe, ours.device, ours.rank, ours.world, conditions.threads
            )
            if conditions.hold:
                held = hold(train.cache, ours.device, kinds=recipe.asks_where)
                feeder = dataclasses.replace(feeder, held=held)
            course = Course(recipe, run, learning, feeder, ours, watched_part(watch, recipe))
            course.go(
                asked,
                save_every_s=conditions.save_every_s,
                look_every_s=conditions.look_every_s,
                quiet=conditions.quiet,
            )
            course.finish()
        ours.wait()
        return open_run(run).network


def check_parts(recipe: Recipe, train: Slices, watch: Slices) -> None:
    """Refuse slices that do not fit the recipe or each other.

    Raises
    ------
    TrainingError
        With what to change.
    """
    if not len(train) or not len(watch):
        which = "learn from" if not len(train) else "watch"
        raise TrainingError(f"There are no slices to {which}; add patients or change the split.")
    if set(train.table["patient"]) & set(watch.table["patient"]):
        raise TrainingError("A patient is among those to learn from and those to watch.")
    spec, kept = recipe.preprocess(), train.cache.spec
    if spec.size_px > kept.size_px:
        raise TrainingError(f"The cache holds {kept.size_px} px; give --size-px {kept.size_px}.")
    if recipe.like(kept) != recipe:
        raise TrainingError("The recipe and the cache differ in how they cut out the head.")


@contextmanager
def reproducible(recipe: Recipe) -> Iterator[None]:
    """Leave the process's own randomness as it was, and repeat ourselves where asked to.

    Bit by bit only on the same kind of GPU with the same versions, and some 10 to 30 % slower.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
