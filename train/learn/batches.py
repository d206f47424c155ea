"""Which slices a step learns from, and how they come to the device in time.

What is drawn follows from the recipe's seed and the step alone: a run that is resumed sees what it
would have seen. Threads read the memory-mapped cache ahead; they are enough, since reading is
copying without Python's lock, and nothing has to be sent between processes. A GPU with room for the
whole cache holds it instead (`held`). Resizing, disturbing and windowing happen on the device, on a
GPU beside the step before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ichnode.domain.findings import LABELS
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.ahead import ahead
from train.learn.augment import PRESETS, disturb, drop_windows
from train.learn.drawing import generator
from train.learn.held import Held
from train.learn.predicting import images_of, reduce
from train.learn.recipe import Recipe

Places = npt.NDArray[np.int64]
_ORDER, _DISTURB, _MEASURE = 1, 2, 3  # what a seed is used for
_NO_KINDS = torch.empty(0, dtype=torch.uint8)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which slices the epochs of a run are made of.

    Attributes
    ----------
    always : ndarray, int64
        Slices of every epoch.
    sometimes : ndarray, int64
        Slices of which each epoch draws `drawn`, anew.
    """

    always: Places = field(repr=False)
    sometimes: Places = field(repr=False)
    drawn: int
    batch: int
    seed: int

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; a rest that fills no batch is left to the next epoch's order."""
        return (len(self.always) + self.drawn) // self.batch

    @property
    def negatives_kept(self) -> float:
        """Share of the negatives that an epoch sees."""
        return self.drawn / len(self.sometimes) if len(self.sometimes) else 1.0

    def epoch(self, number: int) -> Places:
        """Return the slices of an epoch in the order of its steps."""
        rng = np.random.default_rng((self.seed, _ORDER, number))
        some = rng.choice(self.sometimes, self.drawn, replace=False)
        return rng.permutation(np.concatenate([self.always, some]))

    def measured(self, batches: int) -> Iterator[Places]:
        """Yield batches of all usable slices as they come in nature, at most once each."""
        rng = np.random.default_rng((self.seed, _MEASURE))
        order = rng.permutation(np.concatenate([self.always, self.sometimes]))
        size = min(self.batch, len(order))
        for first in range(0, len(order) - size + 1, size)[:batches]:
            yield order[first : first + size]


def plan(slices: Slices, recipe: Recipe) -> Plan:
    """Decide which slices can be learnt from and how they are drawn.

    ``natural`` takes all of them; ``balanced`` all with blood and as many without, drawn anew for
    each epoch; ``paper`` half as many. A network for subtypes learns from slices with blood alone.

    Raises
    ------
    TrainingError
        When a class is missing, nothing is known, or no batch can be filled.
    """
    truth = slices.labels[:, answer_columns(recipe)]
    blood, none = slices.labels[:, 0] == 1, slices.labels[:, 0] == 0
    known = ~np.isnan(truth).all(axis=1)
    if recipe.labels == "subtypes":
        known &= blood
    _check_classes(truth[known], recipe)
    if recipe.sampling == "natural" or recipe.labels == "subtypes":
        always, sometimes = np.flatnonzero(known), np.empty(0, np.int64)
        drawn = 0
    else:
        always, sometimes = np.flatnonzero(known & blood), np.flatnonzero(known & none)
        share = 2 if recipe.sampling == "paper" else 1
        drawn = min(max(len(always) // share, 1), len(sometimes))
    made = Plan(always, sometimes, drawn, recipe.batch, recipe.seed)
    if not made.per_epoch:
        raise TrainingError(
            f"{len(always) + drawn} slices do not fill a batch of {recipe.batch}; "
            "add data or give a smaller --batch."
        )
    return made


def _check_classes(truth: npt.NDArray[np.float32], recipe: Recipe) -> None:
    if not len(truth):
        what = (
            "with blood whose subtypes are" if recipe.labels == "subtypes" else "whose labels are"
        )
        raise TrainingError(f"There are no slices {what} known; train on data that has them.")
    shown, absent = (truth == 1).any(axis=0), (truth == 0).any(axis=0)
    if recipe.labels == "subtypes":
        if not (shown & absent).any():
            raise TrainingError("No subtype is both seen and absent in the training slices.")
        return
    for there, name in ((shown[0], "with"), (absent[0], "without")):
        if not there:
            raise TrainingError(f"There are no training slices {name} blood; add some.")


def answer_columns(recipe: Recipe) -> list[int]:
    """Return the columns of the labels that the network answers for."""
    return [LABELS.index(label) for label in recipe.answers]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    Attributes
    ----------
    images : Tensor, float32, (n, channel, y, x)
    truth : Tensor, float32, (n, answer)
        1, 0 or NaN.
    kinds : Tensor, uint8, (n, y, x)
        Voxel truth; empty where the loss does not ask for it.
    masked : Tensor, bool, (n,)
        Where there is voxel truth.
    """

    images: Tensor
    truth: Tensor
    kinds: Tensor
    masked: Tensor


@dataclass(frozen=True, slots=True)
class Raw:
    """A batch as read from the cache: HU int16 (n, slice, y, x) and what is known of it."""

    hu: Tensor
    truth: Tensor
    kinds: Tensor
    masked: Tensor

    def pinned(self) -> Raw:
        """Return it in memory that a GPU reads by itself."""
        return Raw(*(t.pin_memory() for t in (self.hu, self.truth, self.kinds, self.masked)))

    def to(self, device: torch.device) -> Raw:
        """Send it to a device without waiting."""
        parts = (self.hu, self.truth, self.kinds, self.masked)
        return Raw(*(t.to(device, non_blocking=True) for t in parts))


@dataclass(frozen=True, slots=True)
class Feeder:
    """Brings batches to one device of one process.

    Attributes
    ----------
    rank, world : int
        Each of `world` processes gets its part of every batch.
    threads : int
        That read ahead.
    held : Held, optional
        The cache in the device's memory, to be read from in place of the file.
    """

    slices: Slices = field(repr=False)
    plan: Plan
    recipe: Recipe
    device: torch.device
    rank: int = 0
    world: int = 1
    threads: int = 2
    held: Held | None = None

    def __post_init__(self) -> None:
        if self.recipe.batch % self.world:
            raise TrainingError(
                f"A batch of {self.recipe.batch} cannot be divided among {self.world} processes."
            )

    def batches(
        self, first: int, last: int, size_px: Callable[[], int] | None = None
    ) -> Generator[Batch, None, None]:
        """Yield the batches of steps `first` to `last`, disturbed, on the device.

        Parameters
        ----------
        size_px : callable, optional
            Asked before each batch is made; by default the recipe's size.
        """
        size = size_px or (lambda: self.recipe.size_px)
        raw = self._raw(self._chosen(first, last))
        made = (self._make(one, first + i, size()) for i, one in enumerate(raw))
        yield from _beside(made) if self.device.type == "cuda" else made

    def measured(self) -> Iterator[Tensor]:
        """Yield undisturbed images at the final size, to measure normalisation on."""
        chosen = self.plan.measured(self.recipe.reestimate_batches)
        for raw in self._raw(chosen):
            yield _last_channels(images_of(raw.to(self.device).hu, self.recipe.preprocess()))

    def _chosen(self, first: int, last: int) -> Iterator[Places]:
        for number in range(first // self.plan.per_epoch, -(-last // self.plan.per_epoch)):
            order = self.plan.epoch(number)
            start = number * self.plan.per_epoch
            for step in range(max(first, start), min(last, start + self.plan.per_epoch)):
                whole = order[(step - start) * self.plan.batch :][: self.plan.batch]
                yield whole[self.rank :: self.world]

    def _raw(self, chosen: Iterator[Places]) -> Iterator[Raw]:
        """Yield batches as the cache has them; what is held is picked on the caller's stream."""
        if self.held is None:
            return ahead(self._read, chosen, self.threads)
        return map(self._take, chosen)

    def _take(self, places: Places) -> Raw:
        assert self.held is not None
        rows = self.slices.rows[places]
        known = torch.from_numpy(self.slices.labels[places][:, answer_columns(self.recipe)])
        return Raw(
            hu=self.held.planes(self.slices.around[rows]),
            truth=known,
            kinds=self.held.kinds_of(rows) if self.recipe.asks_where else _NO_KINDS,
            masked=torch.from_numpy(self.slices.masked[places]),
        )

    def _read(self, places: Places) -> Raw:
        asks = self.recipe.asks_where
        raw = Raw(
            hu=self.slices.stacks(places),
            truth=torch.from_numpy(self.slices.labels[places][:, answer_columns(self.recipe)]),
            kinds=self.slices.kinds(places) if asks else _NO_KINDS,
            masked=torch.from_numpy(self.slices.masked[places]),
        )
        return raw.pinned() if self.device.type == "cuda" else raw

    def _make(self, raw: Raw, step: int, size_px: int) -> Batch:
        """Resize, disturb and window a batch on the device; smaller images first, it is quicker."""
        raw = raw.to(self.device)
        chance = generator(self.device, self.recipe.seed, _DISTURB, step, self.rank)
        hu = raw.hu if size_px == raw.hu.shape[-1] else reduce(raw.hu, size_px)
        hu, kinds = disturb(hu, raw.kinds, chance, PRESETS[self.recipe.augment])
        images = images_of(hu, dataclasses.replace(self.recipe.preprocess(), size_px=size_px))
        if self.recipe.window_dropout:
            windows = len(self.recipe.windows_hu)
            images = drop_windows(images, windows, self.recipe.window_dropout, chance)
        return Batch(_last_channels(images), raw.truth, kinds, raw.masked)


def _beside(made: Iterator[Batch]) -> Iterator[Batch]:
    """Make each batch on a stream of its own while the GPU works on the step before."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    while True:
        with torch.cuda.stream(side):
            batch = next(made, None)
        if batch is None:
            return
        torch.cuda.current_stream().wait_stream(side)
        for part in (batch.images, batch.truth, batch.kinds, batch.masked):
            part.record_stream(torch.cuda.current_stream())
        yield batch


def _last_channels(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
