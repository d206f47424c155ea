"""What a network is trained on and what it is served are the same numbers, bit by bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.imaging.volume import CtVolume
from ichnode.infer.device import eager
from ichnode.infer.predictor import Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import channels, neighbours, preprocess
from ichnode.nets.registry import Registry
from ichnode.nets.selftest import self_test_input
from ichnode.phantom import SimulatedHead, simulate_head
from train.fit import as_channels, predict
from train.recipe import Recipe
from train.simulated import as_slices, make_head, open_heads

SEED, SIZE_PX = 4, 128


@pytest.fixture(scope="module")
def head() -> SimulatedHead:
    return simulate_head(SEED, size_px=SIZE_PX)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    make_head(folder, SEED, Recipe().preprocess(), SIZE_PX)
    return folder


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


def test_training_and_serving_feed_the_same_numbers(head: SimulatedHead, kept: Path) -> None:
    """The kept training head gives exactly the network input of the served volume."""
    spec = Recipe().preprocess()
    (opened,) = open_heads(kept, [SEED])
    trained = channels(
        torch.from_numpy(np.array(opened.hu)), neighbours(opened.positions_mm, spec), spec
    )
    assert torch.equal(trained, served(head, spec))


def test_the_training_loop_windows_as_serving_does(head: SimulatedHead, kept: Path) -> None:
    """A batch that nothing disturbed is the served input too."""
    spec = Recipe().preprocess()
    slices = as_slices(open_heads(kept, [SEED]), spec)
    chosen = np.array([0, 7, len(slices) - 1])
    batch = as_channels(slices.stacks(chosen).float(), spec)
    assert torch.equal(batch, served(head, spec)[chosen])


def test_the_number_of_threads_changes_nothing(head: SimulatedHead) -> None:
    """One thread or two: the same bits."""
    spec = Recipe().preprocess()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = served(head, spec)
        torch.set_num_threads(2)
        assert torch.equal(one, served(head, spec))
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


def test_training_and_serving_give_the_same_logits(head: SimulatedHead, kept: Path) -> None:
    """The shipped model scores the kept training head as it scores the volume."""
    bundle = Bundle.load(Registry(Path("nowhere")).champion())
    spec = bundle.manifest.preprocess
    assert spec == Recipe().preprocess()
    (logits,) = predict(bundle.networks["joint"], open_heads(kept, [SEED]), spec)
    predictor = Predictor(bundle, [lambda n: eager(n, torch.device("cpu"), torch.float32)])
    prediction = predictor.predict(volume_of(head))
    calibration = bundle.manifest.calibration
    scaled = logits[:, 0] / calibration.slice_temperature[0] + calibration.slice_bias[0]
    assert np.allclose(prediction.slices[:, 0], 1 / (1 + np.exp(-scaled)), atol=1e-4)
