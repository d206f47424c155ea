"""What a network says of a cache: the numbers of its forward pass, in our order of labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import SliceNetwork, build
from ichnode.nets.calibration import NOT_ASKED
from tests.learning_kit import SPEC, TINY, square_slices
from train.learn.batches import Feeder, plan
from train.learn.checkpoint import new_learning
from train.learn.distributed import Team
from train.learn.lesson import Teacher
from train.learn.predicting import Quick, embed, images_of, predict, predict_pair, reduce
from train.learn.recipe import Recipe
from train.learn.schedule import pace
from train.learn.watching import figures, look, watched_part

ALONE = Team(0, 1, torch.device("cpu"))
SLICES = square_slices(range(4))
WINDOWED = TINY.preprocess()


def network(outputs: int = 6, seed: int = 0) -> SliceNetwork:
    torch.manual_seed(seed)
    return build("resnet18", 6, outputs).eval()


def forward(net: SliceNetwork) -> np.ndarray:
    """The plain forward pass over all slices."""
    with torch.inference_mode():
        return net(images_of(SLICES.stacks(np.arange(len(SLICES))), WINDOWED)).numpy()


def test_logits_are_those_of_the_forward_pass() -> None:
    """Whatever the batches; series by series beside what is true."""
    net = network()
    found = predict(net, SLICES, WINDOWED, how=Quick(batch=5))
    np.testing.assert_allclose(found.slice_logits, forward(net), atol=1e-4)
    assert np.array_equal(found.slice_truth, SLICES.labels)
    assert found.patients == ("p0", "p1", "p2", "p3")
    assert found.series[1].series_truth.tolist() == [1, 1, 0, 0, 0, 0]
    first = found.series[0].slice_logits
    assert np.array_equal(found.series[0].series_logits, ((first[1:] + first[:-1]) / 2).max(axis=0))


def test_the_series_rule_is_the_one_asked_for() -> None:
    """The highest slice instead of the mean of two."""
    found = predict(network(), SLICES, WINDOWED, rule="max")
    assert np.array_equal(found.series[0].series_logits, found.series[0].slice_logits.max(axis=0))


def test_labels_that_a_network_does_not_answer_for() -> None:
    """Subtypes are not asked; "any" is the strongest subtype where those alone are answered."""
    alone = predict(network(1), SLICES, WINDOWED, labels=LABELS[:1]).slice_logits
    assert (alone[:, 1:] == NOT_ASKED).all()
    kinds = predict(network(5), SLICES, WINDOWED, labels=LABELS[1:]).slice_logits
    assert np.array_equal(kinds[:, 0], kinds[:, 1:].max(axis=1))


def test_the_second_of_a_pair_is_asked_where_the_first_sees_blood() -> None:
    """As in serving; elsewhere it is not asked."""
    first, second = network(1), network(5, seed=1)
    first.head[-1].bias.data -= float(np.median(forward(first)))
    found = predict_pair(first, second, SLICES, WINDOWED).slice_logits
    suspect = found[:, 0] > 0
    assert 0 < suspect.sum() < len(SLICES)
    np.testing.assert_allclose(found[suspect, 1:], forward(second)[suspect], atol=1e-4)
    assert (found[~suspect, 1:] == NOT_ASKED).all()


def test_features_lead_to_the_same_logits() -> None:
    """float16 features of the network's width, a row a slice."""
    net = network()
    features, logits = embed(net, SLICES, WINDOWED)
    assert (features.shape, features.dtype) == ((len(SLICES), net.feature_width), np.float16)
    with torch.inference_mode():
        again = net.classify(torch.from_numpy(features).float()).numpy()
    np.testing.assert_allclose(again, logits, atol=0.02)


def test_a_network_for_smaller_images_gets_reduced_ones() -> None:
    """Whole HU as serving has them, at its own size."""
    small = dataclasses.replace(WINDOWED, size_px=16)
    stacks = SLICES.stacks(np.arange(3))
    images = images_of(stacks, small)
    assert images.shape == (3, 6, 16, 16)
    assert torch.equal(images, images_of(reduce(stacks, 16).round(), small))


def test_part_of_a_series_is_refused() -> None:
    """What is said of some slices is not what is said of the series."""
    with pytest.raises(ValueError, match="whole series"):
        predict(network(), SLICES.where(np.arange(len(SLICES)) != 3), WINDOWED)
    with pytest.raises(ValueError, match="neighbours"):
        predict(
            network(),
            SLICES,
            SPEC.__class__(size_px=32, windows_hu=((0.0, 80.0),) * 6, context_slices=0),
        )


def test_a_look_after_a_step_sees_the_new_weights() -> None:
    """Folded or compiled copies that outlive a step would show the weights of before."""
    recipe = dataclasses.replace(TINY, averaging=0.0)
    learning = new_learning(recipe, ALONE, None)
    feeder = Feeder(SLICES, plan(SLICES, recipe), recipe, ALONE.device)
    before = look(learning.network, SLICES, recipe, ALONE)
    teacher = Teacher(learning, recipe, ALONE)
    teacher.teach(next(feeder.batches(0, 1)), pace(recipe, 0.25))
    after = look(learning.network, SLICES, recipe, ALONE)
    assert after.loss != before.loss
    fresh = build("resnet18", 6, 6)
    fresh.load_state_dict(learning.network.state_dict())
    assert look(fresh, SLICES, recipe, ALONE) == after


def test_what_is_watched_depends_on_what_is_learnt() -> None:
    """All slices of some series, or those with blood for a network of subtypes."""
    assert len(watched_part(SLICES, TINY)) == len(SLICES)
    assert len(watched_part(SLICES, dataclasses.replace(TINY, labels="subtypes"))) == 6


def test_figures_of_known_logits() -> None:
    """Negatives that were left out are put back before the loss; the AUROC is of "any"."""
    truth = np.tile(np.eye(2)[:, :1], (1, 6))
    logits = np.where(truth == 1, 3.0, -3.0)
    found = figures(logits, truth, Recipe())
    assert (found.auroc, found.accuracy) == (1.0, 1.0)
    assert found.loss == pytest.approx(np.log1p(np.exp(-3.0)), rel=1e-5)
    alone = Recipe(labels="any")
    shifted = figures(logits[:, :1], truth[:, :1], alone, negatives_kept=0.1)
    expected = np.mean(np.log1p(np.exp([-(3 + np.log(0.1)), -3 + np.log(0.1)])))
    assert shifted.loss == pytest.approx(expected, rel=1e-5)
    nothing = figures(np.empty((0, 6)), np.empty((0, 6)), Recipe())
    assert np.isnan([nothing.loss, nothing.auroc, nothing.accuracy]).all()
