"""Which slices an epoch is made of, and that they arrive as serving would show them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.nets.preprocess import channels, neighbours
from tests.learning_kit import TINY, square_slices
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.ahead import ahead
from train.learn.batches import Feeder, Plan, plan
from train.learn.held import Held, copied, hold
from train.learn.recipe import Recipe

CPU = torch.device("cpu")


def with_labels(slices: Slices, **columns: float) -> Slices:
    """The slices with some labels set to one value."""
    labels = slices.labels.copy()
    for name, value in columns.items():
        labels[:, LABELS.index(name)] = value
    return dataclasses.replace(slices, labels=labels)


def made(recipe: Recipe, slices: Slices | None = None) -> Plan:
    return plan(slices or square_slices(range(10)), recipe)


def test_natural_takes_every_slice_once() -> None:
    """80 slices of ten series, none left out, nothing to correct."""
    found = made(dataclasses.replace(TINY, sampling="natural"))
    assert sorted(found.epoch(0)) == list(range(80))
    assert found.negatives_kept == 1.0
    assert found.per_epoch == 20


@pytest.mark.parametrize(("sampling", "negatives"), [("balanced", 15), ("paper", 7)])
def test_all_with_blood_and_some_without(sampling: str, negatives: int) -> None:
    """As many without, or half as many; the share that is kept is recorded."""
    slices = square_slices(range(10))
    found = made(dataclasses.replace(TINY, sampling=sampling), slices)
    drawn = slices.labels[found.epoch(0), 0]
    assert (int(drawn.sum()), int((drawn == 0).sum())) == (15, negatives)
    assert found.negatives_kept == pytest.approx(negatives / 65)


def test_each_epoch_draws_others_in_another_order() -> None:
    """But the same ones whenever it is asked."""
    found = made(TINY)
    assert set(found.epoch(0)) != set(found.epoch(1))
    assert found.epoch(1).tolist() == made(TINY).epoch(1).tolist()
    assert found.epoch(0).tolist() != made(dataclasses.replace(TINY, seed=8)).epoch(0).tolist()


def test_subtypes_are_learnt_from_slices_with_blood() -> None:
    """And from all of them."""
    slices = square_slices(range(10))
    found = made(dataclasses.replace(TINY, labels="subtypes"), slices)
    assert sorted(found.epoch(0)) == np.flatnonzero(slices.labels[:, 0] == 1).tolist()


def test_slices_of_which_nothing_is_known_are_left_out() -> None:
    """A series with labels of its own alone teaches nothing here."""
    slices = square_slices(range(10))
    labels = slices.labels.copy()
    labels[:16] = np.nan
    found = made(
        dataclasses.replace(TINY, sampling="natural"), dataclasses.replace(slices, labels=labels)
    )
    assert min(found.epoch(0)) == 16


@pytest.mark.parametrize(
    ("change", "columns", "sentence"),
    [
        ({}, {"any": 0.0}, "no training slices with blood"),
        ({}, {"any": 1.0}, "no training slices without blood"),
        ({}, dict.fromkeys(LABELS, np.nan), "no slices whose labels are known"),
        ({"labels": "subtypes"}, {"any": 0.0}, "with blood whose subtypes are known"),
        ({"labels": "subtypes"}, dict.fromkeys(LABELS[1:], 0.0), "No subtype"),
        ({"batch": 64}, {}, "30 slices do not fill a batch of 64"),
    ],
)
def test_what_cannot_teach_is_refused(
    change: dict[str, object], columns: dict[str, float], sentence: str
) -> None:
    """One sentence for a missing class, missing labels, too few slices."""
    slices = with_labels(square_slices(range(10)), **columns)
    with pytest.raises(TrainingError, match=sentence):
        plan(slices, dataclasses.replace(TINY, **change))


def test_undisturbed_batches_are_what_serving_shows() -> None:
    """Bit by bit the windows and neighbours of `nets.preprocess`."""
    recipe = dataclasses.replace(TINY, augment="none", sampling="natural")
    slices = square_slices(range(10))
    feeder = Feeder(slices, plan(slices, recipe), recipe, CPU)
    batch = next(feeder.batches(0, 1))
    for image, truth, row in zip(batch.images, batch.truth, feeder.plan.epoch(0)[:4], strict=True):
        first = row - row % 8
        stack = torch.from_numpy(slices.cache.hu[first : first + 8])
        around = neighbours([5.0 * i for i in range(8)], recipe.preprocess())
        served = channels(stack, around, recipe.preprocess())
        assert torch.equal(image, served[row - first])
        assert truth.tolist() == slices.labels[row].tolist()


@pytest.mark.parametrize("kinds", [True, False], ids=["with-voxel-truth", "without"])
def test_a_cache_that_is_held_gives_the_same_batches(kinds: bool) -> None:
    """Picked on the device or read from the file: pixels, labels, voxel truth are the same."""
    slices = square_slices(range(10))
    if not kinds:
        slices = dataclasses.replace(slices, cache=dataclasses.replace(slices.cache, kinds=None))
    recipe = dataclasses.replace(TINY, architecture="compact_mask", augment="simulated")
    cache = slices.cache
    truth = None if cache.kinds is None else copied(cache.kinds, CPU)
    held = Held(copied(cache.hu, CPU), truth)
    read = Feeder(slices, made(recipe, slices), recipe, CPU)
    pairs = zip(read.batches(0, 9), dataclasses.replace(read, held=held).batches(0, 9), strict=True)
    for one, other in pairs:
        for name in ("images", "truth", "kinds", "masked"):
            assert torch.equal(
                getattr(one, name).nan_to_num(7), getattr(other, name).nan_to_num(7)
            ), name


def test_only_a_gpu_holds_a_cache() -> None:
    """On a CPU the memory map is as quick."""
    assert hold(square_slices(range(2)).cache, CPU, kinds=True) is None


def test_pixels_are_copied_piece_by_piece() -> None:
    """The last piece is a part of one."""
    pixels = np.arange(4 * 10_001, dtype=np.int16).reshape(10_001, 2, 2)
    assert torch.equal(copied(pixels, CPU), torch.from_numpy(pixels))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_holds_a_cache_and_gives_the_same_batches() -> None:
    """Also while the step before is at work on another stream."""
    slices = square_slices(range(10))
    recipe = dataclasses.replace(TINY, architecture="compact_mask", augment="simulated")
    device = torch.device("cuda")
    held = hold(slices.cache, device, kinds=True)
    assert held is not None
    read = Feeder(slices, made(recipe, slices), recipe, device)
    pairs = zip(read.batches(0, 9), dataclasses.replace(read, held=held).batches(0, 9), strict=True)
    assert all(torch.equal(one.images, other.images) for one, other in pairs)


def test_a_step_is_the_same_wherever_one_begins() -> None:
    """Batches 3 to 5, across the end of an epoch, do not depend on those before."""
    slices = square_slices(range(6))
    feeder = Feeder(slices, plan(slices, TINY), TINY, CPU)
    whole = list(feeder.batches(0, 6))
    assert feeder.plan.per_epoch == 4
    for one, other in zip(whole[3:], feeder.batches(3, 6), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.truth, other.truth)


def test_processes_share_a_batch_without_overlap() -> None:
    """Two halves are the whole; a batch that cannot be divided is refused."""
    slices = square_slices(range(10))
    recipe = dataclasses.replace(TINY, augment="none")
    planned = plan(slices, recipe)
    whole = next(Feeder(slices, planned, recipe, CPU).batches(0, 1))
    halves = [next(Feeder(slices, planned, recipe, CPU, rank, 2).batches(0, 1)) for rank in (0, 1)]
    assert torch.equal(torch.stack([h.images for h in halves], dim=1).flatten(0, 1), whole.images)
    with pytest.raises(TrainingError, match="batch of 4 cannot be divided among 3"):
        Feeder(slices, planned, recipe, CPU, 0, 3)


def test_smaller_images_are_made_from_the_same_slices() -> None:
    """The first part of a run sees them; voxel truth comes along."""
    slices = square_slices(range(10))
    recipe = dataclasses.replace(
        TINY, architecture="resnet18_local", place_weight=1.0, augment="simulated"
    )
    feeder = Feeder(slices, plan(slices, recipe), recipe, CPU)
    small = next(feeder.batches(0, 1, lambda: 16))
    assert small.images.shape == (4, 6, 16, 16)
    assert small.kinds.shape == (4, 16, 16)
    shown = small.truth[:, 0] == 1
    assert bool((small.kinds[shown].amax(dim=(1, 2)) > 0).all())


def test_images_to_measure_on_come_as_in_nature() -> None:
    """Undisturbed, at the final size, each slice once at most."""
    slices = square_slices(range(10))
    recipe = dataclasses.replace(TINY, reestimate_batches=100)
    images = list(Feeder(slices, plan(slices, recipe), recipe, CPU).measured())
    assert len(images) == 20
    assert len({one.numpy().tobytes() for batch in images for one in batch}) == 80


def test_work_ahead_keeps_its_order_and_its_errors() -> None:
    """A slow first item is still the first; an error comes where its item would."""
    assert list(ahead(lambda n: n * n, range(50), threads=3)) == [n * n for n in range(50)]
    found = ahead(lambda n: 1 // (3 - n), range(6))
    assert [next(found) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
