"""Features of a finished encoder: computed once, as in serving, and without moving a bit of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ichnode.nets.runnable import prepare
from tests.context_kit import SPEC, as_slices, squares, untrained
from train.context.features import features_of, state_digest, unmoved
from train.data.cache import Cache
from train.errors import TrainingError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Four series of six slices."""
    return squares(tmp_path_factory.mktemp("squares"), 4)


def test_features_are_those_that_serving_computes(cache: Cache, tmp_path: Path) -> None:
    """Features and logits of every slice are what the prepared network gives for its image."""
    network, slices = untrained(), as_slices(cache)
    found = features_of(network, slices, SPEC, tmp_path)
    images = (slices.stacks(np.arange(len(slices))).float() / 80).clamp(0, 1)
    parts = prepare({"own": network}, "cpu")
    with torch.inference_mode():
        seen = parts.encoders["own"](images)
        said = parts.heads["own"](seen)
    np.testing.assert_allclose(seen.numpy(), found.features, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(said.numpy(), found.logits, rtol=1e-4, atol=1e-5)


def test_the_encoder_stays_as_it_is_to_the_last_buffer(cache: Cache, tmp_path: Path) -> None:
    """Even a network that was left in training mode keeps the statistics of its normalisation."""
    network = untrained()
    before = state_digest(network)
    features_of(network, as_slices(cache), SPEC, tmp_path)
    assert before == state_digest(network)


def test_a_forward_pass_in_training_mode_is_noticed() -> None:
    """Gradients that are off do not keep normalisation still; the digest of the buffers tells."""
    network = untrained()
    with pytest.raises(RuntimeError, match="moved"), unmoved(network), torch.no_grad():
        network(torch.rand(4, SPEC.channels, 32, 32))


def test_only_what_is_asked_for_is_computed_and_only_once(cache: Cache, tmp_path: Path) -> None:
    """A part asked for first is kept as it was; the rest is added when it is asked for."""
    network, slices = untrained(), as_slices(cache)
    part = slices.of_patients({"p1"})
    first = features_of(network, part, SPEC, tmp_path)
    assert set(part.rows.tolist()) == set(np.flatnonzero(first.known).tolist())
    marked = np.memmap(first.folder / "features.f16", np.float16, "r+")
    marked[part.rows[0] * network.feature_width] = 123.0
    marked.flush()
    whole = features_of(network, slices, SPEC, tmp_path)
    assert whole.known.all()
    assert whole.features[part.rows[0], 0] == 123.0


def test_another_encoder_or_preprocessing_has_features_of_its_own(
    cache: Cache, tmp_path: Path
) -> None:
    """One changed buffer, or another window, and nothing old is taken for new."""
    network, slices = untrained(), as_slices(cache)
    other = dataclasses.replace(SPEC, windows_hu=((0.0, 100.0),))
    folders = {features_of(network, slices, spec, tmp_path).folder for spec in (SPEC, other)}
    network.early[1].running_mean[0] += 1
    folders.add(features_of(network, slices, SPEC, tmp_path).folder)
    assert len(folders) == 3


def test_a_diverged_encoder_is_refused(cache: Cache, tmp_path: Path) -> None:
    """Features beyond float16 stop with a sentence and are not kept."""
    network, slices = untrained(), as_slices(cache)
    with torch.no_grad():
        network.early[0].weight.mul_(float("inf"))
    with pytest.raises(TrainingError, match="not finite"):
        features_of(network, slices, SPEC, tmp_path)
