"""A network that draws masks learns where the blood is and how much of it, from voxel truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ichnode.nets.architectures import MaskNetwork
from tests.learning_kit import DRAWN_SQUARES, square_slices
from train.data.views import Slices
from train.learn.loop import Conditions, fit
from train.learn.losses import whereabouts
from train.learn.predicting import images_of
from train.learn.recipe import Recipe

SIDE = 64
DRAWING = dataclasses.replace(DRAWN_SQUARES, epochs=6)


def parts(count: int = 24) -> tuple[Slices, Slices]:
    """Slices to learn from, and others."""
    whole = square_slices(range(count + 8), side=SIDE)
    learnt = {f"p{number}" for number in range(count)}
    return whole.of_patients(learnt), whole.of_patients(set(whole.table["patient"]) - learnt)


def learn(recipe: Recipe, folder: Path) -> tuple[MaskNetwork, Tensor, Tensor]:
    """A trained network, other images, and where their blood is."""
    learnt, others = parts()
    network = fit(recipe, learnt, others, folder, conditions=Conditions("cpu", quiet=True))
    assert isinstance(network, MaskNetwork)
    rows = np.arange(len(others))
    images = images_of(others.stacks(rows), recipe.preprocess())
    return network.eval(), images, whereabouts(others.kinds(rows), recipe.answers)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[MaskNetwork, Tensor, Tensor]:
    return learn(DRAWING, tmp_path_factory.mktemp("run"))


def test_it_draws_the_squares_where_they_are(
    taught: tuple[MaskNetwork, Tensor, Tensor],
) -> None:
    """On slices that it never saw the mask covers the square and little else."""
    network, images, there = taught
    with torch.inference_mode():
        masks = functional.interpolate(network.masks(images)[:, :1], size=SIDE, mode="bilinear")
    drawn, true = masks[:, 0] > 0, there[:, 0] > 0
    common = (drawn & true).sum(dim=(1, 2))
    overlap = 2 * common / (drawn.sum(dim=(1, 2)) + true.sum(dim=(1, 2)))
    blood = true.any(dim=2).any(dim=1)
    assert float(overlap[blood].min()) > 0.7
    assert not drawn[~blood].any()


def test_the_area_is_about_that_of_the_squares(
    taught: tuple[MaskNetwork, Tensor, Tensor],
) -> None:
    """It comes with the features; a constant factor is left to the calibration."""
    network, images, there = taught
    with torch.inference_mode():
        areas = network.areas(network.embed(images))[:, 0]
    true = there[:, 0].mean(dim=(1, 2))
    ratios = areas[true > 0] / true[true > 0]
    assert 0.7 < float(ratios.min()) < float(ratios.max()) < 1.6
    assert float(ratios.std() / ratios.mean()) < 0.1
    assert float(areas[true == 0].max()) < 0.01


def test_the_decision_hears_the_masks(taught: tuple[MaskNetwork, Tensor, Tensor]) -> None:
    """Without its masks the same network is less sure of the blood."""
    network, images, there = taught
    blood = there[:, 0].any(dim=2).any(dim=1)
    with torch.inference_mode():
        seen = network.drawn(images)
        heard = network.hear(functional.adaptive_max_pool2d(seen.masks, seen.evidence.shape[-2:]))
        whole, deaf = seen.evidence[blood, 0], (seen.evidence - heard)[blood, 0]
    assert float((whole - deaf).amax(dim=(1, 2)).mean()) > 1
