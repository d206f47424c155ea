"""Simulated heads for training, made on all cores and kept on disk as the network will see them.

What is kept is the stack of `ichnode.nets.preprocess.standardise`: the same code as in serving, so
that whatever the network learns from is what it will be shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from ichnode.nets.manifest import PreprocessSpec, canonical
from ichnode.nets.preprocess import cut, head_box, neighbours, standardise
from ichnode.phantom import simulate_head
from ichnode.phantom.studies import HOLDOUT_SEEDS, TRAINING_SEEDS

_SIZES_PX = (256, 256, 256, 512)  # in turn by seed: coarser ones are quicker to make
_SPEC_FILE = "preprocess.json"


@dataclass(frozen=True, slots=True)
class Splits:
    """Which seeds are for what; no seed is for two things."""

    train: range
    tune: range  # stops the training and chooses temperature and thresholds
    holdout: range  # looked at once, at the end


def splits(train: int, tune: int, holdout: int) -> Splits:
    """Return the seeds: training from the start of its range, tuning from the end of it."""
    if train + tune > len(TRAINING_SEEDS) or holdout > len(HOLDOUT_SEEDS):
        raise ValueError("there are not so many seeds")
    return Splits(
        train=TRAINING_SEEDS[:train],
        tune=TRAINING_SEEDS[len(TRAINING_SEEDS) - tune :],
        holdout=HOLDOUT_SEEDS[:holdout],
    )


@dataclass(frozen=True, slots=True)
class Head:
    """One head as the network sees it, memory-mapped.

    Attributes
    ----------
    hu : ndarray, int16, (slab, y, x)
    kinds : ndarray, uint8, (slab, y, x)
        0, or the index of a label where that kind of blood is visible.
    labels : ndarray, bool, (slab, label)
    """

    seed: int
    hu: npt.NDArray[np.int16] = field(repr=False)
    kinds: npt.NDArray[np.uint8] = field(repr=False)
    labels: npt.NDArray[np.bool_] = field(repr=False)
    positions_mm: tuple[float, ...] = field(repr=False)


def make_heads(folder: Path, seeds: Iterable[int], spec: PreprocessSpec, workers: int = 0) -> None:
    """Simulate the heads that the folder does not hold yet.

    Raises
    ------
    ValueError
        When the folder was made with another `PreprocessSpec`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _keep_spec(folder, spec)
    missing = [seed for seed in seeds if not _truth_file(folder, seed).exists()]
    if not missing:
        return
    count = workers or os.cpu_count()
    with ProcessPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        made = [pool.submit(make_head, folder, seed, spec) for seed in missing]
        for done in track(as_completed(made), "Simulating heads", total=len(made)):
            done.result()


def make_head(folder: Path, seed: int, spec: PreprocessSpec, size_px: int | None = None) -> None:
    """Simulate one head and keep it; the file of truths comes last and says that all is there.

    Parameters
    ----------
    size_px : int, optional
        Rows and columns of the simulated scan; by default taken in turn by the seed.
    """
    head = simulate_head(seed, size_px=size_px or _SIZES_PX[seed % len(_SIZES_PX)])
    positions_mm = [head.spacing_mm[0] * index for index in range(len(head.hu))]
    hu = torch.from_numpy(head.hu)
    stack = standardise(hu, head.spacing_mm, positions_mm, spec)
    if len(stack.slabs) != len(head.hu):
        raise ValueError("training heads have slices of full thickness")
    part = cut(torch.from_numpy(head.mask), head_box(hu, head.spacing_mm, spec), 0)
    kinds = torch.nn.functional.interpolate(part[:, None].float(), size=stack.hu.shape[1:])[:, 0]
    np.save(folder / f"{seed}-hu.npy", stack.hu.numpy())
    np.save(folder / f"{seed}-kinds.npy", kinds.to(torch.uint8).numpy())
    aside = folder / f".{seed}-truth.npz"
    np.savez(aside, labels=head.labels, positions_mm=np.asarray(stack.positions_mm))
    aside.replace(_truth_file(folder, seed))


def open_heads(folder: Path, seeds: Sequence[int]) -> list[Head]:
    """Open heads that were made before, in the order of the seeds."""
    heads = []
    for seed in seeds:
        with np.load(_truth_file(folder, seed)) as truth:
            labels, positions_mm = truth["labels"], truth["positions_mm"]
        heads.append(
            Head(
                seed=seed,
                hu=np.load(folder / f"{seed}-hu.npy", mmap_mode="r"),
                kinds=np.load(folder / f"{seed}-kinds.npy", mmap_mode="r"),
                labels=labels,
                positions_mm=tuple(positions_mm.tolist()),
            )
        )
    return heads


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of many heads, ready to be drawn from.

    Attributes
    ----------
    around : ndarray, int64, (n, channel slices)
        For each slice the places of its neighbours and itself in the long list of all slices.
    """

    hu: list[npt.NDArray[np.int16]] = field(repr=False)
    kinds: list[npt.NDArray[np.uint8]] = field(repr=False)
    labels: npt.NDArray[np.float32] = field(repr=False)
    around: npt.NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def stacks(self, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the chosen slices with their neighbours: int16, (n, channel slices, y, x)."""
        planes = [np.stack([self.hu[place] for place in self.around[one]]) for one in chosen]
        return torch.from_numpy(np.stack(planes))

    def masks(self, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return where there is blood of which kind: uint8, (n, y, x)."""
        return torch.from_numpy(np.stack([self.kinds[one] for one in chosen]))


def as_slices(heads: Sequence[Head], spec: PreprocessSpec) -> Slices:
    """Line up the slices of many heads."""
    around, first = [], 0
    for head in heads:
        around.append(neighbours(head.positions_mm, spec).numpy() + first)
        first += len(head.hu)
    return Slices(
        hu=[plane for head in heads for plane in head.hu],
        kinds=[plane for head in heads for plane in head.kinds],
        labels=np.concatenate([head.labels for head in heads]).astype(np.float32),
        around=np.concatenate(around),
    )


def _truth_file(folder: Path, seed: int) -> Path:
    return folder / f"{seed}-truth.npz"


def _keep_spec(folder: Path, spec: PreprocessSpec) -> None:
    kept = folder / _SPEC_FILE
    if kept.exists() and json.loads(kept.read_text()) != json.loads(canonical(spec)):
        raise ValueError(f"{folder} holds heads of another preprocessing; choose another folder")
    kept.write_text(canonical(spec))
