"""Series as bags of slices: how they are drawn, read, shown to the network, and taught by.

A step learns from whole series, and so its gradient goes through all of their slices. Where these
are more than fit into memory at once, the network reads them in parts and computes each part again
on the way back: the same gradient, in the memory of one part.

References
----------
Dietterich TG, Lathrop RH, Lozano-Perez T, Solving the multiple instance problem with axis-parallel
rectangles, Artificial Intelligence 1997.
Chen T et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.context import spread_out
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.augment import PRESETS, disturb, drop_windows
from train.learn.batches import Plan, answer_columns
from train.learn.predicting import images_of, reduce
from train.learn.recipe import Recipe
from train.truth import whole_series

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Bags:
    """The series of some slices.

    Attributes
    ----------
    members : sequence of ndarray, int64
        The slices of each series, as indices of the view: at most so many as the sequence stage
        reads, at even distances.
    truth : ndarray, float32, (series, answer)
        1, 0, or NaN where it is not known.
    """

    slices: Slices = field(repr=False)
    members: Sequence[Places] = field(repr=False)
    truth: npt.NDArray[np.float32] = field(repr=False)


def bags_of(slices: Slices, recipe: Recipe) -> Bags:
    """Return the series of some slices; of their slices no label is looked at."""
    whole = whole_series(slices)
    truth = slices.series_labels[[chosen[0] for chosen in whole]]
    return Bags(
        slices=slices,
        members=[chosen[spread_out(len(chosen)).numpy()] for chosen in whole],
        truth=truth[:, answer_columns(recipe)],
    )


def plan_bags(bags: Bags, recipe: Recipe, per_step: int) -> Plan:
    """Decide which series can be learnt from and how they are drawn.

    Raises
    ------
    TrainingError
        When a class is missing, or there are fewer series than a step takes.
    """
    blood, none = bags.truth[:, 0] == 1, bags.truth[:, 0] == 0
    for there, name in ((blood.any(), "with"), (none.any(), "without")):
        if not there:
            raise TrainingError(f"There are no training series {name} blood; add some.")
    known = ~np.isnan(bags.truth).all(axis=1)
    always, sometimes, drawn = np.flatnonzero(known), np.empty(0, np.int64), 0
    if recipe.sampling == "balanced":
        always, sometimes = np.flatnonzero(blood), np.flatnonzero(none)
        drawn = min(len(always), len(sometimes))
    made = Plan(always, sometimes, drawn, per_step, recipe.seed)
    if not made.per_epoch:
        raise TrainingError(
            f"{len(always) + drawn} series do not fill a step of {per_step}; add data or give a "
            "smaller --series."
        )
    return made


@dataclass(frozen=True, slots=True, eq=False)
class BagBatch:
    """Some series as read from the cache.

    Attributes
    ----------
    hu : Tensor, int16, (slice, 2 x context + 1, y, x)
        The slices of all series, one series after the other.
    lengths : tuple of int
        Slices of each series.
    truth : Tensor, float32, (series, answer)
    """

    hu: Tensor = field(repr=False)
    lengths: tuple[int, ...]
    truth: Tensor = field(repr=False)


Member = tuple[int, Places]
"""A series by its number, and which of its slices."""


def whole_members(bags: Bags, chosen: Places) -> list[Member]:
    """Return some series with all of their slices."""
    return [(int(index), bags.members[int(index)]) for index in chosen]


def single_members(
    bags: Bags, chosen: Places, rng: np.random.Generator, steps: int
) -> list[list[Member]]:
    """Return the slices of some series one by one, mixed and dealt to steps.

    Each is as if it were the series. To say of every slice of a series with blood that it shows
    some is wrong of most. Yet of those without it is right, and the difference is what there is to
    look for: a network of random weights finds it so, and would not find it from series, where any
    slice may be the strongest.

    References
    ----------
    Ray S, Craven M, Supervised versus Multiple Instance Learning, ICML 2005.
    """
    members = [bags.members[int(index)] for index in chosen]
    numbers = np.repeat(chosen, [len(one) for one in members])
    slices = np.concatenate(members)
    order = rng.permutation(len(slices))
    return [
        [(int(numbers[place]), slices[place : place + 1]) for place in order[step::steps]]
        for step in range(steps)
    ]


def read_bags(bags: Bags, chosen: Sequence[Member]) -> BagBatch:
    """Read some series out of the cache."""
    members = [slices for _, slices in chosen]
    return BagBatch(
        hu=bags.slices.stacks(np.concatenate(members)),
        lengths=tuple(map(len, members)),
        truth=torch.from_numpy(bags.truth[[number for number, _ in chosen]]),
    )


def parts_of(
    batch: BagBatch, recipe: Recipe, size_px: int, chance: Generator
) -> tuple[list[Tensor], Tensor]:
    """Return the images of a step in parts of ``recipe.batch``, and where each slice went.

    The slices are mixed, so that normalisation sees many series at once and not one patient.

    Returns
    -------
    list of Tensor, float32, (n, channel, y, x)
        Disturbed, on the device of `chance`.
    Tensor, int64, (slice,)
        ``cat(parts)[places]`` is in the order of the batch again.
    """
    device = chance.device
    order = torch.randperm(len(batch.hu), generator=chance, device=device)
    parts = [
        _images(batch.hu[some.cpu()].to(device, non_blocking=True), recipe, size_px, chance)
        for some in torch.split(order, recipe.batch)
    ]
    return parts, order.argsort()


def _images(hu: Tensor, recipe: Recipe, size_px: int, chance: Generator) -> Tensor:
    if size_px != hu.shape[-1]:
        hu = reduce(hu, size_px)
    no_truth = torch.empty(0, dtype=torch.uint8, device=hu.device)
    hu, _ = disturb(hu, no_truth, chance, PRESETS[recipe.augment])
    images = images_of(hu, dataclasses.replace(recipe.preprocess(), size_px=size_px))
    if recipe.window_dropout:
        images = drop_windows(images, len(recipe.windows_hu), recipe.window_dropout, chance)
    return images.contiguous(memory_format=torch.channels_last)


def embed_parts(network: SliceNetwork, parts: Sequence[Tensor]) -> Tensor:
    """Return features (slice, width) of images in parts, with a gradient through all of them.

    One part alone is read as usual; of several, only the images stay in memory until the way back.
    """
    if len(parts) == 1:
        return network.embed(parts[0])
    read = [
        checkpoint(
            network.embed,
            images,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), statistics_kept(network)),
        )
        for images in parts
    ]
    return torch.cat(read)


@contextlib.contextmanager
def statistics_kept(network: torch.nn.Module) -> Iterator[None]:
    """Let normalisation use the statistics of what it is shown without remembering them.

    What is computed a second time must not count a second time.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:  # the way back ends a computation by an exception, as soon as it has what it needs
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def padded(values: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return values (slice, width) by series, padded to one length, and which are there.

    Returns
    -------
    Tensor, (series, L, width)
    Tensor, bool, (series, L)
    """
    by_series = pad_sequence(list(torch.split(values, list(lengths))), batch_first=True)
    counts = torch.tensor(list(lengths), device=values.device)
    present = torch.arange(by_series.shape[1], device=values.device) < counts[:, None]
    return by_series, present
