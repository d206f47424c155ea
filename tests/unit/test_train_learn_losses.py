"""The loss counts what is known and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from ichnode.domain.findings import LABELS
from train.learn.losses import (
    dice_loss,
    label_weights,
    mask_loss,
    masked_cross_entropy,
    mean,
    place_loss,
    shares_of,
    whereabouts,
)

NAN = math.nan


def draw(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and truth of ten slices."""
    chance = torch.Generator().manual_seed(seed)
    logits = torch.randn(10, 6, generator=chance)
    return logits, (torch.rand(10, 6, generator=chance) < 0.3).float()


def test_where_all_is_known_it_is_torchs_weighted_mean() -> None:
    """Blood or not weighs 2, the subtypes 1, divided by the sum of the weights."""
    logits, truth = draw()
    weights = label_weights(LABELS, 2.0)
    theirs = functional.binary_cross_entropy_with_logits(logits, truth, weight=weights * 6 / 7)
    assert mean(*masked_cross_entropy(logits, truth, weights)) == pytest.approx(float(theirs))


def test_what_is_not_known_changes_nothing() -> None:
    """An unknown label has no part in the loss and no gradient, whatever its logit is."""
    logits, truth = draw()
    truth[:5, 3] = NAN
    wild = logits.clone()
    wild[:5, 3] = 1e6
    weights = label_weights(LABELS, 2.0)
    losses = [mean(*masked_cross_entropy(z, truth, weights)) for z in (logits, wild)]
    assert float(losses[0]) == float(losses[1])
    wild.requires_grad_()
    mean(*masked_cross_entropy(wild, truth, weights)).backward()
    assert torch.equal(wild.grad[:5, 3], torch.zeros(5))
    assert bool((wild.grad[5:] != 0).all())


def test_a_batch_of_which_nothing_is_known_costs_nothing() -> None:
    """Its loss is 0 with gradients of 0, never NaN."""
    logits = torch.randn(4, 6, requires_grad=True)
    loss = mean(*masked_cross_entropy(logits, torch.full((4, 6), NAN), label_weights(LABELS, 2.0)))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros(4, 6))


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    """Processes may add their sums and counts, though they know unequally much."""
    logits, truth = draw()
    truth[:4] = NAN
    weights = label_weights(LABELS, 2.0)
    whole = mean(*masked_cross_entropy(logits, truth, weights))
    halves = [masked_cross_entropy(logits[s], truth[s], weights) for s in (slice(5), slice(5, 10))]
    total, count = (sum(values) for values in zip(*halves, strict=True))
    assert float(total / count) == pytest.approx(float(whole))


def places_and_truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Evidence that finds an intraparenchymal bleed in the upper left quarter, and where it is."""
    kinds = torch.zeros(1, 8, 8, dtype=torch.uint8)
    kinds[0, 1:3, 1:3] = 2
    places = torch.full((1, 6, 2, 2), -9.0)
    places[0, [0, 2], 0, 0] = 9.0
    return places, whereabouts(kinds, LABELS)


def test_evidence_where_the_blood_is_costs_little() -> None:
    """And evidence at another place much; "any" counts every kind."""
    places, there = places_and_truth()
    located = torch.ones(1, 6, dtype=torch.bool)
    right = mean(*place_loss(places, there, located))
    wrong = mean(*place_loss(places.flip(3), there, located))
    assert float(right) < 0.01
    assert float(wrong) > 10


def test_slices_without_voxel_truth_have_no_place() -> None:
    """Zeros there mean that nobody looked, and contribute nothing."""
    places, there = places_and_truth()
    both, twice = places.repeat(2, 1, 1, 1), there.repeat(2, 1, 1, 1)
    both[1] = 50.0
    one = mean(*place_loss(places, there, torch.ones(1, 6, dtype=torch.bool)))
    located = torch.tensor([[True], [False]]).expand(2, 6)
    two = mean(*place_loss(both, twice, located))
    assert float(one) == pytest.approx(float(two))
    assert float(mean(*place_loss(both, twice, torch.zeros(2, 6, dtype=torch.bool)))) == 0


@pytest.mark.parametrize("loss", [place_loss, mask_loss, dice_loss])
def test_an_answer_that_is_not_known_has_no_place(
    loss: Callable[..., tuple[torch.Tensor, ...]],
) -> None:
    """The others of its slice count as ever; it has no gradient."""
    _, there = places_and_truth()
    masks = torch.zeros_like(there, requires_grad=True)
    located = torch.ones(1, 6, dtype=torch.bool)
    located[0, 2] = False
    mean(*loss(masks, there, located)).backward()
    assert not masks.grad[0, 2].any()
    assert bool(masks.grad[0, 0].any())


def test_a_mask_that_covers_the_blood_costs_little() -> None:
    """Its places and its overlap; one that is empty or elsewhere costs nearly all there is."""
    _, there = places_and_truth()
    located = torch.ones(1, 6, dtype=torch.bool)
    right = 18 * there - 9
    for loss, dear in ((mask_loss, 0.5), (dice_loss, 0.7)):
        assert float(mean(*loss(right, there, located))) < 0.01
        for wrong in (right.flip(3), torch.full_like(right, -9.0)):
            assert float(mean(*loss(wrong, there, located))) > dear


def test_a_coarse_mask_is_taught_the_share_that_is_covered() -> None:
    """A bleed of four voxels in a place of 16 is a quarter of it."""
    _, there = places_and_truth()
    shares = shares_of(there, (2, 2))
    assert shares[0, 0].tolist() == [[0.25, 0.0], [0.0, 0.0]]
    assert torch.equal(shares[0, 0], shares[0, 2])
    assert not shares[0, [1, 3, 4, 5]].any()


@pytest.mark.parametrize("loss", [mask_loss, dice_loss])
def test_parts_of_a_batch_of_masks_add_up(loss: Callable[..., tuple[torch.Tensor, ...]]) -> None:
    """Processes may add their sums and counts though blood and truth are shared out unevenly."""
    chance = torch.Generator().manual_seed(3)
    masks = torch.randn(4, 6, 4, 4, generator=chance)
    there = (torch.rand(4, 6, 4, 4, generator=chance) < 0.3).float()
    there[3] = 0
    located = torch.rand(4, 6, generator=chance) < 0.6
    whole = mean(*loss(masks, there, located))
    halves = [loss(masks[s], there[s], located[s]) for s in (slice(1), slice(1, 4))]
    total, count = (sum(values) for values in zip(*halves, strict=True))
    assert float(total / count) == pytest.approx(float(whole))
    assert float(mean(*loss(masks, there, torch.zeros_like(located)))) == 0
