"""What a network is trained on and what it is served are the same numbers, bit by bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from ichnode.imaging.volume import CtVolume
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import preprocess
from ichnode.nets.selftest import self_test_input
from ichnode.phantom import SimulatedHead, simulate_head
from train.data.cache import build_cache
from train.data.records import Licence, SourceSeries, unknown_labels
from train.data.views import Slices, all_slices
from train.learn.predicting import images_of
from train.learn.recipe import Recipe

SEED, SIZE_PX = 4, 128
SPEC = Recipe(size_px=96).preprocess()


@pytest.fixture(scope="module")
def head() -> SimulatedHead:
    return simulate_head(SEED, size_px=SIZE_PX)


class OneHead:
    """A source of the one head."""

    name = "simulated"
    licence = Licence("Apache-2.0", non_commercial=False)

    def jobs(self) -> list[str]:
        return [str(SEED)]

    def read(self, job: str) -> SourceSeries:
        found = simulate_head(int(job), size_px=SIZE_PX)
        volume = volume_of(found)
        return SourceSeries(
            dataset=self.name,
            patient="p",
            study="s",
            series="e",
            hu=volume.hu,
            spacing_mm=volume.spacing_mm,
            positions_mm=volume.positions_mm,
            slice_keys=volume.slice_uids,
            slice_labels=found.labels.astype(np.float32),
            series_labels=unknown_labels(1)[0],
            kinds=found.mask,
            label_source="simulation",
        )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Slices:
    cache = build_cache(tmp_path_factory.mktemp("cache"), OneHead(), SPEC, workers=1)
    return all_slices(cache, SPEC.context_slices)


def volume_of(head: SimulatedHead) -> CtVolume:
    """The head as reading its DICOM files would give it."""
    count = len(head.hu)
    return CtVolume(
        hu=head.hu,
        spacing_mm=head.spacing_mm,
        positions_mm=np.arange(count) * head.spacing_mm[0],
        slice_uids=tuple(f"2.25.{index + 1}" for index in range(count)),
    )


def served(head: SimulatedHead, spec: PreprocessSpec) -> torch.Tensor:
    volume = volume_of(head)
    return preprocess(
        torch.from_numpy(volume.hu), volume.spacing_mm, volume.positions_mm.tolist(), spec
    )


def test_training_and_serving_feed_the_same_numbers(head: SimulatedHead, kept: Slices) -> None:
    """The cached head gives exactly the network input of the served volume."""
    trained = images_of(kept.stacks(np.arange(len(kept))), SPEC)
    assert torch.equal(trained, served(head, SPEC))


def test_a_batch_of_chosen_slices_is_the_served_input_too(
    head: SimulatedHead, kept: Slices
) -> None:
    """Drawn in any order, neighbours and all."""
    chosen = np.array([len(kept) - 1, 0, 7])
    assert torch.equal(images_of(kept.stacks(chosen), SPEC), served(head, SPEC)[chosen])


def test_the_number_of_threads_changes_nothing(head: SimulatedHead) -> None:
    """One thread or two: the same bits."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = served(head, SPEC)
        torch.set_num_threads(2)
        assert torch.equal(one, served(head, SPEC))
    finally:
        torch.set_num_threads(before)


def test_the_input_of_the_self_test_is_what_it_always_was() -> None:
    """A library whose resizing changes would change every model: then this digest changes."""
    spec = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0), (-20.0, 180.0)))
    images = (self_test_input(spec) * 1_000_000).round().to(torch.int32).numpy()
    assert images.shape == (8, 6, 64, 64)
    assert hashlib.sha256(images.tobytes()).hexdigest() == (
        "224e7c5d96816931e02a58e123eebc7687119c159a5dcaedbdd726e316b77564"
    )
