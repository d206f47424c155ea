"""Train one network: plain loops over slices, the averaged weights kept."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.nn import functional

from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import ResNet, build, strongest
from ichnode.nets.manifest import PreprocessSpec, canonical
from ichnode.nets.preprocess import channels, neighbours, windows
from train.augment import disturb
from train.metrics import auroc
from train.recipe import Recipe
from train.schedule import one_cycle
from train.simulated import Head, Slices, as_slices

log = structlog.get_logger(__name__)
_CHECKPOINT = "checkpoint.pt"
_SAVE_EVERY_S = 60.0
_WATCHED = 20  # tuning heads that are looked at after every epoch
_PLACE_SCALE = 10.0  # few places have blood, so the mean over all of them is small


@dataclass(slots=True)
class Run:
    """A training run in progress; what a checkpoint holds."""

    learner: ResNet
    averaged: ResNet  # the exponentially averaged weights and statistics
    optimizer: torch.optim.Optimizer
    chance: torch.Generator
    step: int = 0
    spent_s: float = 0.0


def fit(recipe: Recipe, train: Sequence[Head], tune: Sequence[Head], out: Path) -> ResNet:
    """Train, or go on where an earlier run stopped, and return the averaged network.

    Parameters
    ----------
    recipe : Recipe
        How.
    train, tune : sequence of Head
        What to learn from, and what to watch the progress on.
    out : Path
        Where the checkpoint is kept.
    """
    spec = recipe.preprocess()
    out.mkdir(parents=True, exist_ok=True)
    run = _resume(recipe, spec, out)
    slices = as_slices(train, spec)
    per_epoch = 2 * int(slices.labels[:, 0].sum()) // recipe.batch
    if per_epoch == 0:
        raise ValueError("there are too few slices with blood for a single batch")
    total = recipe.epochs * per_epoch
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with bar:
        shown = bar.add_task("Training", total=1.0)
        while (progress := _progress(recipe, run, total)) < 1:
            loss = train_one_epoch(run, recipe, slices, total, out)
            save(run, recipe, out)
            area = evaluate(run.averaged, tune, spec)
            done = _progress(recipe, run, total)
            bar.update(shown, completed=done, description=f"loss {loss:.3f} AUROC {area:.3f}")
            log.info("epoch.trained", count=run.step, detail=f"{loss:.4f} {area:.4f}")
            if done <= progress:
                break
    return _trained(run)


def train_one_epoch(run: Run, recipe: Recipe, slices: Slices, total: int, out: Path) -> float:
    """Go once over all slices with blood and as many without; return the mean loss."""
    run.learner.train()
    losses = []
    began = saved = time.monotonic()
    before_s = run.spent_s
    for ready in _ahead(run, recipe, slices, total):
        progress = _progress(recipe, run, total)
        for group in run.optimizer.param_groups:
            group["lr"] = recipe.peak_rate * one_cycle(progress)
        losses.append(_step(run, recipe, ready))
        run.step += 1
        run.spent_s = before_s + time.monotonic() - began
        if _progress(recipe, run, total) >= 1:
            break
        if time.monotonic() - saved > _SAVE_EVERY_S:
            save(run, recipe, out)
            saved = time.monotonic()
    return float(np.mean(losses))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    images: Tensor  # (n, channel, y, x)
    kinds: Tensor  # (n, y, x)
    truth: Tensor  # (n, label)


def _ahead(run: Run, recipe: Recipe, slices: Slices, total: int) -> Iterator[Batch]:
    """Yield the batches of an epoch, each made by a second thread while the last one is used."""

    def make(chosen: npt.NDArray[np.int64]) -> Batch:
        small = _progress(recipe, run, total) < recipe.small_part
        return _batch(run, recipe, slices, chosen, recipe.small_px if small else recipe.size_px)

    with ThreadPoolExecutor(1) as helper:
        coming: Future[Batch] | None = None
        for chosen in _batches(slices, recipe, run.step):
            ready, coming = coming, helper.submit(make, chosen)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def _batch(
    run: Run, recipe: Recipe, slices: Slices, chosen: npt.NDArray[np.int64], size_px: int
) -> Batch:
    hu, kinds = disturb(slices.stacks(chosen), slices.masks(chosen), run.chance)
    if size_px < hu.shape[-1]:
        hu = functional.interpolate(hu, size=(size_px, size_px), mode="bilinear", antialias=True)
    images = as_channels(hu, recipe.preprocess())
    return Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        kinds=kinds,
        truth=torch.from_numpy(slices.labels[chosen]),
    )


def _step(run: Run, recipe: Recipe, batch: Batch) -> float:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        places = run.learner.evidence(batch.images)
    loss = _loss(places.float(), batch.truth, batch.kinds, recipe)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.learner.parameters(), 1.0)
    run.optimizer.step()
    average(run.averaged, run.learner, recipe.averaging, run.step)
    return float(loss.detach())


def as_channels(hu: Tensor, spec: PreprocessSpec) -> Tensor:
    """Window a batch (n, slice, y, x) in HU as `ichnode.nets.preprocess.channels` does."""
    count, slices = hu.shape[:2]
    shown = windows(hu.flatten(0, 1), spec)
    return shown.reshape(count, slices * shown.shape[1], *shown.shape[2:])


@torch.no_grad()
def average(averaged: nn.Module, learner: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and statistics a little towards the learner's.

    The first steps count more, so that the random start is soon forgotten.
    """
    decay = min(decay, (1 + step) / (10 + step))
    current = learner.state_dict()
    for name, kept in averaged.state_dict().items():
        if kept.is_floating_point():
            kept.lerp_(current[name], 1 - decay)
        else:
            kept.copy_(current[name])


def _loss(places: Tensor, truth: Tensor, kinds: Tensor, recipe: Recipe) -> Tensor:
    weights = torch.ones(len(LABELS))
    weights[0] = recipe.any_weight
    named = functional.binary_cross_entropy_with_logits(strongest(places), truth, weight=weights)
    there = torch.stack([kinds > 0, *(kinds == kind for kind in range(1, len(LABELS)))], dim=1)
    coarse = functional.adaptive_max_pool2d(there.float(), places.shape[-2:])
    placed = functional.binary_cross_entropy_with_logits(places, coarse)
    return named + recipe.place_weight * _PLACE_SCALE * placed


def evaluate(network: ResNet, heads: Sequence[Head], spec: PreprocessSpec) -> float:
    """Return the AUROC of "any" over the slices of some heads: how the run is going."""
    heads = heads[:_WATCHED]
    scores = [logits[:, 0] for logits in predict(network, heads, spec, reduced=True)]
    truth = [head.labels[:, 0] for head in heads]
    return auroc(np.concatenate(scores), np.concatenate(truth))


def predict(
    network: ResNet, heads: Sequence[Head], spec: PreprocessSpec, *, reduced: bool = False
) -> list[npt.NDArray[np.float64]]:
    """Return the logits (slice, label) of each head, at full precision unless told otherwise."""
    network.eval()
    results = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        for head in heads:
            images = channels(
                torch.from_numpy(np.array(head.hu)), neighbours(head.positions_mm, spec), spec
            )
            ready = images.contiguous(memory_format=torch.channels_last)
            results.append(network(ready).double().numpy())
    return results


def save(run: Run, recipe: Recipe, out: Path) -> None:
    """Keep the run so that it can go on after an interruption."""
    aside = out / f".{_CHECKPOINT}.part"
    content = {
        "recipe": canonical(recipe),
        "learner": run.learner.state_dict(),
        "averaged": run.averaged.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "chance": run.chance.get_state(),
        "step": run.step,
        "spent_s": run.spent_s,
    }
    torch.save(content, aside)
    aside.replace(out / _CHECKPOINT)


def load_trained(recipe: Recipe, out: Path) -> ResNet:
    """Return the averaged network of an earlier run.

    Raises
    ------
    FileNotFoundError
        When there was none.
    """
    if not (out / _CHECKPOINT).exists():
        raise FileNotFoundError(f"There is no checkpoint in {out}; run `python -m train fit`.")
    return _trained(_resume(recipe, recipe.preprocess(), out))


def kept_recipe(out: Path) -> Recipe:
    """Return the recipe of an earlier run."""
    content = torch.load(out / _CHECKPOINT, weights_only=True)
    return Recipe(**json.loads(content["recipe"]))


def _trained(run: Run) -> ResNet:
    return run.averaged.eval()


def _resume(recipe: Recipe, spec: PreprocessSpec, out: Path) -> Run:
    torch.manual_seed(recipe.seed)
    learner = build(recipe.architecture, spec.channels, len(LABELS))
    learner = learner.to(memory_format=torch.channels_last)
    matrices = [p for p in learner.parameters() if p.ndim > 1]
    vectors = [p for p in learner.parameters() if p.ndim <= 1]
    run = Run(
        learner=learner,
        averaged=copy.deepcopy(learner),
        optimizer=torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.peak_rate,
        ),
        chance=torch.Generator().manual_seed(recipe.seed),
    )
    if (out / _CHECKPOINT).exists():
        _restore(run, recipe, out / _CHECKPOINT)
    return run


def _restore(run: Run, recipe: Recipe, checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    kept = Recipe(**json.loads(content["recipe"]))
    # A run may be given more time, and be measured on more; anything else makes it another run.
    free = ("minutes", "epochs", "tune_heads", "holdout_heads")
    if dataclasses.replace(kept, **{name: getattr(recipe, name) for name in free}) != recipe:
        raise ValueError(f"{checkpoint.parent} holds a run of another recipe; choose another")
    run.learner.load_state_dict(content["learner"])
    run.averaged.load_state_dict(content["averaged"])
    run.optimizer.load_state_dict(content["optimizer"])
    run.chance.set_state(content["chance"])
    run.step, run.spent_s = content["step"], content["spent_s"]


def _progress(recipe: Recipe, run: Run, total: int) -> float:
    spent = run.spent_s / (60 * recipe.minutes) if recipe.minutes else 0.0
    return max(run.step / max(total, 1), spent)


def _batches(slices: Slices, recipe: Recipe, step: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield all slices with blood and as many without, shuffled, in batches."""
    rng = np.random.default_rng((recipe.seed, step))
    positive = np.flatnonzero(slices.labels[:, 0])
    negative = np.flatnonzero(slices.labels[:, 0] == 0)
    drawn = rng.choice(negative, min(len(positive), len(negative)), replace=False)
    order = rng.permutation(np.concatenate([positive, drawn]))
    for first in range(0, len(order) - recipe.batch + 1, recipe.batch):
        yield order[first : first + recipe.batch]
