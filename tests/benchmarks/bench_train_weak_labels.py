"""What labels of whole series teach, and what the sequence stage adds, on simulated heads.

Run it as ``python tests/benchmarks/bench_train_weak_labels.py --work FOLDER``; what is in that
folder is not made again. Heads are simulated and kept at 64 px; a network learns from labels of
series alone, a second one from labels of slices, and a sequence stage on the features of the
second. All are measured on heads that nothing has learnt from. The figures are of simulated heads
and say nothing about patients.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from ichnode.nets.manifest import PreprocessSpec
from train.context.joining import rule_of
from train.context.recipe import ContextRecipe
from train.context.stage import add_context
from train.context.weak import fit_weak
from train.context.weak_recipe import WeakRecipe
from train.data.cache import Cache, build_cache
from train.data.sources.simulated import Simulated
from train.data.views import Slices, all_slices
from train.judge.metrics import auroc, hanley_mcneil
from train.learn.loop import Conditions, fit
from train.learn.recipe import PRESETS, Recipe
from train.learn.run_folder import open_run
from train.measuring import predict_run
from train.predictions import Predictions

FIRST_HOLDOUT = 100_000
CPU = Conditions(device="cpu", quiet=True)


def main() -> None:
    """Simulate, learn, measure."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--work", type=Path, required=True)
    asked.add_argument("--heads", type=int, default=440, help="of which a tenth selects")
    asked.add_argument("--unseen", type=int, default=160)
    asked.add_argument("--epochs", type=int, default=PRESETS["weak"].epochs)
    asked.add_argument("--poolings", default="log_sum_exp")
    asked.add_argument("--threads", type=int, default=2)
    how = asked.parse_args()
    torch.set_num_threads(how.threads)
    learnt, unseen = _caches(how.work, how.heads, how.unseen)
    train, selection = _parted(learnt)
    print(f"simulated heads: {how.heads} to learn from, {how.unseen} unseen; 64 px, CPU")
    for pooling in how.poolings.split(","):
        began = time.monotonic()
        run = how.work / f"weak-{pooling}-{how.epochs}"
        recipe = _recipe("weak", learnt, epochs=how.epochs)
        weak = WeakRecipe(pooling=pooling)
        fit_weak(recipe, weak, _unlabelled(train), _unlabelled(selection), run, device="cpu")
        _tell(f"labels of series, {pooling}", run, unseen, time.monotonic() - began)
    began = time.monotonic()
    run = how.work / "slices"
    fit(_recipe("recipe", learnt, averaging=0.99), train, selection, run, conditions=CPU)
    _tell("labels of slices", run, unseen, time.monotonic() - began)
    began = time.monotonic()
    joined = how.work / "joined"
    made = add_context(
        open_run(run), train, selection, joined, ContextRecipe(), kept=how.work / "features"
    )
    print(f"  shares of the sequence stage: {dataclasses.asdict(made.blend)}")
    _tell("with the sequence stage", joined, unseen, time.monotonic() - began)


def _caches(work: Path, heads: int, unseen: int) -> tuple[Cache, Slices]:
    spec = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0),))
    learnt = build_cache(work / "cache", Simulated(range(heads), size_px=128), spec)
    seeds = range(FIRST_HOLDOUT, FIRST_HOLDOUT + unseen)
    measured = build_cache(work / "unseen", Simulated(seeds, size_px=128), spec)
    return learnt, all_slices(measured, 1)


def _parted(cache: Cache) -> tuple[Slices, Slices]:
    slices = all_slices(cache, 1)
    patients = list(dict.fromkeys(slices.table["patient"]))
    tenth = set(patients[::10])
    return slices.of_patients(set(patients) - tenth), slices.of_patients(tenth)


def _unlabelled(slices: Slices) -> Slices:
    """Forget what is known of slices."""
    return dataclasses.replace(slices, labels=np.full_like(slices.labels, np.nan))


def _recipe(preset: str, cache: Cache, **changed: object) -> Recipe:
    recipe = dataclasses.replace(PRESETS[preset], size_px=64, **changed)  # type: ignore[arg-type]
    return recipe.like(cache.spec)


def _tell(name: str, run: Path, unseen: Slices, seconds: float) -> None:
    rule = rule_of(run)
    said = predict_run(open_run(run), unseen, rule=rule)  # type: ignore[arg-type]
    print(f"{name} ({seconds:.0f} s, rule {rule}): {_any(said)}", flush=True)


def _any(said: Predictions) -> str:
    """Return AUROC of "any" for series and slices, with a standard error for the series."""
    truth = said.series_truth[:, 0]
    positives = int((truth == 1).sum())
    series = auroc(said.series_logits[:, 0], truth)
    error = hanley_mcneil(series, positives, len(truth) - positives)
    slices = auroc(said.slice_logits[:, 0], said.slice_truth[:, 0])
    return f"series AUROC {series:.3f} (SE {error:.3f}, n {len(truth)}), slice AUROC {slices:.3f}"


if __name__ == "__main__":
    main()
