"""Does the pipeline learn? ResNet-18 at 64 px on simulated heads, and what it is worth on others.

Run it as ``python tests/benchmarks/bench_train_learns.py``. It simulates heads to learn from and
others to measure on (holdout seeds, which nothing learns from), trains for less than three minutes
on the cores at hand, and prints the slice AUROC of any haemorrhage, which should be above 0.95.
**Simulated data**: the figure says that the pipeline learns, and nothing about patients. The heads
to measure on begin far into the holdout seeds, where nothing was looked at while the recipe was
chosen; that was done on the last of the training seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from ichnode.domain.findings import LABELS
from ichnode.phantom.studies import HOLDOUT_SEEDS, TRAINING_SEEDS
from train.data.cache import build_cache
from train.data.sources.simulated import Simulated
from train.data.views import Slices, all_slices
from train.judge.bootstrap import Draws, auroc_interval
from train.judge.metrics import auroc
from train.learn.loop import Conditions, fit
from train.learn.predicting import predict
from train.learn.recipe import Recipe
from train.learn.run_folder import open_run

SIZE_PX, SIMULATED_PX = 64, 96
FIRST_OTHER = 60_000  # into the holdout seeds
RECIPE = Recipe(
    architecture="resnet18_local",
    size_px=SIZE_PX,
    first_sizes=((48, 0.6),),
    sampling="balanced",
    cleaning="none",
    augment="none",
    epochs=3,
    minutes=2.8,
    batch=32,
    peak_rate=2e-3,
    place_weight=1.0,
    averaging=0.99,
    reestimate_batches=0,
)


def simulated(folder: Path, seeds: range) -> Slices:
    source = Simulated(seeds, size_px=SIMULATED_PX)
    return all_slices(build_cache(folder, source, RECIPE.preprocess()), RECIPE.context_slices)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--heads", type=int, default=2400, help="simulated heads to learn from")
    parser.add_argument("--others", type=int, default=200, help="simulated heads to measure on")
    parser.add_argument("--minutes", type=float, default=RECIPE.minutes)
    parser.add_argument("--work", type=Path, help="keep what was simulated here")
    asked = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as temporary:
        _measure(asked.work or Path(temporary), Path(temporary), asked)


def _measure(work: Path, temporary: Path, asked: argparse.Namespace) -> None:
    began = time.monotonic()
    train = simulated(work / "train", TRAINING_SEEDS[: asked.heads])
    watched = simulated(work / "watched", TRAINING_SEEDS[-20:])
    others = simulated(work / "others", HOLDOUT_SEEDS[FIRST_OTHER : FIRST_OTHER + asked.others])
    print(f"Simulated {asked.heads + asked.others} heads in {time.monotonic() - began:.0f} s.")
    recipe = dataclasses.replace(RECIPE, minutes=asked.minutes)
    began = time.monotonic()
    fit(recipe, train, watched, temporary / "run", conditions=Conditions(quiet=True))
    seconds = time.monotonic() - began
    run = open_run(temporary / "run")
    found = predict(run.network, others, run.spec)
    sample = Draws.of(found)
    print(
        f"Trained {recipe.architecture} at {SIZE_PX} px for {seconds:.0f} s, "
        f"{run.result['steps']} steps."
    )
    print(f"On {asked.others} other simulated heads, slice AUROC (95 %, patients drawn):")
    for index, label in enumerate(LABELS):
        area = auroc_interval(
            sample.counts,
            sample.slice_owner,
            found.slice_logits[:, index],
            found.slice_truth[:, index],
        )
        print(f"  {label:17} {area.value:.4f} ({area.low:.4f} to {area.high:.4f})")
    whole = auroc(found.series_logits[:, 0], found.series_truth[:, 0])
    print(f"  any, by series    {whole:.4f}")


if __name__ == "__main__":
    main()
