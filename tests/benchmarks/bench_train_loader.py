"""Training images a second from the cache, beside the same network fed from memory.

Run it as ``python tests/benchmarks/bench_train_loader.py``; ``--size-px 256``, ``--architecture``
choose another step, ``--device cpu`` or ``cuda`` the device. The images are noise: what is in them
does not matter here. The lines are measured in turns, several times over, so that a machine that is
busy with other things slows all of them; the medians are shown. What training does should reach
0.90 of the network fed with ready images from memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[2]))

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from train.data.cache import build_cache
from train.data.records import UNKNOWN, Licence, SourceSeries
from train.data.views import Slices, all_slices
from train.learn.batches import Batch, Feeder, Raw, plan
from train.learn.checkpoint import new_learning
from train.learn.distributed import Team
from train.learn.lesson import Teacher
from train.learn.precision import choose_device
from train.learn.recipe import Recipe
from train.learn.schedule import pace

SLICES = 32
WORKERS = 2


@dataclass(frozen=True)
class Noise:
    """Series of noise at the size of the cache."""

    count: int
    side: int
    name: str = "noise"

    @property
    def licence(self) -> Licence:
        return Licence("none", non_commercial=False)

    def jobs(self) -> list[str]:
        return [str(number) for number in range(self.count)]

    def read(self, job: str) -> SourceSeries:
        rng = np.random.default_rng(int(job))
        labels = (rng.random((SLICES, len(LABELS))) < 0.5).astype(np.float32)
        mm = 240 / self.side
        return SourceSeries(
            dataset=self.name,
            patient=job,
            study=job,
            series=job,
            hu=rng.integers(0, 80, (SLICES, self.side, self.side), np.int16),
            spacing_mm=(5.0, mm, mm),
            positions_mm=5.0 * np.arange(SLICES, dtype=np.float64),
            slice_keys=tuple(str(index) for index in range(SLICES)),
            slice_labels=labels,
            series_labels=np.full(len(LABELS), UNKNOWN),
        )


class Batches(Dataset):  # type: ignore[type-arg]
    """Raw batches by step, for torch's own loader."""

    def __init__(self, feeder: Feeder, steps: int) -> None:
        self._chosen = list(itertools.islice(feeder._chosen(0, steps), steps))
        self._feeder = dataclasses.replace(feeder, device=torch.device("cpu"))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Raw:
        return self._feeder._read(self._chosen[index])


def fed_by_workers(feeder: Feeder, steps: int) -> Iterator[Batch]:
    """As `Feeder.batches`, but read by processes."""
    pins = feeder.device.type == "cuda"
    loader = DataLoader(
        Batches(feeder, steps),
        batch_size=None,
        num_workers=WORKERS,
        prefetch_factor=2,
        persistent_workers=True,
        collate_fn=lambda raw: raw,
    )
    for step, raw in enumerate(loader):
        yield feeder._make(raw.pinned() if pins else raw, step, feeder.recipe.size_px)


def lines(feeder: Feeder, steps: int) -> dict[str, Callable[[], Iterator[Batch]]]:
    """The ways to feed the network, the yardstick first."""
    ready = next(iter(feeder.batches(0, 1)))
    raw = feeder._read(next(feeder._chosen(0, 1))).to(feeder.device)
    size_px = feeder.recipe.size_px
    bare = dataclasses.replace(feeder, recipe=dataclasses.replace(feeder.recipe, augment="none"))
    return {
        "ready images in memory": lambda: itertools.repeat(ready),
        "HU in memory, windowed": lambda: (bare._make(raw, s, size_px) for s in range(steps)),
        "HU in memory, disturbed": lambda: (feeder._make(raw, s, size_px) for s in range(steps)),
        "from the cache, not disturbed": lambda: bare.batches(0, steps),
        "from the cache (what training does)": lambda: feeder.batches(0, steps),
        f"the same, read by {WORKERS} processes": lambda: fed_by_workers(feeder, steps),
    }


def measure(
    feeds: dict[str, Callable[[], Iterator[Batch]]],
    teach: Callable[[Batch], object],
    device: torch.device,
    rounds: int,
    steps: int,
) -> dict[str, list[float]]:
    """Seconds a step of each way, round by round in turns."""
    running = {name: feed() for name, feed in feeds.items()}
    times: dict[str, list[float]] = {name: [] for name in feeds}
    for turn in range(rounds + 1):
        for name, batches in running.items():
            began = time.perf_counter()
            for _ in range(steps):
                teach(next(batches))
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first round warms up
                times[name].append((time.perf_counter() - began) / steps)
    return times


def slices_of_noise(folder: Path, side: int, steps: int, batch: int) -> Slices:
    series = max(2, min(64, -(-steps * batch // SLICES)))
    spec = PreprocessSpec(size_px=side, windows_hu=((0.0, 80.0),), crop="middle", slab_below_mm=0.0)
    return all_slices(build_cache(folder, Noise(series, side), spec, workers=2), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--augment", default="recipe")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="a round")
    asked = parser.parse_args()
    device = choose_device(asked.device)
    recipe = Recipe(
        architecture=asked.architecture,
        size_px=asked.size_px,
        batch=asked.batch,
        augment=asked.augment,
        cleaning="none",
        crop="middle",
        slab_below_mm=0.0,
    )
    steps = (asked.rounds + 2) * asked.steps
    with tempfile.TemporaryDirectory() as folder:
        slices = slices_of_noise(Path(folder), asked.size_px, steps, asked.batch)
        team = Team(0, 1, device)
        learning = new_learning(recipe, team, None)
        feeder = Feeder(slices, plan(slices, recipe), recipe, device)
        teacher, now = Teacher(learning, recipe, team), pace(recipe, 0.1)
        feeds = lines(feeder, steps)
        times = measure(feeds, lambda b: teacher.teach(b, now), device, asked.rounds, asked.steps)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(
        f"{asked.architecture}, {asked.size_px} px, batch {asked.batch}, {where}, "
        f"{learning.arithmetic.name}, {torch.get_num_threads()} threads"
    )
    yardstick = statistics.median(times["ready images in memory"])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        rate = asked.batch / middle
        print(f"  {name:<40} {rate:9.1f} images/s   {yardstick / middle:5.2f}")


if __name__ == "__main__":
    main()
