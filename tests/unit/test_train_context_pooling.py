"""Pooling slices to series: what is taught through is what serves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ichnode.nets.calibration import series_logits
from train.context.pooling import SERVED_BY, AttentionPooling, make_pooling

LENGTHS = (5, 1, 9)


def _padded(seed=3, width=7, outputs=6):
    chance = torch.Generator().manual_seed(seed)
    present = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    features = torch.randn(len(LENGTHS), max(LENGTHS), width, generator=chance)
    logits = 4 * torch.randn(len(LENGTHS), max(LENGTHS), outputs, generator=chance)
    return features, logits, present


@pytest.mark.parametrize("name", ["max", "log_sum_exp"])
def test_a_pooling_without_weights_is_the_rule_that_serves(name):
    """Training pools padded slices to the same figures as serving does with whole series."""
    features, logits, present = _padded()
    pooled = make_pooling(name, 7, 6)(features, logits, present)
    for index, length in enumerate(LENGTHS):
        expected = series_logits(logits[index, :length].double().numpy(), SERVED_BY[name])
        np.testing.assert_allclose(expected, pooled[index].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["max", "log_sum_exp", "attention"])
def test_padding_changes_nothing(name):
    """What stands where there is no slice neither counts nor learns."""
    torch.manual_seed(1)
    pooling = make_pooling(name, 7, 6)
    features, logits, present = _padded()
    before = pooling(features, logits, present)
    features[~present], logits[~present] = 1e4, 1e4
    logits.requires_grad_()
    after = pooling(features, logits, present)
    torch.testing.assert_close(before, after)
    after.sum().backward()
    assert bool((logits.grad[~present] == 0).all())
    assert bool(torch.isfinite(logits.grad).all())


def test_the_maximum_teaches_one_slice_and_the_smooth_maximum_all():
    """Only the strongest slice has a gradient through the maximum; through the smooth one all."""
    features, logits, present = _padded()
    taught = {}
    for name in ("max", "log_sum_exp"):
        asked = (logits / 10).requires_grad_()
        make_pooling(name, 7, 6)(features, asked, present).sum().backward()
        taught[name] = (asked.grad[2, :, 0] > 0).sum().item()
    assert taught == {"max": 1, "log_sum_exp": 9}


def test_attention_shares_sum_to_one_over_the_slices_of_a_series():
    """For each label the slices of a series share one whole, however many they are."""
    torch.manual_seed(1)
    features, _, present = _padded()
    shares = AttentionPooling(7, 6).shares(features, present)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(3, 6))
    assert bool((shares[~present] == 0).all())
